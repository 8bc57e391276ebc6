"""https by itself: certificates that come, are renewed and are told about, each from where tls.mode says."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from lab.box import NONINTERACTIVE, Box

from tests.authority import Authority
from tests.client import Client, wait_until
from tests.installed import PASSWORD
from tests.pages import blocks, reader
from tests.system.test_other_sites import make_shop

FETCH, ACME, EXISTING, NONE, NGINX = blocks("docs/https.md")
_STORE = "/etc/apache2/md"


def served(box: Box, what: str = "-serial", more: str = "") -> str:
    """What a browser gets to see: a field of the certificate."""
    ask = f"openssl s_client -connect localhost:443 -servername box.test {more} </dev/null 2>/dev/null"
    return box.attempt(f"{ask} | openssl x509 -noout {what}").stdout.strip()


def findings(box: Box) -> str:
    """What status complains of, with its advice."""
    done = box.attempt("jupyter-remote status --json")
    found = json.loads(done.stdout)["findings"]
    assert done.returncode == (69 if found else 0)
    return " ".join(f"{one['what']} → {one['hint']}" for one in found)


def wait_until_watched(box: Box) -> None:
    """What changes while the one before is being taken over, or in the moment after that, is seen by the daily look.

    (systemd does not watch while what it has started runs.)
    """
    state = "systemctl show -P SubState jupyter-remote-certificate.path"
    wait_until(lambda: box.sh(state) == "waiting", lambda: f"nothing is watched: {box.sh(state)}")


def renew(box: Box) -> None:
    """Have Apache believe that it is time for a new certificate, of which there is not more than one an hour."""
    wait_until_watched(box)
    box.sh(f"touch -d '2 hours ago' {_STORE}/domains/box.test/pubcert*")
    box.write("/etc/apache2/conf-enabled/window.conf", "MDRenewWindow 9999d\n")
    box.sh("systemctl reload apache2")


def stop_renewing(box: Box) -> None:
    """And forget the next certificate, which Apache has begun to get: an authority that is started anew knows nothing
    of what was begun with it before."""
    box.sh(
        "rm -f /etc/apache2/conf-enabled/window.conf && systemctl stop apache2 && "
        f"rm -rf {_STORE}/staging/box.test && systemctl start apache2"
    )


def job(box: Box) -> str:
    """What Apache has written of a certificate that it is getting, and what was done with it."""
    return box.attempt(
        f"cat {_STORE}/staging/box.test/job.json; ls -l --full-time {_STORE}/*/box.test; date; "
        "journalctl -qn 30 -u jupyter-remote-certificate.service; tail -n 20 /var/log/apache2/error.log"
    ).stdout


@pytest.mark.either_release
def test_a_trusted_certificate_comes_is_renewed_and_goes_by_itself(authority: Authority) -> None:
    box = authority.box
    before = set(box.files("/etc/apache2", "/var/log/apache2"))
    done = box.attempt("jupyter-remote config set tls.mode acme")
    assert done.returncode == 78
    assert "config set server_name" in done.stderr
    box.sh(f"jupyter-remote config set tls.acme_directory {authority.url}")
    said = reader(box).sh("exec 2>&1\n" + ACME.filled({"lab.example.org": "box.test"}))
    assert "The certificate for box.test is in use." in said
    assert "Pebble" in served(box, "-issuer")
    # Both kinds of key that a browser may want: one certificate, never our own.
    assert "Pebble" in served(box, "-issuer", "-tls1_2")
    assert findings(box) == ""
    assert "acme, by Pebble" in box.sh("jupyter-remote status")

    # A visitor who trusts nothing but the authority's root.
    with Client(box.ip, "https://box.test/jupyter", authority.root) as visitor:
        kernel = visitor.login(PASSWORD).start_kernel()
        assert "max-age" in visitor.get("api").headers["strict-transport-security"]
        first = served(box)
        renew(box)
        wait_until(lambda: served(box) not in ("", first), lambda: f"it is not in use: {job(box)}")
        # The reload that put it to use interrupted nobody.
        assert kernel.execute("6 * 7").value == "42"
        assert visitor.logged_in
    stop_renewing(box)
    assert "is in use" in box.journal("jupyter-remote-certificate.service")
    assert findings(box) == ""
    for path in ("/jupyter", "/jupyter/login?next=%2Fjupyter%2Flab"):
        assert f"Location: https://box.test{path}" in box.sh(f"curl -si 'http://box.test{path}'")

    # Port 443 alone is enough for the authority. (Each time that it is started it signs with another name.)
    authority.start(http_port=81)
    box.sh("sed -i 's/^Listen 80$/#&/' /etc/apache2/ports.conf && jupyter-remote apply")
    second = served(box, "-issuer")
    renew(box)
    wait_until(lambda: served(box, "-issuer") not in ("", second), lambda: f"it is not in use: {job(box)}")
    stop_renewing(box)
    box.sh("sed -i 's/^#Listen 80$/Listen 80/' /etc/apache2/ports.conf && jupyter-remote apply")

    # Another authority, by its address: nobody waits for the old certificate's end.
    third = served(box, "-issuer")
    authority.start()
    said = box.sh(f"jupyter-remote config set tls.acme_directory {authority.url.replace('ca.test', 'ca2.test')} 2>&1")
    assert "The certificate for box.test is in use." in said
    assert served(box, "-issuer") not in ("", third)
    assert "ACME_ANEW" not in box.read("/var/lib/jupyter-remote/rendered/apache-defines.conf")

    box.sh("apt-get -qq purge --yes jupyter-remote", env=NONINTERACTIVE)
    left = {path for path in box.files("/etc/apache2") if path not in before}
    assert left == set()
    assert "md.load" not in box.sh("ls /etc/apache2/mods-enabled")
    assert box.is_active("apache2.service")


@pytest.mark.one_release
def test_what_keeps_a_certificate_away_is_told_with_its_cure_and_the_old_one_serves(authority: Authority) -> None:
    box = authority.box
    authority.stop()
    done = box.attempt(
        f"jupyter-remote config set server_name box.test tls.acme_directory {authority.url} tls.mode acme 2>&1"
    )
    assert "ca.test cannot be reached" in done.stdout
    assert "This machine's own certificate serves" in findings(box)
    assert "jupyter-remote on box.test" in served(box, "-issuer")

    def after(mishap: Callable[[], None], complaint: str, cure: str) -> None:
        mishap()
        box.attempt("jupyter-remote apply")  # it makes Apache ask again
        wait_until(lambda: complaint in findings(box), lambda: f"{complaint}: {findings(box)}")
        assert cure in findings(box)
        assert "version" in box.sh("curl -skf https://localhost/jupyter/api")

    def no_dns() -> None:
        authority.resolve("")
        authority.start()

    def closed_ports() -> None:
        authority.resolve(box.ip)
        authority.start(http_port=81, tls_port=444)

    def wrong_clock() -> None:
        authority.be_of_another_year()
        authority.start()

    mishaps = [
        (no_dns, "does not find box.test in the DNS", "getent ahosts box.test"),
        (closed_ports, "does not reach this machine as box.test", "Open ports 80 and 443"),
        (authority.refuse, "has been asked too often", "Wait"),
        (wrong_clock, "The clock of this machine is wrong", "timedatectl"),
        (authority.stop, "ca.test cannot be reached", "wait"),
    ]
    for mishap in mishaps:
        after(*mishap)
    # Nobody needs root to see it.
    said = box.as_user("alice").attempt("jupyter-remote status")
    assert "ca.test cannot be reached" in said.stdout
    assert said.stderr == ""

    authority.be_of_this_year()
    authority.start()
    box.attempt("jupyter-remote apply")
    wait_until(lambda: "Pebble" in served(box, "-issuer"), "no certificate")
    wait_until(lambda: findings(box) == "", lambda: findings(box))
    first = served(box)
    renew(box)
    wait_until(lambda: served(box) not in ("", first), lambda: f"it is not in use: {job(box)}")
    authority.stop()
    for mishap in mishaps:
        after(*mishap)
        assert "The old certificate serves until" in findings(box)
        assert "Pebble" in served(box, "-issuer")
    stop_renewing(box)

    # Certbot has one for this name: it is used, and nothing else is asked for.
    live = "/etc/letsencrypt/live/box.test"
    begin = datetime.now(UTC) - timedelta(days=1)
    certificate, key = authority.make_certificate("certbots", begin, begin + timedelta(days=90), "box.test")
    box.sh(f"mkdir -p {live} && cp {certificate} {live}/fullchain.pem && cp {key} {live}/privkey.pem")
    assert box.attempt("jupyter-remote apply").returncode == 0
    wait_until(lambda: "certbots" in served(box, "-issuer"), "certbot's is not used")
    assert "JUPYTER_REMOTE_ACME" not in box.read("/var/lib/jupyter-remote/rendered/apache-defines.conf")
    # An administrator has an https vhost: the same.
    make_shop(box, https=True)
    box.attempt("jupyter-remote apply")
    assert not box.exists("/etc/apache2/sites-enabled/jupyter-remote.conf")
    assert "shop.conf, whose certificate is used" in findings(box)
    assert "CN = shop.test" in served(box, "-issuer -nameopt space_eq")


@pytest.mark.one_release
def test_an_existing_certificate_is_watched_and_a_broken_one_not_taken(box: Box) -> None:
    archive, live = "/etc/letsencrypt/archive/box.test", "/etc/letsencrypt/live/box.test"

    def renewed(number: int, name: str = "box.test", *, watched: bool = True) -> None:
        """As certbot does it: new files, then the links."""
        if watched:
            wait_until_watched(box)
        box.sh(f"mkdir -p {archive} {live}")
        box.sh(
            f"openssl req -x509 -newkey rsa:2048 -nodes -subj /O=number{number} -addext subjectAltName=DNS:{name} "
            f"-days 90 -keyout {archive}/privkey{number}.pem -out {archive}/fullchain{number}.pem 2>/dev/null"
        )
        for kind in ("privkey", "fullchain"):
            box.sh(f"rm -f {live}/{kind}.pem && ln -s ../../archive/box.test/{kind}{number}.pem {live}/{kind}.pem")

    renewed(1, watched=False)
    reader(box).sh(EXISTING.filled({"lab.example.org": "box.test"}))
    assert "number1" in served(box, "-subject")
    assert findings(box) == ""
    for number in (2, 3):
        renewed(number)
        wait_until(lambda: f"number{number}" in served(box, "-subject"), "the new one is not in use")  # noqa: B023
    # In place, as a script would do it.
    wait_until_watched(box)
    box.sh(f"cp {archive}/privkey1.pem {archive}/privkey3.pem; cp {archive}/fullchain1.pem {archive}/fullchain3.pem")
    wait_until(lambda: "number1" in served(box, "-subject"), "the new one is not in use")

    wait_until_watched(box)
    box.sh(f"echo nothing > {archive}/fullchain3.pem")
    wait_until(lambda: "is not a certificate" in box.journal("jupyter-remote-certificate.service"), "nobody noticed")
    assert "number1" in served(box, "-subject")
    assert "is not a certificate in PEM. The old certificate serves" in findings(box)
    renewed(4)
    wait_until(lambda: "number4" in served(box, "-subject"), "the new one is not in use")
    assert findings(box) == ""
    assert box.sh("systemctl is-failed jupyter-remote-certificate.service || true") == "inactive"

    renewed(5, "elsewhere.test")
    wait_until(lambda: "number5" in served(box, "-subject"), "the new one is not in use")
    assert "The certificate is not for box.test" in findings(box)
    assert "strict-transport-security" not in box.sh("curl -skI https://localhost/jupyter/api").lower()
    # The daily look takes it over as well, where nothing watches.
    wait_until_watched(box)
    box.sh("systemctl stop jupyter-remote-certificate.path")
    renewed(6, watched=False)
    box.sh("systemctl start jupyter-remote-renew.service")
    wait_until(lambda: "number6" in served(box, "-subject"), "the new one is not in use")


@pytest.mark.one_release
def test_the_own_authority_can_be_fetched_and_recognised(box: Box) -> None:
    assert (
        box.sh("curl -skf https://localhost/jupyter-remote-ca.crt")
        == box.read("/var/lib/jupyter-remote/ca.crt").strip()
    )
    # The other way to fetch it.
    alice = box.as_user("alice")
    box.sh("apt-get -qq install --yes openssh-server >/dev/null", env=NONINTERACTIVE)
    alice.sh("mkdir .ssh && cd .ssh && ssh-keygen -qt ed25519 -N '' -f id_ed25519 && cp id_ed25519.pub authorized_keys")
    alice.sh("ssh-keyscan localhost >.ssh/known_hosts")
    alice.sh(FETCH.filled({"SERVER": "localhost"}))
    assert "version" in alice.sh("curl -sf --cacert jupyter-remote-ca.crt https://box.test/jupyter/api")
    assert "application/x-x509-ca-cert" in box.sh("curl -skI https://localhost/jupyter-remote-ca.crt")
    of_file = box.sh("openssl x509 -noout -fingerprint -sha256 -in /var/lib/jupyter-remote/ca.crt").partition("=")[2]
    assert json.loads(box.sh("jupyter-remote status --json"))["authority_fingerprint"] == of_file
    assert "strict-transport-security" not in box.sh("curl -skI https://localhost/jupyter/api").lower()


@pytest.mark.either_release
def test_without_tls_only_this_machine_may_come_in(box: Box) -> None:
    box.sh("jupyter-remote config set tls.mode none")
    assert "version" in box.sh("curl -sf http://localhost/jupyter/api")
    assert box.sh(f"curl -s -o /dev/null -w '%{{http_code}}' --interface {box.ip} http://{box.ip}/jupyter/api") == "200"
    assert "for this machine alone" in box.sh("jupyter-remote status")
    from jupyter_remote.run import run

    for headers in ([], ["-H", "X-Forwarded-For: 127.0.0.1", "-H", "X-Real-IP: 127.0.0.1"]):
        question = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *headers]
        assert run(*question, f"http://{box.ip}/jupyter/api").stdout == "403"


@pytest.mark.one_release
def test_behind_nginx(box: Box) -> None:
    box.sh("apt-get -qq install --yes nginx-light >/dev/null", env=NONINTERACTIVE)
    reader(box).sh("set -e\n" + NONE.filled({"lab.example.org": "box.test"}))
    pair = "-newkey rsa:2048 -nodes -subj /CN=nginx -addext subjectAltName=DNS:box.test"
    box.sh(f"cd /etc/nginx && openssl req -x509 {pair} -keyout key.pem -out cert.pem 2>&1")
    its = "listen 443 ssl;\nserver_name box.test;\nssl_certificate cert.pem;\nssl_certificate_key key.pem;\n"
    box.write("/etc/nginx/sites-enabled/default", f"server {{\n{its}{NGINX.text}}}\n")
    box.sh("systemctl restart nginx")
    with Client(box.ip, "https://box.test/jupyter", box.read("/etc/nginx/cert.pem")) as visitor:
        assert visitor.login(PASSWORD).start_kernel().execute("6 * 7").value == "42"
