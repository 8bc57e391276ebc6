"""What the pages of JupyterLab and Notebook fetch as they open."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from lab.box import Box

from tests.browser.browser import Browser
from tests.browser.test_kernels import FRONT_ENDS, make_notebook
from tests.installed import OWNER

#: By extension and template: where the page is, and what shows that it is open.
PAGES = {
    "lab/index.html": ("lab", ".jp-Launcher"),
    "notebook/tree.html": ("tree", ".jp-DirListing-content"),
    "notebook/notebooks.html": (FRONT_ENDS["notebook"], ".jp-Notebook .jp-Cell"),
}


def scripts(browser: Browser, box: Box) -> dict[str, list[str]]:
    """Which scripts of its own each page loads before it first asks the server for data, in that order."""
    make_notebook(box.as_user(OWNER), "")
    return {name: _loaded(browser, name) for name in PAGES}


def _loaded(browser: Browser, name: str) -> list[str]:
    path, ready = PAGES[name]
    place = f"/static/{name.partition('/')[0]}/"
    asked: list[str] = []
    page = browser.context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{browser.url}/{path}")
    page.locator(ready).first.wait_for()
    page.close()
    first = next(position for position, url in enumerate(asked) if "/api/" in url)
    names = [urlsplit(url).path.rpartition("/")[2] for url in asked[:first] if place in url]
    # That one is in the page itself.
    return [name for name in names if not name.startswith("main.")]


#: Remembers what a page asks for, also what it is answered without a request.
_LISTEN = """
const wanted = window.wanted = [];
let inner = window.fetch;
Object.defineProperty(window, "fetch", {
    get: () => inner,
    set: fetch => {
        inner = (resource, options) => {
            wanted.push(resource.url ?? `${resource}`);
            return fetch(resource, options);
        };
    },
});
"""


def answers(browser: Browser, box: Box, template: str) -> tuple[set[str], list[str]]:
    """What a page wants from the server, and what it has really asked for when it is open, in that order.

    Below the base URL, without the time that JupyterLab adds.
    """
    make_notebook(box.as_user(OWNER), "")
    path, ready = PAGES[template]
    asked: list[str] = []
    page = browser.context.new_page()
    page.add_init_script(_LISTEN)
    page.on("request", lambda request: asked.append(request.url) if request.method == "GET" else None)
    page.goto(f"{browser.url}/{path}")
    page.locator(ready).first.wait_for()
    until_open = [_below(browser, url) for url in asked]
    page.wait_for_load_state("networkidle")
    wanted = {_below(browser, url) for url in page.evaluate("wanted")}
    page.close()
    return wanted, until_open


def _below(browser: Browser, url: str) -> str:
    return re.sub(r"[?&]\d{13}$", "", url.removeprefix(f"{browser.url}/"))
