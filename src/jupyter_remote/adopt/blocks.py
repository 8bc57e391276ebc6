"""The lines of Apache's files that send visitors to a port of this machine, and the files without them.

What Apache makes of its configuration says which lines those are (:func:`jupyter_remote.apache.directives`: conditions,
included files and macros are resolved), and the text of the file where each of them begins and ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..apache import Directive

#: Directives that name where a request goes, or what an answer from there is to be made of.
_SENDS = (
    *("proxypass", "proxypassmatch", "rewriterule", "proxypassreverse", "proxypassreversecookiedomain"),
    *("balancermember", "sethandler"),
    # sections, which name it themselves
    *("proxy", "proxymatch"),
)
#: Sections that are about addresses of a site, or about what is behind them. All of such a section goes.
_SECTIONS = ("location", "locationmatch", "proxy", "proxymatch")
#: What asks for a password, or for an address, before anything is sent anywhere.
_GUARDS = ("authtype", "require", "authuserfile", "allow", "deny")


@dataclass(frozen=True)
class Block:
    """Lines of a file, the first and the last one counted from 1.

    ``path`` is the address below which it sends visitors, empty for lines that do not say so; ``guarded`` says that
    Apache itself asks there who comes.
    """

    file: Path
    first: int
    last: int
    path: str = ""
    guarded: bool = False

    def __str__(self) -> str:
        return f"{self.file}, line{'' if self.first == self.last else 's'} {self.lines}"

    @property
    def lines(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"


def find(config: list[Directive], port: int) -> list[Block]:
    """The blocks that send visitors to *port*, each once, in the order of files and lines.

    :raises OSError: a file cannot be read.
    """
    texts: dict[Path, list[str]] = {}
    found: dict[tuple[Path, int], Block] = {}
    conditions: list[Directive] = []
    for one in config:
        name = one.name.lower()
        if name == "rewritecond":
            conditions.append(one)
            continue
        # What a macro has made stands in no file. It stays, and its address is another's then.
        if not one.is_ours and one.file.startswith("/") and _leads_to(one, port):
            # Through a link in sites-enabled it is another's name for the same file.
            file = Path(one.file).resolve()
            if file not in texts:
                texts[file] = _lines(file)
            lines = texts[file]
            section = _section(lines, one.line)
            if section is None:
                # A condition is the rule's that follows it.
                begin = conditions[0].line if name == "rewriterule" and conditions else one.line
                first, last = _begin(lines, begin), _end(lines, one.line)
                block = Block(file, first, last, _path_of(one))
            else:
                inside = [each for each in config if each.file == one.file and section[0] <= each.line <= section[1]]
                block = Block(
                    file, *section, _path_of_section(lines[section[0] - 1]) or _path_of(one),
                    any(each.name.lower() in _GUARDS and not _lets_all_in(each) for each in inside),
                )  # fmt: skip
            found.setdefault((file, block.first), block)
        conditions = []
    return sorted(found.values(), key=lambda block: (str(block.file), block.first))


def public_path(blocks: Iterable[Block]) -> str:
    """The address under which the pages are, ``/jupyter``; empty when the blocks do not say, ``/`` for a whole site."""
    paths = [block.path.rstrip("/") or "/" for block in blocks if block.path]
    # Those of websockets are below that of the pages.
    return min(paths, key=len, default="")


def without(text: str, blocks: Iterable[Block]) -> str:
    """A file's text without these blocks of it; all other lines as they are."""
    # Not splitlines(): for Apache nothing else ends a line.
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    for block in sorted(blocks, key=lambda block: block.first, reverse=True):
        del lines[block.first - 1 : block.last]
        # An empty line before it was for the block, when there is another one behind it, or nothing.
        here = block.first - 1
        if here > 0 and not lines[here - 1].strip() and not "".join(lines[here : here + 1]).strip():
            del lines[here - 1]
    return "".join(lines)


def _leads_to(one: Directive, port: int) -> bool:
    if one.name.lower() not in _SENDS:
        return False
    local = r"(localhost|127(\.\d+){3}|\[::1\]|0\.0\.0\.0)"
    return bool(re.search(rf"\b(http|ws)s?://{local}:{port}(?!\d)", one.arguments, re.IGNORECASE))


def _lets_all_in(one: Directive) -> bool:
    return one.arguments.lower().split() in (["all", "granted"], ["from", "all"]) and one.name.lower() != "deny"


def _path_of(one: Directive) -> str:
    """Of a ProxyPass that stands alone: its first word."""
    if one.name.lower() != "proxypass":
        return ""
    first = next(iter(re.findall(r'"[^"]*"|\S+', one.arguments)), "").strip('"')
    return first if first.startswith("/") else ""


def _path_of_section(line: str) -> str:
    match = re.match(r'\s*<Location\s+"?(/[^">\s]*)"?\s*>', line, re.IGNORECASE)
    return match[1] if match else ""


# --- text --------------------------------------------------------------------------------------------


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8", errors="surrogateescape").split("\n")


def _begin(lines: list[str], number: int) -> int:
    """Where the directive begins that has a part in this line: a line that ends with a backslash goes on."""
    while number > 1 and lines[number - 2].endswith("\\"):
        number -= 1
    return number


def _end(lines: list[str], number: int) -> int:
    while number < len(lines) and lines[number - 1].endswith("\\"):
        number += 1
    return number


def _section(lines: list[str], number: int) -> tuple[int, int] | None:
    """The first and last line of the section of :data:`_SECTIONS` that a line stands in, or begins."""
    opened: list[tuple[str, int]] = []
    for here, line in enumerate(lines, 1):
        if match := re.match(r"\s*</(\w+)", line):
            while opened and opened[-1][0] != match[1].lower():
                opened.pop()
            if opened:
                name, first = opened.pop()
                if name in _SECTIONS and first <= number <= here:
                    return first, here
        elif match := re.match(r"\s*<(\w+)", line):
            opened.append((match[1].lower(), here))
    return None
