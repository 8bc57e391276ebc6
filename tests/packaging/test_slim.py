"""The slim package: the same Python code, on the Jupyter that Debian has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import debbuild
import pytest
from lab import network
from lab.box import Box

from jupyter_remote.run import run
from tests.client import Client, wait_until
from tests.pages import blocks

SUITE = "trixie"
SET_UP, RUN = blocks("docs/slim.md")
AS_ROOT = {"sudo ": ""}


@pytest.fixture(scope="module")
def deb() -> Path:
    return debbuild.build_slim(SUITE)


@pytest.fixture
def slim_box(deb: Path) -> Iterator[Box]:
    with Box(SUITE, layer="debians-jupyterlab") as box:
        box.sh(f"dpkg --install --force-depends {box.put(deb)}")
        yield box


def serve(box: Box, unit: str) -> None:
    """Have the server run as the documentation says, in a unit that leaves kernels alone."""
    box.sh(f"systemd-run --quiet --unit={unit} --property=KillMode=process {RUN.filled(AS_ROOT)}")
    ask = "curl --silent --fail http://127.0.0.1:8899/jupyter/api"
    wait_until(lambda: box.attempt(ask).returncode == 0, lambda: box.journal(unit))


def test_the_slim_package_is_our_code_on_debians_jupyter(deb: Path, tmp_path: Path) -> None:
    depends = {word.split(" (")[0] for word in run("dpkg-deb", "--field", deb, "Depends").stdout.strip().split(", ")}
    assert {"jupyterlab", "python3-jupyter-server", "python3-jinja2", "python3-tomlkit", "python3-argon2"} <= depends
    assert "python3-notebook" not in depends
    assert "run --keep-kernels" in run("dpkg-deb", "--field", deb, "Description").stdout

    run("dpkg-deb", "--extract", deb, tmp_path)
    source = debbuild.TOP / "src/jupyter_remote"
    packaged = tmp_path / "usr/lib/python3/dist-packages/jupyter_remote"
    ours = {path.relative_to(source) for path in source.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert {path.relative_to(packaged) for path in packaged.rglob("*") if path.is_file()} == ours
    assert (tmp_path / "usr/bin/jupyter-remote").exists()


def test_debians_jupyter_does_the_main_job(slim_box: Box) -> None:
    told = slim_box.attempt(
        f"exec 2>&1; {SET_UP.filled({**AS_ROOT, 'remote password': 'remote password --stdin'})}",
        input="correct horse\n",
    )
    assert told.returncode == 0, told.stdout
    assert "no systemd units and no site for Apache" in told.stdout
    assert "Needs attention" not in told.stdout
    assert not slim_box.exists("/etc/systemd/system/jupyter-remote.service.d")

    serve(slim_box, "first")
    with network.entered(slim_box.address):
        visitor = Client("127.0.0.1", "http://127.0.0.1:8899/jupyter")
        assert not visitor.try_login("wrong")
        visitor.login("correct horse")
        page = visitor.get("lab").text
        assert "jupyter-config-data" in page
        kernel = visitor.start_kernel()
        assert kernel.execute("x = 6 * 7; x").value == "42"

        slim_box.sh("systemctl stop first")
        serve(slim_box, "second")
        assert visitor.connect(kernel.id).execute("x").value == "42"

        slim_box.sh("systemctl kill --signal=KILL --kill-whom=main second")
        serve(slim_box, "third")
        assert visitor.connect(kernel.id).execute("x").value == "42"

    slim_box.sh("systemctl stop third")
    assert "run --keep-kernels" in slim_box.attempt("jupyter-remote config set listen 8900").stderr
    assert "listen = 8900" in slim_box.read("/etc/jupyter-remote/config.toml")
    refused = slim_box.attempt("jupyter-remote config set interface notebook")
    assert refused.returncode != 0
    assert "Notebook 7 is not installed" in refused.stderr
