"""Environments are found by what is on the disk, as it is now, whatever is on the disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_remote import environments
from jupyter_remote.environments import Memory
from tests.unit.homes import Home, add_kernel

LONG_AGO = 1_000_000_000


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def settle(top: Path) -> None:
    """Make everything as old as it would be an hour later."""
    for path in [top, *top.rglob("*")]:
        os.utime(path, ns=(LONG_AGO, LONG_AGO), follow_symlinks=False)


@pytest.fixture
def remembering(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was made a moment ago is old enough to be remembered."""
    monkeypatch.setattr(environments, "SETTLED", -(10**12))


# -- where they are -----------------------------------------------------------------------------------


def test_condas_environments_have_the_names_that_conda_gives_them(home: Home):
    home.root()
    home.conda("miniforge3/envs/torch")
    home.conda(".conda/envs/stats")
    home.conda("micromamba/envs/small")
    assert home.named() == {
        "conda: base": "miniforge3",
        "conda: torch": "miniforge3/envs/torch",
        "conda: small": "micromamba/envs/small",
        "conda: stats": ".conda/envs/stats",
    }
    assert {found.python for found in home.find()} == {"3.13"}
    roots = {found.name: found.root for found in home.find()}
    assert roots["torch"] == roots["base"] == roots["stats"] == home.path / "miniforge3"
    assert roots["small"] == home.path / "micromamba"
    assert [found.name for found in home.find() if found.is_base] == ["base"]


def test_an_environment_anywhere_is_found_when_conda_has_written_it_down(home: Home, tmp_path: Path):
    elsewhere = home.conda(tmp_path / "data/models/own")
    home.register(elsewhere, tmp_path / "gone", "", "relative/path")
    assert [(found.name, found.prefix, found.root) for found in home.find()] == [(str(elsewhere), elsewhere, None)]


def test_environments_of_a_conda_in_an_unusual_place_are_found_with_it(home: Home, tmp_path: Path):
    root = home.root(str(tmp_path / "tools/conda"))
    home.conda(root / "envs/torch")
    home.register(root)
    assert {found.name for found in home.find()} == {"base", "torch"}


def test_a_second_conda_is_not_called_base(home: Home):
    home.root("miniforge3")
    home.root("miniconda3")
    home.conda("miniforge3/envs/torch")
    home.conda("miniconda3/envs/torch")
    assert set(home.named()) == {"conda: base", "conda: torch", "conda: miniconda3", "conda: miniconda3/envs/torch"}


def test_a_conda_of_the_machine_is_found(home: Home):
    home.root(str(home.opt / "conda"))
    assert [found.name for found in home.find()] == ["base"]


def test_virtual_environments_are_called_after_their_projects(home: Home):
    home.venv("work/app/.venv")
    home.venv("work/app/venv")
    home.venv("other/env")
    home.venv("plain")
    home.venv(".virtualenvs/wrapped")
    home.venv("work/fast/.venv", "home = /usr/bin\nuv = 0.9.1\nversion_info = 3.13.2\n")
    assert home.named() == {
        "venv: wrapped": ".virtualenvs/wrapped",
        "venv: plain": "plain",
        "venv: other": "other/env",
        "venv: work/app": "work/app/.venv",
        "venv: work/app/venv": "work/app/venv",
        "uv: work/fast": "work/fast/.venv",
    }
    assert {found.python for found in home.find()} == {"3.12", "3.13"}


def test_the_environment_of_the_notebook_directory_itself_is_called_after_it(home: Home):
    home.venv("notebooks/.venv")
    found = home.finder(home.path / "notebooks").find()
    assert [environment.name for environment in found] == ["notebooks"]


def test_pixis_environments_are_called_after_their_projects(home: Home):
    home.conda("app/.pixi/envs/default")
    cuda = home.conda("app/.pixi/envs/cuda")
    assert set(home.named()) == {"pixi: app", "pixi: app/cuda"}
    found = {environment.prefix: environment for environment in home.find()}
    assert found[cuda].project == home.path / "app"
    assert found[cuda].root is None


def test_projects_are_found_three_levels_deep_and_no_deeper(home: Home):
    home.venv("a/b/c/.venv")
    home.venv("a/b/c/d/.venv")
    assert list(home.named()) == ["venv: a/b/c"]


def test_more_places_are_looked_at_when_they_are_configured(home: Home, tmp_path: Path):
    for path in ("data/envs/one", "data/envs/two", "data/envs/.hidden", "data/else/three"):
        home.venv(tmp_path / path)
    home.venv("deep/a/b/c/d/e/.venv")
    finder = home.finder(None, f"{tmp_path}/data/e[mn]vs/*", "~/deep/*/b/c/d/e/.venv", "/not/there/*")
    assert {environment.prefix.name for environment in finder.find()} == {"one", "two", ".venv"}


def test_any_kernel_is_seen_in_an_environment_without_python(home: Home):
    prefix = home.conda("miniforge3/envs/stats", "r-base-4.4.1-h0_0")
    kernel = add_kernel(prefix, "ir", language="R")
    (prefix / "share/jupyter/kernels/half").mkdir()
    [found] = home.find()
    assert found.python == ""
    assert found.kernels == (kernel,)


# -- when ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("age", ["fresh", "settled"])
def test_what_comes_and_goes_is_seen_at_the_next_look(home: Home, age: str):
    home.venv("old/.venv")
    root = home.root()
    home.register()
    finder = home.finder(None, f"{home.path}/more/*/x")
    makers: list[Callable[[], Path]] = [
        lambda: home.venv("new/.venv"),
        lambda: home.venv("old/venv"),
        lambda: home.venv("more/y/x"),
        lambda: home.conda(root / "envs/torch"),
        lambda: home.conda(".conda/envs/stats"),
        lambda: home.conda("p/.pixi/envs/default"),
    ]
    for make in makers:
        if age == "settled":
            settle(home.path)
        before = {found.prefix for found in finder.find()}
        prefix = make()
        assert {found.prefix for found in finder.find()} == before | {prefix}
        (prefix / "bin/python").unlink()
        assert {found.prefix for found in finder.find()} == before


@pytest.mark.usefixtures("remembering")
def test_a_kernel_and_another_python_are_seen_at_the_next_look(home: Home):
    prefix = home.conda("miniforge3/envs/torch")
    finder = home.finder()
    assert finder.find()[0].kernels == ()
    kernel = add_kernel(prefix)
    assert finder.find()[0].kernels == (kernel,)
    (kernel / "kernel.json").unlink()
    assert finder.find()[0].kernels == ()
    (prefix / "conda-meta/python-3.13.1-h123_0_cpython.json").unlink()
    (prefix / "conda-meta/python-3.14.0-h123_0_cpython.json").touch()
    assert finder.find()[0].python == "3.14"


def read(path: str) -> str:
    return Path(path).read_text()


def test_nothing_is_read_again_that_has_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "file"
    file.write_text("one")
    asked = []

    def reading(path: str) -> str:
        asked.append(path)
        return read(path)

    memory = Memory()
    monkeypatch.setattr(environments, "SETTLED", -(10**12))
    assert [memory.recall(str(file), reading, "") for _ in range(3)] == ["one"] * 3
    assert len(asked) == 1


def test_what_has_changed_a_moment_ago_is_read_again(tmp_path: Path):
    # The second change leaves the same size and, on a clock that counts slowly, the same time.
    file = tmp_path / "file"
    file.write_text("one")
    memory = Memory()
    assert memory.recall(str(file), read, "") == "one"
    before = file.stat()
    with file.open("r+") as same:
        same.write("two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert memory.recall(str(file), read, "") == "two"


@pytest.mark.usefixtures("remembering")
def test_a_file_in_the_place_of_another_is_read(tmp_path: Path):
    file, other = tmp_path / "file", tmp_path / "other"
    file.write_text("one")
    other.write_text("two")
    settle(tmp_path)
    memory = Memory()
    assert memory.recall(str(file), read, "") == "one"
    other.replace(file)
    assert memory.recall(str(file), read, "") == "two"
    file.unlink()
    assert memory.recall(str(file), read, "nothing") == "nothing"


# -- what is no environment ---------------------------------------------------------------------------


def test_what_is_half_made_is_not_found(home: Home):
    (home.venv("no-python/.venv") / "bin/python").unlink()
    dangling = home.venv("dangling/.venv") / "bin/python"
    dangling.unlink()
    dangling.symlink_to("/usr/bin/python0.9")
    home.venv("base-is-gone/.venv", "home = /opt/python0.9/bin\nversion = 0.9\n")
    (home.conda("miniforge3/envs/x") / "bin/python").unlink()
    (home.path / "empty/.venv").mkdir(parents=True)
    assert home.find() == []


def test_an_environment_reached_by_several_ways_is_found_once(home: Home):
    root = home.root()
    torch = home.conda(root / "envs/torch")
    (home.path / "link").symlink_to(torch)
    (root / "envs/again").symlink_to(torch)
    (home.path / ".conda/envs").mkdir(parents=True)
    (home.path / ".conda/envs/torch").symlink_to("../../link")
    home.register(torch, f"{torch}/", home.path / "link", root)
    assert len(home.find()) == 2


def test_what_is_hidden_is_not_found_by_another_name(home: Home):
    own = home.venv("server")
    (home.path / "link").symlink_to(own)
    assert home.finder(hidden=(own,)).find() == []


def test_loops_of_links_and_directories_end(home: Home):
    (home.path / "loop").symlink_to(".")
    (home.path / "self").symlink_to("self")
    (home.path / "a/b").mkdir(parents=True)
    (home.path / "a/b/up").symlink_to("../..")
    home.venv("a/.venv")
    assert list(home.named()) == ["venv: a"]


def test_environments_are_not_looked_for_in_environments_and_heaps(home: Home):
    prefix = home.venv("app/.venv")
    home.venv(prefix / "inner")
    home.venv("app/node_modules/x")
    home.venv("app/.cache/x")
    assert list(home.named()) == ["venv: app"]


def test_what_cannot_be_read_is_passed_over(home: Home):
    home.root()
    home.register()
    (home.path / ".conda/environments.txt").write_bytes(b"/caf\xe9/env\n\xff\xfe\0\n/x\0\n\n")
    broken = home.venv("broken/.venv")
    (broken / "pyvenv.cfg").write_bytes(b"version = 3.1\xff")
    os.mkfifo(home.path / "fifo")
    waits = home.python("waits/.venv")
    os.mkfifo(waits / "pyvenv.cfg")
    (home.path / "file/.venv").parent.mkdir()
    (home.path / "file/.venv").write_text("no directory")
    directory = home.conda("miniforge3/envs/odd")
    (directory / "share/jupyter").mkdir(parents=True)
    (directory / "share/jupyter/kernels").write_text("no directory")
    assert set(home.named()) == {"conda: base", "conda: odd"}


def test_a_directory_that_is_closed_hides_what_is_in_it_and_nothing_else(home: Home, monkeypatch: pytest.MonkeyPatch):
    home.venv("closed/.venv")
    home.venv("open/.venv")
    scan = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("/closed"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    # Root, who may run these tests, can open everything.
    monkeypatch.setattr(os, "scandir", refuse)
    assert list(home.named()) == ["venv: open"]


def test_names_that_are_no_text_are_paths_all_the_same(home: Home):
    prefix = home.venv(Path(os.fsdecode(b"caf\xe9 'x\" $(x)\n")) / ".venv")
    assert [found.prefix for found in home.find()] == [prefix]


def test_a_directory_with_very_many_entries_still_has_its_environment(home: Home, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(environments, "ENTRIES", 5)
    home.venv("data/.venv")
    for number in range(50):
        (home.path / f"data/{number}").touch()
    assert list(home.named()) == ["venv: data"]


def test_the_look_at_a_big_tree_ends_with_the_shallow_ones_found(home: Home, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(environments, "DIRECTORIES", 20)
    home.venv("z/.venv")
    for number in range(10):
        (home.path / f"a/{number}/x").mkdir(parents=True)
    home.venv("a/9/x/.venv")
    assert list(home.named()) == ["venv: z"]


@given(st.binary(max_size=200))
def test_no_configuration_of_an_environment_is_a_surprise(content: bytes):
    path = Path("/dev/shm") / f"pyvenv-{os.getpid()}.cfg"
    path.write_bytes(content)
    try:
        found = Memory().recall(str(path), environments._configuration, None)
    finally:
        path.unlink()
    assert found is None or found.python


def test_the_order_stays(home: Home):
    home.root()
    for name in "zebra", "ant", "moth":
        home.conda(f"miniforge3/envs/{name}")
        home.venv(f"{name}/.venv")
    first = home.find()
    assert [found.name for found in first] == ["base", "ant", "moth", "zebra", "ant", "moth", "zebra"]
    assert home.find() == first
