"""Doing it, and undoing it. What fails on the way is taken back."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

from .. import accounts, apache, apply, checks, configfile, configure, paths, settings
from ..accounts import Account
from ..apply import Outcome
from ..run import EX_UNAVAILABLE, Finding, Mistake, ProcessFailed, die, say
from ..settings import Scalar, Settings
from ..transaction import Transaction
from . import blocks, record, servers
from .plan import Plan
from .record import Record
from .servers import OldServer


def do(plan: Plan) -> Outcome:
    """Take over. The caller holds :func:`apply.lock`.

    :raises Mistake: it does not work; then everything is as it was, and the old server runs again.
    """
    before = record.read(paths.CONFIG)
    after = configfile.changed(before, plan.values)
    wanted = settings.parse(after, str(paths.CONFIG))
    new = {file: blocks.without(record.read(file), [b for b in plan.blocks if b.file == file]) for file in plan.files}
    new[paths.CONFIG] = after
    if plan.hash:
        new[paths.PASSWORD_HASH] = f"{plan.hash}\n"
    old = {file: record.read(file) for file in new}
    kept = Record(
        owner=plan.owner.name,
        files={str(file): (old[file], record.digest(text)) for file, text in new.items()},
        settings={name: configfile.given(before).get(name) for name in plan.values},
        server=plan.server,
    )
    record.keep(kept)
    stopped: OldServer | None = None
    try:
        with _to_the_end(), Transaction() as transaction:
            for file, text in new.items():
                transaction.write(file, text, _mode(file))
            _can_be(wanted, plan)
            if plan.server:
                stopped = plan.server
                servers.stop(plan.owner, plan.server)
            outcome = apply.apply(wanted)
            _reload_apache()
            _answers(plan, wanted, outcome)
    except BaseException as failure:
        whole = _give_back(plan.owner, before, stopped) and all(record.read(file) == text for file, text in old.items())
        told = "Everything is as before." if whole else "Put back what could not be: sudo jupyter-remote adopt --undo"
        if whole:
            kept.path.unlink(missing_ok=True)
        if isinstance(failure, Mistake):
            die(failure.what, hint=f"{failure.hint}\n  {told}".lstrip(), code=failure.code)
        say(told)
        raise
    return outcome


def _mode(file: Path) -> int:
    return file.stat().st_mode & 0o777 if file.exists() else 0o600


@contextlib.contextmanager
def _to_the_end() -> Iterator[None]:
    """A connection by ssh that breaks is no reason to stop half-way."""
    # Not SIG_IGN, which what is started here would inherit.
    before = signal.signal(signal.SIGHUP, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _can_be(wanted: Settings, plan: Plan) -> None:
    """Ask, before anything ends, what can be asked with the new files in place.

    :raises Mistake: it cannot be done.
    """
    if apache.installed() and (problem := apache.configtest()):
        die(f"Without those lines Apache would not start: {problem}")
    checks.notebook_dir(wanted, plan.owner)
    if plan.blocks and (others := apply.taken(wanted)):
        die(others.what, hint="Take that out by hand, and then: sudo jupyter-remote adopt", code=EX_UNAVAILABLE)


def _answers(plan: Plan, wanted: Settings, outcome: Outcome) -> None:
    """:raises Mistake: nobody would answer where the old server did, whatever the reason is."""
    if (plan.blocks or not outcome.findings) and (problem := apply.unreachable(wanted)):
        reasons = "\n  ".join(str(finding) for finding in outcome.findings)
        die(f"Jupyter does not answer: {problem}", hint=reasons, code=EX_UNAVAILABLE)


def _give_back(owner: Account, before: str, stopped: OldServer | None) -> bool:
    """The files are the old ones again: let everything follow them. Whether the old server runs."""
    with contextlib.suppress(Exception):
        apply.apply(settings.parse(before, str(paths.CONFIG)), installing=True)
    with contextlib.suppress(Exception):
        _reload_apache()
    try:
        if stopped and not any(one.port == stopped.port for one in servers.find(owner)):
            servers.start(owner, stopped)
    except Exception as trouble:
        say(f"{trouble}")
        return False
    return True


def _reload_apache() -> None:
    # An apply reloads it for what is ours; the lines that have gone, or are back, are not.
    if apache.installed() and apache.running() and not apache.configtest():
        apache.reload()


def undo(kept: Record) -> list[Finding]:
    """Put everything back. The caller holds :func:`apply.lock`.

    :returns: what could not be put back as it was, with what to do.
    :raises Mistake: the old server does not start, or its owner is gone.
    """
    left: list[Finding] = []
    owner = accounts.owner(kept.owner)
    with _to_the_end():
        with Transaction() as transaction:
            for name, (before, after) in kept.files.items():
                left += _put_back(transaction, kept, Path(name), before, after)
            if apache.installed() and (problem := apache.configtest()):
                die(f"With the old lines Apache would not start: {problem}", hint="Nothing has changed.")
        try:
            # Its address is another's again, which is no reason to stop here.
            apply.apply(configure.current(), installing=True)
        except (Mistake, ProcessFailed, OSError) as trouble:
            left.append(Finding("jupyter-remote itself does not follow its old settings.", f"{trouble}"))
        _reload_apache()
        if kept.server and not any(one.port == kept.server.port for one in servers.find(owner)):
            say(f"The old Jupyter runs again, {servers.start(owner, kept.server)}.")
    if left:
        # Done, as far as it can be; what was there stays to be looked at.
        kept.path.rename(kept.path.with_suffix(".undone"))
    else:
        kept.path.unlink()
    return left


def _put_back(transaction: Transaction, kept: Record, file: Path, before: str, after: str) -> list[Finding]:
    """One file; what there is to say when somebody has edited it since."""
    now = record.read(file)
    if record.digest(now) == after:
        transaction.write(file, before, _mode(file))
    elif file == paths.CONFIG:
        values: dict[str, Scalar | None] = dict(kept.settings)
        transaction.write(file, configfile.changed(now, values), _mode(file))
    elif now != before and file != paths.PASSWORD_HASH:  # a password that was set since is the one that is known
        copy = kept.path.with_name(f"{kept.path.stem}{str(file).replace('/', '-')}")
        transaction.write(copy, before, 0o600)
        hint = f"See what was there: sudo diff {copy} {file}"
        return [Finding(f"{file} was edited since, so it was left as it is.", hint)]
    return []
