"""What is seen, and fetched, while a page opens."""

from __future__ import annotations

import re
from collections import Counter
from urllib.parse import urlsplit

import pytest
from lab.box import Box
from playwright.sync_api import Page, Route, expect

from jupyter_remote.server.opening import ANSWERS, MORE_ANSWERS, SCRIPTS
from tests import opening
from tests.browser.browser import Browser
from tests.browser.test_kernels import make_notebook
from tests.client import PATIENCE, wait_until
from tests.installed import OWNER, PASSWORD


@pytest.mark.one_release
def test_a_page_names_the_scripts_that_it_loads_and_no_others(browser: Browser, box: Box):
    browser.login(PASSWORD)
    unused: list[str] = []
    browser.context.on("console", lambda message: unused.append(message.text) if "preload" in message.text else None)
    loaded = opening.scripts(browser, box)
    for page, scripts in SCRIPTS.items():
        assert set(loaded[page]) == set(scripts), "a new version? Run tools/startup-scripts"
    assert unused == []


@pytest.mark.one_release
def test_something_is_seen_before_any_script_has_come(browser: Browser):
    browser.login(PASSWORD)
    held: list[Route] = []
    browser.page.route("**/static/**/*.js*", lambda route: held.append(route))
    browser.page.goto(f"{browser.url}/lab", wait_until="commit")
    sight = browser.page.locator("#jupyter-remote-opening")
    expect(sight).to_be_visible()
    browser.screenshot("opening")
    assert held
    browser.page.unroute("**/static/**/*.js*")
    browser.page.reload()
    browser.wait_for_lab()
    expect(sight).to_be_hidden()


@pytest.mark.one_release
def test_a_page_asks_at_once_for_all_that_it_will_want_and_for_nothing_twice(browser: Browser, box: Box):
    browser.login(PASSWORD)
    # Until the first is closed, a second page of JupyterLab is another workspace.
    browser.page.goto("about:blank")
    for template in opening.PAGES:
        more = (one.replace("{{ page_config.workspace }}", "default") for one in MORE_ANSWERS.get(template, ()))
        expected = {*ANSWERS, *more}
        wanted, asked = opening.answers(browser, box, template)
        assert expected <= wanted, f"{template} does not want all of them: a new version?"
        times = Counter(one for one in asked if one in expected)
        assert set(times) == expected
        # What is in motion is looked at again when a kernel has been started or all parts are in their places.
        twice = {one for one in times if times[one] > 1}
        assert not twice & {"api/kernelspecs", "api/me", "lab/api/settings", "lab/api/translations", "lsp/status"}
        assert not [one for one in asked if one.startswith(("lab/api/settings/", "lab/api/settings?ids_only"))]


def break_first(page: Page) -> set[str]:
    """Have the page's first requests break off, each place once; the set of them."""
    broken: set[str] = set()

    def breaks(route: Route) -> None:
        place = urlsplit(route.request.url).path
        if len(broken) < 20 and place not in broken:
            broken.add(place)
            route.abort("connectionreset")
        else:
            route.continue_()

    for some in ("**/static/**/*.js*", "**/api/kernelspecs*", "**/lab/api/settings*"):
        page.route(some, breaks)
    return broken


@pytest.mark.one_release
def test_a_page_opens_also_if_the_connection_breaks_meanwhile(browser: Browser, box: Box):
    make_notebook(box.as_user(OWNER), "")
    browser.login(PASSWORD)
    browser.page.goto("about:blank")
    for path, ready in opening.PAGES.values():
        page = browser.context.new_page()
        broken = break_first(page)
        page.goto(f"{browser.url}/{path}")
        page.locator(ready).first.wait_for()
        assert len(broken) > 5
        assert page.locator(".jp-Dialog").count() == 0
        page.close()


@pytest.mark.one_release
def test_a_page_waits_for_the_network_also_when_somebody_clicks(browser: Browser):
    browser.login(PASSWORD)
    browser.page.goto("about:blank")
    browser.page.route("**/static/lab/jlab_core*", lambda route: route.abort("internetdisconnected"))
    browser.page.goto(f"{browser.url}/lab", wait_until="commit")
    sight = browser.page.locator("#jupyter-remote-opening")
    expect(sight).to_have_attribute("data-says", re.compile("There is no connection"))
    browser.screenshot("no-connection")
    sight.click()
    browser.page.keyboard.press("Escape")
    browser.page.unroute("**/static/lab/jlab_core*")
    browser.wait_for_lab()


@pytest.mark.one_release
def test_what_is_changed_while_a_page_opens_is_not_answered_from_before(browser: Browser):
    browser.login(PASSWORD)
    browser.wait_for_lab()
    found = browser.page.evaluate(
        """async () => {
            const address = "/jupyter/lab/api/settings/@jupyterlab/apputils-extension:themes";
            const before = await (await fetch(address)).json();
            const xsrf = /_xsrf=([^;]+)/.exec(document.cookie)[1];
            const raw = '{"theme-scrollbars": true}';
            await fetch(address, { method: "PUT", body: JSON.stringify({ raw }), headers: { "X-XSRFToken": xsrf } });
            const after = await (await fetch(address)).json();
            return [before.raw, after.raw, raw];
        }"""
    )
    assert found[1] == found[2] != found[0]


@pytest.mark.one_release
@pytest.mark.parametrize("path", ["lab", "tree"])
def test_while_the_password_is_typed_the_browser_fetches_what_comes_then(browser: Browser, path: str):
    browser.open(path)
    links = "document.querySelectorAll('link[rel=prefetch]').length"
    # A function: the page's policy forbids to evaluate a text, and Playwright does that each time it looks again.
    browser.page.wait_for_function(f"() => {links} && performance.getEntriesByType('resource').length >= {links}")
    fetched: list[str] = []
    session = browser.context.new_cdp_session(browser.page)
    session.send("Network.enable")
    session.on(
        "Network.responseReceived",
        lambda event: None if event["response"]["fromDiskCache"] else fetched.append(event["response"]["url"]),
    )
    browser.page.locator("input[name=password]").fill(PASSWORD)
    browser.page.keyboard.press("Enter")
    browser.page.locator(".jp-Launcher, .jp-DirListing-content").first.wait_for()
    assert any("/api/kernelspecs" in url for url in fetched)
    assert [url for url in fetched if re.search(r"/static/(lab|notebook)/main\.|_core\.", url)] == []


@pytest.mark.one_release
def test_what_a_page_asks_for_every_ten_seconds_is_sent_when_it_has_changed(browser: Browser, box: Box):
    browser.login(PASSWORD)
    browser.wait_for_lab()

    def polls() -> Counter[tuple[str, str]]:
        """How often each list was answered with which status, by Apache's log."""
        log = box.sh("cat /var/log/apache2/jupyter-remote-access.log")
        return Counter(re.findall(r'"GET /jupyter/api/(\w+)[?]?\S* HTTP\S+" (\d+) ', log))

    wait_until(lambda: all(polls()[name, "304"] > 2 for name in ("contents", "kernels", "sessions")), polls().__str__)
    box.as_user(OWNER).sh("touch from-elsewhere.txt")
    expect(browser.page.get_by_text("from-elsewhere.txt")).to_be_visible(timeout=PATIENCE * 1000)
