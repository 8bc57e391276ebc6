"""In the middle of an upgrade it is killed, the power goes, or the disk is full: apt's own commands mend all of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab.box import NONINTERACTIVE, Box

from tests import installed, steps
from tests.client import Client, wait_until
from tests.installed import ANSWERS, PASSWORD
from tests.pages import blocks

MakeClient = Callable[..., Client]

_, _, FINISH = blocks("docs/everyday.md")


def upgrade(package: str) -> str:
    return f"apt-get install --yes --reinstall --allow-downgrades {package}"


def kept(box: Box, *packages: Path) -> list[str]:
    """Where they are in the box, also after a reboot."""
    return [box.sh(f"mv {box.put(package)} /root && echo /root/{package.name}") for package in packages]


def recover(box: Box, package: str) -> None:
    """What apt says to do: one command, and where dpkg was cut off as it unpacked the same package once more."""
    # sudo would not hand on that nobody is there to be asked.
    configure, install = FINISH.filled({"sudo ": "", "jupyter-remote.deb": package}).splitlines()
    box.attempt(configure, env=NONINTERACTIVE)
    if "install ok installed" not in box.sh("dpkg-query --status jupyter-remote"):
        box.sh(install, env=NONINTERACTIVE)
    assert box.sh("dpkg --audit") == ""


def of_the_owner(box: Box) -> dict[str, str]:
    """What nothing that breaks off may change."""
    return {name: box.read(f"/etc/jupyter-remote/{name}") for name in ("config.toml", "password-hash")}


def assert_as_before(box: Box, visitor: Client, before: dict[str, str], when: str) -> None:
    """Whoever has the password is let in, and settings and password are those of *before*."""
    wait_until(lambda: visitor.try_login(PASSWORD), f"nobody is let in after {when}")
    assert of_the_owner(box) == before


def begin(box: Box, package: str, seconds: float) -> None:
    """Begin an upgrade, in the unit ``upgrade``, and return after so long."""
    words = "--quiet --collect --unit=upgrade --setenv=DEBIAN_FRONTEND=noninteractive"
    box.sh(f"systemd-run {words} {upgrade(package)}; sleep {seconds:.2f}")


def seconds_of_an_upgrade(box: Box, package: str) -> float:
    before = float(box.sh("cut -d' ' -f1 /proc/uptime"))
    box.sh(upgrade(package), env=NONINTERACTIVE)
    return float(box.sh("cut -d' ' -f1 /proc/uptime")) - before


def moments(whole: float, count: int) -> Iterator[float]:
    """Spread over an upgrade, more of them where scripts run than where files are unpacked."""
    for number in range(count):
        yield whole * ((number + 0.5) / count)


def assert_not_half_open(box: Box, when: str) -> None:
    """What answers is Jupyter, which wants a login, or the page that it is away, or nothing; and Apache is well."""
    asked = "curl -sk -o /dev/null -w '%{http_code} ' {http,https}://localhost/jupyter/api/contents"
    plain, secure = box.attempt(asked).stdout.split()
    # 302: it is to come over https
    assert plain in ("302", "403", "404", "502", "503"), when
    assert secure in ("000", "403", "404", "502", "503"), when
    # Apache's own a2enmod links a module's settings before the module: what is loaded serves on, and the next attempt
    # links the rest.
    if "/mods-enabled/" not in when:
        box.sh("apache2ctl configtest")


@pytest.fixture
def stride(pytestconfig: pytest.Config) -> int:
    """How many steps further a next attempt gets before it is killed, too."""
    return 1 if pytestconfig.getoption("every_release") else 10


def killed_on_and_on(box: Box, stride: int) -> int:
    """Kill what mends it as well, each time some steps further, until there is nothing left to do; how many times."""
    times = 0
    while steps.stop(box, "dpkg --configure -a", f"script {len(steps.seen(box)) + stride}"):
        times += 1
        assert_not_half_open(box, steps.seen(box)[-1])
    return times


@pytest.mark.one_release
def test_an_upgrade_that_is_killed_anywhere_is_finished_by_dpkg(
    box: Box, older: Path, deb: Path, client: MakeClient, stride: int
) -> None:
    package, _ = kept(box, older, deb)
    kernel = client(box).login(PASSWORD).start_kernel()
    kernel.execute("kept = 42")
    box.sh("jupyter-remote config set kernels.cull_idle 30d")
    before = of_the_owner(box)
    steps.prepare(box)
    # In the script of what is about to go, in the middle of the files, before the first step of the new script.
    for at in ("script 1", "dpkg 3000", "script 2"):
        assert steps.stop(box, f"dpkg --install --force-downgrade {package}", at), at
        assert_not_half_open(box, at)
        assert box.sh("dpkg --audit")
    assert killed_on_and_on(box, stride) >= 3
    recover(box, package)
    assert_as_before(box, client(box), before, "it was killed again and again")
    assert kernel.execute("kept").value == "42"


@pytest.mark.one_release
def test_a_first_installation_that_is_killed_anywhere_is_finished_by_dpkg(
    ready_box: Box, deb: Path, client: MakeClient, stride: int
) -> None:
    [package] = kept(ready_box, deb)
    ready_box.preseed(ANSWERS)
    steps.prepare(ready_box)
    for at in ("dpkg 3000", "script 1"):
        assert steps.stop(ready_box, f"dpkg --install {package}", at), at
        assert_not_half_open(ready_box, at)
    assert killed_on_and_on(ready_box, stride) >= 6
    recover(ready_box, package)
    # Debconf keeps an answer until the script that it was given to has ended: nobody is asked again.
    wait_until(lambda: client(ready_box).try_login(PASSWORD), "the password of the first attempt lets nobody in")
    assert ready_box.places_with(PASSWORD) == []
    assert client(ready_box).login(PASSWORD).start_kernel().execute("6 * 7").value == "42"
    assert ready_box.sh("jupyter-remote doctor --json | grep '\"healthy\": true'")


@pytest.mark.one_release
def test_a_power_cut_during_an_upgrade_leaves_nothing_that_cannot_be_finished(
    box: Box, older: Path, deb: Path, client: MakeClient
) -> None:
    packages = itertools.cycle(kept(box, older, deb))
    before = of_the_owner(box)
    whole = seconds_of_an_upgrade(box, next(packages))
    for moment in moments(whole, 2):
        package = next(packages)
        begin(box, package, moment)
        box.lose_power()
        box.boot()
        recover(box, package)
        assert_as_before(box, client(box), before, f"a power cut at {moment} s")


def fill(box: Box, free: int) -> None:
    """Leave the disk as many kB, and not one more."""
    box.sh(f"fallocate --length $(($(stat --file-system --format='%a * %S' /) - {free} * 1024)) /filler")


@pytest.mark.one_release
def test_a_disk_that_is_full_stops_an_upgrade_and_loses_nothing(
    suite: str, deb: Path, older: Path, client: MakeClient
) -> None:
    with Box(suite, layer=installed.layer(suite, deb), disk=2 << 30) as box:
        packages = itertools.cycle(kept(box, older, deb))
        kernel = client(box).login(PASSWORD).start_kernel()
        kernel.execute("kept = 42")
        before = of_the_owner(box)
        stopped = 0
        # In the first moment, in the middle of the files, and when all of these are there, for our scripts: no room for
        # anything, and for so little that what they write is begun.
        for free, files_first in ((1000, False), (60_000, False), (40, True), (300, True)):
            package = next(packages)
            if files_first:
                box.sh(f"dpkg --unpack {package}", env=NONINTERACTIVE)
            fill(box, free)
            step = "dpkg --configure -a" if files_first else upgrade(package)
            done = box.attempt(step, env=NONINTERACTIVE)
            stopped += done.returncode != 0
            if files_first:
                assert "full" in done.stdout + done.stderr
            assert client(box).get("api/contents").status_code in (403, 404, 502, 503), free
            box.sh("rm /filler")
            recover(box, package)
            assert_as_before(box, client(box), before, f"{free} kB were left")
            assert kernel.execute("kept").value == "42", free
            assert box.sh("jupyter-remote doctor --json | grep '\"healthy\": true'")
        assert stopped >= 3, f"too few of them were stopped: {stopped}"
