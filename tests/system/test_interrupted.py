"""In the middle of an upgrade it is killed, the power goes, or the disk is full: apt's own commands mend all of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from lab.box import NONINTERACTIVE, Box

from tests import installed, steps
from tests.client import Client, wait_until
from tests.installed import ANSWERS, PASSWORD
from tests.pages import blocks
from tests.system.test_life_cycle import assert_nothing_has_changed, state

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
    return 1 if pytestconfig.getoption("every_release") else 15


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
    visitor = client(box).login(PASSWORD)
    kernel = visitor.start_kernel()
    kernel.execute("kept = 42")
    box.sh("jupyter-remote config set kernels.cull_idle 30d")
    before = of_the_owner(box)
    steps.prepare(box)
    # In the script of what is about to go, in the middle of the files, before the first step of the new script.
    for at in ("script 1", "dpkg 3000", "script 2"):
        assert steps.stop(box, f"dpkg --install --force-downgrade {package}", at), at
        assert_not_half_open(box, at)
        assert box.sh("dpkg --audit")
    assert killed_on_and_on(box, stride) >= 2
    recover(box, package)
    assert_as_before(box, client(box), before, "it was killed again and again")
    # Connected anew: nobody's page is spared when Apache is told many times to read its files again.
    assert visitor.connect(kernel.id).execute("kept").value == "42"


def assert_new(box: Box, client: MakeClient) -> None:
    """It is as if it had been installed at once.

    Debconf keeps an answer until the script that it was given to has ended: the password of the first attempt is the
    one that lets in, and nobody is asked for it again.
    """
    wait_until(lambda: client(box).try_login(PASSWORD), "nobody is let in")
    assert box.places_with(PASSWORD) == []
    assert client(box).login(PASSWORD).start_kernel().execute("6 * 7").value == "42"
    assert box.sh("jupyter-remote doctor --json | grep '\"healthy\": true'")
    assert box.sh("systemctl --failed --no-legend") == ""


@pytest.mark.one_release
def test_a_first_installation_that_is_killed_anywhere_is_finished_by_dpkg(
    ready_box: Box, deb: Path, client: MakeClient, stride: int
) -> None:
    [package] = kept(ready_box, deb)
    ready_box.preseed(ANSWERS)
    steps.prepare(ready_box)
    for at in ("dpkg 3000", "script 1", "script /etc/apache2/mods-enabled/ssl.load"):
        assert steps.stop(ready_box, f"dpkg --install {package}", at), at
        assert_not_half_open(ready_box, at)
    assert killed_on_and_on(ready_box, stride) >= 4
    recover(ready_box, package)
    assert_new(ready_box, client)


@pytest.mark.one_release
def test_a_purge_that_is_killed_anywhere_is_finished_by_the_next(ready_box: Box, deb: Path, stride: int) -> None:
    before = state(ready_box)
    ready_box.install(deb, ANSWERS)
    steps.prepare(ready_box)
    times = 0
    while steps.stop(ready_box, "dpkg --purge jupyter-remote", f"script {len(steps.seen(ready_box)) + stride}"):
        times += 1
        assert "Apache2 Debian Default Page" in ready_box.sh("curl --silent --fail http://localhost/")
    assert times >= 3
    assert_nothing_has_changed(ready_box, before)
    ready_box.sh("apache2ctl configtest")


def off_and_on(box: Box, switch: Callable[[Box], None], command: str, at: str) -> None:
    """It is switched off in the middle, and on again."""
    steps.prepare(box)
    steps.halt(box, command, at)
    switch(box)
    box.boot()
    assert_not_half_open(box, at)


@pytest.mark.one_release
def test_an_upgrade_is_finished_after_a_power_cut_and_a_reboot(
    box: Box, older: Path, deb: Path, client: MakeClient
) -> None:
    package, _ = kept(box, older, deb)
    before = of_the_owner(box)
    off_and_on(box, Box.lose_power, f"dpkg --install --force-downgrade {package}", "dpkg 3000")
    off_and_on(box, Box.shutdown, f"dpkg --install --force-downgrade {package}", "script 25")
    recover(box, package)
    assert_as_before(box, client(box), before, "it was switched off in the middle")
    assert client(box).login(PASSWORD).start_kernel().execute("6 * 7").value == "42"


@pytest.mark.one_release
def test_a_first_installation_is_finished_after_power_cuts(ready_box: Box, deb: Path, client: MakeClient) -> None:
    [package] = kept(ready_box, deb)
    ready_box.preseed(ANSWERS)
    off_and_on(ready_box, Box.lose_power, f"dpkg --install {package}", "script 20")
    off_and_on(ready_box, Box.lose_power, "dpkg --configure -a", "script 60")
    recover(ready_box, package)
    assert_new(ready_box, client)


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


@pytest.mark.one_release
def test_a_disk_that_is_full_stops_a_first_installation_and_nothing_is_asked_twice(
    suite: str, deb: Path, client: MakeClient
) -> None:
    with Box(suite, layer=installed.ready(suite, deb), disk=2 << 30) as box:
        [package] = kept(box, deb)
        box.preseed(ANSWERS)
        fill(box, 60_000)
        assert box.attempt(f"dpkg --install {package}", env=NONINTERACTIVE).returncode
        assert_not_half_open(box, "in the middle of the files")
        box.sh("rm /filler")
        box.sh(f"dpkg --unpack {package}", env=NONINTERACTIVE)
        # No room for anything, and for so little that what our scripts write is begun.
        for free in (40, 300):
            fill(box, free)
            done = box.attempt("dpkg --configure -a", env=NONINTERACTIVE)
            assert done.returncode
            assert "full" in done.stdout + done.stderr or "No space left" in done.stdout + done.stderr
            assert_not_half_open(box, f"{free} kB were left")
            box.sh("rm /filler")
        recover(box, package)
        # Where all but the start was written down, it is this that was said to do.
        if "When mended: sudo jupyter-remote apply" in done.stdout + done.stderr:
            box.sh("jupyter-remote apply")
        assert_new(box, client)
