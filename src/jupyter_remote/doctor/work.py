"""What the owner works with: notebooks, environments, their own configuration."""

from __future__ import annotations

import json
import os
import shlex
import stat
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from .. import accounts, render
from ..gateway import Gateway
from ..run import Mistake, run
from .findings import Found, Trouble
from .patient import Patient

EMPTY_NOTEBOOK = Trouble(
    "empty-notebook",
    "{path} is empty (0 bytes).",
    "No notebook is: it was cut off when it was saved, most often by a full disk.",
    "The last checkpoint: ls -l {checkpoint} — if it has your work: cp {checkpoint} {path}",
    may_wait=True,
)
BROKEN_CONFIG = Trouble(
    "broken-config",
    "{path} is not what it should be: {reason}",
    "Jupyter leaves it out, with all that it would set.",
    "Mend it, or put it aside: mv {path} {path}.old — then: sudo systemctl restart jupyter-remote",
    may_wait=True,
)
LOST_KERNEL = Trouble(
    "lost-kernel",
    "The kernel {name!r} starts a program that is not there: {program}",
    "It is offered in the launcher, and does not start.",
    "If its environment is gone for good: rm -r {directory}",
    may_wait=True,
)
HOME_OPEN = Trouble(
    "home-open",
    "{path} can be written by everybody on this machine ({mode}).",
    "Who writes there runs what they like as {user}, at the next login or the next notebook.",
    "sudo chmod go-w {path}",
)
FOREIGN_FILES = Trouble(
    "foreign-files",
    "{path} belongs to {owner}, not to {user}.",
    "Jupyter cannot write there. It comes from a command with sudo that should have had none.",
    mend="chown --recursive {user}: {path}",
)
CONDA_NOT_IN_PATH = Trouble(
    "conda-not-in-path",
    "conda is in {prefix}, and terminals do not find it.",
    '`conda` says "command not found"; its environments are kernels all the same.',
    "In a terminal of Jupyter: {prefix}/bin/conda init {shell} — and open another one",
    may_wait=True,
)

DEFAULT_GONE = Trouble(
    "default-gone",
    "kernels.default is {path}, where there is no Python with ipykernel.",
    "The kernel python3 is another one than was meant: the environment that was made at the beginning.",
    "{hint}",
    may_wait=True,
)
GATEWAY_AWAY = Trouble(
    "gateway-away",
    "{what}",
    "Kernels of the gateway do not start; those that run there cannot be talked to.",
    "{hint}",
    may_wait=True,
)

#: files that are looked at, so that a home with millions does not take for ever
_AT_MOST = 20_000


def notebooks(patient: Patient) -> Iterator[Found]:
    """Notebooks that have lost their content."""
    if not patient.owner or not patient.is_root:
        return
    top = render.notebook_dir(patient.settings, patient.owner)
    for path in islice(_walk(top), _AT_MOST):
        if path.suffix == ".ipynb" and not path.stat().st_size:
            checkpoint = path.parent / ".ipynb_checkpoints" / f"{path.stem}-checkpoint.ipynb"
            if checkpoint.exists() and checkpoint.stat().st_size:
                yield EMPTY_NOTEBOOK(path=path, checkpoint=checkpoint)


def _walk(top: Path) -> Iterator[Path]:
    """Files of the owner's, not of programs."""
    for place, directories, names in os.walk(top):
        directories[:] = [name for name in directories if not name.startswith(".") and name != "node_modules"]
        if len(Path(place).relative_to(top).parts) > 4:
            directories.clear()
        for name in names:
            path = Path(place, name)
            if path.is_file() and not path.is_symlink():
                yield path


def configuration(patient: Patient) -> Iterator[Found]:
    """The owner's own files of Jupyter."""
    if not patient.owner or not patient.is_root:
        return
    directory = patient.owner.home / ".jupyter"
    for path in sorted(directory.glob("jupyter*_config.json")):
        try:
            json.loads(path.read_text())
        except (OSError, ValueError) as error:
            yield BROKEN_CONFIG(path=path, reason=error)
    for path in sorted(directory.glob("jupyter*_config.py")):
        try:
            with warnings.catch_warnings(action="ignore"):
                compile(path.read_text(), str(path), "exec")
        except (OSError, ValueError, SyntaxError) as error:
            yield BROKEN_CONFIG(path=path, reason=error)


def home(patient: Patient) -> Iterator[Found]:
    """Whose it is, and who may write there."""
    owner = patient.owner
    if not owner or not patient.is_root:
        return
    for path in (owner.home, owner.home / ".jupyter", owner.home / ".ipython", owner.home / ".local"):
        try:
            info = path.stat()
        except OSError:
            continue
        if info.st_mode & stat.S_IWOTH:
            yield HOME_OPEN(path=path, mode=f"{stat.S_IMODE(info.st_mode):04o}", user=owner.name)
        if path != owner.home and info.st_uid != owner.uid:
            yield FOREIGN_FILES(path=path, owner=accounts.name_of(info.st_uid), user=owner.name)


def kernels(patient: Patient) -> Iterator[Found]:
    """Kernels of the owner's whose program is gone."""
    if not patient.owner or not patient.is_root:
        return
    for spec in sorted((patient.owner.home / ".local/share/jupyter/kernels").glob("*/kernel.json")):
        try:
            program = str(json.loads(spec.read_text())["argv"][0])
        except (OSError, ValueError, LookupError, TypeError):
            continue
        if program.startswith("/") and not Path(program).exists():
            yield LOST_KERNEL(name=spec.parent.name, program=program, directory=spec.parent)


def default(patient: Patient) -> Iterator[Found]:
    """The environment that the kernel python3 is to be of."""
    owner, wanted = patient.owner, patient.settings.kernels_default
    if not owner or not patient.is_root or not wanted:
        return
    path = render.in_home(wanted, owner)
    with accounts.acting_as(owner):
        if (path / "bin/python").exists() and any(path.glob("share/jupyter/kernels/*/kernel.json")):
            return
        there = (path / "bin/python").exists()
    install = f"{shlex.quote(str(path / 'bin/python'))} -m pip install ipykernel"
    hint = f"Install one: {install}" if there else "Choose another: sudo jupyter-remote config set kernels.default PATH"
    yield DEFAULT_GONE(path=path, hint=f"{hint} — or: sudo jupyter-remote config unset kernels.default")


def remote(patient: Patient) -> Iterator[Found]:
    """Whether the gateway says what it can start."""
    settings, owner = patient.settings, patient.owner
    if not owner or not settings.gateway_url or not accounts.may_act_as(owner):
        return
    token_file = render.in_home(settings.gateway_token_file, owner)
    try:
        with accounts.acting_as(owner):
            Gateway(settings.gateway_url, str(token_file), settings.gateway_ca_file).kernelspecs()
    except Mistake as mistake:
        yield GATEWAY_AWAY(what=mistake.what, hint=mistake.hint or "jupyter-remote config get gateway.url")


def conda(patient: Patient) -> Iterator[Found]:
    """Whether a conda that is there is found."""
    owner = patient.owner
    shell = Path(owner.shell).name if owner else ""
    if not owner or not patient.is_root or shell not in ("bash", "zsh"):
        return
    for name in ("miniforge3", "miniconda3", "anaconda3", "mambaforge"):
        prefix = owner.home / name
        if (prefix / "bin/conda").exists():
            # Interactive, as in a terminal: .bashrc asks for that.
            found = run(
                *accounts.words_as(owner, reset_env=True),
                owner.shell,
                "-ic",
                "command -v conda",
                check=False,
                cwd=owner.home,
                timeout=30,
            )
            if found.returncode:
                yield CONDA_NOT_IN_PATH(prefix=prefix, shell=shell)
            return
