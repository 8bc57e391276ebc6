"""Apache as Debian lays it out: what is enabled, who serves which URL, whether its configuration parses.

Its own programs answer every question (a2query, apache2ctl); nothing here reads Apache's files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import machine, paths, settings, systemd
from .run import ProcessFailed, run

CONF_AVAILABLE = Path("/etc/apache2/conf-available/jupyter-remote.conf")
_MODS_ENABLED = Path("/etc/apache2/mods-enabled")
_DATABASE = Path("/var/lib/apache2")
_OURS = "jupyter-remote"
_UNIT = "apache2.service"

#: a2query's exit codes.
_ENABLED, _DISABLED_BY_ADMIN = 0, 32
_SWITCH = {"mod": "-m", "conf": "-c", "site": "-s"}


@dataclass(frozen=True)
class ConfigError:
    """What ``configtest`` says: the file and line where it knows them, and the reason."""

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}" if self.where else self.reason

    @property
    def is_ours(self) -> bool:
        return f"/{_OURS}.conf" in self.where or "/var/lib/jupyter-remote/" in f"{self.where} {self.reason}"


@dataclass(frozen=True)
class Directive:
    """One line of Apache's configuration as Apache understood it, in order, with the vhost it stands in."""

    file: str
    line: int
    name: str
    arguments: str
    vhost: str

    @property
    def is_ours(self) -> bool:
        return Path(self.file).name == f"{_OURS}.conf"

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.name} {self.arguments}".rstrip("> ")


def installed() -> bool:
    """Whether there is an Apache with a configuration."""
    return Path("/usr/sbin/apache2ctl").exists() and Path("/etc/apache2/apache2.conf").is_file()


def comes_soon() -> bool:
    """Whether dpkg has unpacked Apache and will configure it after us; a trigger calls us again then."""
    state = run("dpkg-query", "-W", "-f", "${db:Status-Status}", "apache2", check=False).stdout
    return state in ("unpacked", "half-configured")


def running() -> bool:
    """Whether Apache serves at the moment."""
    if machine.has_systemd():
        return systemd.is_active(_UNIT)
    return run("pgrep", "-x", "apache2", check=False).returncode == 0


def masked() -> bool:
    """Whether an administrator has made it impossible to start Apache."""
    return machine.has_systemd() and systemd.is_masked(_UNIT)


def configtest() -> ConfigError | None:
    """Why Apache would not start with the configuration as it is, or None."""
    done = run("apache2ctl", "configtest", check=False)
    if done.returncode == 0:
        return None
    said = [line for line in done.stderr.splitlines() + done.stdout.splitlines() if "AH00558" not in line]
    text = " ".join(
        line.strip() for line in said if not line.startswith(("Action 'configtest'", "The Apache error log"))
    )
    if match := re.search(r"Syntax error on line (\d+) of (\S+?):? (.*)", text):
        return ConfigError(f"{match[2]}:{match[1]}", match[3].strip())
    return ConfigError("", text or "apache2ctl configtest fails without a word")


def reload(*, directly: bool = False) -> None:
    """Let the running Apache take over its configuration without dropping a connection.

    :param directly: not by systemd, which does the same for those alone who could do anything (CAP_SYS_ADMIN).
    :raises ProcessFailed: it refused.
    """
    if machine.has_systemd() and not directly:
        systemd.reload(_UNIT)
    else:
        run("apache2ctl", "graceful")


def workers() -> set[str]:
    """The process ids of the running Apache's workers."""
    main = systemd.properties(_UNIT, "MainPID")["MainPID"] if machine.has_systemd() else ""
    which = ("-P", main) if main else ("-x", "apache2")
    return set(run("pgrep", *which, check=False).stdout.split())


def is_enabled(kind: str, name: str) -> bool:
    """Whether a "mod", "conf" or "site" is enabled."""
    return _query(kind, name) == _ENABLED


def was_switched_off(kind: str, name: str) -> bool:
    """Whether an administrator has disabled it on purpose."""
    return _query(kind, name) == _DISABLED_BY_ADMIN


def _query(kind: str, name: str) -> int:
    return run("a2query", _SWITCH[kind], name, check=False).returncode


def enable(kind: str, name: str) -> None:
    """Enable a "mod", "conf" or "site", marked as a package's doing and not an administrator's.

    :raises ProcessFailed: there is no such thing.
    """
    run(f"a2en{kind}", "-m", "-q", name)


def disable(kind: str, name: str) -> None:
    """Disable it and forget that it was ever enabled (-p), so that nothing stays behind."""
    run(f"a2dis{kind}", "-m", "-p", "-q", name, check=False)
    for marks in ("enabled_by_maint", "disabled_by_maint"):
        # a2en… and a2dis… make these directories, and leave them when they are empty
        directory = _DATABASE / {"mod": "module"}.get(kind, kind) / marks
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()


def enabled_modules() -> set[str]:
    """The names of all modules that are enabled."""
    return {path.stem for path in _MODS_ENABLED.glob("*.load")}


def needed_modules(https: bool, acme: bool = False) -> list[str]:
    """The modules that our files use, those that others depend on first."""
    return [
        *("alias", "headers", "proxy", "proxy_http"),
        *(["socache_shmcb", "ssl"] if https else []),
        *(["md"] if acme else []),
    ]


def directives(*extra: str) -> list[Directive]:
    """The whole configuration as Apache understands it (mod_info's DUMP_CONFIG), conditions resolved.

    :raises ProcessFailed: it does not parse.
    """
    # A second LoadModule of the same module is skipped with a warning.
    dump = run(
        "apache2ctl", "-C", "LoadModule info_module /usr/lib/apache2/modules/mod_info.so", *extra,
        "-t", "-D", "DUMP_CONFIG",
    ).stdout  # fmt: skip
    return list(_parse_dump(dump))


def _parse_dump(dump: str) -> Iterator[Directive]:
    file, line, vhost = "", 0, ""
    for text in dump.splitlines():
        bare = text.strip()
        if match := re.fullmatch(r"# In file: (.*)", bare):
            file = match[1]
        elif match := re.fullmatch(r"#\s+(\d+):", bare):
            line = int(match[1])
        elif bare.startswith("</"):
            if bare.lower().startswith("</virtualhost"):
                vhost = ""
        elif bare and not bare.startswith("#"):
            name, _, arguments = bare.lstrip("<").partition(" ")
            if bare.startswith("<"):
                arguments = arguments.removesuffix(">")
                if name.lower() == "virtualhost":
                    vhost = arguments
            yield Directive(file, line, name, arguments, vhost)


def https_vhosts(config: list[Directive]) -> list[str]:
    """Files with a vhost on port 443 that does https and is not ours."""
    return sorted(
        {
            one.file
            for one in config
            if one.name.lower() == "sslengine" and one.arguments.lower() == "on" and not one.is_ours
            and re.search(r":443\b", one.vhost)
        }
    )  # fmt: skip


def https_names(config: list[Directive]) -> list[str]:
    """The names of the https vhosts that are not ours: an administrator gave them to this machine."""
    files = https_vhosts(config)
    words = [
        word.lower()
        for one in config
        if one.file in files and one.name.lower() in ("servername", "serveralias") and ":443" in one.vhost
        for word in one.arguments.replace('"', "").split()
    ]
    bare = [re.sub(r"^https://|:\d+$", "", word) for word in words]
    return list(dict.fromkeys(name for name in bare if settings.is_host_name(name)))


def listens(port: int, config: list[Directive]) -> bool:
    """Whether Apache is to listen on that port."""
    places = [one.arguments.replace('"', "").split()[0] for one in config if one.name.lower() == "listen"]
    return any(place == str(port) or place.endswith(f":{port}") for place in places)


#: Of Debian's mpm_event.conf.
_DEBIANS_WORKERS = {"threadlimit": "64", "threadsperchild": "25", "maxrequestworkers": "150"}


def has_debians_workers(config: list[Directive]) -> bool:
    """Whether Apache answers as many requests at once as Debian has it do, and nobody has chosen another number."""
    names = {*_DEBIANS_WORKERS, "serverlimit", "maxclients"}
    chosen = {one.name.lower(): one.arguments for one in config if not one.is_ours and one.name.lower() in names}
    return chosen == _DEBIANS_WORKERS


def plain_sites(config: list[Directive]) -> list[str]:
    """Files with a site that has pages of its own on plain http; Debian's start page is none."""
    found = set()
    for one in config:
        if one.is_ours or not (one.vhost == "" or re.search(r":80\b|:\*", one.vhost)):
            continue
        name, words = one.name.lower(), one.arguments.replace('"', "").split()
        pages = _listed(Path(words[0])) if name == "documentroot" and words else []
        passed_on = one.vhost and name in ("proxypass", "proxypassmatch", "alias", "rewriterule")
        if passed_on or any(page.name != "index.html" for page in pages):
            found.add(one.file)
    return sorted(found)


def _listed(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.is_dir() else []


_BY_PREFIX = {
    "location",
    "alias",
    "scriptalias",
    "proxypass",
    "redirect",
    "redirectpermanent",
    "redirecttemp",
}
_BY_PATTERN = {
    "locationmatch",
    "aliasmatch",
    "scriptaliasmatch",
    "proxypassmatch",
    "redirectmatch",
    "rewriterule",
}
_UNLIKELY = "/b7c1e0d2-nobody-serves-this/"


def users_of(base_url: str, config: list[Directive]) -> list[str]:
    """Where the configuration of other sites already uses a base URL: ``file:line: directive``."""
    found = []
    for one in config:
        if one.is_ours:
            continue
        name = one.name.lower()
        words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', one.arguments)]
        if name in _BY_PREFIX:
            paths_named = [word for word in words if word.startswith("/")][:1]
            if any(path == base_url or path.startswith(f"{base_url}/") for path in paths_named):
                found.append(str(one))
        elif name in _BY_PATTERN and words and _is_about(words[0], base_url):
            found.append(str(one))
        elif name == "documentroot" and words and Path(words[0] + base_url).exists():
            found.append(f"{one.file}:{one.line}: the directory {words[0]}{base_url}")
    return found


def _is_about(pattern: str, base_url: str) -> bool:
    try:
        return bool(re.search(pattern, f"{base_url}/") and not re.search(pattern, _UNLIKELY))
    except re.error:
        return False


def remember_enabled(modules: set[str]) -> None:
    """Write down that these modules were enabled by us, beside those of earlier times."""
    known = ours_to_disable() | modules
    paths.ENABLED_MODULES.parent.mkdir(parents=True, exist_ok=True)
    paths.ENABLED_MODULES.write_text("".join(f"{name}\n" for name in sorted(known)))


def ours_to_disable() -> set[str]:
    """The modules that we enabled."""
    try:
        return set(paths.ENABLED_MODULES.read_text().split())
    except OSError:
        return set()


def drop_half_enabled() -> None:
    """Take the settings of a module out again that is not loaded itself, where we have switched it on or off.

    a2enmod links a module's settings before the module, and a2dismod the other way round. Killed in between it leaves
    lines that Apache does not understand: it serves on, and with its next start all of its sites would be gone. The
    same where a removal was killed while it tried whether somebody else needs the module: then it is put back.
    """
    ours = ours_to_disable()
    for name in ours:
        _put_back(name)
    for name in ours - enabled_modules():
        link = _MODS_ENABLED / f"{name}.conf"
        if link.is_symlink():
            link.unlink()


def disable_unneeded_modules() -> list[str]:
    """Disable what we enabled and nobody else uses by now; our own files must be off already.

    A module is used when another enabled one depends on it, or when the rest of the configuration
    reads differently without it.

    :returns: their names.
    """
    gone = []
    ours = ours_to_disable()
    remaining = ours & enabled_modules()
    for name in ours - remaining:
        # Killed the last time, before it was forgotten that we had enabled it.
        disable("mod", name)
    progress = True
    while remaining and progress:
        progress = False
        for name in sorted(remaining):
            if _used_by_others(name):
                continue
            disable("mod", name)
            remaining.discard(name)
            gone.append(name)
            progress = True
    paths.ENABLED_MODULES.unlink(missing_ok=True)
    return gone


def _used_by_others(module: str) -> bool:
    """Try it: without the module, is there another word in anybody's configuration?

    The links are moved aside and back rather than a2dismod-ed: that would leave marks in its database.
    """
    before = _written_by_people(directives())
    try:
        for link in _links(module):
            if link.is_symlink():
                link.rename(_aside(link))
        return _written_by_people(directives()) != before
    except ProcessFailed:
        return True
    finally:
        _put_back(module)


def _put_back(module: str) -> None:
    for link in _links(module):
        if (aside := _aside(link)).is_symlink():
            aside.rename(link)


def _links(module: str) -> list[Path]:
    return [_MODS_ENABLED / f"{module}.{suffix}" for suffix in ("load", "conf")]


def _aside(link: Path) -> Path:
    return link.with_name(f"{link.name}.aside")


def _written_by_people(config: list[Directive]) -> list[tuple[str, int, str, str]]:
    # Not mods-enabled: what Debian's status.conf says about mod_proxy, say, is nobody's wish; and a module
    # that cannot do without another does not even load then. ports.conf opens 443 for whoever has ssl.
    return [
        (one.file, one.line, one.name, one.arguments)
        for one in config
        if Path(one.file).parent.name != "mods-enabled" and Path(one.file).name != "ports.conf"
    ]
