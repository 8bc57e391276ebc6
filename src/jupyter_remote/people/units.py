"""Units of a further person: the packaged ones with other names in them."""

from __future__ import annotations

import re

from .. import paths

_HEAD = """\
# {person}'s, made by `jupyter-remote apply` of the packaged {unit}. Do not edit: it is made anew at each upgrade.
# For changes of your own: sudo systemctl edit {own}
"""

#: What stands in the owner's units, and what in those of this process's person.
_NAMES = {
    "/etc/jupyter-remote/password-hash": str(paths.PASSWORD_HASH),
    "/etc/jupyter-remote/second-factor": str(paths.SECOND_FACTOR),
    "/var/lib/jupyter-remote/rendered/server.json": str(paths.SERVER_JSON),
    "/run/jupyter-remote": str(paths.DOOR_DIR),
    "jupyter-remote-kernel.socket": paths.KERNEL_SOCKET_UNIT,
    "jupyter-remote-kernel@": paths.KERNEL_SERVICE.removesuffix(".service"),
    "jupyter-remote-kernels.slice": paths.KERNELS_SLICE,
    "jupyter-remote.service": paths.SERVICE,
    "jupyter-remote.socket": paths.SOCKET,
    "Jupyter of this machine's owner": f"Jupyter of {paths.PERSON}",
    "of the machine's Jupyter": f"of {paths.PERSON}'s Jupyter",
}
_ANY = re.compile("|".join(map(re.escape, sorted(_NAMES, key=len, reverse=True))))


def made_of(unit: str, text: str, own: str) -> str:
    """A unit of this process's person.

    :param unit: the packaged one, which the owner has.
    :param own: what theirs is called.
    """
    # Comments are about the owner's.
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    settings = _ANY.sub(lambda found: _NAMES[found[0]], "\n".join(lines)).strip()
    return _HEAD.format(person=paths.PERSON, unit=unit, own=own) + "\n" + settings + "\n"
