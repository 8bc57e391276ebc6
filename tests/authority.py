"""A certificate authority of our own in a box: Debian's pebble, which is Let's Encrypt's for tests.

It speaks ACME as the real one does, looks the name up in a DNS of its own, and comes to ports 80 and 443
of the box. What it cannot do (it has no rate limits) is said by :data:`_REFUSING`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lab import layers
from lab.box import Box

from tests.client import wait_until

#: Where the programs are in a box that was made with :func:`binds`.
_PROGRAMS = "/opt/pebble"
_HOME = "/etc/authority"
#: It is ``ca2.test`` too, to be taken for another one.
NAME = "ca.test"

# Says what RFC 8555 6.7 says of too many requests, to whoever wants an account.
_REFUSING = """\
import http.server, json, ssl
class Authority(http.server.BaseHTTPRequestHandler):
    def answer(self, status, body, kind="application/json"):
        text = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (("Replay-Nonce", "bm9uY2U"), ("Content-Type", kind), ("Content-Length", str(len(text)))):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)
    def do_GET(self):
        here = "https://%(name)s:%(port)d/"
        self.answer(200, {kind: here + kind for kind in ("newNonce", "newAccount", "newOrder", "revokeCert")})
    do_HEAD = do_GET
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        problem = {"type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many certificates already issued"}
        self.answer(429, problem, "application/problem+json")
server = http.server.ThreadingHTTPServer(("", %(port)d), Authority)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("%(home)s/server.crt", "%(home)s/server.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def binds(suite: str) -> dict[Path, str]:
    """What a box of that release needs to have."""
    return {layers.ensure(suite, "pebble") / "usr/bin": _PROGRAMS}


@dataclass
class Authority:
    """The authority in *box*; its directory is at :attr:`url`."""

    box: Box
    port: int = 14000

    @classmethod
    def set_up(cls, box: Box) -> Authority:
        """Start it, and let the box trust its web server (not its certificates)."""
        self = cls(box)
        box.sh(f"mkdir -p {_HOME} && echo 127.0.0.1 {NAME} ca2.test >> /etc/hosts")
        self.make_certificate("api", datetime.now(UTC) - timedelta(days=1), datetime.now(UTC) + timedelta(days=30))
        box.sh(f"cp {_HOME}/api.crt /usr/local/share/ca-certificates/api.crt && update-ca-certificates >/dev/null 2>&1")
        self._use("api")
        self.resolve(box.ip)
        self.start()
        return self

    @property
    def url(self) -> str:
        return f"https://{NAME}:{self.port}/dir"

    @property
    def root(self) -> str:
        """The certificate that a browser would have to trust, PEM."""
        return self.box.sh(f"curl -sf --cacert {_HOME}/api.crt https://{NAME}:15000/roots/0")

    def make_certificate(self, name: str, begin: datetime, end: datetime, host: str = NAME) -> tuple[str, str]:
        """A certificate that signs itself, for any time; the paths of it and of its key in the box."""
        # `openssl ca` alone has had both dates for long.
        self.box.write(
            f"{_HOME}/{name}.cnf",
            f"[ca]\ndefault_ca=d\n[d]\ndatabase={_HOME}/{name}.index\nnew_certs_dir=/tmp\ndefault_md=sha256\n"
            "rand_serial=yes\npolicy=p\nx509_extensions=e\n[p]\ncommonName=supplied\n"
            f"[e]\nbasicConstraints=CA:true\nsubjectAltName=DNS:{host},DNS:ca2.test\n",
        )
        times = [f"{moment:%Y%m%d%H%M%SZ}" for moment in (begin, end)]
        self.box.sh(
            f"cd {_HOME} && : > {name}.index && openssl req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr "
            f"-subj /CN={name} 2>/dev/null && openssl ca -batch -config {name}.cnf -selfsign -keyfile {name}.key "
            f"-in {name}.csr -out {name}.crt -notext -startdate {times[0]} -enddate {times[1]} 2>/dev/null"
        )
        return f"{_HOME}/{name}.crt", f"{_HOME}/{name}.key"

    def _use(self, name: str) -> None:
        self.box.sh(f"cd {_HOME} && cp {name}.crt server.crt && cp {name}.key server.key")

    def start(self, *, http_port: int = 80, tls_port: int = 443) -> None:
        """Start it, or start it anew; with other ports it knocks where nobody is."""
        self.stop()
        config = {
            "listenAddress": f"0.0.0.0:{self.port}",
            "managementListenAddress": "0.0.0.0:15000",
            "certificate": f"{_HOME}/server.crt",
            "privateKey": f"{_HOME}/server.key",
            "httpPort": http_port,
            "tlsPort": tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
        }
        self.box.write(f"{_HOME}/pebble.json", json.dumps({"pebble": config}))
        self.box.sh(
            "systemd-run --quiet --unit=authority --collect --setenv=PEBBLE_VA_NOSLEEP=1 "
            f"{_PROGRAMS}/pebble -config {_HOME}/pebble.json -dnsserver 127.0.0.1:8053"
        )
        self._until_it_answers()

    def refuse(self) -> None:
        """In its place something that says that there were too many requests."""
        self.stop()
        self.box.write(f"{_HOME}/refusing.py", _REFUSING % {"name": NAME, "port": self.port, "home": _HOME})
        self.box.sh(f"systemd-run --quiet --unit=authority --collect python3 {_HOME}/refusing.py")
        self._until_it_answers()

    def stop(self) -> None:
        self.box.sh("systemctl stop authority 2>/dev/null || true")

    def be_of_another_year(self) -> None:
        """Its web server's certificate begins in a year: what a machine sees whose clock is a year behind."""
        begin = datetime.now(UTC) + timedelta(days=365)
        self.make_certificate("later", begin, begin + timedelta(days=30))
        self.box.sh(
            f"cp {_HOME}/later.crt /usr/local/share/ca-certificates/later.crt && update-ca-certificates >/dev/null 2>&1"
        )
        self._use("later")

    def be_of_this_year(self) -> None:
        """Its web server shows its right certificate again."""
        self._use("api")

    def resolve(self, address: str) -> None:
        """What the authority finds when it looks a name up; an empty address: nothing."""
        self.box.sh("systemctl stop authority-dns 2>/dev/null || true")
        self.box.sh(
            "systemd-run --quiet --unit=authority-dns --collect "
            f"{_PROGRAMS}/pebble-challtestsrv -defaultIPv4 '{address}' -defaultIPv6 '' -dns01 127.0.0.1:8053 "
            "-http01 '' -https01 '' -tlsalpn01 '' -management 127.0.0.1:8055 "
            # A newer one would answer at one more place.
            f"$({_PROGRAMS}/pebble-challtestsrv --help 2>&1 | grep -q doh && echo -doh=)"
        )

    def _until_it_answers(self) -> None:
        wait_until(
            lambda: self.box.attempt(f"curl -skf -o /dev/null {self.url}").returncode == 0, "the authority is silent"
        )
