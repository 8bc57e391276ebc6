"""A real Chromium, used as a person uses it."""

from __future__ import annotations

import os
import re
import shlex
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lab import host, network
from lab.box import Box
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

from jupyter_remote.run import run

#: milliseconds without any progress after which a page hangs
PATIENCE = 120_000
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
#: where pictures go: beside the documentation when asked for, else out of the way
PICTURES = Path(os.environ.get("JUPYTER_REMOTE_PICTURES") or Path(tempfile.gettempdir()) / "jupyter-remote-pictures")


class Browser:
    """One window at one Jupyter."""

    def __init__(self, context: BrowserContext, url: str, laptop: network.Address) -> None:
        self.context = context
        self.url = url
        #: where it is
        self.laptop = laptop
        self.page: Page = context.new_page()
        #: what the page complained of, with the kind of complaint
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(f"exception: {error}"))
        self.page.on("console", self._note)

    def _note(self, message: object) -> None:
        kind, text = getattr(message, "type", ""), getattr(message, "text", "")
        if kind == "error":
            self.complaints.append(f"console: {text}")

    # -- finding the way -------------------------------------------------------------------------

    def open(self, path: str = "") -> None:
        """Go to a page below Jupyter's address. A certificate that is not believed raises an error."""
        self.page.goto(f"{self.url}/{path}", wait_until="load")

    def login(self, password: str, path: str = "") -> None:
        """Open Jupyter, fill the login page in and wait for what comes after it."""
        self.try_login(password, path)
        self.page.wait_for_url(re.compile(r"/(lab|tree|notebooks)\b"))

    def try_login(self, password: str, path: str = "") -> None:
        """As :meth:`login`, for a password that may be refused."""
        self.open(path)
        self.page.locator("input[name=password]").fill(password)
        with self.page.expect_navigation():
            self.page.locator("#login_submit, button[type=submit]").first.click()

    def wait_for_lab(self) -> None:
        """Until JupyterLab can be used."""
        expect(self.page.locator("#jupyterlab-splash")).to_have_count(0)
        self.page.locator(".jp-Launcher, .jp-NotebookPanel").first.wait_for()

    def new_notebook(self) -> None:
        """Click the first notebook kernel in the launcher, and wait until the kernel is idle."""
        self._from_launcher("[data-category=Notebook]")
        self.wait_for_kernel()

    def wait_for_kernel(self) -> None:
        """Until the notebook that was opened has a kernel, and the kernel is idle."""
        self._cell().wait_for()
        self._idle()

    def open_terminal(self) -> None:
        """Click the terminal in the launcher, and wait for its prompt."""
        self._from_launcher("[title='Start a new terminal session']")
        self.page.locator(".jp-Terminal .xterm-screen").wait_for()

    def _from_launcher(self, card: str) -> None:
        self.wait_for_lab()
        # Its cards come later than itself.
        if not self.page.locator(".jp-Launcher:visible").count():
            self.page.keyboard.press("Control+Shift+L")
        self.page.locator(f".jp-LauncherCard{card}:visible").first.click()

    # -- working ---------------------------------------------------------------------------------

    def run_cell(self, code: str) -> str:
        """Type *code* into the selected cell of the notebook, press Shift+Enter, return what it shows.

        :raises playwright.sync_api.TimeoutError: it does not end.
        """
        cell = self._cell()
        number = self.page.locator(".jp-NotebookPanel:visible .jp-Notebook .jp-Cell").count() - 1
        cell.locator(".cm-content").click()
        self.page.keyboard.insert_text(code)
        self.page.keyboard.press("Shift+Enter")
        done = self.page.locator(".jp-NotebookPanel:visible .jp-Notebook .jp-Cell").nth(number)
        expect(done.locator(".jp-InputPrompt")).to_have_text(re.compile(r"\[\d+\]:"))
        return "\n".join(done.locator(".jp-OutputArea-output").all_inner_texts()).strip()

    def _cell(self):  # noqa: ANN202 - a locator; playwright's own word for it says nothing more
        return self.page.locator(".jp-NotebookPanel:visible .jp-Notebook .jp-Cell").last

    def _idle(self) -> None:
        # the notebook's own indicator shows idle before there is a kernel; a cell run then is forgotten
        self.page.locator("#jp-main-statusbar").get_by_text(re.compile(r"\| Idle$")).wait_for()

    def wait_until(self, question: str) -> None:
        """Until an ``async`` function in the page returns something true. (``wait_for_function`` does not wait for one:
        to it a promise is true.)
        """
        end = time.monotonic() + PATIENCE / 1000
        while not self.page.evaluate(question):
            assert time.monotonic() < end, f"it is never true: {question}"
            self.page.wait_for_timeout(200)

    @contextmanager
    def offline(self) -> Iterator[None]:
        """The laptop has no network."""
        network.disconnect(self.laptop)
        try:
            yield
        finally:
            network.connect(self.laptop)

    def screenshot(self, name: str) -> Path:
        """Take a picture of the window; where it is."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        path = PICTURES / f"{name}.png"
        self.page.screenshot(path=path)
        return path


@contextmanager
def browsing(
    box: Box, base_url: str = "/jupyter", *, sites: Mapping[str, str] | None = None, authorities: Iterable[str] = ()
) -> Iterator[Browser]:
    """A browser of somebody who was told to trust the box's authority, and who finds its name.

    :param sites: where it finds other sites: IP addresses by name, or by name and port.
    :param authorities: whom it trusts besides, as PEM.
    """
    found = "".join(f"MAP {name} {address}, " for name, address in (sites or {}).items())
    host.require("chromium", "certutil", "nsenter")
    with (
        tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as home,
        # Not on this machine's own network: Chromium gives up what it is loading (ERR_NETWORK_CHANGED)
        # whenever the link of any box comes or goes.
        network.visiting() as laptop,
        sync_playwright() as player,
    ):
        trust(Path(home), box.read("/var/lib/jupyter-remote/ca.crt"), *authorities)
        chromium = player.chromium.launch(
            executable_path=_program(Path(home), network.inside(laptop, CHROMIUM)),
            headless=True,
            chromium_sandbox=False,  # it runs as root, and opens nothing but our own pages
            args=[*FLAGS, f"--host-resolver-rules={found}MAP {box.hostname} {box.ip}, MAP * ~NOTFOUND"],
            env={**os.environ, "HOME": home},
        )
        try:
            context = chromium.new_context(viewport={"width": 1280, "height": 800}, locale="en-US")
            context.set_default_timeout(PATIENCE)
            expect.set_options(timeout=PATIENCE)
            yield Browser(context, f"https://{box.hostname}{base_url}", laptop)
        finally:
            chromium.close()


def _program(home: Path, command: list[str]) -> Path:
    """A program that is *command*, for who takes no command but the path of a program."""
    program = home / "chromium"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    program.chmod(0o755)
    return program


def trust(home: Path, *authorities: str) -> None:
    """Tell the browser whose home this is to believe *authorities* (PEM)."""
    database = home / ".pki/nssdb"
    database.mkdir(parents=True)
    run("certutil", "-d", f"sql:{database}", "-N", "--empty-password")
    for number, authority in enumerate(authorities):
        certificate = home / f"ca{number}.crt"
        certificate.write_text(authority)
        run("certutil", "-d", f"sql:{database}", "-A", "-t", "C,,", "-n", f"ca{number}", "-i", certificate)
