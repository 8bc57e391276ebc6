"""Which tool gets asked to install a kernel, and what is said when it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupyter_remote import addkernel
from jupyter_remote.environments import Environment
from jupyter_remote.run import EX_UNAVAILABLE, Mistake
from tests.unit.homes import Home

#: A program that writes down how it was called, and does what was asked of it.
TOOL = """#!/bin/sh
echo "$(basename "$0") $*" >>"{log}"
case "$*" in {refused}) echo "Looking"; echo "error: no such package" >&2; echo "sorry" >&2; exit 1 ;; esac
case "$*" in *ipykernel*) mkdir -p "{prefix}/share/jupyter/kernels/python3"
echo {{}} >"{prefix}/share/jupyter/kernels/python3/kernel.json" ;; esac
"""


class Tools:
    """Stand-ins for the tools that install things, and what they were asked to do."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.log = home.path / "log"

    def put(self, tool: Path, prefix: Path, refused: str = "nothing") -> None:
        tool.parent.mkdir(parents=True, exist_ok=True)
        tool.unlink(missing_ok=True)
        tool.write_text(TOOL.format(log=self.log, prefix=prefix, refused=refused))
        tool.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.is_file() else []


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    home = Home(tmp_path)
    monkeypatch.setenv("HOME", str(home.path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return home


@pytest.fixture
def tools(home: Home) -> Tools:
    return Tools(home)


@pytest.fixture
def some_wheels(tmp_path: Path) -> Path:
    directory = tmp_path / "wheels"
    directory.mkdir()
    (directory / "ipykernel-7-py3-none-any.whl").touch()
    return directory


def the(home: Home, prefix: Path) -> Environment:
    return next(found for found in home.find() if found.prefix == prefix)


def add(environment: Environment, wheels: Path | None = None) -> None:
    addkernel.add(environment, channel="conda-forge", wheels=wheels)


def refusal(environment: Environment, wheels: Path | None = None) -> str:
    with pytest.raises(Mistake) as refused:
        add(environment, wheels)
    assert refused.value.code == EX_UNAVAILABLE
    assert refused.value.hint
    return str(refused.value)


@pytest.mark.parametrize("tool", ["conda", "mamba", "micromamba"])
def test_conda_is_asked_for_the_channel_that_was_chosen_and_no_other(home: Home, tools: Tools, tool: str):
    root = home.root()
    prefix = home.conda("miniforge3/envs/torch")
    tools.put(root / f"bin/{tool}", prefix)
    add(the(home, prefix))
    assert tools.calls == [
        f"{tool} install --yes --prefix {prefix} --override-channels --channel conda-forge ipykernel"
    ]


def test_an_environment_that_has_a_kernel_is_left_alone(home: Home, tools: Tools):
    root = home.root()
    prefix = home.conda("miniforge3/envs/torch")
    tools.put(root / "bin/conda", prefix)
    add(the(home, prefix))
    add(the(home, prefix))
    assert len(tools.calls) == 1


def test_without_conda_its_installation_is_named(home: Home):
    assert "jupyter-remote conda install" in refusal(the(home, home.conda("own")))


def test_without_python_nothing_is_tried(home: Home):
    prefix = home.conda("own", "r-base-4.4.1-h0_0")
    home.register(prefix)
    assert "no Python" in refusal(the(home, prefix))


@pytest.mark.parametrize("manifest", ["pixi.toml", "pyproject.toml"])
def test_pixi_changes_its_project(home: Home, tools: Tools, manifest: str):
    prefix = home.conda("app/.pixi/envs/default")
    (home.path / "app" / manifest).touch()
    assert "pixi" in refusal(the(home, prefix))
    tools.put(home.path / ".pixi/bin/pixi", prefix)
    add(the(home, prefix))
    assert tools.calls == [f"pixi add --manifest-path {home.path}/app/{manifest} ipykernel"]


def test_another_environment_of_pixis_is_its_owners_to_change(home: Home, tools: Tools):
    prefix = home.conda("app/.pixi/envs/gpu")
    assert "neither a pixi.toml nor a pyproject.toml" in refusal(the(home, prefix))
    (home.path / "app/pixi.toml").touch()
    tools.put(home.path / ".pixi/bin/pixi", prefix)
    assert "pixi add --manifest-path" in refusal(the(home, prefix))
    assert "--feature" in refusal(the(home, prefix))
    assert tools.calls == []


def test_pip_takes_the_packages_own_wheels_first(home: Home, tools: Tools, some_wheels: Path):
    prefix = home.venv("app/.venv")
    tools.put(prefix / "bin/python", prefix)
    add(the(home, prefix), some_wheels)
    [asked, installed] = tools.calls
    assert asked == "python -I -c import pip"
    assert installed.endswith(f"install --quiet --no-index --find-links {some_wheels} ipykernel")


def test_pip_asks_the_index_when_the_wheels_do_not_fit(home: Home, tools: Tools, some_wheels: Path):
    prefix = home.venv("app/.venv")
    tools.put(prefix / "bin/python", prefix, refused="*--no-index*")
    add(the(home, prefix), some_wheels)
    assert tools.calls[-1].endswith("-m pip --no-input --disable-pip-version-check install --quiet ipykernel")


def test_uvs_environments_are_installed_into_by_uv(home: Home, tools: Tools, some_wheels: Path):
    prefix = home.venv("app/.venv", "uv = 0.9\nversion_info = 3.13.0\n")
    tools.put(home.path / ".local/bin/uv", prefix)
    add(the(home, prefix), some_wheels)
    options = f"--no-index --find-links {some_wheels} ipykernel"
    assert tools.calls == [f"uv pip install --quiet --python {prefix}/bin/python {options}"]


def test_an_environment_without_pip_gets_the_kernel_by_uv(home: Home, tools: Tools):
    prefix = home.venv("app/.venv")
    tools.put(prefix / "bin/python", prefix, refused="*import?pip*")
    tools.put(home.path / ".local/bin/uv", prefix)
    add(the(home, prefix))
    assert tools.calls[-1].startswith("uv pip install")


def test_an_environment_with_neither_gets_pip_first(home: Home, tools: Tools):
    prefix = home.venv("app/.venv")
    tools.put(prefix / "bin/python", prefix, refused="*import?pip*")
    add(the(home, prefix))
    assert "python -I -m ensurepip --default-pip" in tools.calls
    assert tools.calls[-1].endswith("install --quiet ipykernel")


def test_a_failure_says_what_the_tool_said_and_how_to_see_more(home: Home, tools: Tools):
    root = home.root()
    prefix = home.conda("miniforge3/envs/torch")
    tools.put(root / "bin/conda", prefix, refused="*")
    said = refusal(the(home, prefix))
    assert "error: no such package" in said
    assert f"{root}/bin/conda install --yes --prefix {prefix}" in said


def test_a_tool_that_has_done_nothing_is_noticed(home: Home, tools: Tools):
    root = home.root()
    prefix = home.conda("miniforge3/envs/torch")
    tools.put(root / "bin/conda", home.path / "elsewhere")
    assert "-m ipykernel install --sys-prefix" in refusal(the(home, prefix))


def test_a_tool_that_never_ends_is_given_up(home: Home, tools: Tools, monkeypatch: pytest.MonkeyPatch):
    root = home.root()
    prefix = home.conda("miniforge3/envs/torch")
    (root / "bin/conda").write_text("#!/bin/sh\nexec sleep 60\n")
    (root / "bin/conda").chmod(0o755)
    monkeypatch.setattr(addkernel, "PATIENCE", 0.1)
    assert "minutes" in refusal(the(home, prefix))
