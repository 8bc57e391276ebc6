"""The password is nowhere afterwards but in the owner's head."""

from __future__ import annotations

from pathlib import Path

from lab.box import Box

from tests.installed import OWNER

_FIRST = "Sesame-open-7431-%n-${HOME}"
_SECOND = "Quince+marmalade+9264"


def test_no_password_that_was_ever_used_can_be_found_on_the_machine(fresh_box: Box, deb: Path, client) -> None:  # noqa: ANN001
    fresh_box.install(deb, {"jupyter-remote/user": OWNER, "jupyter-remote/password": _FIRST})
    assert client(fresh_box).try_login(_FIRST)
    fresh_box.sh("jupyter-remote password --stdin", input=_SECOND + "\n")
    somebody = client(fresh_box)
    assert not somebody.try_login(_FIRST)
    assert somebody.try_login(_SECOND)
    fresh_box.preseed({"jupyter-remote/password": _FIRST})
    fresh_box.sh("dpkg-reconfigure --frontend=noninteractive jupyter-remote")
    fresh_box.sh(
        f"apt-get -qq install --yes --reinstall {fresh_box.put(deb)}",
        env={"DEBIAN_FRONTEND": "noninteractive"},
    )
    assert client(fresh_box).try_login(_FIRST)
    for secret in (_FIRST, _SECOND):
        assert fresh_box.places_with(secret) == []


def test_the_hash_is_for_root_and_the_server_alone(box: Box) -> None:
    stored = box.read("/etc/jupyter-remote/password-hash").strip()
    assert stored.startswith("argon2:$argon2id$")
    assert box.sh("stat -c '%U %a' /etc/jupyter-remote/password-hash") == "root 600"
    for person in ("bob", "www-data"):
        assert box.as_user(person).attempt("cat /etc/jupyter-remote/password-hash").returncode != 0
    elsewhere = [place for place in box.places_with(stored) if "password-hash" not in place]
    assert elsewhere == []
