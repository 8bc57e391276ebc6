"""Reinstall, upgrade, reconfigure, remove, purge: what was edited stays, what was ours goes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from lab.box import NONINTERACTIVE, Box, File

from tests.installed import ANSWERS, OWNER, PASSWORD

CONFIG = "/etc/jupyter-remote/config.toml"
CONFFILE = "/etc/apache2/conf-available/jupyter-remote.conf"
#: files, users and groups, Apache's state, units
State = tuple[dict[str, File], str, set[str], str]

_RECONFIGURE = "dpkg-reconfigure --frontend=noninteractive jupyter-remote"


def enabled_modules(box: Box) -> set[str]:
    return set(box.sh("cd /etc/apache2 && ls mods-enabled conf-enabled sites-enabled").split())


def state(box: Box) -> State:
    """What a purge must bring back."""
    box.sh("journalctl --rotate --vacuum-size=1 >/dev/null 2>&1; true")
    volatile = ("/var/cache", "/var/log", "/var/lib/apt", "/var/lib/dpkg", "/var/lib/systemd", "/var/lib/private",
                "/var/tmp", "/home", "/root", "/etc/.pwd.lock")  # fmt: skip
    files = box.files(without=volatile)
    units = box.sh("systemctl list-unit-files --no-legend --no-pager | grep -v transient | awk '{print $1, $2}'")
    return files, box.sh("getent passwd; getent group"), enabled_modules(box), units


def assert_nothing_has_changed(box: Box, before: State) -> None:
    """Nothing has come, gone or changed since :func:`state` was asked."""
    (files, *others), (files_after, *others_after) = before, state(box)
    assert others_after == others
    assert {path: files_after[path] for path in files_after.keys() - files.keys()} == {}
    assert {path: files[path] for path in files.keys() - files_after.keys()} == {}
    changed = {path for path in files if files[path] != files_after[path]}
    # Caches that the system itself writes anew.
    assert changed <= {"/etc/ld.so.cache", "/etc/machine-id", "/etc/resolv.conf", "/etc/mtab"}


def test_purge_leaves_nothing(fresh_box: Box, deb: Path) -> None:
    # What the package needs or recommends is installed first: it is not ours to take away.
    fresh_box.sh("apt-get -qq update")
    fields = fresh_box.sh(f"dpkg-deb -f {fresh_box.put(deb)} Depends Recommends").replace("\n", ",").split(",")
    needed = " ".join(re.sub(r"^\w+: ", "", one).split()[0] for one in fields)
    fresh_box.sh(f"apt-get -qq install --yes {needed} >/dev/null 2>&1", env=NONINTERACTIVE)
    before = state(fresh_box)

    fresh_box.install(deb, ANSWERS)
    assert fresh_box.is_active("jupyter-remote.service")
    assert "ssl.load" in enabled_modules(fresh_box)
    fresh_box.sh("apt-get -qq purge --yes jupyter-remote", env=NONINTERACTIVE)

    assert_nothing_has_changed(fresh_box, before)
    assert fresh_box.attempt("ls /run/jupyter-remote").returncode != 0
    assert "jupyter-remote" not in fresh_box.sh("debconf-show --listowners; ls /var/log /var/log/apache2")
    assert fresh_box.is_active("apache2.service")


@pytest.mark.either_release
def test_remove_keeps_settings_and_a_new_installation_finds_them(box: Box, deb: Path) -> None:
    box.sh("jupyter-remote config set base_url /lab kernels.cull_idle 2h")
    before = box.read(CONFIG), box.read("/etc/jupyter-remote/password-hash")
    box.sh("apt-get -qq remove --yes jupyter-remote", env=NONINTERACTIVE)
    assert (box.read(CONFIG), box.read("/etc/jupyter-remote/password-hash")) == before
    assert box.sh("curl -s -o /dev/null -w '%{http_code}' http://localhost/") == "200"
    assert box.attempt("curl -sk https://localhost/lab/api").returncode != 0
    assert "jupyter" not in box.sh("ls /etc/apache2/conf-enabled /etc/apache2/sites-enabled")

    box.install(deb)
    assert (box.read(CONFIG), box.read("/etc/jupyter-remote/password-hash")) == before
    assert "version" in box.sh("curl -skf https://localhost/lab/api")


@pytest.mark.either_release
def test_reinstalling_changes_nothing(box: Box, deb: Path) -> None:
    before = box.files("/etc")
    box.sh(f"apt-get -qq install --yes --reinstall {box.put(deb)}", env=NONINTERACTIVE)
    after = box.files("/etc")
    assert {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)} <= {
        "/etc/ld.so.cache"
    }
    assert "version" in box.sh("curl -skf https://localhost/jupyter/api")


def test_an_upgrade_keeps_what_was_edited(fresh_box: Box, older: Path, deb: Path) -> None:
    fresh_box.install(older, ANSWERS)
    edited = fresh_box.read(CONFIG) + "\n# mine\n"
    fresh_box.write(CONFIG, edited)
    fresh_box.sh("jupyter-remote config set kernels.cull_idle 7d")
    edited = fresh_box.read(CONFIG)
    assert "# mine" in edited
    hash_before = fresh_box.read("/etc/jupyter-remote/password-hash")
    conffile = fresh_box.read(CONFFILE) + "# an administrator's own line\n"
    fresh_box.write(CONFFILE, conffile)

    fresh_box.sh(
        f"apt-get -qq install --yes -o Dpkg::Options::=--force-confold {fresh_box.put(deb)}",
        env=NONINTERACTIVE,
    )
    assert fresh_box.read(CONFIG) == edited
    assert fresh_box.read(CONFFILE) == conffile
    # The same hash, not a new one of the same password: the cookie key depends on it.
    assert fresh_box.read("/etc/jupyter-remote/password-hash") == hash_before
    assert "version" in fresh_box.sh("curl -skf https://localhost/jupyter/api")


@pytest.mark.either_release
def test_an_untouched_conffile_is_renewed_by_an_upgrade(fresh_box: Box, older: Path, deb: Path) -> None:
    fresh_box.install(older, ANSWERS)
    assert "no longer has" in fresh_box.read(CONFFILE)
    fresh_box.install(deb)
    assert "no longer has" not in fresh_box.read(CONFFILE)


@pytest.mark.either_release
def test_an_upgrade_does_not_switch_on_what_an_administrator_switched_off(
    fresh_box: Box, older: Path, deb: Path
) -> None:
    fresh_box.install(older, ANSWERS)
    fresh_box.sh("a2dissite -q jupyter-remote && a2disconf -q jupyter-remote && systemctl reload apache2")
    said = fresh_box.install(deb)
    assert "switched our Apache conf off" in said
    assert "jupyter" not in fresh_box.sh("ls /etc/apache2/conf-enabled /etc/apache2/sites-enabled")


@pytest.mark.either_release
def test_reconfiguring_changes_password_address_and_owner_and_ends_the_old_ones_kernels(box: Box, client) -> None:  # noqa: ANN001
    client(box).login(PASSWORD).start_kernel().execute("open('/tmp/alices-own', 'w').close()")
    box.preseed(
        {
            "jupyter-remote/password": "another one",
            "jupyter-remote/password-again": "another one",
            "jupyter-remote/base-url": "/lab",
            "jupyter-remote/user": "bob",
        }
    )
    said = box.sh(f"{_RECONFIGURE} 2>&1")
    assert "the old one's kernels and terminals (1) are ended" in said
    assert box.sh("jupyter-remote config get user base_url").split() == [
        "bob",
        "/lab",
    ]
    assert box.sh("stat -c %U /run/jupyter-remote/http.sock /run/jupyter-remote/kernel.sock").split() == ["bob", "bob"]
    assert "bob" in box.sh("ps -o user= -p $(systemctl show -P MainPID jupyter-remote)")
    assert "version" in box.sh("curl -skf https://localhost/lab/api")
    assert box.attempt("curl -skf https://localhost/jupyter/api").returncode != 0
    somebody = client(box, base_url="/lab")
    assert not somebody.try_login(PASSWORD)
    assert somebody.try_login("another one")
    assert not [process for process in box.processes() if "jupyter_remote.keeper" in process.argv]
    kernel = somebody.start_kernel()
    assert kernel.execute("import getpass, os; getpass.getuser()").value == "'bob'"
    # Nothing in /tmp is the old owner's.
    assert kernel.execute("{os.stat(f'/tmp/{name}').st_uid for name in os.listdir('/tmp')} <= {os.getuid()}").value == (
        "True"
    )
    # and an apply that has nothing to do leaves his alone
    box.sh("jupyter-remote apply; jupyter-remote config set kernels.memory_limit 2G")
    assert json.loads(box.read("/var/lib/jupyter-remote/rendered/server.json"))["memory_limit"] == 2 << 30
    assert kernel.execute("getpass.getuser()").value == "'bob'"


@pytest.mark.one_release
def test_reconfiguring_without_an_answer_changes_nothing(box: Box) -> None:
    before = box.read(CONFIG), box.read("/etc/jupyter-remote/password-hash")
    box.sh(_RECONFIGURE)
    assert (box.read(CONFIG), box.read("/etc/jupyter-remote/password-hash")) == before


@pytest.mark.either_release
def test_debconf_reads_back_what_was_edited(box: Box) -> None:
    box.sh("jupyter-remote config set base_url /edited server_name lab.test")
    box.sh(_RECONFIGURE)
    shown = box.sh("debconf-show jupyter-remote")
    assert "jupyter-remote/base-url: /edited" in shown
    assert "jupyter-remote/server-name: lab.test" in shown
    assert box.sh("jupyter-remote config get base_url") == "/edited"
    assert f"jupyter-remote/user: {OWNER}" in shown


@pytest.mark.either_release
def test_a_broken_config_does_not_stop_an_upgrade_and_is_named(fresh_box: Box, older: Path, deb: Path) -> None:
    fresh_box.install(older, ANSWERS)
    fresh_box.write(CONFIG, 'user = "alice"\nbase_ulr = "/lab"\n')
    said = fresh_box.install(deb)
    assert "Did you mean base_url?" in said
    assert fresh_box.read(CONFIG) == 'user = "alice"\nbase_ulr = "/lab"\n'
    assert "Status: install ok installed" in fresh_box.sh("dpkg -s jupyter-remote")
    # As it was before: the old settings are still in use.
    assert "version" in fresh_box.sh("curl -skf https://localhost/jupyter/api")


def test_it_is_there_again_after_a_reboot(box: Box) -> None:
    box.reboot()
    box.sh("systemctl is-system-running --wait || true")
    assert "version" in box.sh("curl -skf --retry 5 --retry-connrefused https://localhost/jupyter/api")
