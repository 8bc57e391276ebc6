"""The slim package: the same Python code, on the Jupyter that Debian has."""

from __future__ import annotations

from pathlib import Path

import debbuild

from jupyter_remote.run import run

SUITE = "trixie"


def test_the_slim_package_is_our_code_on_debians_jupyter(tmp_path: Path) -> None:
    deb = debbuild.build_slim(SUITE)
    depends = {word.split(" (")[0] for word in run("dpkg-deb", "--field", deb, "Depends").stdout.strip().split(", ")}
    assert {"jupyterlab", "python3-jupyter-server", "python3-jinja2", "python3-tomlkit", "python3-argon2"} <= depends
    assert "python3-notebook" not in depends

    run("dpkg-deb", "--extract", deb, tmp_path)
    source = debbuild.TOP / "src/jupyter_remote"
    packaged = tmp_path / "usr/lib/python3/dist-packages/jupyter_remote"
    ours = {path.relative_to(source) for path in source.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert {path.relative_to(packaged) for path in packaged.rglob("*") if path.is_file()} == ours
    assert (tmp_path / "usr/bin/jupyter-remote").exists()
