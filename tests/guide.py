"""What people copied in 2016: a Jupyter of their own behind Apache, with today's versions."""

from __future__ import annotations

import json
from dataclasses import dataclass

from lab.box import Box

from tests.installed import OWNER, PASSWORD

#: For an address beside ours. The check of the origin is off twice.
APACHE = """
<Location "/guide">
    ProxyPass http://localhost:8888/guide
    ProxyPassReverse http://localhost:8888/guide
    ProxyPassReverseCookieDomain localhost box.test
    RequestHeader set Origin "http://localhost:8888"
</Location>
<Location "/guide/api/kernels/">
    ProxyPass ws://localhost:8888/guide/api/kernels/
    ProxyPassReverse ws://localhost:8888/guide/api/kernels/
</Location>
"""
JUPYTER = """
c.ServerApp.allow_origin = "*"
c.ServerApp.base_url = "/guide"
c.ServerApp.ip = "localhost"
c.ServerApp.port = 8888
c.ServerApp.open_browser = False
c.ServerApp.trust_xheaders = True
c.PasswordIdentityProvider.hashed_password = {hash!r}
"""
#: The package's Python has the Jupyter, but no kernel; the owner's has one.
_PROGRAM = "/usr/lib/jupyter-remote/bin/python"


@dataclass(frozen=True)
class Guide:
    """The guide's Jupyter in *box*, beside ours, with the same password."""

    box: Box

    @classmethod
    def set_up(cls, box: Box) -> Guide:
        """Start it; returns when it answers."""
        home = f"/home/{OWNER}"
        make = f"from jupyter_server.auth.security import passwd; print(passwd({PASSWORD!r}, 'sha1'))"
        hashed = box.as_user(OWNER).sh(f"{_PROGRAM} -", input=make)
        box.write(f"{home}/guide/jupyter_server_config.py", JUPYTER.format(hash=hashed), owner=OWNER)
        python = box.sh(f"ls /var/lib/jupyter-remote/users/{OWNER}/python3*/bin/python").split()[-1]
        spec = {"argv": [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "Python"}
        box.write(f"{home}/guide/kernels/python3/kernel.json", json.dumps(spec), owner=OWNER)
        box.write("/etc/apache2/conf-available/guide.conf", APACHE)
        box.sh("a2enmod -q proxy_wstunnel && a2enconf -q guide && systemctl reload apache2")
        box.sh(
            f"systemd-run -q --unit=guide --uid={OWNER} --working-directory={home} env HOME={home}"
            f" JUPYTER_CONFIG_DIR={home}/guide JUPYTER_PATH={home}/guide {_PROGRAM} -m jupyter_server"
        )
        box.sh("until curl -sf http://localhost:8888/guide/api; do sleep 0.2; done", timeout=120)
        return cls(box)

    @property
    def url(self) -> str:
        """As the guide has it, without https."""
        return f"http://{self.box.hostname}/guide"

    @property
    def https_url(self) -> str:
        """The same in our vhost."""
        return f"https://{self.box.hostname}/guide"
