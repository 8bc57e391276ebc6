"""``server.json``: what `jupyter-remote apply` has decided about this server. Data, checked, no logic."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..run import EX_CONFIG, die

_HINT = "Make it anew: sudo jupyter-remote apply"


@dataclass(frozen=True)
class Instance:
    """One person's Jupyter.

    ``base_url`` has a slash at both ends. ``cull_idle`` and ``idle_stop`` are in seconds; 0 means never.
    ``server_names`` are lower case; IP literals and ``localhost`` need not be among them.
    ``environments`` are patterns, absolute or below ``~/``, of places where more environments are, and
    ``default_environment`` is the absolute path of the one that the default kernel runs in; empty for our own.
    ``memory_limit`` is in bytes, for each kernel; None is no limit. ``journal_bytes`` of disk, at most, keep
    what a kernel says. ``gateway_url`` is empty where there is none.
    """

    base_url: str
    notebook_dir: Path
    interface: str
    server_names: tuple[str, ...]
    behind_tls: bool
    cull_idle: int
    idle_stop: int
    environments: tuple[str, ...]
    default_environment: str
    offer_environments: bool
    conda_channel: str
    memory_limit: int | None
    journal_bytes: int
    gateway_url: str = ""
    gateway_token_file: str = ""
    gateway_ca_file: str = ""

    @property
    def slug(self) -> str:
        """The base URL as one word, for the names of cookies."""
        return re.sub(r"[^A-Za-z0-9]+", "-", self.base_url).strip("-") or "root"

    @property
    def address(self) -> str:
        """The front page as a person would type it."""
        scheme = "https" if self.behind_tls else "http"
        return f"{scheme}://{self.server_names[0] if self.server_names else 'localhost'}{self.base_url}"


def load(path: Path) -> Instance:
    """Read ``server.json``.

    :raises Mistake: it is not there, not readable, no JSON, or a value is missing or of the wrong kind.
    """
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        die(f"{path} cannot be read: {error.strerror}.", hint=_HINT)
    except ValueError as error:
        die(f"{path} is no JSON: {error}.", hint=_HINT)
    if not isinstance(given, dict):
        die(f"{path} holds no settings.", hint=_HINT)
    # Of an earlier version, until the next apply: an upgrade may not get that far.
    given = {"default_environment": "", "gateway_url": "", "gateway_token_file": "", "gateway_ca_file": "", **given}
    known = {field.name for field in fields(Instance)}
    if missing := sorted(known - given.keys()):
        die(f"{path} does not say {', '.join(missing)}.", hint=_HINT)

    def checked(name: str, kind: type | tuple[type, ...], right: bool, wanted: str) -> Any:
        value = given[name]
        if not isinstance(value, kind) or not right:
            die(f"{path}: {name} is {value!a}, but must be {wanted}.", hint=_HINT)
        return value

    base_url = given["base_url"]
    checked(
        "base_url",
        str,
        isinstance(base_url, str) and bool(re.fullmatch(r"(/[A-Za-z0-9._~-]+)*/?", base_url)),
        "a path such as /jupyter",
    )
    checked("notebook_dir", str, str(given["notebook_dir"]).startswith("/"), "an absolute path")
    checked("interface", str, given["interface"] in ("lab", "notebook"), '"lab" or "notebook"')
    names = checked("server_names", list, _are_texts(given["server_names"]), "a list of host names")
    environments = checked("environments", list, _are_texts(given["environments"]), "a list of paths")
    default = given["default_environment"]
    checked("default_environment", str, default == "" or str(default).startswith("/"), "an absolute path, or empty")
    checked("offer_environments", bool, True, "true or false")
    checked("conda_channel", str, True, "a channel's name or address")
    for name in ("gateway_url", "gateway_token_file", "gateway_ca_file"):
        checked(name, str, True, "a text")
    checked("behind_tls", bool, True, "true or false")
    checked("cull_idle", int, _is_number(given["cull_idle"], 0), "a number of seconds")
    checked("idle_stop", int, _is_number(given["idle_stop"], 0), "a number of seconds")
    limit = given["memory_limit"]
    checked("memory_limit", (int, type(None)), limit is None or _is_number(limit, 1), "a number of bytes, or null")
    checked("journal_bytes", int, _is_number(given["journal_bytes"], 1), "a number of bytes")
    notebook_dir = Path(given["notebook_dir"])
    if not notebook_dir.is_dir():
        die(
            f"The directory for notebooks, {notebook_dir}, is not there.",
            hint=f"Make it: mkdir -p {notebook_dir} — or choose another: "
            "sudo jupyter-remote config set notebook_dir PATH",
            code=EX_CONFIG,
        )
    return Instance(
        base_url=base_url.rstrip("/") + "/",
        notebook_dir=notebook_dir,
        interface=given["interface"],
        server_names=tuple(name.lower().rstrip(".") for name in names),
        behind_tls=given["behind_tls"],
        cull_idle=given["cull_idle"],
        idle_stop=given["idle_stop"],
        environments=tuple(environments),
        default_environment=default,
        offer_environments=given["offer_environments"],
        conda_channel=given["conda_channel"],
        memory_limit=given["memory_limit"],
        journal_bytes=given["journal_bytes"],
        gateway_url=given["gateway_url"],
        gateway_token_file=given["gateway_token_file"],
        gateway_ca_file=given["gateway_ca_file"],
    )


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_number(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
