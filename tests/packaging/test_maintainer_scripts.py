"""The maintainer scripts, where the order of things or an answer is not the usual one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from lab.box import NONINTERACTIVE, Box

from jupyter_remote.run import run
from tests.installed import ANSWERS, OWNER

TOP = Path(__file__).resolve().parents[2]
HASH = "/etc/jupyter-remote/password-hash"


def passwords_in_debconf(box: Box) -> str:
    return box.sh("sed -n '/^Name: jupyter-remote.password/,/^$/{/^Value: ./p}' /var/cache/debconf/passwords.dat")


@pytest.mark.either_release
def test_preseeded_passwords_that_differ_stop_the_installation_until_one_is_given(fresh_box: Box, deb: Path) -> None:
    differing = {
        "jupyter-remote/user": OWNER,
        "jupyter-remote/password": "first one",
        "jupyter-remote/password-again": "another one",
    }
    failed = fresh_box.try_install(deb, differing)
    assert failed.returncode != 0
    assert "are not the same" in failed.stdout
    assert passwords_in_debconf(fresh_box) == ""
    # A second try without an answer must not end in a machine that looks as if it had the password.
    again = fresh_box.attempt("dpkg --configure --pending 2>&1", env=NONINTERACTIVE)
    assert again.returncode != 0 and "are not the same" in again.stdout

    fresh_box.preseed({"jupyter-remote/password": "first one"})
    fresh_box.sh("dpkg --configure --pending", env=NONINTERACTIVE)
    assert fresh_box.read(HASH).startswith("argon2:")
    assert passwords_in_debconf(fresh_box) == ""


@pytest.mark.either_release
def test_a_failed_installation_asks_for_the_password_again(fresh_box: Box, deb: Path) -> None:
    wrong = {"jupyter-remote/user": OWNER, "jupyter-remote/password": "typed", "jupyter-remote/base-url": "no slash"}
    assert fresh_box.try_install(deb, wrong).returncode != 0
    assert passwords_in_debconf(fresh_box) == ""
    fresh_box.preseed({"jupyter-remote/base-url": "/lab", "jupyter-remote/password": "typed again"})
    fresh_box.sh("dpkg --configure --pending", env=NONINTERACTIVE)
    assert fresh_box.read(HASH).startswith("argon2:")


@pytest.mark.either_release
def test_a_hash_can_be_preseeded_instead_of_a_password(fresh_box: Box, deb: Path) -> None:
    ready = "sha1:1b6d43c5d2a1:5e9dd9a1dc4b6dbf0a9d2f3c5a3f8f6c9d1e2b3a"
    fresh_box.install(deb, {"jupyter-remote/user": OWNER, "jupyter-remote/password-hash": ready})
    assert fresh_box.read(HASH).strip() == ready
    assert passwords_in_debconf(fresh_box) == ""


@pytest.mark.either_release
def test_an_apache_that_is_configured_after_us_still_serves(fresh_box: Box, deb: Path) -> None:
    depends = run("dpkg-deb", "--field", deb, "Depends").stdout
    needed = " ".join(word.split(" ")[0] for word in depends.strip().split(", "))
    fresh_box.preseed(ANSWERS)
    fresh_box.sh(
        "exec >/dev/null; cd /tmp; apt-get -qq update;"
        f"apt-get -qq install --yes --no-install-recommends {needed};"
        # What apache2 depends on, and apache2 itself not yet.
        "apt-get -qq install --yes --no-install-recommends apache2 && apt-get -qq purge --yes apache2;"
        "apt-get -qq download apache2;"
        f"dpkg --unpack ./apache2_*.deb {fresh_box.put(deb)};"
        "dpkg --configure jupyter-remote apache2",
        env=NONINTERACTIVE,
    )
    assert "version" in fresh_box.sh("curl -skf https://localhost/jupyter/api")


@pytest.mark.either_release
def test_an_apache_that_comes_later_serves(fresh_box: Box, deb: Path) -> None:
    fresh_box.preseed(ANSWERS)
    fresh_box.sh(
        f"apt-get -qq update; apt-get -qq install --yes --no-install-recommends {fresh_box.put(deb)}",
        env=NONINTERACTIVE,
    )
    assert fresh_box.is_active("jupyter-remote.service")
    fresh_box.sh("apt-get -qq install --yes apache2", env=NONINTERACTIVE)
    assert "version" in fresh_box.sh("curl -skf https://localhost/jupyter/api")
    # What lets it stop without waiting for pages.
    assert fresh_box.is_active("jupyter-remote-hangup.service")


@pytest.mark.either_release
def test_an_apache_that_was_purged_and_comes_again_serves(box: Box) -> None:
    box.sh("apt-get -qq purge --yes apache2 && apt-get -qq update", env=NONINTERACTIVE)
    assert box.is_active("jupyter-remote.service")
    box.sh("apt-get -qq install --yes apache2", env=NONINTERACTIVE)
    assert "version" in box.sh("curl -skf https://localhost/jupyter/api")
    assert box.is_active("jupyter-remote-hangup.service")


def test_the_autopkgtest_passes(fresh_box: Box, deb: Path) -> None:
    fresh_box.install(deb)
    shutil.copy(TOP / "debian/tests/installed", fresh_box.root / "usr/local/bin/installed")
    fresh_box.sh("installed")
