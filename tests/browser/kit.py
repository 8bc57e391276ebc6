"""JupyterLab's own test kit, galata, at a box: its helpers drive a page by what JupyterLab promises its extensions."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jupyterlab
from lab import cache, host, network
from lab.box import Box

from jupyter_remote.run import run, say
from tests.browser.browser import CHROMIUM, FLAGS, trust
from tests.client import Client
from tests.installed import OWNER, PASSWORD

HERE = Path(__file__).parent / "galata"
PACKAGE, LOCK, CONFIGURATION = HERE / "package.json", HERE / "package-lock.json", HERE / "playwright.config.js"


@dataclass(frozen=True)
class Outcome:
    """What became of one of the kit's tests."""

    #: its file, below the directory of tests, and its title with those of its groups
    file: str
    title: str
    #: ``expected``, ``unexpected``, ``flaky``, ``skipped``
    status: str
    #: what was said last; empty for what was expected
    error: str


def run_specs(box: Box, specs: Path, *arguments: str) -> list[Outcome]:
    """Run the tests below a directory against the Jupyter of a box.

    The box is changed as a person would who writes extensions: JupyterLab shows itself to scripts, and the kit's own
    extension lies in the owner's home.

    :param arguments: more of playwright's, such as files below *specs*.
    :raises ProcessFailed: npm cannot install the kit.
    """
    host.require("npm", "chromium", "certutil", "nsenter")
    kit = cache.build_once(cache.directory() / f"galata-{_key()}", _install)
    token = _prepare(box)
    address = f"https://{box.ip}/jupyter"
    authority = box.read("/var/lib/jupyter-remote/ca.crt")
    # Below the kit: a test finds its modules in a directory above its own.
    with tempfile.TemporaryDirectory(dir=kit, prefix="run-") as name, network.visiting() as laptop:
        here = Path(name)
        trust(here, authority)
        (here / "ca.crt").write_text(authority)
        with Client(box.ip, address, authority).login(PASSWORD) as visitor:
            (here / "cookies.json").write_text(json.dumps({"cookies": _cookies(visitor), "origins": []}))
        shutil.copytree(specs, here / "specs")
        shutil.copy(CONFIGURATION, here)
        run(
            *network.inside(laptop, shutil.which("npx") or "npx", "playwright", "test", *arguments),
            cwd=here,
            check=False,
            capture=False,
            env={
                "HOME": name,
                "NODE_EXTRA_CA_CERTS": str(here / "ca.crt"),
                "TARGET_URL": address,
                "GALATA_TOKEN": token,
                "GALATA_COOKIES": str(here / "cookies.json"),
                "GALATA_TESTS": str(here / "specs"),
                "GALATA_RESULTS": str(here / "results"),
                "GALATA_BROWSER": CHROMIUM,
                "GALATA_FLAGS": json.dumps(FLAGS),
                **{one: "" for one in os.environ if one.lower().endswith("_proxy")},
            },
        )
        return list(_outcomes(json.loads((here / "results.json").read_text())))


def _key() -> str:
    return hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]


def _install(partial: Path) -> None:
    say("installing JupyterLab's test kit")
    for file in (PACKAGE, LOCK):
        shutil.copy(file, partial)
    # Its own browser would be downloaded from elsewhere; Debian's is here.
    run("npm", "ci", "--no-audit", "--no-fund", cwd=partial, env={"PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD": "1"})


def _prepare(box: Box) -> str:
    """Have the box's JupyterLab ready for the kit; a token of its owner's."""
    home = f"/home/{OWNER}"
    extension = Path(jupyterlab.__file__).parent / "galata/@jupyterlab/galata-extension"
    there = f"{home}/.local/share/jupyter/labextensions/@jupyterlab/galata-extension"
    alice = box.as_user(OWNER)
    alice.sh(f"mkdir -p {there} {home}/.jupyter")
    shutil.copytree(extension, box.path(there), dirs_exist_ok=True)
    box.sh(f"chown -R {OWNER}: {home}/.local {home}/.jupyter")
    box.write(f"{home}/.jupyter/jupyter_lab_config.py", "c.LabApp.expose_app_in_browser = True\n", owner=OWNER)
    # Where the kit asks is not below any other path.
    box.write("/etc/apache2/conf-enabled/galata.conf", "Redirect 307 /api /jupyter/api\n")
    # It asks by address; a box has another one than when its certificate was made.
    box.sh("systemctl reload apache2; jupyter-remote apply; systemctl restart jupyter-remote")
    return alice.sh("jupyter-remote token create galata").split()[0]


def _cookies(visitor: Client) -> list[dict[str, Any]]:
    """As a browser keeps them."""
    return [
        {
            "name": one.name, "value": one.value, "domain": urlsplit(visitor.url).hostname, "path": one.path,
            "expires": -1, "httpOnly": False, "secure": True, "sameSite": "Lax",
        }
        for one in visitor.http.cookies.jar
    ]  # fmt: skip


def _outcomes(suite: dict[str, Any], titles: tuple[str, ...] = ()) -> Iterator[Outcome]:
    """All that a report has, with its groups of tests and their groups."""
    for group in suite.get("suites", ()):
        # The outermost is the file.
        inner = titles if group["title"] == group["file"] else (*titles, group["title"])
        yield from _outcomes(group, inner)
    for spec in suite.get("specs", ()):
        for test in spec["tests"]:
            errors = [result["error"].get("message", "") for result in test["results"] if "error" in result]
            yield Outcome(spec["file"], " > ".join((*titles, spec["title"])), test["status"], "".join(errors[-1:]))
