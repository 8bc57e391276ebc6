"""An upgrade from a package of an earlier commit, while a person works."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lab.box import NONINTERACTIVE, Box

from tests.client import Client, TerminalSocket, wait_until
from tests.installed import ANSWERS, PASSWORD
from tests.system.test_kernels import COUNT, Tab, listed

MakeClient = Callable[..., Client]

#: A terminal that counts until a file is there.
TICKS = "n=0; until [ -e /tmp/stop-{name} ]; do n=$((n + 1)); echo tick-$n-; sleep 0.05; done; echo the-$((1 + 1))-end"


class Desk:
    """What a person has open: a notebook whose cell prints, one that asks something, a terminal."""

    def __init__(self, box: Box, visitor: Client, name: str) -> None:
        self.box, self.visitor, self.name = box, visitor, name
        self.tab, self.asking = Tab(visitor, f"{name}.ipynb"), Tab(visitor, f"{name}-asks.ipynb")
        self.tab.finished(self.tab.submit("x = 41"))
        self.cell = self.tab.submit(COUNT.format(stop=f"/tmp/stop-{name}"))
        self.queued = self.tab.submit("(x + 1, n)")
        question = {"code": "input('name? ')", "allow_stdin": True}
        self.question = self.asking.send("shell", "execute_request", question)
        self.asking.wait(self.question, lambda message: message["msg_type"] == "input_request")
        self.terminal = visitor.open_terminal()
        self.shell = self.terminal.run("echo $$")
        self.terminal.type(TICKS.format(name=name) + "\r")
        self.ticks = self.terminal.read_until("tick-9-")
        self.sessions = self.known()
        self.units = {one["id"]: one["unit"] for one in listed(box)}
        assert self.units.keys() >= {self.tab.kernel, self.asking.kernel, self.terminal.name}

    def known(self) -> list[tuple[str, str]]:
        """Sessions and their kernels, as the server knows them."""
        mine = (self.tab.session, self.asking.session)
        return [(one["id"], one["kernel"]["id"]) for one in self.visitor.api("GET", "sessions") if one["id"] in mine]

    def goes_on_during(self, something: Callable[[], str]) -> str:
        """Do something that takes its time, and look at the terminal meanwhile."""
        with ThreadPoolExecutor(1) as pool:
            doing = pool.submit(something)
            while not doing.done():
                self.ticks += self.terminal.read_until("-\r\n")
            return doing.result()

    def goes_on(self) -> None:
        """All is as it was, on the same connections and on new ones; and nothing has been ended or started."""
        # A browser of before may have to log in again; what it has open is not closed for that.
        if not self.visitor.logged_in:
            self.visitor.login(PASSWORD)
        assert self.known() == self.sessions
        assert self.units.items() <= {one["id"]: one["unit"] for one in listed(self.box)}.items()
        self.tab.prints_on(self.cell)
        assert self.tab.connected == self.asking.connected == 1, "the page did not even notice"
        self.tab.lose_connection()
        self.tab.prints_on(self.cell)

    def is_finished(self) -> None:
        """Nothing was lost, and nothing comes twice."""
        self.box.sh(f"touch /proc/$(systemctl show -P MainPID jupyter-remote.service)/root/tmp/stop-{self.name}")
        self.tab.finished(self.cell)
        numbers = self.tab.text(self.cell).splitlines()
        assert numbers == [str(number) for number in range(len(numbers))]
        queued = self.tab.finished(self.queued)
        values = [one["content"]["data"]["text/plain"] for one in queued if one["msg_type"] == "execute_result"]
        assert values == [f"(42, {len(numbers)})"]
        self.asking.send("stdin", "input_reply", {"value": "alice"})
        assert any("'alice'" in str(message["content"]) for message in self.asking.finished(self.question))

        self.ticks += self.terminal.read_until("the-2-end\r\n")
        another = TerminalSocket(
            self.terminal.name, self.visitor.websocket(f"terminals/websocket/{self.terminal.name}")
        )
        for seen in (self.ticks, another.read_until("the-2-end\r\n")):
            ticks = [int(number) for number in re.findall(r"tick-(\d+)-", seen)]
            assert ticks == list(range(1, len(ticks) + 1)), "what scrolled by is there, once"
        assert self.terminal.run("echo $$") == another.run("echo $$") == self.shell

    def obeys(self) -> None:
        """What a person does to a kernel works."""
        sleeping = self.tab.submit("import time; print('asleep', flush=True); time.sleep(10000)")
        self.tab.wait(sleeping, lambda message: message["msg_type"] == "stream")
        self.visitor.api("POST", f"kernels/{self.tab.kernel}/interrupt")
        assert "KeyboardInterrupt" in str(self.tab.finished(sleeping))
        assert self.tab.run("x") == "41"
        self.visitor.api("POST", f"kernels/{self.tab.kernel}/restart")
        assert self.tab.run("'x' in globals()") == "False"

    def close(self) -> None:
        self.tab.close()
        self.asking.close()


def keepers_of_replaced_files(box: Box) -> set[str]:
    """The ids of what is kept by keepers whose code is no longer what is installed."""
    found = set()
    for one in listed(box):
        keeper = box.sh(f"systemctl show -P MainPID {one['unit']}")
        if "/usr/lib/jupyter-remote/" in box.sh(f"grep '(deleted)' /proc/{keeper}/maps || true"):
            found.add(one["id"])
    return found


@pytest.mark.one_release
def test_what_runs_goes_on_through_an_upgrade_and_back(fresh_box: Box, earlier: Path, deb: Path, client: MakeClient):
    box = fresh_box
    box.install(earlier, ANSWERS)
    visitor = client(box).login(PASSWORD)
    old = Desk(box, visitor, "old")
    assert keepers_of_replaced_files(box) == set()

    assert "The following packages will be upgraded:" in old.goes_on_during(lambda: box.install(deb))
    old.goes_on()
    assert box.is_active("jupyter-remote-hangup.service"), "it is there for the Apache that runs"
    assert keepers_of_replaced_files(box) == old.units.keys()
    new = Desk(box, visitor, "new")
    assert keepers_of_replaced_files(box) == old.units.keys(), "what is started now is kept by today's code"
    assert {one["kind"] for one in listed(box)} == {"kernel", "terminal"}
    assert len(listed(box)) == 6
    old.is_finished()
    old.obeys()

    assert "The following packages will be DOWNGRADED:" in new.goes_on_during(lambda: box.install(earlier))
    new.goes_on()
    new.is_finished()
    new.obeys()
    assert old.tab.run("6 * 7") == "42"
    old.close()
    new.close()
    box.sh("jupyter-remote kernels stop --all")
    wait_until(lambda: visitor.api("GET", "kernels") == [], "all were stopped")


#: Debian's next Python of the same 3.x, made of what is there: each of its packages with another number, and a library
#: that has changed.
POINT_RELEASE = r"""
set -e
mkdir /root/python; cd /root/python
names=$(dpkg-query -W -f '${source:Package} ${Package}\n' | sed -n 's/^python3\.[0-9]* //p')
version=$(dpkg-query -W -f '${Version}' $(ls /usr/lib/python3*/this.py | sed 's#/usr/lib/\(.*\)/this.py#\1#'))
apt-get -qq download $names
for package in *.deb; do
    dpkg-deb --raw-extract $package tree
    sed -i "s/$version/$version.1/g" tree/DEBIAN/control
    for changed in tree/usr/lib/python3*/colorsys.py; do
        [ ! -e $changed ] || echo 'changed = True' >> $changed
    done
    dpkg-deb -Znone --root-owner-group --build tree $package
    rm -r tree
done
apt-get install --yes ./*.deb
"""


@pytest.mark.one_release
def test_what_runs_goes_on_when_python_itself_is_upgraded(box: Box, client: MakeClient) -> None:
    visitor = client(box).login(PASSWORD)
    kernel = visitor.start_kernel()
    kernel.execute("import os, sys; kept = 42")
    box.write("/root/point-release", POINT_RELEASE)
    said = box.sh("sh /root/point-release", env=NONINTERACTIVE)
    assert "4 upgraded, 0 newly installed, 0 to remove" in said or "5 upgraded, 0 newly installed, 0 to remove" in said

    # The interpreter that runs is one that is gone; what it has not imported yet comes from the new one.
    assert kernel.execute("kept, ' (deleted)' in os.readlink('/proc/self/exe')").value == "(42, True)"
    assert kernel.execute("import colorsys, lzma, sqlite3, multiprocessing.pool; colorsys.changed").value == "True"
    assert kernel.execute("import subprocess; subprocess.check_output([sys.executable, '-c', 'print(42)'])").value
    assert visitor.logged_in
    box.sh("systemctl restart jupyter-remote")
    assert visitor.logged_in
    assert kernel.execute("kept").value == "42"
    new = visitor.start_kernel()
    assert new.execute("import os; ' (deleted)' in os.readlink('/proc/self/exe')").value == "False"
    assert json.loads(box.sh("jupyter-remote doctor --json"))["healthy"] is True
