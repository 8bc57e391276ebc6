"""The doctor finds what is broken, names it, and is silent about what is not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from lab.box import Box


@dataclass(frozen=True)
class Case:
    """Something that goes wrong: what it is called, how it is done, and how it is undone.

    Without *undo* the doctor has to mend it.
    """

    id: str
    do: str
    undo: str = ""


CONFIG = "/etc/jupyter-remote"
STATE = "/var/lib/jupyter-remote"
APPLY = "jupyter-remote apply"
#: another administrator's lines for this Apache, and an end to them
SITE = "/etc/apache2/conf-enabled/zz.conf"
RELOAD = "systemctl reload apache2; sleep 1"
WITHOUT = f"rm {SITE}; {RELOAD}"


def site(lines: str) -> str:
    return f"printf '%s\\n' '{lines}' > {SITE}; {RELOAD}"


def small_disk(options: str, then: str) -> str:
    return f"mount -t tmpfs -o mode=0700,uid=1000,gid=1000,{options} tmpfs /home/alice; {then}"


def less_memory(lines: str) -> str:
    """A machine whose kernel says so, as a container's does; *lines* are sed's."""
    return f"sed -E '{lines}' /proc/meminfo > /run/meminfo; mount --bind /run/meminfo /proc/meminfo"


ALL_MEMORY = "umount /proc/meminfo"

MACHINE = [
    Case("disk-full", small_disk("size=70m", "head -c 10M /dev/zero > /home/alice/big"), "umount -l /home/alice"),
    Case(
        "no-inodes",
        small_disk("size=200m,nr_inodes=120", "cd /home/alice; touch $(seq 50); cd /"),
        "umount -l /home/alice",
    ),
    Case("read-only", "mount -t tmpfs -o ro,mode=1777 tmpfs /tmp", "umount /tmp"),
    Case(
        "clock-wrong",
        "touch -d '+3 days' /usr/lib/jupyter-remote/lib/python3*/site-packages/jupyter_remote/__init__.py",
        "touch -d '-3 days' /usr/lib/jupyter-remote/lib/python3*/site-packages/jupyter_remote/__init__.py",
    ),
    Case("memory-low", less_memory(r"s/^(MemAvailable:) .*/\1 99000 kB/"), ALL_MEMORY),
    Case(
        "no-swap",
        # What a kernel may have is a part of the machine's memory.
        less_memory(r"s/^(MemTotal|MemAvailable):.*/\1: 1000000 kB/; s/^(Swap.*:).*/\1 0 kB/") + f"; {APPLY}",
        f"{ALL_MEMORY}; {APPLY}",
    ),
    Case(
        "journal-big",
        # A journal of which most is room: what counts is what it takes of the disk.
        "cd /var/log/journal/*/; journalctl --rotate; fallocate -n -l 4200M $(ls system@* | head -1)",
        "journalctl --vacuum-size=500M 2>&1",
    ),
    Case("reboot-wanted", "touch /run/reboot-required", "rm /run/reboot-required"),
    Case(
        "old-server",
        "python=$(readlink -f /usr/bin/python3); cp -a $python /usr/bin/new; mv /usr/bin/new $python",
    ),
    Case(
        "upgrade-waits",
        "mkdir -p /srv/newer; printf '%s\\n' 'Package: jupyter-remote' 'Version: 99' 'Architecture: all' "
        "'Filename: ./x.deb' 'Size: 1' 'SHA256: 00' 'Description: newer' > /srv/newer/Packages; "
        "echo 'deb [trusted=yes] file:/srv/newer ./' > /etc/apt/sources.list.d/newer.list; "
        "apt-get -qq update -o Dir::Etc::SourceList=/etc/apt/sources.list.d/newer.list -o Dir::Etc::SourceParts=-",
        "rm -r /srv/newer /etc/apt/sources.list.d/newer.list /var/lib/apt/lists/*newer*; rm -f /var/cache/apt/*.bin",
    ),
]

SETTINGS = [
    Case("owner-wrong", "chmod 555 /home/alice", "chmod 700 /home/alice"),
    Case(
        "notebook-dir-wrong",
        "install -d -o alice /home/alice/work; jupyter-remote config set notebook_dir /home/alice/work; "
        "rmdir /home/alice/work",
        "jupyter-remote config unset notebook_dir",
    ),
    Case("settings-open", f"chmod 666 {CONFIG}/config.toml"),
    Case("settings-open", f"chmod 777 {CONFIG}"),
    Case("hash-open", f"chmod 644 {CONFIG}/password-hash"),
    Case("hash-open", f"chown alice {CONFIG}/password-hash"),
    Case(
        "hash-wrong",
        f"cp -p {CONFIG}/password-hash /root; echo correct horse > {CONFIG}/password-hash",
        f"cp -p /root/password-hash {CONFIG}",
    ),
    Case(
        "no-password",
        f"cp -p {CONFIG}/password-hash /root; jupyter-remote password --lock",
        f"cp -p /root/password-hash {CONFIG}; {APPLY}",
    ),
    Case(
        "not-applied",
        f"echo 'interface = \"notebook\"' | cat - {CONFIG}/config.toml > /root/c; cp /root/c {CONFIG}/config.toml",
    ),
    Case("not-applied", f"sed -i /^interface/d {CONFIG}/config.toml"),
]

SERVICE = [
    Case(
        "unit-masked",
        "systemctl mask --now jupyter-remote.service",
        "systemctl unmask jupyter-remote; systemctl start jupyter-remote",
    ),
    Case("unit-disabled", "systemctl disable -q jupyter-remote.socket", "systemctl enable -q jupyter-remote.socket"),
    Case("server-down", "systemctl stop jupyter-remote.service"),
    Case(
        "server-down",
        f"echo x > {STATE}/rendered/server.json; systemctl restart jupyter-remote || true",
        f"systemctl reset-failed jupyter-remote; {APPLY}; systemctl restart jupyter-remote",
    ),
    Case("kernels-down", "systemctl stop jupyter-remote-kernel.socket"),
    Case("socket-open", "chmod 666 /run/jupyter-remote/http.sock"),
    Case("socket-open", "chown bob /run/jupyter-remote/kernel.sock"),
    Case(
        "crashes",
        "for n in 1 2 3; do systemctl kill -s KILL jupyter-remote; sleep 4; done; "
        "until systemctl is-active -q jupyter-remote; do sleep 0.2; done",
        "systemctl restart jupyter-remote",
    ),
    Case(
        "second-jupyter",
        "systemd-run -q --unit=guide --uid=alice -E HOME=/home/alice /usr/lib/jupyter-remote/bin/jupyter-lab "
        "--no-browser --ip=0.0.0.0 --port=8888; until ss -ltn | grep -q 8888; do sleep 0.5; done",
        "systemctl stop guide",
    ),
    Case(
        "runs-as-another",
        "d=/etc/systemd/system/jupyter-remote.service.d; printf '[Service]\\nUser=bob\\n' > $d/99.conf; "
        "systemctl daemon-reload",
        "rm /etc/systemd/system/jupyter-remote.service.d/99.conf; systemctl daemon-reload",
    ),
]

APACHE = [
    Case("apache-down", "systemctl stop apache2"),
    Case("apache-masked", "systemctl mask -q --now apache2", "systemctl unmask -q apache2; systemctl start apache2"),
    Case("apache-disabled", "systemctl disable -q apache2", "systemctl enable -q apache2"),
    Case("apache-broken", f"echo Nonsense > {SITE}", f"rm {SITE}"),
    Case("module-off", f"a2dismod -q -f proxy_http; {RELOAD}", f"a2enmod -q proxy_http; {RELOAD}; {APPLY}"),
    Case("conf-off", f"a2disconf -q jupyter-remote; {RELOAD}", f"a2enconf -q jupyter-remote; {RELOAD}"),
    Case("conf-off", f"a2dissite -q jupyter-remote; {RELOAD}", f"a2ensite -q jupyter-remote; {RELOAD}"),
    Case("path-taken", site('Alias "/jupyter" "/usr/share/doc"'), WITHOUT),
    Case(
        "prefork",
        "a2dismod -q -f mpm_event; a2enmod -q mpm_prefork; systemctl restart apache2; " + APPLY,
        "a2dismod -q -f mpm_prefork; a2enmod -q mpm_event; systemctl restart apache2; " + APPLY,
    ),
    Case(
        "few-workers",
        f"sed -i.old 's/MaxRequestWorkers.*/MaxRequestWorkers 50/' /etc/apache2/mods-available/mpm_event.conf; {APPLY}",
        f"mv /etc/apache2/mods-available/mpm_event.conf.old /etc/apache2/mods-available/mpm_event.conf; {APPLY}",
    ),
    Case(
        "port-taken",
        "systemctl stop apache2; systemd-run -q --unit=other python3 -m http.server 443; sleep 1",
        "systemctl stop other; systemctl start apache2",
    ),
]

NETWORK = [
    Case(
        "port-closed",
        "sed -i.old 's/Listen 443/Listen 127.0.0.1:443/' /etc/apache2/ports.conf; systemctl restart apache2",
        "mv /etc/apache2/ports.conf.old /etc/apache2/ports.conf; systemctl restart apache2",
    ),
    Case(
        "name-unknown",
        "jupyter-remote config set server_name nobody.invalid",
        "jupyter-remote config unset server_name",
    ),
    Case(
        "name-elsewhere",
        "echo 203.0.113.9 far.test >> /etc/hosts; jupyter-remote config set server_name far.test",
        "sed -i /far.test/d /etc/hosts; jupyter-remote config unset server_name",
    ),
    Case("no-answer", site('<LocationMatch "^/jup.*/api$">\nRequire all denied\n</LocationMatch>'), WITHOUT),
    Case(
        "no-static",
        "mv /usr/share/jupyter-remote/web/static/lab /root/lab",
        "mv /root/lab /usr/share/jupyter-remote/web/static/lab",
    ),
    Case(
        "no-upload",
        "d=/etc/systemd/system/jupyter-remote.service.d; printf '[Service]\\nLimitFSIZE=1M\\n' > $d/99.conf; "
        "systemctl daemon-reload; systemctl restart jupyter-remote",
        "rm /etc/systemd/system/jupyter-remote.service.d/99.conf; systemctl daemon-reload; "
        "systemctl restart jupyter-remote",
    ),
    Case("no-websocket", site('<LocationMatch "^/jup.*/channels$">\nRequire all denied\n</LocationMatch>'), WITHOUT),
    Case("no-websocket", site('<LocationMatch "^/jup.*/subscribe$">\nRequire all denied\n</LocationMatch>'), WITHOUT),
    Case("no-websocket", site('<LocationMatch "^/jup.*als/websocket">\nRequire all denied\n</LocationMatch>'), WITHOUT),
    Case(
        "no-websocket",
        site('<LocationMatch "subscribe$">\nRequestHeader set Origin "https://a.else"\n</LocationMatch>'),
        WITHOUT,
    ),
    Case("no-login", site('<LocationMatch "^/jup.*/login$">\nRequire all denied\n</LocationMatch>'), WITHOUT),
    Case(
        "no-kernel",
        "d=/etc/systemd/system/jupyter-remote-kernel@.service.d; printf '[Service]\\nExecStart=\\nExecStart=false\\n' "
        "> $d/99.conf; systemctl daemon-reload",
        "rm /etc/systemd/system/jupyter-remote-kernel@.service.d/99.conf; systemctl daemon-reload",
    ),
    Case("gpu-hidden", "touch /dev/nvidia0; chmod 600 /dev/nvidia0", "rm /dev/nvidia0"),
]

OWN = f"{STATE}/tls/server"
TRUSTED = "/usr/local/share/ca-certificates/theirs.crt"


def own_certificate(name: str, days: int, then: str) -> str:
    """A certificate that an administrator has, put to use."""
    return (
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days {days} -subj /CN={name} "
        f"-addext subjectAltName=DNS:{name} -keyout /etc/ssl/private/theirs.key -out /etc/ssl/certs/theirs.crt 2>&1; "
        f"{then} jupyter-remote config set tls.certificate /etc/ssl/certs/theirs.crt "
        "tls.key /etc/ssl/private/theirs.key tls.mode existing"
    )


TRUST = f"cp /etc/ssl/certs/theirs.crt {TRUSTED}; update-ca-certificates >/dev/null 2>&1;"
DISTRUST = f"rm {TRUSTED}; update-ca-certificates --fresh >/dev/null 2>&1; "
OWN_AGAIN = "jupyter-remote config unset tls.mode tls.certificate tls.key"
CERTIFICATE = [
    Case("certificate-name", own_certificate("other.test", 100, ""), OWN_AGAIN),
    Case("certificate-chain", own_certificate("box.test", 100, ""), OWN_AGAIN),
    Case("certificate-ends", own_certificate("box.test", 5, TRUST), DISTRUST + OWN_AGAIN),
    Case(
        "certificate-expired",
        f"apt-get -qq install -y faketime >/dev/null 2>&1; cp -p {OWN}.crt {OWN}.key /root; "
        "faketime -f -30d openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 5 "
        f"-subj /CN=box.test -addext subjectAltName=DNS:box.test -keyout {OWN}.key -out {OWN}.crt 2>&1; {RELOAD}",
        f"cp -p /root/server.crt /root/server.key {STATE}/tls; {RELOAD}",
    ),
    Case(
        "firewall",
        "apt-get -qq install -y nftables >/dev/null 2>&1; nft -f - <<'END'\n"
        "table inet filter {\nchain input {\ntype filter hook input priority 0; policy drop;\n"
        "iif lo accept\nct state established accept\ntcp dport 22 accept\n}\n}\nEND",
        "nft delete table inet filter",
    ),
]

HOME = "cd /home/alice;"
FILES = [
    Case(
        "empty-notebook",
        f"{HOME} : > thesis.ipynb; mkdir .ipynb_checkpoints; date > .ipynb_checkpoints/thesis-checkpoint.ipynb",
        f"{HOME} rm -r thesis.ipynb .ipynb_checkpoints",
    ),
    Case(
        "broken-config",
        f"{HOME} install -d -o alice .jupyter; echo '{{,' > .jupyter/jupyter_server_config.json",
        f"{HOME} rm -r .jupyter",
    ),
    Case(
        "broken-config",
        f"{HOME} install -d -o alice .jupyter; echo 'c.x = (' > .jupyter/jupyter_server_config.py",
        f"{HOME} rm -r .jupyter",
    ),
    Case(
        "lost-kernel",
        f"{HOME} mkdir -p .local/share/jupyter/kernels/old; "
        'echo \'{"argv": ["/opt/gone/bin/python"], "display_name": "old", "language": "python"}\''
        " > .local/share/jupyter/kernels/old/kernel.json; chown -R alice: .local",
        f"{HOME} rm -r .local/share/jupyter/kernels",
    ),
    Case(
        "default-gone",
        "jupyter-remote config set kernels.default '~/gone'",
        "jupyter-remote config unset kernels.default",
    ),
    Case(
        "gateway-away",
        "jupyter-remote config set gateway.url https://localhost:9",
        "jupyter-remote config unset gateway.url",
    ),
    Case("home-open", f"{HOME} chmod 777 .", f"{HOME} chmod 700 ."),
    Case("foreign-files", f"{HOME} mkdir -p .jupyter; chown root: .jupyter"),
    Case(
        "conda-not-in-path",
        f"{HOME} mkdir -p miniforge3/bin; install -m 755 /bin/true miniforge3/bin/conda; chown -R alice: miniforge3",
        f"{HOME} rm -r miniforge3",
    ),
]


def asked(box: Box, options: str = "") -> tuple[int, dict[str, Any]]:
    """The doctor's exit code and report."""
    done = box.attempt(f"jupyter-remote doctor --json {options}")
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


def ids(report: dict[str, Any]) -> list[str]:
    return sorted(found["id"] for found in report["findings"])


@pytest.mark.one_release
@pytest.mark.parametrize(
    "cases",
    [MACHINE + SETTINGS, SERVICE, APACHE, NETWORK, CERTIFICATE + FILES],
    ids=["machine and settings", "service", "apache", "network", "certificate and files"],
)
def test_each_trouble_is_found_and_nothing_else(box: Box, cases: list[Case]):
    """One box, one trouble after the other."""
    assert asked(box)[1]["findings"] == []
    wrong = []
    for case in cases:
        box.sh(case.do)
        code, report = asked(box)
        if ids(report) != [case.id]:
            wrong.append(f"{case.id}: found {json.dumps(report, indent=1)}\nafter: {case.do}")
        if any(found["severity"] == "error" for found in report["findings"]) != bool(code):
            wrong.append(f"{case.id}: exit code {code}")
        if case.undo:
            box.sh(case.undo)
        else:
            code, after = asked(box, "--fix")
            if ids(after):
                wrong.append(f"{case.id}: not mended, {ids(after)}")
                break
    assert not wrong, "\n\n".join(wrong)
    assert asked(box)[1]["findings"] == []


def test_on_a_healthy_machine_it_finds_nothing_and_leaves_nothing(box: Box):
    for change in ("", "listen 8899", "interface notebook", "base_url /lab2", "tls.mode none"):
        if change:
            box.sh(f"jupyter-remote config set {change}")
        before = box.sh("ls -A /home/alice").split()
        code, report = asked(box)
        assert (code, report["findings"], report["skipped"]) == (0, [], []), change
        # what any kernel leaves
        assert set(box.sh("ls -A /home/alice").split()) - set(before) <= {".ipython"}
        # Not in the trash either.
        assert box.sh("find /home/alice -name '*doctor*'") == ""
    assert "No browser is logged in" in box.sh("jupyter-remote sessions")
    assert "No kernel runs" in box.sh("jupyter-remote kernels")


@pytest.mark.one_release
def test_it_is_read_by_a_person(box: Box):
    # Whatever this machine is, of which a box sees that.
    box.write("/run/cloud-init/cloud-id", "none\n")
    said = box.sh("jupyter-remote doctor")
    assert "All is well." in said
    assert "From here nobody sees" not in said
    box.write("/run/cloud-init/cloud-id", "aws\n")
    said = box.sh("jupyter-remote doctor")
    assert "All is well." in said
    assert "the security group of the instance in Amazon EC2" in said
    box.sh("systemctl stop apache2")
    done = box.attempt("jupyter-remote doctor")
    assert done.returncode == 69
    assert "✗ Apache is not running. [apache-down]" in done.stdout
    assert "→ sudo systemctl start apache2" in done.stdout
    assert "A visit      not tried" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines() if "→" not in line)
    assert box.attempt("jupyter-remote doctor --fix").returncode == 0
    # A file that cannot be read: nothing can be looked at without it, and the message says where.
    box.sh(f"echo 'listen = [' >> {CONFIG}/config.toml")
    done = box.attempt("jupyter-remote doctor")
    assert done.returncode == 78
    assert "config.toml" in done.stderr
