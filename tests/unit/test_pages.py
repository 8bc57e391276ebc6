"""No block of commands in the documentation is one that no test executes."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.pages import NOT_EXECUTED, TOP, blocks, command

PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted((TOP / "docs").glob("*.md")))]


def executed(source: str) -> Iterator[tuple[str, int]]:
    """Page and position of each block that a module gives a name, and uses."""
    nodes = list(ast.walk(ast.parse(source)))
    used = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    for node in nodes:
        match node:
            case ast.Assign([ast.Tuple(names)], ast.Call(ast.Name("blocks"), [ast.Constant(str(page))])):
                for position, name in enumerate(names):
                    if isinstance(name, ast.Name) and name.id in used:
                        yield page, position


def test_each_block_is_executed_by_one_module():
    found = Counter(one for path in (TOP / "tests").rglob("*.py") for one in executed(path.read_text()))
    wanted = {(page, at) for page in PAGES for at, block in enumerate(blocks(page)) if block.language}
    assert wanted - found.keys() == set(), "no test executes them"
    assert [one for one, times in found.items() if times > 1] == []


def test_a_block_counts_when_it_has_a_name_that_is_used():
    source = 'A, _, B, *_ = blocks("docs/x.md")\nrun(A)\n'
    assert list(executed(source)) == [("docs/x.md", 0)]


@pytest.mark.parametrize("page", PAGES)
def test_a_fence_is_one_that_we_find(page: str):
    fences = re.findall(r"^[ >]*(?:```|~~~)", (TOP / page).read_text(), re.MULTILINE)
    assert len(fences) == 2 * len(blocks(page))


def test_what_is_not_executed_is_on_a_page_and_can_be_typed():
    lines = {command(line) for page in PAGES for line in (TOP / page).read_text().splitlines()}
    for line in NOT_EXECUTED:
        assert line in lines
        subprocess.run(["bash", "-nc", line], check=True)
