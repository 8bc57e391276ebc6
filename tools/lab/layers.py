"""Frozen root file systems, each a difference (overlayfs) to the one below it.

A layer is found by what went into it: its recipe, the layer below, the machine's certificates and
apt sources. When one of these changes, another layer is built; old ones are swept away.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from jupyter_remote.run import EX_USAGE, die, run, say
from lab import aptproxy, cache, host, overlay, sources

#: layers of another content and this age, in days, are removed when a new one is built
KEEP_DAYS = 14


@dataclass(frozen=True)
class Recipe:
    """How a layer comes out of the one below it."""

    below: str | None
    packages: tuple[str, ...]
    #: shell lines run inside at the end, as root
    commands: tuple[str, ...] = ()


RECIPES = {
    "base": Recipe(
        None,
        ("systemd", "systemd-sysv", "dbus", "ca-certificates"),
        (
            # services are meant to start in a box
            "rm -f /usr/sbin/policy-rc.d",
            # an empty id: each box gets its own at boot, without being taken for a first boot
            "truncate -s 0 /etc/machine-id",
            # nothing in a box must survive a power failure of the real machine
            "echo force-unsafe-io > /etc/dpkg/dpkg.cfg.d/lab",
            "update-ca-certificates",
        ),
    ),
    # what any server has, and nothing that a package could forget to depend on
    "plain": Recipe(
        "base",
        ("dialog", "debconf-utils", "curl", "openssl", "procps", "iproute2", "less"),
        ("useradd --create-home --uid 1000 --shell /bin/bash --comment 'Alice,,,' alice",),
    ),
    "box": Recipe(
        "plain",
        ("apache2", "python3", "sudo"),
        ("useradd --create-home --uid 1001 --shell /bin/bash --comment 'Bob,,,' bob",),
    ),
    # what runs of Debian's JupyterLab; apt would install a thousand packages more, with which Debian builds it
    "debians-jupyterlab": Recipe(
        "plain",
        (
            *("python3-argon2", "python3-async-lru", "python3-ipykernel", "python3-jupyterlab-server"),
            *("python3-notebook-shim", "python3-rich", "python3-tomlkit"),
        ),
        (
            "cd /var/tmp; apt-get -qq download jupyterlab; dpkg --install --force-depends jupyterlab_*.deb",
            "rm /var/tmp/jupyterlab_*.deb",
        ),
    ),
    # a certificate authority that speaks ACME; tests bind its programs into their boxes
    "pebble": Recipe("base", ("pebble",)),
    # where virtual machines take their kernel from
    "kernel": Recipe("base", ("linux-image-cloud-amd64",)),
    "build": Recipe(
        "base",
        (
            *(
                "build-essential",
                "debhelper",
                "dh-python",
                "dh-virtualenv",
                "fakeroot",
                "lintian",
                "devscripts",
            ),
            *("python3-all", "python3-dev", "python3-venv", "python3-setuptools", "python3-stdeb"),
            *("python3-pip", "python3-wheel", "po-debconf"),
            *("brotli", "git", "zstd", "xz-utils"),
        ),
    ),
}


def ensure(suite: str, name: str) -> Path:
    """The layer *name* of *suite*, built first if need be (a lock keeps it to one builder).

    :param suite: the codename of a release, ``bookworm``; anything mmdebstrap can install.
    :param name: a key of :data:`RECIPES`, or the name of a frozen layer (:func:`freeze`).
    :returns: the layer's own files, without those of the layers below (:func:`lowerdirs`).
    :raises Mistake: no such layer, or we are not root.
    """
    if name not in RECIPES:
        return _frozen(suite, name) / "root"
    recipe = RECIPES[name]
    target = _directory(suite) / f"{name}-{_key(suite, name)}"
    if target.exists():
        return target / "root"
    host.require_root("building a layer")
    below = lowerdirs(suite, recipe.below) if recipe.below else []

    def build(partial: Path) -> None:
        say(f"building the layer {name} of {suite} …")
        started = time.monotonic()
        _write_below(partial, below)
        if below:
            _build_delta(partial, below, recipe)
        else:
            _build_base(partial / "root", suite, recipe)
        say(f"built the layer {name} of {suite} in {time.monotonic() - started:.0f} s")

    cache.build_once(target, build)
    _sweep(suite, name, keep=target)
    return target / "root"


def lowerdirs(suite: str, name: str) -> list[Path]:
    """The directories that make up a layer, the uppermost first, as overlayfs' ``lowerdir`` wants them."""
    root = ensure(suite, name)
    return [root, *(Path(path) for path in json.loads((root.parent / "below.json").read_text()))]


def is_frozen(suite: str, name: str) -> bool:
    """Whether there is a frozen layer of this name."""
    return (_directory(suite) / f"frozen-{name}").exists()


def freeze(suite: str, name: str, difference: Path, below: list[Path]) -> None:
    """Keep *difference* (an overlay's upper directory, moved) as the layer *name* on top of *below*.

    A frozen layer is not rebuilt: whoever makes it puts what it depends on into its name.
    """
    target = _directory(suite) / f"frozen-{name}"

    def build(partial: Path) -> None:
        _write_below(partial, below)
        shutil.move(difference, partial / "root")

    cache.build_once(target, build)
    _sweep(suite, f"frozen-{name.partition('-')[0]}", keep=target)


def _directory(suite: str) -> Path:
    return cache.directory() / "layers" / suite


def _frozen(suite: str, name: str) -> Path:
    path = _directory(suite) / f"frozen-{name}"
    if not path.exists():
        die(f"there is no layer {name!r} of {suite}", hint=f"layers: {' '.join(RECIPES)}", code=EX_USAGE)
    return path


def _write_below(partial: Path, below: list[Path]) -> None:
    (partial / "below.json").write_text(json.dumps([str(path) for path in below]))


def _key(suite: str, name: str) -> str:
    """A digest of everything that decides what is in a layer."""
    recipe = RECIPES[name]
    parts: list[object] = [asdict(recipe)]
    if recipe.below:
        parts.append(_key(suite, recipe.below))
    else:
        parts += [sources.for_suite(suite), sources.apt_options()]
        parts += [path.read_text() for path in host.local_certificates()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _build_base(root: Path, suite: str, recipe: Recipe) -> None:
    host.require("mmdebstrap", "/etc/ssl/certs/ca-certificates.crt")
    options = [
        *sources.apt_options(),
        'Acquire::Languages "none"',
        f'Acquire::http::Proxy "{aptproxy.ensure()}"',
    ]
    certificates = [
        f"--customize-hook=copy-in {path} /usr/local/share/ca-certificates" for path in host.local_certificates()
    ]
    run(
        "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=directory",
        "--skip=cleanup/apt/lists",  # apt in a box then fetches only what changed since
        f"--include={','.join(recipe.packages)}",
        *(f"--aptopt={option.rstrip(';')}" for option in options),
        "--dpkgopt=force-unsafe-io",
        *certificates,
        *(f'--customize-hook=chroot "$1" sh -ec {_quoted(command)}' for command in recipe.commands),
        suite, root, *map(aptproxy.through, sources.for_suite(suite)),
    )  # fmt: skip


def _build_delta(partial: Path, below: list[Path], recipe: Recipe) -> None:
    from lab import scratch

    with overlay.mounted(partial / "scratch", below) as mount:
        inside = scratch.Scratch(mount.root)
        inside.run("apt-get", "-qq", "update")
        inside.apt_install(*recipe.packages)
        for command in recipe.commands:
            inside.run("sh", "-ec", command)
        inside.run("apt-get", "clean")
    shutil.move(mount.difference, partial / "root")
    shutil.rmtree(partial / "scratch")


def _quoted(command: str) -> str:
    return "'" + command.replace("'", "'\\''") + "'"


def _sweep(suite: str, name: str, keep: Path) -> None:
    """Remove old layers that *keep* replaces, unless something is still mounted on them."""
    mounts = Path("/proc/self/mounts").read_text()
    for path in _directory(suite).glob(f"{name}-*"):
        old = time.time() - path.stat().st_mtime > KEEP_DAYS * 86400
        if path.is_dir() and path != keep and old and str(path) not in mounts:
            shutil.rmtree(path)
