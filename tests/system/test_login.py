"""Strangers at the login page, and the owner who gets in all the same."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pyotp
import pytest
import segno
from lab import cache, layers
from lab.box import NONINTERACTIVE, Box

from jupyter_remote.run import say
from tests import installed
from tests.installed import PASSWORD

#: In the box: bad logins from addresses of its own, number BEGIN up to END, TRIES each, and then the right password
#: from each. Prints how many times each status came, and the last Retry-After.
ATTACK = """
import collections, http.client, json, ssl, sys, threading, urllib.parse
begin, end, tries, password = *map(int, sys.argv[1:4]), sys.stdin.read()
context = ssl._create_unverified_context()
counts, lock, wait = collections.Counter(), threading.Lock(), None
def attack(numbers):
    global wait
    for number in numbers:
        source = f"127.0.{1 + number // 250}.{1 + number % 250}"
        connection = http.client.HTTPSConnection("127.0.0.1", context=context, source_address=(source, 0), timeout=60)
        for guess in ["wrong"] * tries + [password]:
            body = urllib.parse.urlencode({"password": guess, "_xsrf": "x"})
            headers = {"Host": "box.test", "Cookie": "_xsrf=x", "X-Real-IP": "192.0.2.66", "X-Forwarded-For": "192.0.2.67"}
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            connection.request("POST", "/jupyter/login", body, headers)
            answer = connection.getresponse()
            answer.read()
            wait = answer.getheader("Retry-After")
            with lock:
                counts[f"{'right' if guess == password else 'wrong'} {answer.status}"] += 1
        connection.close()
threads = [threading.Thread(target=attack, args=(range(begin + first, end, 10),)) for first in range(10)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps([counts, wait]))
"""  # noqa: E501

LINE = "JupyterRemote] Login refused from "


def attack(box: Box, begin: int, end: int, tries: int) -> tuple[dict[str, int], float]:
    box.write("/tmp/attack.py", ATTACK)
    line = f"python3 /tmp/attack.py {begin} {end} {tries}"
    counted, wait = json.loads(box.sh(line, input=PASSWORD, timeout=300))
    return counted, float(wait or 0)


@pytest.mark.one_release
def test_the_owner_gets_in_while_one_and_two_hundred_addresses_attack(box: Box, client) -> None:  # noqa: ANN001
    seen = client(box).login(PASSWORD)
    # One address, and not even the right password helps it now.
    counted, _ = attack(box, 0, 1, 30)
    assert counted.keys() == {"wrong 401", "wrong 429", "right 429"}
    # Another one does not notice it.
    assert attack(box, 500, 501, 0)[0] == {"right 302": 1}
    # Two hundred: a few dozen of their attempts were compared, all others refused before.
    counted, _ = attack(box, 1, 200, 9)
    assert counted["wrong 429"] > 5 * counted["wrong 401"] > 0
    assert counted["right 429"] > 150
    # The session does not notice, the browser that was in gets in again,
    assert seen.logged_in
    seen.get("logout")
    assert not seen.logged_in
    assert seen.try_login(PASSWORD)
    # another browser from an address that was seen before does,
    assert client(box).try_login(PASSWORD)
    # and a new address gets in at the time that it is told, if it is told one.
    counted, wait = attack(box, 501, 502, 0)
    if counted == {"right 429": 1}:
        assert 0 < wait <= 50
        box.sh(f"sleep {wait}")
        counted, _ = attack(box, 501, 502, 0)
    assert counted == {"right 302": 1}
    lines = [line for line in box.journal("jupyter-remote").splitlines() if LINE in line]
    addresses = [line.partition(LINE)[2].split(":")[0] for line in lines]
    # Each refusal is one line. The addresses are those that Apache saw, whatever the requests claim.
    assert addresses.count("127.0.1.1") == 31
    assert {address.rpartition(".")[0] for address in addresses} <= {f"127.0.{n}" for n in (1, 3)}


def drawn(screen: str) -> list[list[bool]]:
    """The dark modules of the QR code on a terminal's screen: half blocks, dark where nothing is drawn."""
    lines = [line for line in screen.splitlines() if len(line) > 20 and set(line) <= set(" ▀▄█")]
    rows = [[char in dark for char in line] for line in lines for dark in (" ▄", " ▀")]
    # The border: two bright modules on each side.
    return [row[2:-2] for row in rows[2 : len(rows[0]) - 2]]


@pytest.mark.one_release
def test_a_second_factor_is_set_up_on_a_terminal(box: Box, client, tmp_path: Path) -> None:  # noqa: ANN001
    seen = client(box).login(PASSWORD)
    # There is none yet: the unit starts without its file.
    assert "off" in re.findall(r"2nd factor +(.*)", box.sh("jupyter-remote status"))
    assert "sudo jupyter-remote" in box.as_user("alice").attempt("jupyter-remote password --totp").stderr
    assert box.attempt("jupyter-remote password --totp < /dev/null").returncode == 64

    with box.terminal("jupyter-remote password --totp", columns=100, rows=50) as terminal:
        shown = terminal.expect("The code that it shows now:")
        secret = "".join(re.findall(r"^  ((?:[A-Z2-7]{4} ){7}[A-Z2-7]{4})$", shown, re.M)).replace(" ", "")
        terminal.picture(tmp_path / "totp.png")
        terminal.answer("000 000")
        terminal.expect("That is not the code.")
        assert not box.exists("/etc/jupyter-remote/second-factor")
        terminal.answer(pyotp.TOTP(secret).now())
        screen = terminal.expect("Browsers that were logged in have been logged out.")
        recovery = [
            code.replace(" ", "")
            for code in re.findall(r"(?<=  )(?:[a-z2-7]{4} ){3}[a-z2-7]{4}(?=   |$)", screen, re.M)
        ]
        assert len(set(recovery)) == 10
        assert terminal.wait() == 0
    uri = pyotp.TOTP(secret).provisioning_uri(name="alice@box.test", issuer_name="Jupyter")
    assert drawn(shown) == [[bool(module) for module in row] for row in segno.make(uri, error="l", micro=False).matrix]

    assert not seen.logged_in
    assert box.sh("stat -c '%U %a' /etc/jupyter-remote/second-factor") == "root 600"
    assert "on: a code after the password" in box.as_user("alice").attempt("jupyter-remote status").stdout
    visitor = client(box)
    assert not visitor.try_login(PASSWORD)
    code = pyotp.TOTP(secret).generate_otp(int(time.time()) // 30 + 1)
    for typed in (code, recovery[0]):
        visitor = client(box)
        assert not visitor.try_login(PASSWORD)
        visitor.http.post(f"{visitor.url}/login", data={"code": typed, "_xsrf": visitor._cookie("_xsrf")})
        assert visitor.logged_in
    # Neither opens again, after a restart either.
    box.sh("systemctl restart jupyter-remote")
    assert visitor.logged_in
    for typed in (code, recovery[0]):
        visitor = client(box)
        assert not visitor.try_login(PASSWORD)
        visitor.http.post(f"{visitor.url}/login", data={"code": typed, "_xsrf": visitor._cookie("_xsrf")})
        assert not visitor.logged_in
    # Who can make a link is on the machine itself.
    assert client(box).follow(box.sh("jupyter-remote url"))

    # The secret is where it was put and in the server's credentials; recovery codes are nowhere.
    places = box.places_with(secret)
    assert len(places) == 2 and all(place.endswith("/second-factor") for place in places), places
    assert box.as_user("bob").attempt("cat /etc/jupyter-remote/second-factor /run/credentials/*/*").stdout == ""
    for code in recovery:
        assert box.places_with(code) == []

    box.sh("jupyter-remote password --no-totp")
    assert client(box).try_login(PASSWORD)
    assert not box.exists("/etc/jupyter-remote/second-factor")


@pytest.fixture
def guarded_box(suite: str, deb: Path) -> Iterator[Box]:
    """As ``box``, with fail2ban, as it comes."""
    below = installed.layer(suite, deb)
    name = f"fail2ban-{hashlib.sha256(below.encode()).hexdigest()[:12]}"
    with cache.locked(cache.directory() / f"{suite}-{name}"):
        if not layers.is_frozen(suite, name):
            say(f"installing fail2ban in a box of {suite}")
            with Box(suite, layer=below) as box:
                box.sh("apt-get -qq update")
                box.sh("apt-get -qq install --yes fail2ban python3-systemd", env=NONINTERACTIVE, timeout=300)
                # Without a file of sshd's log Debian 12's own jail does not start, nor does any other.
                box.write("/etc/fail2ban/jail.d/zz-box.conf", "[sshd]\nbackend = systemd\n")
                box.freeze(name)
    with Box(suite, layer=name) as box:
        yield box


def test_fail2ban_bans_who_goes_on_guessing_once_it_is_told_to(guarded_box: Box, client) -> None:  # noqa: ANN001
    guarded_box.sh("systemctl restart fail2ban; until fail2ban-client ping; do sleep 0.2; done", timeout=60)
    jails = guarded_box.sh("fail2ban-client status")
    assert "sshd" in jails and "jupyter-remote" not in jails
    guarded_box.write("/etc/fail2ban/jail.d/local.conf", "[jupyter-remote]\nenabled = true\n")
    guarded_box.sh("fail2ban-client reload")
    assert "Currently banned:\t0" in guarded_box.sh("fail2ban-client status jupyter-remote")
    visitor = client(guarded_box)
    for _ in range(12):
        visitor.http.post(
            f"{visitor.url}/login",
            data={"password": "wrong", "_xsrf": "x"},
            headers={"Cookie": "_xsrf=x", "X-Real-IP": "192.0.2.66", "X-Forwarded-For": "192.0.2.67"},
        )
    (address,) = {
        line.partition(LINE)[2].partition(":")[0]
        for line in guarded_box.journal("jupyter-remote").splitlines()
        if LINE in line
    }
    banned = f"fail2ban-client status jupyter-remote | grep 'Banned IP list:[[:space:]]*{address}$'"
    guarded_box.sh(f"until {banned}; do sleep 0.2; done", timeout=60)
    # In what a day of honest use writes, there is nothing for it.
    matched = guarded_box.sh("fail2ban-regex 'systemd-journal[journalflags=1]' jupyter-remote")
    assert "12 matched" in matched, matched
