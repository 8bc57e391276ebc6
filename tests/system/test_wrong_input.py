"""What cannot work is told in words that help, and leaves the system as it was."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from lab.box import NONINTERACTIVE, Box

from tests.installed import ANSWERS

CONFIG = "/etc/jupyter-remote/config.toml"


def refused(box: Box, command: str) -> tuple[int, str]:
    """Run a command that must fail; its exit code and words. Settings and service must not notice."""
    before = box.read(CONFIG)
    pid = box.sh("systemctl show -P MainPID jupyter-remote")
    done = box.attempt(command)
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stderr
    assert box.read(CONFIG) == before
    assert box.sh("systemctl show -P MainPID jupyter-remote") == pid, "the running server was touched"
    return done.returncode, done.stderr


# --- at installation ---------------------------------------------------------------------------------


_WRONG = [
    ({"user": "alcie"}, "There is no user 'alcie'"),
    ({"user": "www-data"}, "system account"),
    ({"user": "root"}, "system account"),
    ({"base-url": "jupyter"}, "Did you mean /jupyter?"),
    ({"base-url": "/my lab"}, "base_url cannot be"),
    ({"base-url": "/a/../b"}, "base_url cannot be"),
    ({"server-name": "https://x.test/"}, "Did you mean x.test?"),
    ({"tls": "existing", "certificate": "/none.pem", "key": "/none.key"}, "/none.pem is not there"),
    ({"tls": "acme"}, "server_name is not set"),
    ({"password": "one", "password-again": "other"}, "not the same"),
]
_RIGHT = {"base-url": "/jupyter", "tls": "self-signed", "server-name": "", "certificate": "", "key": ""}


@pytest.mark.either_release
def test_a_wrong_answer_stops_the_installation_with_a_message(fresh_box: Box, deb: Path) -> None:
    """One box, one mistake after the other; in the end the right answers."""

    def preseed(answers: dict[str, str]) -> None:
        right = {f"jupyter-remote/{name}": value for name, value in _RIGHT.items()}
        given = {f"jupyter-remote/{name}": value for name, value in answers.items()}
        fresh_box.preseed({**ANSWERS, **right, **given})

    site = fresh_box.sh("curl -si http://localhost/ | grep -v ^Date")
    for number, (answers, expected) in enumerate(_WRONG):
        preseed(answers)
        if number == 0:
            done = fresh_box.try_install(deb)
        else:
            done = fresh_box.attempt("dpkg --configure -a 2>&1", env=NONINTERACTIVE)
        assert done.returncode != 0, answers
        assert expected in done.stdout
        assert "Traceback" not in done.stdout
        assert not fresh_box.exists(CONFIG)
        assert not fresh_box.exists("/etc/apache2/conf-enabled/jupyter-remote.conf")
        assert not fresh_box.is_active("jupyter-remote.service")
        assert fresh_box.sh("curl -si http://localhost/ | grep -v ^Date") == site
    preseed({})
    fresh_box.sh("dpkg --configure -a", env=NONINTERACTIVE)
    assert "version" in fresh_box.sh("curl -skf https://localhost/jupyter/api")


@pytest.mark.one_release
def test_an_owner_without_a_home_is_refused(fresh_box: Box, deb: Path) -> None:
    fresh_box.sh("useradd --no-create-home --shell /bin/bash carol; chown root /home/bob && chmod 755 /home/bob")
    assert "is not there" in fresh_box.try_install(deb, {**ANSWERS, "jupyter-remote/user": "carol"}).stdout
    fresh_box.preseed({"jupyter-remote/user": "bob"})
    done = fresh_box.attempt("dpkg --configure -a 2>&1", env=NONINTERACTIVE)
    assert done.returncode != 0
    assert "cannot write to their own home" in done.stdout


@pytest.mark.either_release
def test_without_an_owner_nothing_runs_and_one_command_mends_it(fresh_box: Box, deb: Path) -> None:
    said = fresh_box.install(deb, {"jupyter-remote/password": "x y z"})  # alice or bob? nobody says
    assert "sudo jupyter-remote config set user NAME" in said
    assert not fresh_box.is_active("jupyter-remote.socket")
    assert fresh_box.attempt("curl -skf https://localhost/jupyter/api").returncode != 0
    fresh_box.sh("jupyter-remote config set user alice")
    assert "version" in fresh_box.sh("curl -skf https://localhost/jupyter/api")


@pytest.mark.either_release
def test_a_full_disk_during_installation_is_told_and_one_command_mends_it(fresh_box: Box, deb: Path) -> None:
    fresh_box.sh("mkdir -p /var/lib/jupyter-remote && mount -t tmpfs -o size=64k tmpfs /var/lib/jupyter-remote")
    fresh_box.sh("head -c 60k /dev/zero > /var/lib/jupyter-remote/ballast")
    done = fresh_box.try_install(deb, ANSWERS)
    assert "full" in done.stdout
    assert "Traceback" not in done.stdout
    fresh_box.sh("umount /var/lib/jupyter-remote")
    fresh_box.preseed(ANSWERS)
    fresh_box.sh("dpkg --configure -a && jupyter-remote apply", env=NONINTERACTIVE)
    fresh_box.sh("jupyter-remote apply")
    assert "version" in fresh_box.sh("curl -skf https://localhost/jupyter/api")


# --- Apache in trouble -------------------------------------------------------------------------------


@pytest.mark.either_release
def test_an_apache_that_was_broken_before_is_named_with_file_and_line(fresh_box: Box, deb: Path) -> None:
    fresh_box.write(
        "/etc/apache2/sites-available/shop.conf",
        "<VirtualHost *:80>\n  ServerNam shop.test\n</VirtualHost>\n",
    )
    fresh_box.sh("a2ensite -q shop")
    said = fresh_box.install(deb, ANSWERS)
    assert "/etc/apache2/sites-enabled/shop.conf:2" in said
    assert "ServerNam" in said
    assert not fresh_box.exists("/etc/apache2/conf-enabled/jupyter-remote.conf")
    assert fresh_box.sh("curl -s -o /dev/null -w '%{http_code}' http://localhost/") == "200", "Apache was disturbed"
    fresh_box.sh("sed -i s/ServerNam/ServerName/ /etc/apache2/sites-available/shop.conf && jupyter-remote apply")
    assert "version" in fresh_box.sh("curl -skf https://localhost/jupyter/api")


@pytest.mark.either_release
def test_an_apache_that_does_not_run_is_told_with_its_cure(fresh_box: Box, deb: Path) -> None:
    fresh_box.sh("systemctl stop apache2")
    assert "Apache is stopped" in fresh_box.install(deb, ANSWERS)
    assert fresh_box.is_active("jupyter-remote.service")
    fresh_box.sh("systemctl start apache2 && jupyter-remote apply")
    assert "version" in fresh_box.sh("curl -skf https://localhost/jupyter/api")
    for trouble, expected, cure in [
        ("systemctl mask --now apache2", "Apache is masked", "systemctl unmask apache2 && systemctl start apache2"),
        ("mv /etc/apache2/apache2.conf /root", "is not there", "mv /root/apache2.conf /etc/apache2"),
    ]:
        fresh_box.sh(trouble)
        said = fresh_box.sh("dpkg-reconfigure --frontend=noninteractive jupyter-remote 2>&1")
        assert expected in said
        assert fresh_box.is_active("jupyter-remote.service")
        fresh_box.sh(f"{cure} && jupyter-remote apply")
        assert "version" in fresh_box.sh("curl -skf https://localhost/jupyter/api")


@pytest.mark.one_release
def test_a_port_443_that_somebody_else_has_does_not_take_apache_down(fresh_box: Box, deb: Path) -> None:
    fresh_box.sh("systemd-run -q --unit=other python3 -m http.server 443 && sleep 1")
    said = fresh_box.install(deb, ANSWERS)
    assert "Port 443 is taken by python3" in said
    assert fresh_box.sh("curl -s -o /dev/null -w '%{http_code}' http://localhost/") == "200"
    fresh_box.sh("systemctl stop other && jupyter-remote apply")
    assert "version" in fresh_box.sh("curl -skf https://localhost/jupyter/api")


@pytest.mark.one_release
def test_a_base_url_of_another_site_is_left_to_it(fresh_box: Box, deb: Path) -> None:
    fresh_box.write("/etc/apache2/conf-available/old.conf", 'Alias "/jupyter" "/usr/share/doc"\n')
    fresh_box.sh("a2enconf -q old && systemctl reload apache2")
    before = fresh_box.sh("curl -si http://localhost/jupyter | grep -v ^Date")
    said = fresh_box.install(deb, ANSWERS)
    assert "/etc/apache2/conf-enabled/old.conf:1" in said
    assert fresh_box.sh("curl -si http://localhost/jupyter | grep -v ^Date") == before
    fresh_box.sh("jupyter-remote config set base_url /lab")
    assert "version" in fresh_box.sh("curl -skf https://localhost/lab/api")
    assert fresh_box.sh("curl -si http://localhost/jupyter | grep -v ^Date") == before


# --- on a running system -----------------------------------------------------------------------------


@pytest.mark.one_release
def test_wrong_values_change_nothing(box: Box) -> None:
    """One box, many mistakes: each is refused, and the server never notices."""
    box.sh("systemd-run -q --unit=other python3 -m http.server --bind 127.0.0.1 8890")
    box.write("/etc/apache2/conf-available/old.conf", 'Alias "/taken" "/usr/share/doc"\n')
    box.sh("a2enconf -q old && systemctl reload apache2; sleep 1")
    for command, code, expected in [
        ("user nobody", 67, "system account"),
        ("user carol", 67, "There is no user"),
        ("base_url lab", 65, "Did you mean /lab?"),
        ("base_url '/a b'", 65, "Did you mean /a/b?"),
        ("base_url /a/../b", 65, "Allowed:"),
        ("base_url /taken", 69, "/etc/apache2/conf-enabled/old.conf:1"),
        ("listen 8890", 69, "Port 8890 of this machine is taken by python3"),
        ("listen 80", 65, "Did you mean 8888?"),
        ("notebook_dir /none", 73, "/none"),
        ("tls.mode existing", 78, "tls.certificate is not set"),
        ("tls.certificate /none.pem tls.key /none.key tls.mode existing", 78, "/none.pem is not there"),
        ("tls.certificate /etc/hostname tls.key /etc/hostname tls.mode existing", 78, "not a certificate"),
        ("interface Lab", 65, "Did you mean lab?"),
        ("colour red", 65, "There is no setting"),
        ("base_url", 65, "A key and its value are needed"),
        ("user $'alice\\nExecStart=/bin/sh'", 65, "user cannot be"),
    ]:
        ended, said = refused(box, f"bash -c {shlex.quote('jupyter-remote config set ' + command)}")
        assert (ended, expected in said) == (code, True), (command, said)
    assert "version" in box.sh("curl -skf https://localhost/jupyter/api")


@pytest.mark.one_release
def test_a_broken_config_is_told_and_the_server_goes_on(box: Box) -> None:
    for content, expected in [
        (b"", "No owner is set"),
        (b'user = "\xff\xfe"', "not UTF-8"),
        (b"user: alice\n", "not valid TOML"),
        (b'user = "alice"\ncolour = "red"\n', "There is no setting 'colour'"),
        (b'user = "alice"\nlisten = true\n', "listen cannot be True"),
    ]:
        box.write(CONFIG, content)
        for command in ("apply", "config set interface lab"):
            box.write(CONFIG, content)
            done = box.attempt(f"jupyter-remote {command}")
            assert done.returncode in (67, 78), done.stderr
            assert expected in done.stderr
            assert box.path(CONFIG).read_bytes() == content
        status = box.attempt("jupyter-remote status")
        assert expected in status.stdout + status.stderr
        assert "version" in box.sh("curl -skf https://localhost/jupyter/api")


@pytest.mark.one_release
def test_a_change_that_does_not_come_up_is_taken_back(box: Box) -> None:
    # The new owner's login is broken in a way that no question asked before can see.
    box.sh("chmod 000 /var/lib/jupyter-remote/users; mkdir -p /etc/systemd/system/jupyter-remote.service.d")
    box.write("/etc/systemd/system/jupyter-remote.service.d/90-trouble.conf",
              "[Service]\nExecStartPre=/bin/sh -c 'test $USER != bob'\n")  # fmt: skip
    box.sh("chmod 755 /var/lib/jupyter-remote/users; systemctl daemon-reload")
    before = box.read(CONFIG)
    done = box.attempt("jupyter-remote config set user bob base_url /bobs")
    assert done.returncode == 69, done.stderr
    assert "did not come up" in done.stderr
    assert box.read(CONFIG) == before
    assert "version" in box.sh("curl -skf https://localhost/jupyter/api")
    assert box.sh("stat -c %U /run/jupyter-remote/http.sock") == "alice"


@pytest.mark.one_release
def test_an_apply_that_is_killed_half_way_is_finished_by_the_next(box: Box) -> None:
    box.sh("sed -i 's|^#base_url.*|base_url = \"/lab\"|' /etc/jupyter-remote/config.toml")
    for delay in ("0.1", "0.2", "0.3", "0.5", "0.8", "1.2"):
        box.attempt(f"timeout --signal=KILL {delay} jupyter-remote apply")
    box.sh("jupyter-remote apply")
    assert "version" in box.sh("curl -skf https://localhost/lab/api")
    assert box.attempt("curl -skf https://localhost/jupyter/api").returncode != 0


@pytest.mark.one_release
def test_a_full_disk_during_a_change_changes_nothing(box: Box) -> None:
    before = box.read(CONFIG)
    box.sh(
        "cd /var/lib/jupyter-remote && cp -a rendered /root && mount -t tmpfs -o size=32k tmpfs rendered"
        " && cp -a /root/rendered/. rendered && head -c 64k /dev/zero > rendered/ballast; true"
    )
    done = box.attempt("jupyter-remote config set base_url /lab")
    assert done.returncode == 73, done.stderr
    assert "full" in done.stderr
    assert box.read(CONFIG) == before
    box.sh("umount /var/lib/jupyter-remote/rendered; jupyter-remote apply")
    assert "version" in box.sh("curl -skf https://localhost/jupyter/api")
