"""A repository of our own, as tools/repository makes it: apt installs from it, upgrades, and believes nobody else."""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from lab.box import NONINTERACTIVE, Box

from jupyter_remote.run import run
from tests import installed
from tests.client import Client
from tests.installed import ANSWERS, PASSWORD
from tests.pages import blocks, reader

TOP = Path(__file__).parents[2]
CLONE, RELEASE = blocks("CONTRIBUTING.md")
_, UNATTENDED, _ = blocks("docs/everyday.md")
KEY = "repository@example.invalid"
#: where this machine's Apache serves it
SERVED = "/var/www/html/apt"


@pytest.fixture
def keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key to sign with."""
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("GNUPGHOME", str(home))
    run("gpg", "--batch", "--passphrase", "", "--quick-generate-key", KEY, "ed25519", "sign", "never")


def publish(box: Box, folder: Path, *packages: Path) -> None:
    run(TOP / "tools/repository", "--url", "http://localhost/apt", "--key", KEY, folder, *packages)
    box.sh(f"rm -rf {SERVED}")
    shutil.copytree(folder, box.path(SERVED))
    box.sh(f"chmod -R a+rX {SERVED}")


def version(box: Box) -> str:
    return box.sh("dpkg-query --status jupyter-remote | sed -n 's/^Version: //p'")


def add(box: Box) -> tuple[str, str]:
    """What the repository's own page says to type: to fetch the list of it, and to install from it."""
    box.sh("apt-get -qq install --yes curl >/dev/null 2>&1", env=NONINTERACTIVE)
    # Not by way of the box's proxy, which knows Debian's servers.
    box.write("/etc/apt/apt.conf.d/99direct", 'Acquire::http::Proxy::localhost "DIRECT";\n')
    found = re.search(r"<pre>(.*)</pre>", box.read(f"{SERVED}/index.html"), re.DOTALL)
    assert found
    fetch, install = html.unescape(found[1]).replace("sudo ", "").split("\n")
    return fetch, install.replace("install", "install --yes")


@pytest.mark.either_release
@pytest.mark.usefixtures("keyring")
def test_apt_installs_from_it_and_upgrades(fresh_box: Box, older: Path, deb: Path, tmp_path: Path):
    folder = tmp_path / "apt"
    publish(fresh_box, folder, older)
    fetch, install = add(fresh_box)
    fresh_box.sh(fetch)
    fresh_box.preseed(ANSWERS)
    fresh_box.sh(install, env=NONINTERACTIVE)
    assert "older" in version(fresh_box)
    assert "version" in fresh_box.sh("curl -skf https://localhost/jupyter/api")

    publish(fresh_box, folder, deb)
    fresh_box.sh("apt-get update && apt-get upgrade --yes", env=NONINTERACTIVE)
    assert "older" not in version(fresh_box)
    assert "version" in fresh_box.sh("curl -skf https://localhost/jupyter/api")
    # The older one can still be had.
    assert fresh_box.sh("apt-cache madison jupyter-remote | wc -l") == "2"

    # Somebody in between who changes the list is not believed.
    lists = f"{SERVED}/dists/*/InRelease"
    fresh_box.sh(f"sed -i 's/^Origin: .*/Origin: somebody/' {lists}")
    refused = fresh_box.attempt("apt-get update -o APT::Update::Error-Mode=any")
    assert refused.returncode
    assert re.search("signature", refused.stderr, re.IGNORECASE)


@pytest.mark.one_release
@pytest.mark.usefixtures("keyring")
def test_it_is_upgraded_at_night_by_debians_own_program(
    box: Box, deb: Path, tmp_path: Path, client: Callable[..., Client]
):
    kernel = client(box).login(PASSWORD).start_kernel()
    kernel.execute("kept = 42")
    now, folder = version(box), tmp_path / "apt"
    publish(box, folder, installed.newer(deb, tmp_path))
    fetch, _ = add(box)
    box.sh(f"{fetch}; apt-get update")
    # Without an answer from somebody who is not there at night: apt asks nothing, and neither do we.
    said = reader(box).sh(UNATTENDED.filled({"apt install": "DEBIAN_FRONTEND=noninteractive apt install --yes"}))
    assert "jupyter-remote" in said
    assert version(box) == now
    said = box.sh("unattended-upgrade --verbose 2>&1 </dev/null", env={"DEBIAN_FRONTEND": "dialog"})
    assert "All upgrades installed" in said
    assert version(box) != now
    assert kernel.execute("kept").value == "42"
    assert client(box).try_login(PASSWORD)


@pytest.mark.either_release
@pytest.mark.usefixtures("keyring")
def test_another_package_of_the_same_version_is_refused(deb: Path, older: Path, tmp_path: Path):
    folder = tmp_path / "apt"
    words = (TOP / "tools/repository", "--url", "http://localhost/apt", "--key", KEY, folder)
    run(*words, deb)
    changed = tmp_path / deb.name
    changed.write_bytes(older.read_bytes())
    run(*words, deb)
    other = run(*words, changed, check=False)
    assert other.returncode == 65
    assert "is another package of the same version" in other.stderr


@pytest.mark.one_release
@pytest.mark.usefixtures("keyring")
def test_a_release_is_made_by_the_commands_for_it(deb: Path, tmp_path: Path):
    origin, clone, folder = tmp_path / "origin/jupyter-remote", tmp_path / "jupyter-remote", tmp_path / "apt"
    # The same for both: another one may not have been built.
    installed.put_checkout(origin, deb, *installed.SUITES)
    git = "git -c user.name=x -c user.email=x"
    run("sh", "-ec", f"git init -q; git add --all; {git} commit -qm x", cwd=origin)
    run("bash", "-ec", CLONE.filled({"<this repository>": str(origin)}) + "./test.sh --help", cwd=tmp_path)
    (origin / "dist").rename(clone / "dist")
    own = {"sudo ": "", "https://example.org/": "http://localhost/", "maintainer@example.org": KEY}
    run("bash", "-ec", RELEASE.filled({**own, "/srv/apt": str(folder)}), cwd=clone)
    assert "sudo apt install jupyter-remote" in html.unescape((folder / "index.html").read_text())
    assert list(folder.glob("dists/*/InRelease"))
