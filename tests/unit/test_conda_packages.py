"""What the first environment is made of: a list, an environment.yml, and files that are neither."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_remote.conda import packages
from jupyter_remote.conda.packages import Wanted
from jupyter_remote.run import EX_NOINPUT, Mistake

ENVIRONMENT = """\
name: torch
channels: [pytorch, conda-forge, nodefaults]
dependencies:
  - python=3.12
  - numpy >=2
  - conda-forge::pandas
  - pip:
      - emoji==2.0
"""


def test_an_environment_file_is_read_as_conda_means_it(tmp_path: Path):
    path = tmp_path / "environment.yml"
    path.write_text(ENVIRONMENT)
    wanted = packages.read(path)
    assert wanted == Wanted(
        "torch", ("python=3.12", "numpy >=2", "conda-forge::pandas"), ("emoji==2.0",), ("pytorch", "conda-forge")
    )
    # A kernel, pip and setuptools come along; the Python that was asked for stays the only one.
    assert wanted.all_specs == ["pip", "setuptools", "ipykernel", "python=3.12", "numpy >=2", "conda-forge::pandas"]


def test_a_list_is_one_package_a_line(tmp_path: Path):
    path = tmp_path / "packages.txt"
    path.write_text("# mine\nnumpy\n\npandas=2.*   # the old one\n@EXPLICIT\n")
    assert packages.read(path) == Wanted(specs=("numpy", "pandas=2.*"))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("environment.yml", "dependencies: [numpy", "no YAML"),
        ("environment.yml", "- numpy\n", "lists no dependencies"),
        ("environment.yml", "dependencies: numpy\n", "lists no dependencies"),
        ("environment.yml", "dependencies: [{conda: [x]}]\n", "is no package"),
        ("environment.yml", "dependencies: [--force]\n", "is no package"),
        ("environment.yml", "dependencies: [numpy]\nchannels: x\n", "channels is no list"),
        ("environment.yml", "dependencies: [numpy]\nchannels: ['-c']\n", "is no channel"),
        ("packages.txt", "--override\n", "is no package"),
    ],
)
def test_what_is_no_list_is_told_with_an_example(tmp_path: Path, name: str, text: str, said: str):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(Mistake, match=said) as mistake:
        packages.read(path)
    assert mistake.value.code == EX_NOINPUT
    assert mistake.value.hint


def test_a_list_that_is_not_there_or_no_text_is_told(tmp_path: Path):
    with pytest.raises(Mistake, match="cannot be read: No such file"):
        packages.read(tmp_path / "missing.txt")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(Mistake, match="no UTF-8"):
        packages.read(tmp_path / "bytes.txt")


@given(st.text(max_size=200), st.sampled_from(["x.yml", "x.txt"]))
def test_no_text_becomes_an_option_of_condas(tmp_path_factory: pytest.TempPathFactory, text: str, name: str):
    path = tmp_path_factory.getbasetemp() / name
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        wanted = packages.read(path)
    except Mistake:
        return
    for word in (*wanted.all_specs, *wanted.channels):
        assert word and not word.startswith("-") and word.isprintable()
