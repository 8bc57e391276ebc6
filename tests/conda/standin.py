"""A stand-in for the command ``conda``, in the base environment of the tests' installer. Packaged as ``conda``.

The solver, the downloads and the installation are real (py-rattler). What is conda's own is done as far as
it can be seen from outside: options, channels and where they come from, messages and exit codes of what goes
wrong, ``conda-meta/history``, ``~/.conda/environments.txt``, output as JSON.

It knows nothing of this project: it is run by the Python of the base environment, without any of ours.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import yaml
from rattler import (
    Channel,
    Gateway,
    MatchSpec,
    PrefixRecord,
    RepoDataRecord,
    SourceConfig,
    Subdir,
    VirtualPackage,
    install,
    solve,
)

VERSION = "26.1.1"
ROOT = Path(sys.prefix)
#: what a channel's name is put behind, unless CONDA_CHANNEL_ALIAS or a .condarc has another
ALIAS = "https://conda.anaconda.org"
#: what the channel "defaults" means, which no test may ever get something from
DEFAULTS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")
HISTORY = Path("conda-meta/history")


class CondaError(Exception):
    """What conda ends with code 1 for. *kind* is the name of conda's own exception."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


@dataclass(frozen=True)
class Request:
    """What shall be in an environment: specs, from channels by their URLs."""

    specs: list[str]
    channels: list[str]
    pip: list[str]


# -- configuration ---------------------------------------------------------------------------------


def condarcs() -> list[Path]:
    """The configuration files that are there, the weakest first."""
    places = (Path("/etc/conda/.condarc"), ROOT / ".condarc", Path.home() / ".condarc")
    return [path for path in places if path.exists()]


def configured(key: str) -> Any:
    """A setting: the strongest file's; lists are joined, the strongest file's entries first."""
    values = [found[key] for path in condarcs() if (found := yaml.safe_load(path.read_text()) or {}).get(key)]
    if values and isinstance(values[-1], list):
        return list(dict.fromkeys(entry for value in reversed(values) for entry in value))
    return values[-1] if values else None


def channel_names(asked: Sequence[str], *, override: bool) -> list[str]:
    """The channels to use: those asked for and then, unless *override*, the configured ones."""
    if override and not asked:
        raise CondaError("ArgumentError", "At least one -c / --channel flag must be supplied with --override-channels.")
    return list(dict.fromkeys([*asked, *([] if override else configured("channels") or ["defaults"])]))


def channel_urls(names: Iterable[str]) -> list[str]:
    """Where the channels are."""
    alias = (os.environ.get("CONDA_CHANNEL_ALIAS") or configured("channel_alias") or ALIAS).rstrip("/")
    urls: list[str] = []
    for name in names:
        if name == "defaults":
            urls += DEFAULTS
        else:
            urls.append(name.rstrip("/") if "://" in name else f"{alias}/{name}")
    return urls


def environment_directories() -> list[Path]:
    return [ROOT / "envs", Path.home() / ".conda/envs"]


def package_cache() -> Path:
    """Where packages are kept: with the base environment if that is ours to write."""
    if chosen := os.environ.get("CONDA_PKGS_DIRS"):
        return Path(chosen)
    return ROOT / "pkgs" if os.access(ROOT, os.W_OK) else Path.home() / ".conda/pkgs"


def registry() -> Path:
    """The file with all of a person's environments."""
    return Path.home() / ".conda/environments.txt"


def environments() -> list[Path]:
    """All environments that are known, base first."""
    listed = registry().read_text().splitlines() if registry().exists() else []
    inside = [path for directory in environment_directories() if directory.is_dir() for path in directory.iterdir()]
    known = [path for path in [*map(Path, listed), *sorted(inside)] if (path / "conda-meta").is_dir()]
    return list(dict.fromkeys([ROOT, *known]))


def prefix_of(arguments: argparse.Namespace, *, new: bool = False) -> Path:
    """The environment that is meant by ``-n``, ``-p`` or, without either, by being active."""
    if arguments.prefix:
        return Path(arguments.prefix).expanduser().absolute()
    if not arguments.name:
        if new:
            raise CondaError("ArgumentError", "one of the arguments -n/--name -p/--prefix is required")
        return Path(os.environ.get("CONDA_PREFIX") or ROOT)
    if arguments.name in ("base", "root"):
        return ROOT
    found = [path for d in environment_directories() if ((path := d / arguments.name) / "conda-meta").is_dir()]
    if found:
        return found[0]
    return environment_directories()[0 if os.access(ROOT, os.W_OK) else 1] / arguments.name


def existing(prefix: Path) -> Path:
    if not (prefix / "conda-meta").is_dir():
        raise CondaError("EnvironmentLocationNotFound", f"Not a conda environment: {prefix}")
    return prefix


# -- what is in an environment ---------------------------------------------------------------------


def records_of(prefix: Path) -> list[PrefixRecord]:
    """The packages that are installed."""
    return [PrefixRecord.from_path(path) for path in sorted((prefix / "conda-meta").glob("*.json"))]


def requested(records: Iterable[PrefixRecord]) -> dict[str, str]:
    """Package -> the spec that somebody asked for it with, for those that are not mere dependencies."""
    return {name_of(spec): spec for record in records for spec in record.requested_specs}


def name_of(spec: str) -> str:
    return MatchSpec(spec).name.as_package_name().normalized


def dependents(records: Sequence[PrefixRecord], names: set[str]) -> set[str]:
    """*names*, and all that needs one of them."""
    gone = set(names)
    while more := {
        record.name.normalized
        for record in records
        if record.name.normalized not in gone and gone & {name_of(spec) for spec in record.depends}
    }:
        gone |= more
    return gone


# -- solving and installing ------------------------------------------------------------------------


async def change(prefix: Path, request: Request, keep: Sequence[PrefixRecord], arguments: argparse.Namespace) -> None:
    """Make *prefix* have what is requested; packages in *keep* stay as they are where that can be."""
    before = records_of(prefix)
    solved = await solution(request, keep)
    old = {dist_of(record) for record in before}
    new = {dist_of(record) for record in solved}
    if not arguments.json and not arguments.quiet:
        print(f"\n## Package Plan ##\n\n  environment location: {prefix}\n")
        print("".join(f"  - {dist}\n" for dist in sorted(old - new)) + "".join(f"  + {d}\n" for d in sorted(new - old)))
    if old == new and before:
        print("# All requested packages already installed.\n")
        return
    if arguments.dry_run:
        raise CondaError("DryRunExit", "Dry run. Exiting.")
    if not arguments.yes and not arguments.json:
        proceed()
    prefix.mkdir(parents=True, exist_ok=True)
    (prefix / "conda-meta").mkdir(exist_ok=True)
    (prefix / HISTORY).touch()
    try:
        await install(
            solved, prefix, cache_dir=package_cache(), installed_packages=before, show_progress=False,
            execute_link_scripts=True,
            # it wants what is inside of its own class
            requested_specs=[MatchSpec(spec)._match_spec for spec in request.specs],
        )  # fmt: skip
    except Exception as failed:
        raise translated(failed) from failed
    write_history(prefix, old, new, request.specs)
    register(prefix)
    if request.pip:
        install_with_pip(prefix, request.pip)
    print("Preparing transaction: done\nVerifying transaction: done\nExecuting transaction: done")


async def solution(request: Request, keep: Sequence[PrefixRecord]) -> list[RepoDataRecord]:
    """The packages that fulfil a request.

    :raises CondaError: there are none, or a channel does not answer.
    """
    cache = package_cache() / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    gateway = Gateway(
        cache_dir=cache, default_config=SourceConfig(zstd_enabled=False, bz2_enabled=False, sharded_enabled=False)
    )
    channels = [Channel(url) for url in request.channels]
    subdirs = [Subdir.current(), Subdir("noarch")]
    try:
        names = {name.normalized for name in await gateway.names(channels, subdirs)}
    except Exception as failed:
        raise translated(failed) from failed
    missing = [spec for spec in request.specs if not (name := name_of(spec)).startswith("__") and name not in names]
    if missing:
        listed, tried = ("".join(f"\n  - {entry}" for entry in entries) for entries in (missing, request.channels))
        raise CondaError(
            "PackagesNotFoundError",
            f"The following packages are not available from current channels:\n{listed}\n\nCurrent channels:\n{tried}",
        )
    try:
        return await solve(
            channels, request.specs, gateway=gateway, locked_packages=keep, virtual_packages=VirtualPackage.detect()
        )
    except Exception as failed:
        raise translated(failed) from failed


def translated(failed: Exception) -> CondaError:
    """What conda would say where rattler says *failed*, which is said too."""
    text = str(failed)
    urls = re.findall(r"https?://[^\s)'\"]+", text)
    package = re.search(r"failed to fetch (\S+)", text)
    place = urls[-1] if urls else package[1] if package else "<unknown>"
    if type(failed).__name__ == "SolverError":
        return CondaError("LibMambaUnsatisfiableError", f"Encountered problems while solving:\n{text}")
    if re.search(r"No space left on device|os error 28", text):
        return CondaError("NoSpaceLeftError", f"No space left on devices.\n[Errno 28] No space left on device\n{text}")
    status = re.search(r"HTTP status \w+ error \((\d+ [\w ]+)\)", text)
    if status or re.search(r"error sending request|reading a body from connection|operation timed out", text):
        return CondaError(
            "CondaHTTPError",
            f"HTTP {status[1].upper() if status else '000 CONNECTION FAILED'} for url <{place}>\nElapsed: -\n\n"
            "An HTTP error occurred when trying to retrieve this URL.\n"
            f"HTTP errors are often intermittent, and a simple retry will get you on your way.\n{text}",
        )
    if package and re.search(r"corrupt|checksum|hash|archive|unexpected end", text, re.I):
        return CondaError(
            "ChecksumMismatchError",
            "Conda detected a mismatch between the expected content and downloaded content\n"
            f"for url '{place}'.\n{text}",
        )
    return CondaError("CondaError", text)


def install_with_pip(prefix: Path, requirements: Sequence[str]) -> None:
    """The ``pip:`` part of an environment.yml."""
    print("Installing pip dependencies: ...working...", flush=True)
    done = subprocess.run([prefix / "bin/python", "-m", "pip", "install", "--no-input", *requirements])
    if done.returncode:
        raise CondaError("CondaEnvException", "Pip failed")


def proceed() -> None:
    """Ask, as conda does without ``--yes``.

    :raises CondaError: the answer is no, or there is nobody.
    """
    print("Proceed ([y]/n)? ", end="", flush=True)
    answer = sys.stdin.readline()
    if not answer or answer.strip().lower() not in ("", "y", "yes"):
        raise CondaError("CondaSystemExit", "Exiting.")


def dist_of(record: RepoDataRecord) -> str:
    """As ``conda-meta/history`` writes a package."""
    return f"{record.channel.rstrip('/')}/{record.subdir}::{record.name.normalized}-{record.version}-{record.build}"


def write_history(prefix: Path, old: set[str], new: set[str], specs: Sequence[str]) -> None:
    """Note a change where IPython's ``%conda`` looks for the command that made it."""
    with (prefix / HISTORY).open("a") as file:
        file.write(f"==> {time.strftime('%Y-%m-%d %H:%M:%S')} <==\n")
        file.write(f"# cmd: {ROOT}/bin/conda {shlex.join(sys.argv[1:])}\n# conda version: {VERSION}\n")
        file.writelines(f"-{dist}\n" for dist in sorted(old - new))
        file.writelines(f"+{dist}\n" for dist in sorted(new - old))
        file.write(f"# update specs: {list(specs)}\n")


def register(prefix: Path) -> None:
    """Note an environment in ``~/.conda/environments.txt``."""
    registry().parent.mkdir(exist_ok=True)
    known = registry().read_text().splitlines() if registry().exists() else []
    if str(prefix) not in known:
        registry().write_text("".join(f"{line}\n" for line in [*known, prefix]))


def remove_environment(prefix: Path) -> None:
    """Delete an environment and forget it."""
    shutil.rmtree(prefix)
    if registry().exists():
        rest = [line for line in registry().read_text().splitlines() if line != str(prefix)]
        registry().write_text("".join(f"{line}\n" for line in rest))


# -- commands --------------------------------------------------------------------------------------


def create(arguments: argparse.Namespace) -> None:
    prefix = prefix_of(arguments, new=True)
    request = request_of(arguments)
    if prefix == ROOT or arguments.name in ("base", "root"):
        raise CondaError("CondaValueError", "The target prefix is the base prefix. Aborting.")
    if (prefix / "conda-meta").is_dir():
        print(f"WARNING: A conda environment already exists at '{prefix}'\n\nRemove existing environment?", flush=True)
        if not arguments.yes:
            proceed()
        remove_environment(prefix)
    asyncio.run(change(prefix, request, [], arguments))
    print(f"#\n# To activate this environment, use\n#\n#     $ conda activate {arguments.name or prefix}\n#")


def add(arguments: argparse.Namespace) -> None:
    """``conda install``: what is there stays, unless the new specs need it otherwise."""
    prefix = existing(prefix_of(arguments))
    present = records_of(prefix)
    asyncio.run(change(prefix, joined(present, request_of(arguments)), present, arguments))


def update(arguments: argparse.Namespace) -> None:
    prefix = existing(prefix_of(arguments))
    present = records_of(prefix)
    request = request_of(arguments, needed=not arguments.all)
    asked = {name_of(spec) for spec in request.specs}
    keep = [] if arguments.all else [record for record in present if record.name.normalized not in asked]
    asyncio.run(change(prefix, joined(present, request), keep, arguments))


def remove(arguments: argparse.Namespace) -> None:
    prefix = existing(prefix_of(arguments))
    if arguments.all:
        if not arguments.yes:
            proceed()
        remove_environment(prefix)
        return
    present = records_of(prefix)
    names = {name_of(spec) for spec in arguments.specs}
    absent = names - {record.name.normalized for record in present}
    if absent or not names:
        raise CondaError("PackagesNotFoundError", "The following packages are missing from the target environment:"
                         + "".join(f"\n  - {name}" for name in sorted(absent)))  # fmt: skip
    gone = dependents(present, names)
    specs = [spec for name, spec in requested(present).items() if name not in gone]
    keep = [record for record in present if record.name.normalized not in gone]
    channels = channel_urls(channel_names(arguments.channel, override=arguments.override_channels))
    asyncio.run(change(prefix, Request(specs, channels, []), keep, arguments))


def environment_create(arguments: argparse.Namespace) -> None:
    arguments.specs, arguments.yes = [], True
    arguments.file = [arguments.file or "environment.yml"]
    if not arguments.name and not arguments.prefix:
        arguments.name = read_yaml(arguments.file[0]).get("name")
    if (prefix_of(arguments, new=True) / "conda-meta").is_dir():
        raise CondaError("CondaValueError", f"prefix already exists: {prefix_of(arguments)}")
    create(arguments)


def environment_update(arguments: argparse.Namespace) -> None:
    arguments.specs, arguments.yes, arguments.all = [], True, False
    arguments.file = [arguments.file or "environment.yml"]
    if not arguments.name and not arguments.prefix:
        arguments.name = read_yaml(arguments.file[0]).get("name")
    update(arguments)


def environment_remove(arguments: argparse.Namespace) -> None:
    prefix = existing(prefix_of(arguments))
    if not arguments.yes:
        proceed()
    remove_environment(prefix)


def environment_list(arguments: argparse.Namespace) -> None:
    if arguments.json:
        print(json.dumps({"envs": [str(path) for path in environments()]}, indent=2))
        return
    print("\n# conda environments:\n#")
    for path in environments():
        name = "base" if path == ROOT else path.name if path.parent in environment_directories() else ""
        print(f"{name:<24} {path}")


def list_packages(arguments: argparse.Namespace) -> None:
    prefix = existing(prefix_of(arguments))
    rows = [
        {
            "base_url": record.channel.rstrip("/").rpartition("/")[0], "build_number": record.build_number,
            "build_string": str(record.build), "channel": record.channel.rstrip("/").rpartition("/")[2],
            "dist_name": f"{record.name.normalized}-{record.version}-{record.build}",
            "name": record.name.normalized, "platform": record.subdir, "version": str(record.version),
        }
        for record in sorted(records_of(prefix), key=lambda record: record.name.normalized)
        if re.search(arguments.pattern, record.name.normalized)
    ]  # fmt: skip
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"# packages in environment at {prefix}:\n#\n# Name  Version  Build  Channel")
    for row in rows:
        print(f"{row['name']:<25} {row['version']:<15} {row['build_string']:<15} {row['channel']}")


def info(arguments: argparse.Namespace) -> None:
    facts = {
        "active_prefix": os.environ.get("CONDA_PREFIX"), "channels": channel_urls(channel_names([], override=False)),
        "conda_prefix": str(ROOT), "conda_version": VERSION, "config_files": [str(path) for path in condarcs()],
        "default_prefix": os.environ.get("CONDA_PREFIX", str(ROOT)), "envs": [str(path) for path in environments()],
        "envs_dirs": [str(path) for path in environment_directories()], "offline": False,
        "pkgs_dirs": [str(ROOT / "pkgs"), str(Path.home() / ".conda/pkgs")], "platform": str(Subdir.current()),
        "python_version": f"{platform.python_version()}.final.0", "rc_path": str(Path.home() / ".condarc"),
        "root_prefix": str(ROOT), "root_writable": os.access(ROOT, os.W_OK), "sys.prefix": sys.prefix,
    }  # fmt: skip
    print(json.dumps(facts, indent=2) if arguments.json else "\n".join(f"{key:>20} : {facts[key]}" for key in facts))


def config(arguments: argparse.Namespace) -> None:
    known = {
        "channels": configured("channels") or ["defaults"],
        "channel_alias": configured("channel_alias") or ALIAS,
        "envs_dirs": [str(path) for path in environment_directories()],
        "pkgs_dirs": [str(package_cache())],
    }
    if unknown := set(arguments.show) - known.keys():
        raise CondaError("ArgumentError", f"Invalid configuration parameters: {' '.join(sorted(unknown))}")
    shown = {key: known[key] for key in arguments.show or known}
    print(json.dumps(shown, indent=2) if arguments.json else yaml.safe_dump(shown), end="")


# -- command line ----------------------------------------------------------------------------------


def request_of(arguments: argparse.Namespace, *, needed: bool = True) -> Request:
    """What was asked for on the command line and in files."""
    specs, channels, pip = list(arguments.specs), list(arguments.channel), []
    override = arguments.override_channels
    for file in arguments.file or []:
        if file.endswith((".yml", ".yaml")):
            document = read_yaml(file)
            channels += [name for name in document.get("channels", []) if name != "nodefaults"]
            override = override or "nodefaults" in document.get("channels", [])
            for entry in document.get("dependencies", []):
                if isinstance(entry, dict):
                    pip += entry.get("pip", [])
                else:
                    specs.append(entry)
        else:
            specs += list(lines_of(file))
    if not specs and needed and arguments.command in ("install", "update"):
        raise CondaError("CondaValueError", "too few arguments, must supply command line package specs or --file")
    try:
        specs = [str(MatchSpec(spec)) for spec in specs]
    except Exception as failed:
        raise CondaError("InvalidMatchSpec", str(failed)) from failed
    return Request(specs, channel_urls(channel_names(channels, override=override)), pip)


def joined(present: Sequence[PrefixRecord], request: Request) -> Request:
    """*request*, and all that was requested before."""
    asked = {name_of(spec) for spec in request.specs}
    earlier = [spec for name, spec in requested(present).items() if name not in asked]
    return Request(request.specs + earlier, request.channels, request.pip)


def lines_of(file: str) -> Iterator[str]:
    try:
        lines = Path(file).read_text().splitlines()
    except OSError as failed:
        raise CondaError("CondaFileIOError", f"'{file}'. {failed}") from failed
    yield from (line.strip() for line in lines if line.strip() and not line.startswith(("#", "@")))


def read_yaml(file: str) -> dict[str, Any]:
    try:
        return yaml.safe_load(Path(file).read_text()) or {}
    except FileNotFoundError as failed:
        raise CondaError("EnvironmentFileNotFound", f"'{Path(file).absolute()}' file not found") from failed
    except yaml.YAMLError as failed:
        raise CondaError("EnvironmentFileInvalid", str(failed)) from failed


def parser() -> argparse.ArgumentParser:
    place = argparse.ArgumentParser(add_help=False)
    place.add_argument("-n", "--name")
    place.add_argument("-p", "--prefix")
    place.add_argument("--json", action="store_true")
    place.add_argument("-q", "--quiet", action="store_true")
    changing = argparse.ArgumentParser(add_help=False, parents=[place])
    changing.add_argument("-y", "--yes", action="store_true")
    changing.add_argument("-d", "--dry-run", action="store_true")
    changing.add_argument("-c", "--channel", action="append", default=[])
    changing.add_argument("--override-channels", action="store_true")
    changing.add_argument("--solver", choices=["libmamba", "classic", "rattler"])
    packages = argparse.ArgumentParser(add_help=False, parents=[changing])
    packages.add_argument("--file", action="append")
    packages.add_argument("specs", nargs="*")
    whole = argparse.ArgumentParser(add_help=False)
    whole.add_argument("--all", action="store_true")
    yml = argparse.ArgumentParser(add_help=False, parents=[changing])
    yml.add_argument("-f", "--file")

    top = argparse.ArgumentParser(prog="conda")
    top.add_argument("-V", "--version", action="version", version=f"conda {VERSION}")
    commands = top.add_subparsers(dest="command", required=True)
    commands.add_parser("create", parents=[packages]).set_defaults(do=create)
    commands.add_parser("install", parents=[packages]).set_defaults(do=add)
    commands.add_parser("update", parents=[packages, whole], aliases=["upgrade"]).set_defaults(do=update)
    commands.add_parser("remove", parents=[packages, whole], aliases=["uninstall"]).set_defaults(do=remove)
    listing = commands.add_parser("list", parents=[place])
    listing.add_argument("pattern", nargs="?", default="")
    listing.set_defaults(do=list_packages)
    commands.add_parser("info", parents=[place]).set_defaults(do=info)
    settings = commands.add_parser("config", parents=[place])
    settings.add_argument("--show", nargs="*", default=[])
    settings.set_defaults(do=config)
    env = commands.add_parser("env").add_subparsers(dest="env_command", required=True)
    env.add_parser("create", parents=[yml]).set_defaults(do=environment_create)
    update_yml = env.add_parser("update", parents=[yml])
    update_yml.add_argument("--prune", action="store_true")
    update_yml.set_defaults(do=environment_update)
    env.add_parser("remove", parents=[changing]).set_defaults(do=environment_remove)
    env.add_parser("list", parents=[place]).set_defaults(do=environment_list)
    return top


def leave(code: int) -> NoReturn:
    """End at once: rattler's threads sometimes crash the interpreter when it ends in peace."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def interrupted(number: int, _: FrameType | None) -> NoReturn:
    """End at SIGINT and SIGTERM, with what was done so far left as it is."""
    name = "KeyboardInterrupt" if number == signal.SIGINT else f"Signal interrupt {signal.Signals(number).name}"
    print(f"\nCondaError: {name}\n", file=sys.stderr)
    leave(1)


def main() -> NoReturn:
    """The command ``conda``."""
    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, interrupted)
    try:
        arguments = parser().parse_args()
        try:
            arguments.do(arguments)
        except OSError as failed:
            raise CondaError(type(failed).__name__, str(failed)) from failed
    except CondaError as failed:
        if arguments.json:
            print(json.dumps({"error": str(failed), "exception_name": failed.kind, "message": str(failed)}, indent=2))
        else:
            print(f"\n{failed}\n", file=sys.stderr)
        leave(0 if failed.kind == "DryRunExit" else 1)
    except SystemExit as ended:  # argparse's
        leave(ended.code if isinstance(ended.code, int) else 1)
    leave(0)


if __name__ == "__main__":
    main()
