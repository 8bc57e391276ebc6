"""What is measured of one contestant: each measure is a function from a visit to figures.

A figure's name ends with its unit. A visit begins with a server that has just started and has shown each page once.
"""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lab.box import Box
from playwright.sync_api import Browser, BrowserContext, Page, WebSocket

from bench.contestants import Contestant, wait_until_ready
from tests.client import Client
from tests.installed import OWNER

Figures = dict[str, float]

#: milliseconds after which a page, an upload or a download will not come any more
PATIENCE = 900_000
#: seconds without a request after which a page has all that it wants
QUIET = 2.5


@dataclass(frozen=True)
class Sizes:
    """How much of what is done at once."""

    #: MB, by line
    output: dict[str, int]
    transfer: dict[str, int]
    echoes: int
    #: of requests one after the other
    seconds: int
    #: seconds of rest before memory is looked at
    rest: int


FULL = Sizes(
    output={"none": 100, "good": 10, "lossy": 10, "bad": 1},
    transfer={"none": 200, "good": 6, "lossy": 6, "bad": 1},
    echoes=200,
    seconds=5,
    rest=15,
)
#: To see whether everything works.
SMALL = Sizes(
    output={"none": 2, "good": 1, "lossy": 1, "bad": 1},
    transfer={"none": 3, "good": 1, "lossy": 1, "bad": 1},
    echoes=20,
    seconds=1,
    rest=2,
)


@dataclass(frozen=True)
class Visit:
    """Somebody who is logged in at a contestant, over a line of a kind."""

    box: Box
    contestant: Contestant
    client: Client
    chromium: Browser
    line: str
    sizes: Sizes
    #: processes of the box while no contestant runs
    others: frozenset[int]

    def window(self, **more: Any) -> BrowserContext:
        """A browser that was never there, but is logged in."""
        context = self.chromium.new_context(viewport={"width": 1280, "height": 800}, **more)
        context.set_default_timeout(PATIENCE)
        context.add_cookies(
            [
                {"name": one.name, "value": one.value or "", "domain": one.domain, "path": one.path}
                | {"secure": one.secure}
                for one in self.client.http.cookies.jar
            ]
        )
        return context


# -- pages --------------------------------------------------------------------------------------------

#: Where it is, and what it shows when it can be used.
PAGES = {
    "Lab": ("lab", ".jp-Launcher, .jp-NotebookPanel"),
    "tree": ("tree", ".jp-FileBrowser .jp-DirListing-content"),
    "notebook": ("notebooks/bench.ipynb", ".jp-NotebookPanel .jp-Notebook .jp-Cell"),
}
_PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"
#: The page asks its kernel who it is, and this ends the answer: from now on it runs cells.
_ANSWERED = (re.compile(rb'"execution_state": ?"idle"'), re.compile(rb'"msg_type": ?"kernel_info_request"'))
_NOTEBOOK = {
    "cells": [
        {"cell_type": "code", "id": "one", "source": "1 + 1", "metadata": {}, "outputs": [], "execution_count": None}
    ],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


def page(name: str, visit: Visit) -> Figures:
    """A cold load, and a warm one of the same browser. A notebook's kernel starts with the cold one and goes on."""
    visit.box.write(f"/home/{OWNER}/bench.ipynb", json.dumps(_NOTEBOOK), owner=OWNER)
    context = visit.window()
    try:
        found: Figures = {}
        for how in ("cold", "warm"):
            loaded = _load(context, visit.contestant.url, name)
            found |= {f"{name}, {how}: {figure}": value for figure, value in loaded.items()}
        return found
    finally:
        context.close()


def _load(context: BrowserContext, url: str, name: str) -> Figures:
    path, ready = PAGES[name]
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    counted = {"bytes": 0.0, "requests": 0.0}
    idle: list[float] = []

    def finished(event: dict[str, Any]) -> None:
        counted["bytes"] += event["encodedDataLength"]
        counted["requests"] += 1

    def received(payload: str | bytes) -> None:
        frame = payload if isinstance(payload, bytes) else payload.encode()
        if all(pattern.search(frame) for pattern in _ANSWERED):
            idle.append(time.monotonic())

    def opened(channel: WebSocket) -> None:
        if "/channels" in channel.url:
            channel.on("framereceived", received)

    session.on("Network.loadingFinished", finished)
    page.on("websocket", opened)
    begun = time.monotonic()
    page.goto(f"{url}/{path}", wait_until="commit")
    page.locator(ready).first.wait_for()
    page.wait_for_function("!document.querySelector('#jupyterlab-splash')")
    usable = time.monotonic()
    if name == "notebook":
        while not idle:
            assert time.monotonic() - usable < PATIENCE / 1000, "the kernel does not become idle"
            page.wait_for_timeout(10)
        usable = max(usable, idle[0])
    painted = page.evaluate(_PAINTED) / 1000
    # What a page fetches after that, it fetches too.
    _until_quiet(page, counted)
    page.close()
    return {
        "interactive, s": usable - begun,
        "first paint, s": painted,
        "kB": counted["bytes"] / 1000,
        "requests": counted["requests"],
    }


def _until_quiet(page: Page, counted: dict[str, float]) -> None:
    before = -1.0
    while counted["requests"] != before:
        before = counted["requests"]
        page.wait_for_timeout(QUIET * 1000)


# -- kernels ------------------------------------------------------------------------------------------


def echo(visit: Visit) -> Figures:
    """How long a cell takes that does nothing, one after the other."""
    kernel = visit.client.start_kernel()
    for _ in range(min(20, visit.sizes.echoes)):
        kernel.execute("0")
    taken = []
    for _ in range(visit.sizes.echoes):
        begun = time.perf_counter()
        kernel.execute("0")
        taken.append((time.perf_counter() - begun) * 1000)
    kernel.shut_down()
    cuts = statistics.quantiles(taken, n=100, method="inclusive")
    return {"kernel echo, p50, ms": cuts[49], "kernel echo, p99, ms": cuts[98]}


def output(visit: Visit) -> Figures:
    """A cell that prints lines of 100 bytes as fast as it can."""
    megabytes = visit.sizes.output[visit.line]
    lines = megabytes * 10_000
    kernel = visit.client.start_kernel()
    kernel.execute("0")
    begun = time.perf_counter()
    done = kernel.execute(f"for n in range({lines}): print(f'{{n:099}}')")
    taken = time.perf_counter() - begun
    kernel.shut_down()
    # What a server puts in its place ("data rate exceeded") is no line of ours.
    arrived = sum(1 for line in done.text.split("\n") if len(line) == 99 and line.isdigit())
    return {
        f"{megabytes} MB of output, s": taken,
        f"{megabytes} MB of output, arrived, %": arrived / lines * 100,
    }


# -- files --------------------------------------------------------------------------------------------

#: Both as JupyterLab does it; the parts of what goes up are 1 MiB and come one after the other.
_UPLOAD = """async ({ url, parts }) => {
    const bytes = new Uint8Array(1 << 20);
    for (let at = 0; at < bytes.length; at += 65536) {
        crypto.getRandomValues(bytes.subarray(at, at + 65536));
    }
    let text = "";
    for (const byte of bytes) {
        text += String.fromCharCode(byte);
    }
    const content = btoa(text);
    const headers = { "Content-Type": "application/json", "X-XSRFToken": document.cookie.match(/_xsrf=([^;]+)/)[1] };
    const begun = performance.now();
    for (let part = 1; part <= parts; part++) {
        const chunk = parts === 1 ? {} : { chunk: part === parts ? -1 : part };
        const body = JSON.stringify({ type: "file", format: "base64", content, ...chunk });
        const answer = await fetch(url, { method: "PUT", headers, body });
        if (!answer.ok) {
            throw new Error(`part ${part}: ${answer.status} ${await answer.text()}`);
        }
        await answer.text();
    }
    return (performance.now() - begun) / 1000;
}"""
_DOWNLOAD = """async ({ url, size }) => {
    const mark = document.cookie.match(/_xsrf=([^;]+)/)[1];
    const begun = performance.now();
    const answer = await fetch(`${url}?_xsrf=${mark}`, { cache: "no-store" });
    let got = 0;
    for (const reader = answer.body.getReader(); ; ) {
        const { done, value } = await reader.read();
        if (done) {
            break;
        }
        got += value.length;
    }
    if (got !== size) {
        throw new Error(`${answer.status}: ${got} of ${size} bytes`);
    }
    return (performance.now() - begun) / 1000;
}"""


def transfer(visit: Visit) -> Figures:
    """A file up and down again, by a browser, over whatever protocol that has agreed on."""
    parts = visit.sizes.transfer[visit.line]
    # A page of the same origin that does nothing by itself.
    context = visit.window(bypass_csp=True)
    try:
        page = context.new_page()
        page.goto(f"{visit.contestant.url}/api")
        up = page.evaluate(_UPLOAD, {"url": f"{visit.contestant.url}/api/contents/bench.bin", "parts": parts})
        there = {"url": f"{visit.contestant.url}/files/bench.bin", "size": parts << 20}
        down = page.evaluate(_DOWNLOAD, there)
    finally:
        context.close()
        visit.box.sh(f"rm -f /home/{OWNER}/bench.bin")
    return {f"{parts} MiB up, s": up, f"{parts} MiB down, s": down}


# -- the server ---------------------------------------------------------------------------------------


def requests(visit: Visit) -> Figures:
    """How many are answered a second over 8 connections, asked from within the box and without a login."""
    shown = visit.client.get("lab").text
    # JupyterLab's largest script by far.
    script = re.search(r"static/lab/(jlab_core|main)\.\w+\.js", shown)
    assert script, "no script in JupyterLab's page"
    return {
        "api, requests/s": _rate(visit, "api"),
        "a script, requests/s": _rate(visit, script[0]),
    }


def _rate(visit: Visit, path: str) -> float:
    said = visit.box.sh(
        f"wrk -t1 -c8 -d{visit.sizes.seconds}s --timeout 30s -H 'Accept-Encoding: gzip, deflate, br'"
        f" {visit.contestant.url}/{path}"
    )
    found = re.search(r"Requests/sec: +([\d.]+)", said)
    assert found and "Non-2xx" not in said and "Socket errors" not in said, said
    return float(found[1])


def memory(visit: Visit) -> Figures:
    """PSS of all that runs because of it, while nothing happens."""
    time.sleep(visit.sizes.rest)
    sizes = [_pss(process.pid) for process in visit.box.processes() if process.pid not in visit.others]
    return {"idle memory, MiB": sum(sizes), "processes": len(sizes)}


def _pss(pid: int) -> float:
    """MiB."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(next(line for line in rollup.splitlines() if line.startswith("Pss:")).split()[1]) / 1024


def restart(visit: Visit) -> Figures:
    """From ``systemctl restart`` until somebody who was logged in is answered."""
    begun = visit.box.sh(f"date +%s.%N && systemctl restart {visit.contestant.server}", timeout=120)

    wait_until_ready(visit.client, visit.contestant.wake)
    return {"restart to ready, s": time.time() - float(begun)}


@dataclass(frozen=True)
class Measure:
    """*lines* are those over which it says something."""

    take: Callable[[Visit], Figures]
    lines: tuple[str, ...] = ("none", "good", "lossy", "bad")


ALL = {
    **{name.lower(): Measure(partial(page, name)) for name in PAGES},
    "echo": Measure(echo),
    "output": Measure(output),
    "transfer": Measure(transfer),
    "requests": Measure(requests, ("none",)),
    "memory": Measure(memory, ("none",)),
    "restart": Measure(restart, ("none",)),
}
