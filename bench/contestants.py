"""Who is compared: six ways to reach one's own Jupyter, all in one box, each on a port of its own.

What is not ours is the Jupyter that pip installs, in the versions that our package has, so that what differs is how it
is served. It is made once, outside of the box (:func:`stock`). One contestant runs at a time.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import debbuild
import httpx
from lab import cache, host, layers
from lab.box import NONINTERACTIVE, Box
from lab.scratch import scratch

from jupyter_remote.run import run, say
from tests import guide
from tests.client import PATIENCE, Client, wait_until
from tests.installed import OWNER, PASSWORD

TOP = Path(__file__).resolve().parent.parent
SUITE = "trixie"
#: The hub and its proxy. All else that pip installs is pinned in requirements/.
HUB, PROXY = "jupyterhub==6.1.1", "configurable-http-proxy@5.3.0"
#: Where they and the Jupyter are in the box.
STOCK = "/opt/stock"
_HOME = f"/home/{OWNER}"
_TLS = "/etc/bench-tls"
_CERTIFICATE, _KEY = f"{_TLS}/server.crt", f"{_TLS}/server.key"

_UNIT = """
[Service]
User={user}
WorkingDirectory={directory}
Environment=HOME={directory} JUPYTER_CONFIG_DIR={directory}/{name} PATH={stock}/bin:/usr/bin:/bin LANG=C.UTF-8
ExecStart={command}
"""

_EACH = """
c.ServerApp.open_browser = False
c.PasswordIdentityProvider.hashed_password = {hash!r}
"""

_BARE = f"""
c.ServerApp.ip = "0.0.0.0"
c.ServerApp.port = 8443
c.ServerApp.certfile = {_CERTIFICATE!r}
c.ServerApp.keyfile = {_KEY!r}
"""

_BEHIND = """
c.ServerApp.ip = "127.0.0.1"
c.ServerApp.trust_xheaders = True
c.ServerApp.local_hostnames = ["localhost", "box.test"]
"""

# As JupyterHub's manual has it ("Using a reverse proxy"), for one server in place of a hub. It has $host, which is
# enough on port 443, and no limit of bodies of its own: nginx's is smaller than a part of an upload.
_NGINX = f"""
map $http_upgrade $connection_upgrade {{
    default upgrade;
    '' close;
}}
server {{
    listen 8444 ssl;
    server_name box.test;
    ssl_certificate {_CERTIFICATE};
    ssl_certificate_key {_KEY};
    client_max_body_size 0;
    location / {{
        proxy_pass http://127.0.0.1:8889;
        proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $connection_upgrade;
        proxy_set_header X-Scheme $scheme;
        proxy_buffering off;
    }}
}}
"""

_CADDY = f"""
{{
    auto_https disable_redirects
}}
https://box.test:8445 {{
    tls {_CERTIFICATE} {_KEY}
    encode zstd gzip
    reverse_proxy 127.0.0.1:8890
}}
"""

# This authenticator compares ASCII only.
_AT_HUB_PASSWORD = PASSWORD.replace("ñ", "n")

# Node is not to be found on PATH: each Jupyter would start it as it starts itself, which takes 0.3 s.
_HUB = f"""
c.JupyterHub.bind_url = "https://:8446"
c.JupyterHub.ssl_cert = {_CERTIFICATE!r}
c.JupyterHub.ssl_key = {_KEY!r}
c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = {_AT_HUB_PASSWORD!r}
c.Authenticator.allowed_users = {{{OWNER!r}}}
c.ConfigurableHTTPProxy.command = ["/opt/node", "{STOCK}/proxy/node_modules/.bin/configurable-http-proxy"]
"""


def _log_in(client: Client) -> None:
    client.login(PASSWORD)


def _nothing(client: Client) -> None:
    pass


@dataclass(frozen=True)
class Contestant:
    """One way to reach a Jupyter.

    *server* is the unit that ``systemctl restart`` names when somebody restarts it, *others* are what has to run
    besides.
    """

    name: str
    url: str
    server: str
    set_up: Callable[[Box], None]
    others: tuple[str, ...] = ()
    #: patterns of units that may be left besides
    leaves: tuple[str, ...] = ()
    log_in: Callable[[Client], None] = _log_in
    #: what a visitor does so that the server starts
    wake: Callable[[Client], None] = _nothing

    def start(self, box: Box) -> None:
        """Start it, and nothing else."""
        # systemd counts starts, and has its limits.
        box.attempt(f"systemctl reset-failed {self._units}")
        box.sh(f"systemctl start {self._units}", timeout=120)

    def stop(self, box: Box) -> None:
        """Stop it with all that it has started."""
        box.sh(f"systemctl stop {self._units} {' '.join(map(repr, self.leaves))}", timeout=120)

    @property
    def _units(self) -> str:
        return " ".join((self.server, *self.others))

    def enter(self, client: Client) -> None:
        """Wait until it answers, and log in."""
        wait_until(lambda: _answers(client), f"{self.name} does not answer")
        self.log_in(client)


def _answers(client: Client) -> bool:
    try:
        return client.get("login").status_code < 500
    except httpx.TransportError:
        return False


def is_ready(client: Client) -> bool:
    """Whether somebody who is logged in is answered."""
    try:
        # A hub sends who is not let in to its login, and that would be an answer too.
        return client.get("api/status", follow_redirects=False).status_code == 200
    except httpx.TransportError:
        return False


def wait_until_ready(client: Client, wake: Callable[[Client], None]) -> None:
    """Return as soon as somebody who is logged in is answered.

    :raises AssertionError: that does not happen.
    """
    begun, woken = time.monotonic(), 0.0
    while not is_ready(client):
        assert time.monotonic() - begun < PATIENCE, "it does not get ready"
        # Not more often: the pages that come of it cost it more than its start has left.
        if time.monotonic() - woken > 0.5:
            wake(client)
            woken = time.monotonic()
        time.sleep(0.01)


# -- ours ---------------------------------------------------------------------------------------------

OURS = Contestant(
    "ours",
    "https://box.test/jupyter",
    "jupyter-remote.service",
    set_up=lambda box: None,
    others=("apache2.service", "jupyter-remote.socket", "jupyter-remote-kernel.socket"),
    leaves=("jupyter-remote*",),
)

# -- the guide's --------------------------------------------------------------------------------------


def _set_up_guide(box: Box) -> None:
    """The guide's Apache is Debian's, as it is without ours."""
    _set_up_jupyter(box, "bench-guide", guide.JUPYTER, algorithm="sha1")
    run("cp", "-a", layers.ensure(box.suite, "box") / "etc/apache2", box.path("/etc") / "apache2-guide")
    box.write("/etc/apache2-guide/conf-available/guide.conf", guide.APACHE)
    box.sh(
        "mkdir -p /var/log/apache2-guide && cd /etc/apache2-guide && export APACHE_CONFDIR=$PWD"
        " && sed -i 's/\\b80\\b/8080/' ports.conf sites-available/000-default.conf"
        " && a2enmod -q proxy proxy_http proxy_wstunnel headers && a2enconf -q guide"
    )


GUIDE = Contestant(
    "guide",
    "http://box.test:8080/guide",
    "bench-guide.service",
    set_up=_set_up_guide,
    others=("apache2@guide.service",),
)

# -- a server alone -----------------------------------------------------------------------------------

BARE = Contestant(
    "bare",
    "https://box.test:8443",
    "bench-bare.service",
    set_up=lambda box: _set_up_jupyter(box, "bench-bare", _BARE + _EACH),
)

# -- behind other proxies -----------------------------------------------------------------------------


def _set_up_nginx(box: Box) -> None:
    _set_up_jupyter(box, "bench-behind-nginx", _BEHIND + _EACH + "c.ServerApp.port = 8889\n")
    box.write("/etc/nginx/sites-available/jupyter", _NGINX)
    box.sh("cd /etc/nginx/sites-enabled && rm default && ln -s ../sites-available/jupyter")


def _set_up_caddy(box: Box) -> None:
    _set_up_jupyter(box, "bench-behind-caddy", _BEHIND + _EACH + "c.ServerApp.port = 8890\n")
    box.write("/etc/caddy/Caddyfile", _CADDY)


NGINX = Contestant(
    "nginx",
    "https://box.test:8444",
    "bench-behind-nginx.service",
    set_up=_set_up_nginx,
    others=("nginx.service",),
)
CADDY = Contestant(
    "Caddy",
    "https://box.test:8445",
    "bench-behind-caddy.service",
    set_up=_set_up_caddy,
    others=("caddy.service",),
)

# -- JupyterHub ---------------------------------------------------------------------------------------

_AT_HUB = "https://box.test:8446"


def _set_up_hub(box: Box) -> None:
    box.write("/srv/hub/jupyterhub_config.py", _HUB)
    _write_unit(box, "bench-hub", f"{STOCK}/bin/jupyterhub", user="root", directory="/srv/hub")


def _log_in_at_hub(client: Client) -> None:
    def form() -> re.Match[str] | None:
        # The proxy is there before the hub, and answers too.
        return re.search(r'name="_xsrf" value="([^"]+)"', client.http.get(f"{_AT_HUB}/hub/login").text)

    said = {"username": OWNER, "password": _AT_HUB_PASSWORD, "_xsrf": wait_until(form, "the hub shows no login")[1]}
    client.http.post(f"{_AT_HUB}/hub/login", data=said).raise_for_status()
    wait_until_ready(client, _spawn)


def _spawn(client: Client) -> None:
    """Ask for the person's server, and for a page of it, which lets the browser in."""
    with suppress(httpx.TransportError):
        client.http.get(f"{_AT_HUB}/hub/spawn/{OWNER}")
        client.get("lab")


HUB_AND_PROXY = Contestant(
    "JupyterHub",
    f"{_AT_HUB}/user/{OWNER}",
    "bench-hub.service",
    set_up=_set_up_hub,
    log_in=_log_in_at_hub,
    wake=_spawn,
)

#: In the table's order; ours is compared with the first.
ALL = (GUIDE, BARE, NGINX, CADDY, HUB_AND_PROXY, OURS)


# -- making them --------------------------------------------------------------------------------------


def stock() -> Path:
    """The Jupyter, the hub and its proxy as a directory that belongs at :data:`STOCK`; downloaded at most once."""
    # As they are pinned, but without the hashes: all that the hub needs besides has none here.
    locks = "".join((TOP / f"requirements/{name}.txt").read_text() for name in ("server", "kernel"))
    pins = re.findall(r"^[a-z][^\\\n]*==[^\\\n]*", locks, re.MULTILINE)
    facts = repr([SUITE, layers.ensure(SUITE, "build"), sorted(pins), HUB, PROXY])
    name = f"stock-{hashlib.sha256(facts.encode()).hexdigest()[:12]}"

    def fill(directory: Path) -> None:
        host.require("npm")
        say("downloading what is compared with ours")
        (directory / "pins.txt").write_text("\n".join(pins))
        with scratch(SUITE, "build", {directory: (STOCK, "rw")}) as root:
            root.run("python3", "-m", "venv", STOCK)
            wanted = ("notebook", "jupyterlab", "jupyter_server", "ipykernel", HUB)
            root.run(f"{STOCK}/bin/pip", "install", "--quiet", f"--constraint={STOCK}/pins.txt", *wanted,
                     env=debbuild.way_to_index(root))  # fmt: skip
        run("npm", "install", "--silent", "--prefix", directory / "proxy", PROXY)

    return cache.build_once(cache.directory() / name, fill)


def set_up(box: Box, contestants: list[Contestant]) -> str:
    """Make all of *contestants* ready in *box*, and let nobody run.

    :param box: with our package, and with :func:`stock` at :data:`STOCK`.
    :returns: the authority that a visitor has to believe, PEM.
    """
    # They would start at once, on Apache's ports.
    box.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", mode=0o755)
    box.sh("apt-get -qq update && apt-get -qq install --yes --no-install-recommends nginx caddy nodejs wrk",
           env=NONINTERACTIVE)  # fmt: skip
    box.sh("rm /usr/sbin/policy-rc.d && cp /usr/bin/nodejs /opt/node && rm -f /usr/bin/node /usr/bin/nodejs")
    key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30"
    box.sh(
        f"mkdir {_TLS} && cd {_TLS} && exec 2>/dev/null"
        f" && openssl req -x509 {key} -subj '/CN=authority of a benchmark' -keyout ca.key -out ca.crt"
        f" && openssl req -x509 {key} -subj /CN=box.test -CA ca.crt -CAkey ca.key -keyout {_KEY} -out {_CERTIFICATE}"
        " -addext subjectAltName=DNS:box.test -addext basicConstraints=critical,CA:false"
        # Each of them reads it as somebody else.
        f" && chmod 644 {_KEY}"
    )
    for contestant in contestants:
        contestant.set_up(box)
    box.sh("systemctl daemon-reload")
    for contestant in ALL:
        box.attempt(f"systemctl stop {contestant.server} {' '.join(contestant.others)}")
    OURS.stop(box)
    return box.read(f"{_TLS}/ca.crt")


def _set_up_jupyter(box: Box, name: str, config: str, algorithm: str = "argon2") -> None:
    """A unit *name* with a Jupyter of that configuration, in which ``{hash!r}`` is the password's."""
    make = f"from jupyter_server.auth.security import passwd; print(passwd({PASSWORD!r}, {algorithm!r}))"
    hashed = box.as_user(OWNER).sh(f"{STOCK}/bin/python -", input=make)
    box.write(f"{_HOME}/{name}/jupyter_server_config.py", config.format(hash=hashed))
    box.sh(f"chown -R {OWNER}: {_HOME}/{name}")
    _write_unit(box, name, f"{STOCK}/bin/python -m jupyter_server", user=OWNER, directory=_HOME)


def _write_unit(box: Box, name: str, command: str, *, user: str, directory: str) -> None:
    text = _UNIT.format(user=user, directory=directory, name=name, stock=STOCK, command=command)
    box.write(f"/etc/systemd/system/{name}.service", text)


def versions(box: Box) -> str:
    """What is compared, with its versions, in one line."""
    python = "from importlib.metadata import version as v; print(*(f'{n} {v(n)}' for n in (%s)), sep=', ')"
    names = "'jupyter_server', 'jupyterlab', 'notebook', 'ipykernel', 'jupyterhub'"
    debian = ", ".join(
        box.sh("dpkg-query -W apache2 nginx caddy nodejs jupyter-remote").replace("\t", " ").splitlines()
    )
    return f"{debian}, {box.sh(f'{STOCK}/bin/python -', input=python % names)}, {PROXY}"


@contextmanager
def running(box: Box, contestant: Contestant, client: Client) -> Iterator[None]:
    """It runs, *client* is logged in, and its server has shown each page before."""
    contestant.start(box)
    try:
        contestant.enter(client)
        for page in ("lab", "tree", "api/contents"):
            client.get(page).raise_for_status()
        yield
    finally:
        contestant.stop(box)
