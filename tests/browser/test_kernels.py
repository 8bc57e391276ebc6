"""What a person sees of a kernel that outlives everything: nothing. In both front ends."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

import pytest
from lab.box import Box, Person
from playwright.sync_api import Locator, expect

from tests.browser.browser import PATIENCE, Browser
from tests.installed import PASSWORD

#: JupyterLab, and Notebook 7: the same notebook in another window
FRONT_ENDS = {"lab": "lab/tree/run.ipynb", "notebook": "notebooks/run.ipynb"}

#: Prints numbers until a file appears: 200 at least.
PRINTS = """
import itertools, os, time
for n in itertools.count():
    print(n, flush=True)
    if n >= 200 and os.path.exists("enough"):
        break
    time.sleep(0.02)
"""

#: in the page: whether some kernel has a page
CONNECTED = """async () => {
    const kernels = await (await fetch("/jupyter/api/kernels")).json();
    return kernels.some(({ connections, execution_state }) => connections && execution_state === "idle");
}"""


def make_notebook(alice: Person, *cells: str) -> None:
    """A notebook ``run.ipynb`` with these cells, which have ids."""
    content = {
        "cells": [
            {"cell_type": "code", "id": f"cell-{n}", "source": source, "metadata": {}, "outputs": []}
            | {"execution_count": None}
            for n, source in enumerate(cells)
        ],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    alice.box.write("/home/alice/run.ipynb", json.dumps(content), owner="alice")


def on_disk(alice: Person, cell: int) -> dict[str, Any]:
    """A cell of ``run.ipynb`` as it is on the disk."""
    found: dict[str, Any] = json.loads(alice.sh("cat run.ipynb"))["cells"][cell]
    return found


def printed(cell: dict[str, Any]) -> str:
    """What the cell has printed."""
    return "".join(text for output in cell["outputs"] for text in output.get("text", ()))


def cell_of(browser: Browser, number: int) -> Locator:
    return browser.page.locator(".jp-NotebookPanel:visible .jp-Notebook .jp-Cell").nth(number)


def run_when_ready(browser: Browser, cell: int) -> None:
    """Run a cell that takes its time."""
    prompt = cell_of(browser, cell).locator(".jp-InputPrompt")
    running = re.compile(r"\[\*\]:")
    for _ in range(PATIENCE // 2000):
        cell_of(browser, cell).locator(".cm-content").click()
        browser.page.keyboard.press("Shift+Enter")
        # What is run while the page is still busy with itself is forgotten: then once more.
        with contextlib.suppress(AssertionError):
            expect(prompt).to_have_text(running, timeout=2000)
            break
    expect(prompt).to_have_text(running)


def start(browser: Browser, cell: int) -> None:
    """Run a cell that prints numbers, and see that it runs."""
    run_when_ready(browser, cell)
    expect(cell_of(browser, cell).locator(".jp-OutputArea-output").first).to_contain_text("5")


def open_notebook(browser: Browser, front_end: str) -> None:
    browser.open(FRONT_ENDS[front_end])
    browser.page.locator(".jp-NotebookPanel:visible .jp-Notebook .jp-Cell").first.wait_for()
    # A cell that is run before the page has its kernel is forgotten.
    browser.wait_until(CONNECTED)


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split()]


def is_complete(text: str) -> bool:
    """Whether it is 0, 1, 2 … up to 200 at least: nothing lost, nothing twice, nothing out of order."""
    found = numbers(text)
    return len(found) > 200 and found == list(range(len(found)))


@pytest.mark.either_release
@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_a_tab_goes_on_while_everything_below_it_is_replaced(browser: Browser, box: Box, alice: Person, front_end: str):
    make_notebook(alice, PRINTS, "n + 1")
    browser.login(PASSWORD)
    open_notebook(browser, front_end)
    start(browser, 0)
    start_of_the_next = cell_of(browser, 1).locator(".cm-content")
    start_of_the_next.click()
    browser.page.keyboard.press("Shift+Enter")
    box.sh("systemctl restart jupyter-remote")
    box.sh("systemctl kill --signal=KILL jupyter-remote.service")
    box.sh("until curl -sk -o /dev/null --fail https://localhost/jupyter/api; do sleep 0.2; done", timeout=60)
    # The page's own network, and then the proxy: now its connection does break.
    with browser.offline():
        alice.sh("sleep 1")
    box.sh("systemctl restart apache2")
    alice.sh("touch enough")
    expect(cell_of(browser, 1).locator(".jp-OutputArea-output").first).to_have_text(re.compile(r"\d+"))
    text = cell_of(browser, 0).locator(".jp-OutputArea-output").all_inner_texts()
    assert is_complete("\n".join(text)), text
    browser.page.keyboard.press("Control+s")
    alice.sh("until grep -q execute_result run.ipynb; do sleep 0.2; done", timeout=60)
    assert is_complete(printed(on_disk(alice, 0)))
    browser.screenshot(f"survived-{front_end}")


@pytest.mark.one_release
@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_a_closed_tab_finds_everything_in_the_notebook(browser: Browser, alice: Person, front_end: str):
    make_notebook(alice, PRINTS)
    browser.login(PASSWORD)
    open_notebook(browser, front_end)
    start(browser, 0)
    browser.page.close()
    alice.sh("sleep 2; touch enough")
    alice.sh("until grep -q '\"execution_count\": 1' run.ipynb; do sleep 0.2; done", timeout=60)
    cell = on_disk(alice, 0)
    assert is_complete(printed(cell))
    assert cell["execution_count"] == 1
    assert len(cell["outputs"]) == 1


@pytest.mark.one_release
@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_a_page_reloaded_during_a_run_shows_what_was_printed_and_goes_on_live(
    browser: Browser, alice: Person, front_end: str
):
    make_notebook(alice, PRINTS)
    browser.login(PASSWORD)
    open_notebook(browser, front_end)
    start(browser, 0)
    browser.page.reload(wait_until="load")
    output = cell_of(browser, 0).locator(".jp-OutputArea-output").first
    expect(output).to_contain_text("5")
    expect(cell_of(browser, 0).locator(".jp-InputPrompt")).to_have_text(re.compile(r"\[\*\]:"))
    seen = numbers(output.inner_text())[-1]
    expect(output).to_contain_text(f"\n{seen + 100}\n")
    browser.screenshot(f"reloaded-{front_end}")
    alice.sh("touch enough")
    expect(cell_of(browser, 0).locator(".jp-InputPrompt")).to_have_text(re.compile(r"\[1\]:"))
    assert is_complete("\n".join(cell_of(browser, 0).locator(".jp-OutputArea-output").all_inner_texts()))
    browser.page.keyboard.press("Control+s")
    alice.sh("until grep -q '\"execution_count\": 1' run.ipynb; do sleep 0.2; done", timeout=60)
    assert is_complete(printed(on_disk(alice, 0)))
    expect(browser.page.get_by_text("File Changed")).to_have_count(0)


@pytest.mark.one_release
def test_a_tab_that_was_away_saves_without_a_question(browser: Browser, box: Box, alice: Person):
    """We have written to the notebook meanwhile; nobody else has."""
    make_notebook(alice, PRINTS)
    browser.login(PASSWORD)
    open_notebook(browser, "lab")
    start(browser, 0)
    browser.page.keyboard.press("Control+s")
    with browser.offline():
        # Its connection breaks: Apache forgets it, as it would after a while.
        box.sh("systemctl restart apache2")
        alice.sh("touch enough")
        alice.sh("until grep -q '\"execution_count\": 1' run.ipynb; do sleep 0.2; done", timeout=60)
    expect(cell_of(browser, 0).locator(".jp-InputPrompt")).to_have_text(re.compile(r"\[1\]:"))
    assert is_complete("\n".join(cell_of(browser, 0).locator(".jp-OutputArea-output").all_inner_texts()))
    before = alice.sh("stat -c %Y.%i run.ipynb; sleep 1.1")
    browser.page.keyboard.press("Control+s")
    alice.sh(f'until [ "$(stat -c %Y.%i run.ipynb)" != {before} ]; do sleep 0.2; done', timeout=60)
    expect(browser.page.locator(".jp-Dialog")).to_have_count(0)
    assert is_complete(printed(on_disk(alice, 0)))


#: Prints as fast as it can: far more than a page can draw line by line.
MANY = 100_000


#: A question takes the cursor: it waits for a file.
BURST = f"""
import os, time
for n in range({MANY}): print(n)
while not os.path.exists("go"): time.sleep(0.1)
open("printed", "w").close()
input("and now? ")
"""


@pytest.mark.one_release
def test_a_burst_in_an_open_tab_is_complete_and_the_page_answers(browser: Browser, alice: Person):
    make_notebook(alice, BURST, "")
    browser.login(PASSWORD)
    open_notebook(browser, "lab")
    start(browser, 0)
    # While that is drawn somebody writes the next cell, and then answers the question below all those lines.
    cell_of(browser, 1).locator(".cm-content").click()
    browser.page.keyboard.insert_text("# still here")
    expect(cell_of(browser, 1).locator(".cm-content")).to_have_text("# still here")
    alice.sh("touch go; until [ -e printed ]; do sleep 0.2; done", timeout=60)
    browser.page.locator(".jp-Stdin-input").fill("nothing")
    browser.page.keyboard.press("Enter")
    expect(cell_of(browser, 0).locator(".jp-InputPrompt")).to_have_text(re.compile(r"\[1\]:"))
    cell_of(browser, 1).locator(".cm-content").click()
    browser.page.keyboard.press("Control+s")
    alice.sh("until grep -q '\"execution_count\": 1' run.ipynb; do sleep 0.2; done", timeout=60)
    *lines, asked = printed(on_disk(alice, 0)).splitlines()
    assert lines == [str(n) for n in range(MANY)]
    assert asked == "and now?  nothing"


#: Cells that show one of each. The first waits for a file, so that somebody can leave.
SHOWING = (
    r"""
import os, sys, time
while not os.path.exists("go"):
    time.sleep(0.1)
for n in range(3):
    print("out", n, flush=True)
    print("error", n, file=sys.stderr, flush=True)
print("\x1b[31mred\x1b[0m \x1b[1;38;5;21mbold and blue\x1b[0m", flush=True)
for done in range(0, 101, 5):
    print(f"\r{done:3} % {'#' * (done // 5)}", end="", flush=True)
print(" wrong\b\b\b\b\bright, at the end: \U0001f40d", flush=True)
""",
    r"""
import base64
from IPython.display import HTML, Image, clear_output, display
print("gone when the next comes")
clear_output(wait=True)
numbers = {"application/json": {"x": 1.0, "y": [1e22, 10**20, None]}}
shown = display({"text/plain": "first", **numbers}, raw=True, display_id="it")
display(HTML("<b>ü &amp; <script>1</script></b>\n"), metadata={"text/html": {"isolated": True}})
pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
display(Image(base64.b64decode(pixel), format="png", width=20))
shown.update({"text/plain": "second", **numbers}, raw=True)
[1.0, "ü", b"\x00"]
""",
    "print('before')\nraise ValueError('on purpose')",
)


@pytest.mark.one_release
def test_what_nobody_saw_is_in_the_notebook_byte_for_byte_as_a_tab_would_have_saved_it(browser: Browser, alice: Person):
    browser.login(PASSWORD)
    saved = []
    for somebody_looks in (True, False):
        alice.sh("rm -f go; jupyter-remote kernels stop --all")
        # With an empty cell at the end: else the page makes one, with an id of its own.
        make_notebook(alice, *SHOWING, "")
        open_notebook(browser, "lab")
        run_when_ready(browser, 0)
        for cell in (1, 2):
            cell_of(browser, cell).locator(".cm-content").click()
            browser.page.keyboard.press("Shift+Enter")
            expect(cell_of(browser, cell).locator(".jp-InputPrompt")).to_have_text(re.compile(r"\[\*\]:"))
        # With this what a page writes at its first saving is there: what kind of Python it is.
        browser.page.keyboard.press("Control+s")
        alice.sh("until grep -q language_info run.ipynb; do sleep 0.2; done", timeout=60)
        if not somebody_looks:
            browser.page.goto("about:blank")
        alice.sh("touch go")
        if somebody_looks:
            expect(cell_of(browser, 2).locator(".jp-InputPrompt")).to_have_text(re.compile(r"\[3\]:"))
            browser.page.keyboard.press("Control+s")
        alice.sh("until grep -q '\"execution_count\": 3' run.ipynb; do sleep 0.2; done", timeout=60)
        saved.append(alice.sh("cat run.ipynb"))
    assert "on purpose" in saved[0] and "image/png" in saved[0]
    assert saved[0] == saved[1]


@pytest.mark.one_release
def test_a_terminal_goes_on_too(browser: Browser, box: Box, alice: Person):
    browser.login(PASSWORD)
    browser.open_terminal()
    browser.page.keyboard.type("mark=still-$((40 + 2))\n")
    box.sh("systemctl restart jupyter-remote")
    browser.page.keyboard.type("echo $mark > mark.txt\n")
    alice.sh("until grep -q still-42 mark.txt; do sleep 0.2; done", timeout=60)


@pytest.mark.one_release
def test_after_a_reboot_the_notebook_says_that_its_kernel_is_gone_and_offers_another(
    browser: Browser, box: Box, alice: Person
):
    make_notebook(alice, PRINTS)
    browser.login(PASSWORD)
    open_notebook(browser, "lab")
    start(browser, 0)
    # JupyterLab's own word for that the machine is away, when it asks just then.
    away = browser.page.locator(".jp-Dialog").filter(has_text="Server Connection Error")
    browser.page.add_locator_handler(away, lambda: away.get_by_role("button", name="Close").click())
    box.reboot()
    said = browser.page.get_by_text("The kernel of run.ipynb is gone").first
    expect(said).to_be_visible()
    browser.screenshot("rebooted")
    seen = numbers(printed(on_disk(alice, 0)))
    assert seen and seen == list(range(len(seen)))
    alice.sh("touch enough")
    browser.page.get_by_role("button", name="Start a new kernel").first.click()
    browser.wait_for_kernel()
    start(browser, 0)
    expect(cell_of(browser, 0).locator(".jp-InputPrompt")).to_have_text(re.compile(r"\[1\]:"))
