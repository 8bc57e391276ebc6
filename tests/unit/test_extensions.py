"""What of the owner's extensions can be asked without a server."""

from __future__ import annotations

import re
from pathlib import Path

from jupyter_remote import extensions
from jupyter_remote.extensions.command import LEFT_OUT

TOP = Path(__file__).resolve().parents[2]


def add(environment: Path, name: str, *files: str, requested: bool = True) -> None:
    info = environment / f"lib/python3.11/site-packages/{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "RECORD").write_text("".join(f"../../../{file},,\n" for file in files))
    if requested:
        (info / "REQUESTED").touch()


def test_what_was_asked_for_is_listed_with_what_it_brings(tmp_path: Path):
    here = extensions.directory(tmp_path)
    add(here, "git", "share/jupyter/labextensions/git/package.json", "etc/jupyter/jupyter_server_config.d/git.json")
    add(here, "dependency", requested=False)
    add(here, "pip")
    add(here, "Theme", "share/jupyter/labextensions/theme/package.json")
    assert extensions.find(here) == [
        extensions.Extension("git", "1.0", in_browser=True, in_server=True),
        extensions.Extension("Theme", "1.0", in_browser=True, in_server=False),
    ]


def test_those_of_another_python_are_known_until_this_one_has_them(tmp_path: Path):
    add(extensions.directory(tmp_path, "3.2"), "git")
    assert [one.name for one in extensions.left_behind(tmp_path)] == ["git"]
    add(extensions.directory(tmp_path), "git")
    assert extensions.left_behind(tmp_path) == []


def test_what_the_server_does_without_is_not_brought_by_an_extension():
    text = (TOP / "requirements/left-out.txt").read_text()
    assert sorted({*re.findall(r"^([a-z0-9-]+) ;", text, re.MULTILINE)} - {"pyarrow"}) == sorted(LEFT_OUT)


def needs(environment: Path, name: str, *lines: str) -> None:
    metadata = environment / f"lib/python3.11/site-packages/{name}-1.0.dist-info/METADATA"
    metadata.write_text(metadata.read_text() + "".join(f"Requires-Dist: {line}\n" for line in lines))


def test_what_came_along_is_a_part_of_what_was_asked_for_and_goes_with_it(tmp_path: Path):
    here = extensions.directory(tmp_path)
    add(here, "git", "etc/jupyter/jupyter_server_config.d/git.json")
    needs(here, "git", "Git_Core[diff]>=1")
    add(here, "git-core", "share/jupyter/labextensions/git/package.json", requested=False)
    needs(here, "git-core", "shared", 'diff~=4.0 ; extra == "diff"')
    add(here, "diff", requested=False)
    # A circle.
    needs(here, "diff", "git")
    add(here, "other")
    needs(here, "other", "shared")
    add(here, "shared", requested=False)
    assert extensions.find(here)[0] == extensions.Extension("git", "1.0", in_browser=True, in_server=True)
    assert extensions.not_needed(here, ["Git"]) == ["diff", "git-core"]
    assert extensions.not_needed(here, ["git", "other"]) == ["diff", "git-core", "shared"]
    # What stands for a package that is left out stays where it is.
    stand_in = here / "lib/python3.11/site-packages/ipykernel-9999.dist-info"
    stand_in.mkdir()
    (stand_in / "METADATA").write_text("Metadata-Version: 2.1\nName: ipykernel\nVersion: 9999\n")
    assert "ipykernel" not in extensions.not_needed(here, ["git"])


def test_what_came_along_and_is_asked_for_later_stays(tmp_path: Path):
    here = extensions.directory(tmp_path)
    add(here, "git")
    needs(here, "git", "nb-diff")
    add(here, "nb_diff", "nb_diff-1.0.dist-info/RECORD", requested=False)
    record = here / "lib/python3.11/site-packages/nb_diff-1.0.dist-info/RECORD"
    # One of another package is in it, as some bring what they need.
    record.write_text("nb_diff-1.0.dist-info/RECORD,,\nnb_diff/_vendor/x-1.0.dist-info/RECORD,,\n")
    assert extensions.not_needed(here, ["git"]) == ["nb-diff"]
    extensions.ask_for(here, ["git+https://host.invalid/nb-diff", "x @ https://host.invalid/nb_diff"])
    assert extensions.not_needed(here, ["git"]) == ["nb-diff"]
    extensions.ask_for(here, ["Nb.Diff[all]>=1"])
    assert [one.name for one in extensions.find(here)] == ["git", "nb_diff"]
    assert extensions.not_needed(here, ["git"]) == []
    assert "nb_diff-1.0.dist-info/REQUESTED,,\n" in record.read_text()


def test_what_an_extra_of_the_servers_own_wants_is_not_taken_away(tmp_path: Path):
    here = extensions.directory(tmp_path)
    add(here, "git")
    # nbconvert[webpdf]: nbconvert itself is the server's.
    add(here, "playwright", requested=False)
    add(here, "not-its", requested=False)
    assert extensions.not_needed(here, ["git"]) == ["not-its"]
