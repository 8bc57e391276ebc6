"""What people wish for, as docs/everyday.md has it, with the extensions that they get from PyPI."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import cache
from lab.box import NONINTERACTIVE, Box, Person
from playwright.sync_api import expect

from tests import installed
from tests.browser.browser import PATIENCE, Browser, browsing
from tests.conda import wheels
from tests.installed import PASSWORD, PYTHONS

PAGE = Path(__file__).parents[2] / "docs/everyday.md"
COMPLETION = ".jupyter/lab/user-settings/@jupyterlab/completer-extension/manager.jupyterlab-settings"
ENVIRONMENT = "/var/lib/jupyter-remote/users/alice/extensions3*"


@pytest.fixture
def equipped_box(suite: str, deb: Path) -> Iterator[Box]:
    """With git, and with an index of packages that has what the page names."""
    there = wheels.download(cache.directory(), ("extensions",), PYTHONS[suite])[0].parent
    with Box(suite, layer=installed.layer(suite, deb), binds={there: wheels.INSIDE}) as box:
        wheels.offer(box)
        box.sh("apt-get -qq update && apt-get -qq install --yes --no-install-recommends git", env=NONINTERACTIVE)
        yield box


def choose(browser: Browser, *menu: str) -> None:
    """Something in a menu of JupyterLab's."""
    browser.page.get_by_role("menuitem", name=menu[0], exact=True).click()
    for item in menu[1:]:
        browser.page.locator(".lm-Menu-item", has_text=item).first.click()


def wait_for_hints(alice: Person) -> None:
    """JupyterLab does so for a second, and the machine may have more to do than the kernel's or language server's."""
    alice.sh(f"mkdir -p $(dirname {COMPLETION}) && echo '{{\"providerTimeout\": {PATIENCE}}}' > {COMPLETION}")


def expect_hint(browser: Browser, text: str) -> None:
    expect(browser.page.locator(".jp-Completer:visible")).to_contain_text(text)


def commit_what_has_changed(browser: Browser, alice: Person) -> None:
    panel = browser.page.locator("#jp-git-sessions")
    panel.get_by_text("code.py").hover()
    panel.get_by_title("Stage this change").click()
    panel.get_by_placeholder("Commit message").first.fill("by a click")
    panel.get_by_role("button", name="Commit", exact=True).click()
    alice.sh("cd project && until git log -1 --format=%s | grep -qx 'by a click'; do sleep 0.2; done", timeout=60)
    assert alice.sh("cd project && git status --porcelain") == ""


def format_a_cell(browser: Browser) -> None:
    cell = browser.page.locator(".jp-NotebookPanel:visible .jp-Notebook .jp-Cell").last.locator(".cm-content")
    cell.click()
    browser.page.keyboard.insert_text("import sys,os\nx = {  'a':1 }")
    browser.page.get_by_title("Format notebook").click()
    expect(cell).to_have_text('import osimport sysx = {"a": 1}')


def be_helped_by_the_language_server(browser: Browser) -> None:
    expect(browser.page.locator(".cm-lintRange-error")).to_contain_text("message")
    browser.page.locator(".jp-FileEditor .cm-line").last.click()
    browser.page.keyboard.press("End")
    browser.page.keyboard.press("Tab")
    expect_hint(browser, "IPKernelApp")


@pytest.mark.one_release("trixie")
def test_all_that_the_page_names_works_and_stays_with_an_upgrade_and_goes_when_it_is_removed(
    equipped_box: Box, deb: Path
):
    box, alice = equipped_box, equipped_box.as_user("alice")
    named = re.findall(r"^\| .* \| `jupyter-remote extensions install (.*?)`", PAGE.read_text(), re.MULTILINE)
    names = " ".join(named).split()
    alice.sh(f"jupyter-remote extensions install {' '.join(names)}", timeout=300)
    listed = alice.sh("jupyter-remote extensions")
    assert {line.split()[0].replace("_", "-") for line in listed.splitlines()[1:]} == {*names}
    # The last line is about what only the kernel's environment has.
    code = 'import ipykernel.kernelapp as kernel\n\nmesage = "Hallo"\nprint(message)\nkernel.IPKernelA'
    alice.sh(
        "git config --global user.name Alice && git config --global user.email alice@box.test"
        " && git init -q -b main project && cd project && echo x > code.py && printf '.*\\n*.ipynb\\n' > .gitignore"
        " && git add . && git commit -qm first && echo y > code.py"
    )
    wait_for_hints(alice)
    with browsing(box) as browser:
        browser.login(PASSWORD, "lab/tree/project")
        browser.wait_for_lab()
        browser.page.get_by_title("Git", exact=True).click()
        commit_what_has_changed(browser, alice)
        browser.new_notebook()
        format_a_cell(browser)
        choose(browser, "Settings", "Language", "German")
        browser.page.get_by_text("Change and reload").click()
        expect(browser.page.get_by_role("menuitem", name="Bearbeiten")).to_be_visible()
        box.write("/home/alice/project/code.py", code, owner="alice")
        browser.open("lab/tree/project/code.py?reset")
        browser.page.locator("[data-id=jp-git-sessions]").click()
        expect(browser.page.locator("#jp-git-sessions").get_by_text("code.py")).to_be_visible()
        be_helped_by_the_language_server(browser)
        browser.screenshot("extensions")
        assert browser.complaints == []

        box.install(deb)
        assert alice.sh("jupyter-remote extensions") == listed
        browser.page.reload()
        expect(browser.page.get_by_role("menuitem", name="Bearbeiten")).to_be_visible()
        be_helped_by_the_language_server(browser)

        # Its page is gone, and so is the language server.
        assert alice.attempt("pgrep -f '[b]in/pylsp'").returncode == 0
        browser.page.goto("about:blank")
        alice.sh("while pgrep -f '[b]in/pylsp'; do sleep 0.2; done", timeout=60)

        alice.sh(f"jupyter-remote extensions remove {' '.join(names)}")
        assert "None was added" in alice.sh("jupyter-remote extensions")
        left = f"find {ENVIRONMENT}/share/jupyter/labextensions {ENVIRONMENT}/etc -type f"
        assert alice.sh(f"{left}; ls -d {ENVIRONMENT}/lib/*/site-packages/*git*; true") == ""
        browser.complaints.clear()
        browser.open("lab/tree/project/code.py?reset")
        expect(browser.page.get_by_role("menuitem", name="Edit", exact=True)).to_be_visible()
        expect(browser.page.locator("[data-id=jp-git-sessions]")).to_have_count(0)
        assert browser.complaints == []


@pytest.mark.one_release
def test_variables_and_hints_while_typing_need_no_extension(browser: Browser, alice: Person):
    wait_for_hints(alice)
    browser.login(PASSWORD)
    browser.new_notebook()
    choose(browser, "Settings", "Settings Editor")
    browser.page.locator(".jp-PluginList-entry", has_text="Code Completion").click()
    browser.page.get_by_label("Enable autocompletion").check()
    browser.page.get_by_role("tab", name="Untitled.ipynb").click()
    browser.page.get_by_title("Enable Debugger").click()
    browser.run_cell("import textwrap\nanswer = 6 * 7")
    expect(browser.page.locator(".jp-DebuggerVariables:visible")).to_contain_text(re.compile(r"answer:?\s*42"))
    browser.page.locator(".jp-NotebookPanel:visible .jp-Notebook .jp-Cell").last.locator(".cm-content").click()
    browser.page.keyboard.type("textwrap.d")
    expect_hint(browser, "dedent")
