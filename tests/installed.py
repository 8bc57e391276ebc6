"""The package, built and installed: once for all tests."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import debbuild
from lab import cache, layers
from lab.box import NONINTERACTIVE, Box

from jupyter_remote.run import die, run, say

TOP = Path(__file__).resolve().parent.parent
SUITES = ["bookworm", "trixie"]
#: Theirs, for which a test gets wheels.
PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}

#: What upgrades are tried from: the first state whose kernels outlive the server and with which all tests passed.
#: It stands for what is on people's machines, with keepers that no server of later can choose. When there is a
#: release, this becomes the commit of the last one.
EARLIER = "1e1c95fdcfddc8a30a50de1b7b0d7306cd345704"

OWNER = "alice"
#: also shows that blanks, quotes and other alphabets in a password are nothing special
PASSWORD = "correct horse 'ñ' $battery"
ANSWERS = {
    "jupyter-remote/user": OWNER,
    "jupyter-remote/password": PASSWORD,
    "jupyter-remote/password-again": PASSWORD,
}


def deb(suite: str, *, build: bool = True) -> Path:
    """The package for *suite*, built when it is missing or older than its sources.

    :param build: without it the package is taken as it lies in dist/, or else as it was tested last.
    :returns: a copy that nobody builds anew while tests run, with the other products beside it.
    :raises Mistake: it does not build, or is not there.
    """
    if build:
        run(sys.executable, TOP / "tools/build-deb", suite, capture=False)
    copies = cache.directory() / "tested" / suite
    found = sorted((TOP / "dist" / suite).glob("jupyter-remote_*.deb"))
    if found:
        digest = hashlib.sha256(found[-1].read_bytes()).hexdigest()[:12]
        cache.build_once(copies / digest, lambda partial: _copy(found[-1].parent, partial))
        os.utime(copies / digest)
    kept = sorted((path for path in copies.glob("*") if path.is_dir()), key=lambda path: path.stat().st_mtime)
    if not kept:
        die(f"there is no package for {suite} in dist/{suite}", hint=f"sudo tools/build-deb {suite}")
    for old in kept[:-4]:
        shutil.rmtree(old, ignore_errors=True)
    return next(kept[-1].glob("jupyter-remote_*.deb"))


def _copy(products: Path, directory: Path) -> None:
    for product in products.glob("jupyter-remote_*"):
        shutil.copy2(product, directory)


def earlier(suite: str, commit: str = EARLIER) -> Path | None:
    """The package for *suite* as it was at *commit*; None in a checkout that has no such history.

    :raises Mistake: it does not build.
    """
    return debbuild.build_earlier(suite, commit) if debbuild.has_commit(commit) else None


def older(package: Path, work: Path) -> Path:
    """*package* as it would have been a version ago: other number, other conffile, other code.

    :param work: an empty directory, for it.
    """

    def change(tree: Path) -> None:
        conffile = tree / "etc/apache2/conf-available/jupyter-remote.conf"
        conffile.write_text(conffile.read_text() + "# a line that the next version no longer has\n")

    return _repacked(package, work / "jupyter-remote_older.deb", "0.0~older.", change)


def newer(package: Path, work: Path) -> Path:
    """*package* as its next version.

    :param work: a directory, for it.
    """
    return _repacked(package, work / package.name.replace("_0.", "_1."), "1.", lambda tree: None)


def _repacked(package: Path, made: Path, version: str, change: Callable[[Path], None]) -> Path:
    """Another version of a package, in place of 0."""
    with tempfile.TemporaryDirectory(dir=made.parent) as work:
        tree = Path(work, "tree")
        run("dpkg-deb", "--raw-extract", package, tree)
        control = tree / "DEBIAN/control"
        control.write_text(control.read_text().replace("\nVersion: 0.", f"\nVersion: {version}", 1))
        change(tree)
        run("dpkg-deb", "-Znone", "--root-owner-group", "--build", tree, made)
    return made


def ready(suite: str, package: Path) -> str:
    """A layer with what *package* depends on and recommends, Apache among it; alice is alone. Its name."""
    fields = run("dpkg-deb", "--showformat=${Depends}, ${Recommends}", "--show", package).stdout
    needed = sorted({relation.split()[0] for relation in fields.split(",") if relation.strip()})
    facts = repr([layers.ensure(suite, "plain"), needed])
    name = f"ready-{hashlib.sha256(facts.encode()).hexdigest()[:12]}"
    with cache.locked(cache.directory() / f"{suite}-{name}"):
        if not layers.is_frozen(suite, name):
            say(f"installing what {package.name} needs in a box of {suite}")
            with Box(suite, layer="plain") as box:
                box.sh("apt-get -qq update")
                box.sh(f"apt-get -qq install --yes {' '.join(needed)}", env=NONINTERACTIVE)
                box.freeze(name)
    return name


def layer(suite: str, package: Path) -> str:
    """A layer with *package* installed beside Apache, for alice, with :data:`PASSWORD`; its name."""
    facts = hashlib.sha256(package.read_bytes())
    facts.update(repr([layers.ensure(suite, "box"), sorted(ANSWERS.items()), "with environment"]).encode())
    name = f"installed-{facts.hexdigest()[:12]}"
    with cache.locked(cache.directory() / f"{suite}-{name}"):
        if not layers.is_frozen(suite, name):
            say(f"installing {package.name} in a box of {suite}")
            with Box(suite, layer="box") as box:
                box.install(package, ANSWERS)
                # else each box would begin to make the owner's environment anew
                ready = f"/var/lib/jupyter-remote/users/{OWNER}/python3*/jupyter-remote-complete"
                box.sh(f"until ls {ready}; do sleep 1; done", timeout=300)
                box.freeze(name)
    return name


def put_checkout(directory: Path, package: Path, *suites: str) -> None:
    """Make *directory* a checkout of what is here, in which *package* was built for *suites* already."""
    with debbuild.source_tree() as tree:
        shutil.copytree(tree, directory, symlinks=True)
    shutil.copytree(TOP / "tools", directory / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    for script in (".gitignore", "install.sh", "test.sh"):
        shutil.copy(TOP / script, directory)
    for suite in suites:
        products = directory / "dist" / suite
        products.mkdir(parents=True)
        shutil.copy(package, products)
        (products / ".built-from").write_text(debbuild.state_of_sources())
