"""Each secret is where it must be, for those who must have it, and nowhere else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from lab.box import Box

from tests.client import Client
from tests.installed import OWNER

MakeClient = Callable[..., Client]

#: with what shells, printf, debconf and unit files read as something else
_FIRST = "Sesame-open-7431-%n-${HOME}"
_SECOND = "Quince+marmalade+9264"
_THIRD = "Plum 'n' \"damson\" 3310"
_WRONG = "Medlar-8876-is-wrong"

HASH = "/etc/jupyter-remote/password-hash"
CREDENTIAL = "/run/credentials/jupyter-remote.service/password-hash"
STATE = f"/var/lib/jupyter-remote/users/{OWNER}"


@dataclass(frozen=True)
class Secret:
    """What nobody is to find, and where it has to be all the same: patterns of paths, each of which must have it."""

    text: str | bytes
    places: tuple[str, ...] = ()


@pytest.mark.one_release
def test_no_secret_that_was_ever_used_can_be_found_on_the_machine(fresh_box: Box, deb: Path, client: MakeClient):
    box = fresh_box
    secrets: dict[str, Secret] = {}

    def gather(name: str, text: str | bytes, *places: str) -> None:
        assert len(text) > 7, name
        secrets[name] = Secret(text, places)

    def gather_cookies(whose: str, visitor: Client) -> None:
        for cookie in visitor.http.cookies.jar:
            assert cookie.value
            gather(f"{whose} cookie {cookie.name}", cookie.value.strip('"'))

    # One after another, all that there is to do with secrets.
    box.install(deb, {"jupyter-remote/user": OWNER, "jupyter-remote/password": _FIRST})
    gather("the password of the installation", _FIRST)
    first = client(box).login(_FIRST)
    gather_cookies("the first login's", first)
    gather("the first hash", box.read(HASH).strip())
    assert not client(box).try_login(_WRONG)
    gather("a wrong password", _WRONG)

    box.sh("jupyter-remote password --stdin", input=_SECOND + "\n")
    gather("the password of the command", _SECOND)
    gather("the second hash", box.read(HASH).strip())
    assert not client(box).try_login(_FIRST)
    gather_cookies("the second login's", client(box).login(_SECOND))

    box.preseed({"jupyter-remote/password": _THIRD})
    box.sh("dpkg-reconfigure --frontend=noninteractive jupyter-remote")
    gather("the password of dpkg-reconfigure", _THIRD)

    links = [box.as_user(OWNER).sh("jupyter-remote url") for _ in range(2)]
    visitor = client(box)
    assert visitor.follow(links[0])
    gather("a login link that was used", links[0].rpartition("token=")[2])
    gather("a login link that was not", links[1].rpartition("token=")[2])
    gather_cookies("the link's", visitor)

    token = box.as_user(OWNER).sh("jupyter-remote token create laptop").split()[0]
    assert client(box).get(f"api/status?token={token}").status_code == 200
    gather("a program's token", token)

    # An upgrade, with kernels and terminals running before and after it.
    before = visitor.start_kernel()
    assert before.execute("6 * 7").value == "42"
    visitor.open_terminal().run("echo hello")
    reinstall = f"apt-get -qq install --yes --reinstall {box.put(deb)}"
    box.sh(reinstall, env={"DEBIAN_FRONTEND": "noninteractive"})
    last = client(box).login(_THIRD)
    gather_cookies("the last login's", last)
    after = last.start_kernel()
    assert after.execute("6 * 7").value == "42"
    for kernel in (before, after):
        # The one for whoever wants to connect too, `jupyter console --existing`; the other is the kernel's own.
        both = [f"/run/jupyter-remote/{OWNER}/{name}" for name in (f"kernel-{kernel.id}.json",
                                                                    f"kernels/{kernel.id}/kernel.json")]  # fmt: skip
        gather(f"the key of {kernel.id}", json.loads(box.read(both[0]))["key"], *both)
    assert box.read(HASH).startswith("argon2:$argon2id$")
    gather("the last hash", box.read(HASH).strip(), HASH, CREDENTIAL)
    gather("the secret of the cookies", box.path(f"{STATE}/cookie-secret").read_bytes(), f"{STATE}/cookie-secret")
    own = "/var/lib/jupyter-remote/tls/self-signed"
    for key in box.sh(f"find {own} -name '*.key'").split():
        lines = box.read(key).splitlines()
        served = ("/var/lib/jupyter-remote/tls/server.key",) if Path(key).name == "leaf.key" else ()
        gather(f"the middle of {key}", lines[len(lines) // 2], key, *served)

    found = box.places_with_each({name: secret.text for name, secret in secrets.items()})
    assert found == {name: sorted(secret.places) for name, secret in secrets.items()}
    for path in {place for secret in secrets.values() for place in secret.places}:
        assert box.sh(f"stat -c %a {path}") in ("600", "400", "440"), path
    # The search finds what is there: else it would prove nothing.
    box.write("/var/tmp/spilt", f"a line\nwith {_THIRD} in it\n")
    assert box.places_with(_THIRD) == ["/var/tmp/spilt"]
    # Debconf has been asked, and has forgotten.
    shown = box.sh("debconf-show jupyter-remote")
    assert re.search(r"jupyter-remote/password: *(\(password omitted\))?$", shown, re.M)
    passwords = box.read("/var/cache/debconf/passwords.dat")
    assert re.search(r"^Name: jupyter-remote/password$", passwords, re.M)
    assert not re.search(r"^Value: .+", passwords, re.M)
