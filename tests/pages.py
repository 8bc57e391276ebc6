"""The blocks of commands in the documentation, which tests execute as they stand there.

``FIRST, SECOND = blocks("docs/x.md")`` at the top of a test module, all of the page's in their order, and ``_`` for one
that another module executes. tests/unit/test_pages.py sees to it that none is left over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.box import Box, Person

TOP = Path(__file__).resolve().parent.parent

#: Commands that no test can execute, with the reason; in their blocks they are left out.
NOT_EXECUTED = {
    "sudo ./test.sh": "it is what runs the tests",
    "./test.sh unit": "it is what runs the tests",
    "curl https://pixi.sh/install.sh | sh; pixi init p; cd p; pixi add python ipykernel": "pixi's servers are not here",
}


@dataclass(frozen=True)
class Block:
    """A fenced block; *language* is what its fence says: nothing where it is not to be typed."""

    page: str
    language: str
    text: str

    def filled(self, own: Mapping[str, str]) -> str:
        """The text as somebody types it who has something of their own in place of what the page names.

        :raises AssertionError: the page does not name it.
        """
        text = self.text
        for named, meant in own.items():
            assert named in text, f"{named!r} is not in this block of {self.page}:\n{self.text}"
            text = text.replace(named, meant)
        return text


def blocks(page: str) -> list[Block]:
    """All of *page*, a path in the checkout: ``docs/x.md``."""
    found = re.findall(r"^```(\S*)\n(.*?)^```$", (TOP / page).read_text(), re.MULTILINE | re.DOTALL)
    return [Block(page, language, "".join(filter(_executed, text.splitlines(True)))) for language, text in found]


def command(line: str) -> str:
    """A line of a shell's without what the page says about it."""
    return re.sub(r"\s+# .*", "", line).strip()


def _executed(line: str) -> bool:
    return command(line) not in NOT_EXECUTED


def reader(box: Box) -> Person:
    """alice, who may use sudo, as those may to whom the pages speak."""
    box.write("/etc/sudoers.d/alice", "alice ALL=(ALL) NOPASSWD: ALL\n", mode=0o440)
    return box.as_user("alice")
