"""What people copied in 2016: a Jupyter of their own behind Apache, with today's versions, or as it was then."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import debbuild
from lab import cache, layers
from lab.box import Box
from lab.scratch import scratch

from jupyter_remote.run import say
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


# --- on a machine that has nothing of ours -------------------------------------------------------------

ANACONDA = f"/home/{OWNER}/anaconda3"
#: The last notebook that is a server of its own, NotebookApp, as all were in 2016.
NOTEBOOK = ("notebook==6.5.7", "ipykernel==6.29.5", "setuptools<81")
BY_HAND_PASSWORD = "what I typed in 2016"

#: The two blocks at the end of apache2.conf.
BLOCKS = APACHE.replace("/guide", "/jupyter")
#: Behind what `jupyter notebook --generate-config` writes, which is comments.
SETTINGS = """
c = get_config()
c.NotebookApp.ip = 'localhost'
c.NotebookApp.port = 8888
c.NotebookApp.open_browser = False
c.NotebookApp.base_url = '/jupyter'
c.NotebookApp.notebook_dir = u'/home/alice/work'
c.NotebookApp.allow_origin = '*'
c.NotebookApp.password = u'{hash}'
"""


def anaconda(suite: str) -> Path:
    """A directory that belongs at :data:`ANACONDA`; conda's servers are not needed to have an old notebook there."""
    facts = repr([suite, layers.ensure(suite, "build"), NOTEBOOK, "by its own name"])
    name = f"anaconda-{hashlib.sha256(facts.encode()).hexdigest()[:12]}"

    def fill(directory: Path) -> None:
        say(f"installing the Jupyter of 2016 for {suite}")
        with scratch(suite, "build", {directory: (ANACONDA, "rw")}) as root:
            # By the name that a machine has without the package python3.
            root.run("sh", "-c", f"exec $(readlink -f /usr/bin/python3) -m venv {ANACONDA}")
            root.run(f"{ANACONDA}/bin/pip", "install", "--quiet", *NOTEBOOK, env=debbuild.way_to_index(root))

    return cache.build_once(cache.directory() / name, fill)


@dataclass(frozen=True)
class ByHand:
    """The guide, followed word for word: Anaconda, a configuration, two blocks for Apache, and tmux."""

    box: Box

    @classmethod
    def set_up(cls, box: Box) -> ByHand:
        """Start it; returns when it answers. *box* has Anaconda already."""
        made, alice = cls(box), box.as_user(OWNER)
        box.sh("apt-get -qq install --yes sudo tmux", env={"DEBIAN_FRONTEND": "noninteractive"}, timeout=300)
        # What Anaconda's installer adds.
        alice.sh(f"echo 'export PATH={ANACONDA}/bin:$PATH' >> ~/.bashrc && mkdir ~/work")
        alice.sh(f"{ANACONDA}/bin/jupyter notebook --generate-config")
        hashing = f"from notebook.auth import passwd; print(passwd({BY_HAND_PASSWORD!r}, 'sha1'))"
        hashed = alice.sh(f"{ANACONDA}/bin/python -c {hashing!r}").split()[-1]
        config = f"/home/{OWNER}/.jupyter/jupyter_notebook_config.py"
        box.write(config, box.read(config) + SETTINGS.format(hash=hashed), owner=OWNER)
        box.write("/etc/apache2/apache2.conf", box.read("/etc/apache2/apache2.conf") + BLOCKS)
        box.sh("a2enmod -q proxy proxy_http proxy_wstunnel headers && systemctl restart apache2")
        made.start()
        return made

    def start(self) -> None:
        """By hand, in tmux."""
        # In a scope, as it would be in somebody's session: a unit would end it with its first process.
        home = f"/home/{OWNER}"
        self.box.sh(
            f"systemd-run -q --scope --uid={OWNER} --working-directory={home} env HOME={home} SHELL=/bin/bash"
            " LANG=C.UTF-8 tmux new-session -d -s jupyter"
        )
        self.box.as_user(OWNER).sh("tmux send-keys -t jupyter 'jupyter notebook' Enter")
        self.wait()

    def wait(self) -> None:
        """Return when Apache leads to it."""
        self.box.sh(f"until curl -sf {self.url}/api | grep 6.5; do sleep 0.2; done", timeout=120)

    @property
    def url(self) -> str:
        """As the guide has it, without https."""
        return f"http://{self.box.hostname}/jupyter"
