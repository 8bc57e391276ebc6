"""The one model of ``config.toml``: which keys there are, what they may hold, what they mean.

Nothing here touches the system: whether a user exists or a port is free is asked in
:mod:`jupyter_remote.checks`. What leaves this module is harmless to render: no value holds a
control character, and those that reach Apache or systemd are made of a small alphabet.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .run import EX_CONFIG, EX_DATAERR, Mistake, die

Scalar = str | int | list[str]

#: Where certificates are asked for, without another word (https://letsencrypt.org/getting-started/).
LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"


class Refused(ValueError):
    """A value that a key does not take; ``guess`` is the nearest value that it would take, or empty."""

    def __init__(self, allowed: str, guess: str = "") -> None:
        super().__init__(allowed)
        self.allowed = allowed
        self.guess = guess


@dataclass(frozen=True)
class Key:
    """One setting: its dotted name, default, meaning, and the check that returns its clean value."""

    name: str
    default: Scalar
    meaning: str
    check: Callable[[Any], Scalar]

    @property
    def is_machines(self) -> bool:
        """Whether it is the owner's to set, for everybody who has a Jupyter on the machine."""
        return self.name in ("user", "server_name", "server_aliases") or self.name.startswith(("tls.", "apache."))

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that it takes, where those are few; empty for any other."""
        return self.check.choices if isinstance(self.check, _OneOf) else ()


# --- checks: each returns the clean value or raises Refused ---------------------------------------


def _text(value: object, allowed: str) -> str:
    if not isinstance(value, str):
        raise Refused(allowed, str(value) if isinstance(value, int) and not isinstance(value, bool) else "")
    if any(ord(char) < 32 or ord(char) == 127 or char in "\u0085\u2028\u2029" for char in value):
        raise Refused(f"{allowed}, without line breaks or control characters")
    if any(0xD800 <= ord(char) <= 0xDFFF for char in value):
        raise Refused(f"{allowed}, in valid UTF-8")
    return value


def _user(value: object) -> str:
    # The alphabet of useradd(8) without '$' at the end (machine accounts); systemd's User= takes it as it is.
    allowed = "the login name of a person on this machine"
    text = _text(value, allowed)
    if text and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}", text):
        raise Refused(allowed, text.strip() if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}", text.strip()) else "")
    return text


def _notebook_dir(value: object) -> str:
    allowed = "an absolute path, or one that begins with ~/ (the owner's home)"
    text = _text(value, allowed)
    if not (text == "~" or text.startswith(("/", "~/"))):
        raise Refused(allowed, f"~/{text}" if text and not text.startswith("~") else "~")
    if ".." in text.split("/"):
        raise Refused(f"{allowed}, without ..")
    if len(text.encode()) > 4095:
        raise Refused(f"{allowed}, of at most 4095 bytes")
    return text


_SEGMENT = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*")


def _base_url(value: object) -> str:
    allowed = "a path such as /jupyter: a slash, then letters, digits and - . _ ~ (not / alone)"
    text = _text(value, allowed)
    clean = text.rstrip("/")
    segments = clean.split("/")
    if len(clean) <= 100 and segments[0] == "" and len(segments) > 1 and all(map(_SEGMENT.fullmatch, segments[1:])):
        return clean
    guess = [part for part in re.split(r"[^A-Za-z0-9._~-]+", text[:100]) if _SEGMENT.fullmatch(part)]
    raise Refused(allowed, "/" + "/".join(guess) if guess else "/jupyter")


_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


def is_host_name(text: str) -> bool:
    """Whether *text* is a DNS name or IPv4 address as it may stand in a Host header (RFC 1123)."""
    return 0 < len(text) <= 253 and all(map(_LABEL.fullmatch, text.split(".")))


def is_public_name(text: str) -> bool:
    """Whether a certificate authority may know *text*: a name with a domain, no address, not this network's alone."""
    labels = text.split(".")
    return (
        is_host_name(text) and len(labels) > 1 and not labels[-1].isdigit() and labels[-1] not in ("local", "localhost")
    )


def _host(value: object) -> str:
    allowed = "a host name such as lab.example.org (letters, digits, - and .), without https:// or a port"
    text = _text(value, allowed)
    if text == "" or is_host_name(text):
        return text.lower()
    bare = re.sub(r"^[a-z]+://", "", text.strip(), flags=re.IGNORECASE).split("/")[0].split(":")[0]
    try:
        bare = bare if bare.isascii() else bare.encode("idna").decode()
    except UnicodeError:
        bare = ""
    raise Refused(allowed, bare.lower() if is_host_name(bare) else "")


def _hosts(value: object) -> list[str]:
    allowed = 'a list of host names such as ["lab.example.org", "lab.local"]'
    if isinstance(value, str):
        raise Refused(allowed, f'["{value}"]' if is_host_name(value) else "")
    if not isinstance(value, list) or len(value) > 100:
        raise Refused(allowed)
    names = [_host(item) for item in value]
    if "" in names:
        raise Refused(f"{allowed}, none of them empty")
    return list(dict.fromkeys(names))


def _listen(value: object) -> str | int:
    allowed = '"unix" (a socket that only Apache and the owner can open), or also a loopback port from 1024 to 65535'
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 6:
        value = int(value)
    if value == "unix" or (isinstance(value, int) and not isinstance(value, bool) and 1024 <= value <= 65535):
        return value
    raise Refused(allowed, "8888" if isinstance(value, int) else "unix")


def _path(value: object) -> str:
    allowed = "an absolute path to a PEM file"
    text = _text(value, allowed)
    if text and (not text.startswith("/") or ".." in text.split("/") or len(text.encode()) > 4095):
        raise Refused(allowed)
    return text


# What stands in Apache's configuration is made of letters that mean nothing to it.
_DIRECTORY_URL = re.compile(r"https://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]{0,500})?")


def _acme_directory(value: object) -> str:
    allowed = "the https:// address of a certificate authority's ACME directory"
    text = _text(value, allowed)
    if not _DIRECTORY_URL.fullmatch(text):
        secure = re.sub(r"^(http://)?", "https://", text)
        raise Refused(allowed, secure if _DIRECTORY_URL.fullmatch(secure) else LETS_ENCRYPT)
    return text


def _email(value: object) -> str:
    allowed = "an e-mail address such as alice@example.org"
    text = _text(value, allowed)
    user, at, host = text.partition("@")
    if text and not (at and re.fullmatch(r"[A-Za-z0-9._+-]{1,64}", user) and is_host_name(host)):
        raise Refused(allowed, text.strip().removeprefix("mailto:") if "@" in text and _is_plain(text) else "")
    return text


class _OneOf:
    """The check of a key that takes one of a few words."""

    def __init__(self, *choices: str) -> None:
        self.choices = choices

    def __call__(self, value: object) -> str:
        if isinstance(value, str) and value in self.choices:
            return value
        near = difflib.get_close_matches(str(value).lower(), self.choices, 1, 0.4)
        raise Refused(" or ".join(f'"{choice}"' for choice in self.choices), near[0] if near else "")


def _patterns(value: object) -> list[str]:
    allowed = 'a list of paths or patterns such as ["/data/envs/*", "~/work/*/.venv"]'
    if isinstance(value, str):
        raise Refused(allowed, f'["{value}"]' if value.startswith(("/", "~/")) and _is_plain(value) else "")
    if not isinstance(value, list) or len(value) > 100:
        raise Refused(allowed)
    for item in value:
        text = _text(item, allowed)
        if not text.startswith(("/", "~/")) or ".." in text.split("/") or "**" in text or len(text.encode()) > 4095:
            raise Refused(f"{allowed}: each absolute or below ~/, without .. and without **")
    return list(dict.fromkeys(value))


def _is_plain(text: str) -> bool:
    return text.isprintable() and not set(text) & set("\"'\\`$")


# What a URL may hold unquoted, by RFC 3986; neither quotes nor blanks nor anything that a shell would see.
_URL = re.compile(r"(https?|file)://[A-Za-z0-9._~:/?#@!&=+,;%-]{1,2000}")


def _url(value: object) -> str:
    allowed = "an address that begins with https://, http:// or file://"
    text = _text(value, allowed)
    if text and not _URL.fullmatch(text):
        raise Refused(allowed, f"https://{text}" if _URL.fullmatch(f"https://{text}") and "://" not in text else "")
    return text


def _gateway(value: object) -> str:
    allowed = "an address such as https://gateway.example.org:8888, without a token in it"
    text = _url(value)
    if text and (not text.startswith("http") or set("?#@") & set(text)):
        raise Refused(allowed, re.split("[?#]", text)[0] if text.startswith("http") and "@" not in text else "")
    return text.rstrip("/").removesuffix("/api/kernels")


def _channel(value: object) -> str:
    allowed = "the name of a channel, such as conda-forge, or the address of a mirror"
    text = _text(value, allowed)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,100}", text) and not _URL.fullmatch(text):
        raise Refused(allowed, "conda-forge")
    return text


def _sha256(value: object) -> str:
    allowed = "a SHA-256 digest: 64 hexadecimal digits"
    text = _text(value, allowed).strip().lower()
    if text and not re.fullmatch(r"[0-9a-f]{64}", text):
        raise Refused(allowed)
    return text


def _directory(value: object) -> str:
    text = _text(value, "an absolute path, or one that begins with ~/ (the owner's home)")
    return _notebook_dir(text) if text else ""


_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def _duration(value: object) -> int:
    allowed = '0 (never), seconds, or a time such as "90min", "2h" or "7d"'
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 10**9:
        return value
    if isinstance(value, str):
        if value in ("", "never"):
            return 0
        if match := re.fullmatch(r"([0-9]{1,9})\s?(s|min|h|d)?", value):
            return int(match[1]) * _UNITS[match[2] or "s"]
        if match := re.match(r"\s*([0-9]{1,9})\s*([smhd])", value):
            raise Refused(allowed, match[1] + {"s": "s", "m": "min", "h": "h", "d": "d"}[match[2]])
    raise Refused(allowed)


_SIZES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
#: 500M, 8 GB, 1.5GiB
_SIZE = re.compile(r"\s*([0-9]{1,6}(?:\.[0-9]{1,3})?)\s*([KMGT])(?:i?B)?\s*", re.IGNORECASE)
#: Less, and Python alone would not start; more than any machine has.
_LEAST_MEMORY, _MOST_MEMORY = 100 << 20, 1 << 50
_LEAST_JOURNAL, _MOST_JOURNAL = 1 << 20, 1 << 40


def _size(text: str) -> tuple[str, int] | None:
    """A size as it is written in the file, and its bytes; None when it is none."""
    if match := _SIZE.fullmatch(text):
        clean = f"{match[1]}{match[2].upper()}"
        return clean, int(float(match[1]) * _SIZES[match[2].upper()])
    return None


def _memory(value: object) -> str:
    allowed = '"none", a size such as "8G" or "500M" (at least 100M), or a part of the machine\'s memory such as "50%"'
    if isinstance(value, int) and not isinstance(value, bool):
        raise Refused(allowed, f"{value}G" if 0 < value < 1000 else "")
    text = _text(value, allowed)
    if text == "none":
        return text
    if match := re.fullmatch(r"\s*([0-9]{1,3})\s?%\s*", text):
        if 1 <= int(match[1]) <= 100:
            return f"{int(match[1])}%"
        raise Refused(allowed, "100%" if int(match[1]) else "none")
    if (size := _size(text)) and _LEAST_MEMORY <= size[1] <= _MOST_MEMORY:
        return size[0]
    plain = text.strip().lower()
    raise Refused(allowed, "none" if plain in ("", "0", "no", "off", "unlimited", "infinity", "none") else "")


def _journal(value: object) -> str:
    allowed = 'a size such as "256M" or "2G", from 1M to 1T'
    if isinstance(value, int) and not isinstance(value, bool):
        raise Refused(allowed, f"{value}M" if 0 < value < 100_000 else "")
    size = _size(_text(value, allowed))
    if size and _LEAST_JOURNAL <= size[1] <= _MOST_JOURNAL:
        return size[0]
    raise Refused(allowed)


def size_in_bytes(text: str) -> int:
    """The bytes of a size that a key has taken."""
    size = _size(text)
    assert size is not None, text
    return size[1]


KEYS: dict[str, Key] = {
    key.name: key
    for key in (
        Key(
            "user",
            "",
            "The owner: the person whose Jupyter this is. The server and its kernels run as them.",
            _user,
        ),
        Key(
            "notebook_dir",
            "~",
            "The directory that the file browser shows; ~ is the owner's home.",
            _notebook_dir,
        ),
        Key(
            "base_url",
            "/jupyter",
            "Where Jupyter is on the web server: https://<server><base_url>.",
            _base_url,
        ),
        Key("server_name", "", "The machine's public name. Empty: its own full host name.", _host),
        Key("server_aliases", [], "Other names under which the machine is reached.", _hosts),
        Key(
            "listen",
            "unix",
            "Where the server listens: at a unix socket, for Apache, and if you want it at a loopback port too.",
            _listen,
        ),
        Key(
            "interface",
            "lab",
            "The front page: JupyterLab or Notebook 7. The other stays reachable.",
            _OneOf("lab", "notebook"),
        ),
        Key(
            "tls.mode",
            "self-signed",
            "https: our own certificate, one that Apache gets from a certificate authority (ACME, Let's\n"
            "Encrypt) for server_name, one that is on this machine already, or none at all (only behind\n"
            "another proxy on this machine that does https).",
            _OneOf("self-signed", "acme", "existing", "none"),
        ),
        Key("tls.certificate", "", 'For mode = "existing": the certificate with its chain, PEM.', _path),
        Key("tls.key", "", 'For mode = "existing": its private key, PEM, without a passphrase.', _path),
        Key(
            "tls.acme_email",
            "",
            'For mode = "acme": where the authority writes to. Empty: root at server_name.',
            _email,
        ),
        Key(
            "tls.acme_directory",
            LETS_ENCRYPT,
            'For mode = "acme": the authority. With this mode its terms of service are accepted.',
            _acme_directory,
        ),
        Key(
            "tls.hsts",
            "auto",
            "Tell browsers to come by https alone (HSTS): auto, from our own vhost with a certificate that\n"
            "is trusted, when no plain http site is on this Apache; or off.",
            _OneOf("auto", "off"),
        ),
        Key(
            "apache.mode",
            "auto",
            "A vhost of our own (site), a location in the vhosts that are there (snippet),\n"
            "or whichever fits (auto): a site when the machine has no https vhost yet.",
            _OneOf("auto", "site", "snippet"),
        ),
        Key(
            "server.idle_stop",
            1800,
            'Stop the server when nobody has used it for this long (seconds, or a text such as "2h"), and start\n'
            "it again with the next request, which takes a second. Kernels and terminals run on. 0: never.",
            _duration,
        ),
        Key("kernels.cull_idle", 0, "Stop a kernel that has done nothing for this long. 0: never.", _duration),
        Key(
            "kernels.memory_limit",
            "90%",
            "The memory that one kernel may have: a size, a part of the machine's memory, or none. A kernel\n"
            "that wants more is ended alone, and its notebook says so. For kernels that start from then on.",
            _memory,
        ),
        Key(
            "kernels.journal_size",
            "256M",
            "How much of what a kernel prints is kept on disk for browsers that are away. The oldest goes first.",
            _journal,
        ),
        Key(
            "kernels.environments",
            [],
            "More places to look for environments, beside those that conda and the notebook directory have.",
            _patterns,
        ),
        Key(
            "kernels.default",
            "",
            "The environment of the kernel python3, which notebooks from elsewhere ask for: a directory such as\n"
            "~/miniforge3, with ipykernel in it. Empty, or not there: an environment that is made for you.",
            _directory,
        ),
        Key(
            "kernels.without_ipykernel",
            "offer",
            "Environments in which no kernel is installed: offer to install one with a click in the\n"
            "launcher, or hide them.",
            _OneOf("offer", "hide"),
        ),
        Key(
            "kernels.sudo",
            "refused",
            "Whether sudo works in terminals and notebooks, for whom sudoers(5) lets.\n"
            "For those that start from then on.",
            _OneOf("refused", "allowed"),
        ),
        Key(
            "gateway.url",
            "",
            "A gateway (Jupyter Kernel Gateway, Enterprise Gateway) whose kernels are offered beside those of\n"
            "this machine: its address, as it stands before /api/kernels.",
            _gateway,
        ),
        Key(
            "gateway.token_file",
            "~/.config/jupyter-remote/gateway-token",
            "A file of the owner's with the token that it wants, on one line.",
            _directory,
        ),
        Key(
            "gateway.ca_file", "", "The certificate of its authority, PEM, where this machine does not trust it.", _path
        ),
        Key(
            "conda.distribution",
            "miniforge",
            "What `jupyter-remote conda install` installs. The other two have licence terms of their own.",
            _OneOf("miniforge", "miniconda", "anaconda"),
        ),
        Key("conda.prefix", "", "Where it goes. Empty: a directory in the owner's home, ~/miniforge3.", _directory),
        Key(
            "conda.channel",
            "conda-forge",
            "Where packages come from: a channel's name, or a mirror's address.",
            _channel,
        ),
        Key("conda.installer_url", "", "Another place to fetch the installer from. Empty: its publisher's.", _url),
        Key("conda.installer_sha256", "", "The digest of that installer. Empty: the pinned one.", _sha256),
    )
}

SECTIONS: dict[str, str] = {
    "tls": "How the connection is encrypted.",
    "apache": "How Apache serves it.",
    "server": "The process that serves the pages.",
    "kernels": "The processes that run the owner's code.",
    "gateway": "Kernels on other machines.",
    "conda": "The owner's conda, where `jupyter-remote conda install` is asked for one.",
}


@dataclass(frozen=True)
class Settings:
    """Every setting with its clean value; a missing key has its default."""

    user: str = ""
    notebook_dir: str = "~"
    base_url: str = "/jupyter"
    server_name: str = ""
    server_aliases: list[str] = field(default_factory=list)
    listen: str | int = "unix"
    interface: str = "lab"
    tls_mode: str = "self-signed"
    tls_certificate: str = ""
    tls_key: str = ""
    tls_acme_email: str = ""
    tls_acme_directory: str = LETS_ENCRYPT
    tls_hsts: str = "auto"
    apache_mode: str = "auto"
    server_idle_stop: int = 1800
    kernels_cull_idle: int = 0
    kernels_memory_limit: str = "90%"
    kernels_journal_size: str = "256M"
    kernels_environments: list[str] = field(default_factory=list)
    kernels_default: str = ""
    kernels_without_ipykernel: str = "offer"
    kernels_sudo: str = "refused"
    gateway_url: str = ""
    gateway_token_file: str = "~/.config/jupyter-remote/gateway-token"
    gateway_ca_file: str = ""
    conda_distribution: str = "miniforge"
    conda_prefix: str = ""
    conda_channel: str = "conda-forge"
    conda_installer_url: str = ""
    conda_installer_sha256: str = ""

    def get(self, name: str) -> Scalar:
        """The value of a key by its dotted name.

        :raises Mistake: there is no such key.
        """
        return getattr(self, key(name).name.replace(".", "_"))


def key(name: str) -> Key:
    """The key of that dotted name.

    :raises Mistake: there is none; the hint names the nearest.
    """
    if found := KEYS.get(name):
        return found
    near = difflib.get_close_matches(name, KEYS, 1, 0.5) or [k for k in KEYS if k.split(".")[-1] == name]
    die(
        f"There is no setting {_shown(name)}.",
        hint=f"Did you mean {near[0]}?" if near else f"The settings are: {', '.join(KEYS)}.",
        code=EX_DATAERR,
    )


def clean(name: str, value: object) -> Scalar:
    """The value as that key holds it.

    :raises Mistake: the key does not take it; it names key, value, what is allowed, the nearest guess.
    """
    try:
        return key(name).check(value)
    except Refused as refused:
        guess = f" Did you mean {refused.guess}?" if refused.guess else ""
        die(f"{name} cannot be {_shown(value)}.", hint=f"Allowed: {refused.allowed}.{guess}", code=EX_DATAERR)


def _shown(value: object) -> str:
    # ascii(): a message must not carry a terminal's control sequences, whatever the value does.
    text = ascii(value)
    return text if len(text) <= 120 else text[:117] + "…"


def flatten(document: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """The dotted names and values of a parsed TOML document."""
    for name, value in document.items():
        if isinstance(value, Mapping) and (prefix + name in SECTIONS or not prefix):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def parse(text: str, origin: str = "config.toml", *, machine: Settings | None = None, person: str = "") -> Settings:
    """Settings out of the text of a ``config.toml``.

    :param origin: what to call the text in messages.
    :param machine: the owner's settings, when these are of a further person, ``person``.
    :raises Mistake: not TOML, an unknown key, or a value that its key does not take; or a person sets what is the
        machine's.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        die(f"{origin} is not valid TOML: {error}.", hint='A line looks like: base_url = "/jupyter"')
    for section, content in document.items():
        if isinstance(content, Mapping) and section not in SECTIONS:
            near = difflib.get_close_matches(section, [*SECTIONS, *KEYS], 1, 0.5)
            die(
                f"{origin}: there is no section [{ascii(section)[1:-1]}].",
                hint=f"Did you mean {near[0]}?" if near else f"The sections are: {', '.join(SECTIONS)}.",
            )
    values: dict[str, Any] = {}
    for name, value in flatten(document):
        if name in SECTIONS:
            die(f"{origin}: {name} is a section, not a value.", hint=f"Write [{name}] on a line of its own.")
        try:
            values[name.replace(".", "_")] = clean(name, value)
        except Mistake as mistake:
            die(f"{origin}: {mistake.what}", hint=mistake.hint)
        if machine and KEYS[name].is_machines:
            die(
                f"{origin}: {name} is set for the whole machine.",
                hint=f"sudo jupyter-remote --for {machine.user} config set {name} …",
            )
    if machine:
        values = {"base_url": f"/jupyter-{person}", **values, "user": person}
        shared = (key.name.replace(".", "_") for key in KEYS.values() if key.is_machines and key.name != "user")
        values |= {name: getattr(machine, name) for name in shared}
    settings = Settings(**values)
    _check_together(settings)
    return settings


def _check_together(settings: Settings) -> None:
    if settings.tls_mode == "existing" and not (settings.tls_certificate and settings.tls_key):
        missing = "tls.certificate" if not settings.tls_certificate else "tls.key"
        die(
            f'tls.mode is "existing", but {missing} is not set.',
            hint="Set all three at once: sudo jupyter-remote config set "
            "tls.certificate /path/cert.pem tls.key /path/key.pem tls.mode existing",
        )
    if settings.tls_mode == "acme" and not is_public_name(settings.server_name):
        name = settings.server_name
        die(
            f'tls.mode is "acme", but server_name {f"{name} is no name" if name else "is not set:"} '
            f"{'that a certificate authority knows' if name else 'a certificate is for a public name'}.",
            hint="Both at once, with the name that browsers use: "
            "sudo jupyter-remote config set server_name lab.example.org tls.mode acme",
        )


def load(path: Path) -> Settings:
    """Settings out of a file.

    :raises Mistake: not there, not readable, not UTF-8, or what :func:`parse` raises.
    """
    return parse(read(path), str(path))


def read(path: Path) -> str:
    """The text of a settings file.

    :raises Mistake: it is not there, not readable, or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        die(f"{path} is not there.", hint="Make it anew with: sudo dpkg-reconfigure jupyter-remote")
    except UnicodeDecodeError as error:
        die(
            f"{path} is not UTF-8: byte {error.start + 1} is {error.object[error.start]:#04x}.",
            hint=f"Convert it: iconv -f latin1 -t utf-8 {path}",
        )
    except OSError as error:
        die(f"{path} cannot be read: {error.strerror}.", code=EX_CONFIG)
