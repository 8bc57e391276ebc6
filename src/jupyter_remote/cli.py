"""``jupyter-remote …``: the one command that people, scripts and the package's own scripts call."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from . import (
    __version__,
    accounts,
    acme,
    apply,
    completion,
    configfile,
    configure,
    kernels,
    machine,
    paths,
    people,
    schema,
    sessions,
    settings,
    systemd,
    tokens,
)
from .adopt import command as adopt
from .conda import command
from .doctor import command as doctor
from .extensions import command as extensions
from .people import command as people_command
from .run import (
    EX_CANTCREAT,
    EX_DATAERR,
    EX_OSERR,
    EX_TEMPFAIL,
    EX_UNAVAILABLE,
    Finding,
    Mistake,
    ProcessFailed,
    die,
    parse_arguments,
    run,
    say,
)
from .settings import Scalar

_EXAMPLES = """\
examples:
  jupyter-remote status                        how things stand, and what needs attention
  sudo jupyter-remote doctor                   why something does not work, and what mends it
  sudo jupyter-remote adopt                    take over a Jupyter that was set up by hand
  sudo jupyter-remote password                 set the password
  jupyter-remote url                           the address, with a link that logs in once
  jupyter-remote sessions                      which browsers are logged in
  jupyter-remote token create laptop           a token for VS Code or a script
  sudo jupyter-remote config set base_url /lab move it to https://<server>/lab
  jupyter-remote kernels                       what runs, and in which notebook
  sudo systemctl restart jupyter-remote        restart the server; kernels go on

exit codes are those of sysexits(3): 64 a wrong command line, 65 a wrong value, 67 no such user,
69 something is not running, 73 a full disk, 77 needs sudo, 78 a wrong setting;
`conda install --help` has those of its own.
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    try:
        people.turn_to(sys.argv[1:] if argv is None else argv)
        parser = _parser()
        completion.offer(parser)
        arguments = parse_arguments(parser, argv)
        return arguments.command(arguments)
    except Mistake as mistake:
        say(f"jupyter-remote: {mistake}")
        return mistake.code
    except ProcessFailed as failed:
        say(f"jupyter-remote: {failed}")
        return EX_OSERR
    except OSError as error:
        if error.errno == errno.EPIPE:
            # `jupyter-remote config show | head`: nobody is listening any more; that is no error.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        say(f"jupyter-remote: {error.filename or 'writing'}: {'the disk is full' if full else error.strerror}.")
        if full:
            say("  Free some space and try again.")
        return EX_CANTCREAT if full else EX_OSERR
    except subprocess.TimeoutExpired as late:
        say(f"jupyter-remote: {' '.join(map(str, late.cmd))} has not ended in {late.timeout:.0f} s.")
        return EX_TEMPFAIL
    except (KeyboardInterrupt, EOFError):
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jupyter-remote",
        description="Your personal Jupyter on this machine, reachable from any laptop.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # people.turn_to reads the one option before this does.
        allow_abbrev=False,
    )
    parser.add_argument(
        people.OPTION, metavar="NAME", help="whose Jupyter it is about (default: your own, else the owner's)"
    )
    parser.add_argument("--version", action="version", version=f"jupyter-remote {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, command: Callable[[argparse.Namespace], int], help: str = "") -> argparse.ArgumentParser:
        # Without any help= argparse leaves a command out of the list.
        shown = {"help": help, "description": help} if help else {}
        made = commands.add_parser(name, **shown)  # type: ignore[arg-type]
        made.set_defaults(command=command)
        return made

    status = add("status", _status, help="how things stand, and what needs attention")
    how = status.add_mutually_exclusive_group()
    how.add_argument("--watch", action="store_true", help="stay, and show what changes (Ctrl+C ends it)")
    how.add_argument("--json", action="store_true", help="for programs")

    url = add("url", _url, help="the address, with a link that logs in once (owner or root)")
    url.add_argument("--plain", action="store_true", help="the address alone")
    url.add_argument("--json", action="store_true", help="for programs")

    password = add("password", _password, help="set the password, or lock it")
    how = password.add_mutually_exclusive_group()
    how.add_argument("--stdin", action="store_true", help="read the password from standard input (one line)")
    how.add_argument("--hash", action="store_true", help="read a ready hash from standard input: argon2:… or sha1:…")
    how.add_argument("--lock", action="store_true", help="nobody can log in with a password; login links still work")
    how.add_argument(
        "--totp", action="store_true", help="ask for a code of an app, too (a second factor); or a new one"
    )
    how.add_argument("--no-totp", action="store_true", help="the password is enough again")

    _add_config(add("config", lambda _: 0, help="look at settings and change them"))

    applying = add("apply", _apply, help="make the machine follow the settings, after you edited config.toml")
    applying.add_argument("--install", action="store_true", help=argparse.SUPPRESS)
    applying.add_argument("--json", action="store_true", help="for programs")

    logs = add("logs", _logs, help="what the server logged, and what keeps its kernels")
    logs.add_argument("-f", "--follow", action="store_true", help="go on as more comes")
    logs.add_argument("-n", "--lines", type=int, default=50, metavar="N", help="this many lines (default: 50)")

    foreground = add("run", _run, help="serve in the foreground, where no systemd runs the service (a container)")
    foreground.add_argument(
        "--keep-kernels", action="store_true", help="kernels and terminals stay when it ends, for the next run"
    )

    # For the package's own scripts; not shown in --help.
    add("configure", _configure)
    add("take-credential", _take_credential)
    add("modules", _modules)
    add("renew", _renew)
    add("unconfigure", _unconfigure)
    add("suggest-owner", _suggest_owner)
    doctor.add_parser(commands)
    adopt.add_parser(commands)
    kernels.add_parser(commands)
    extensions.add_parser(commands)
    sessions.add_parser(commands)
    tokens.add_parser(commands)
    people_command.add_parser(commands)
    command.add_parser(commands)
    return parser


def _add_config(config: argparse.ArgumentParser) -> None:
    actions = config.add_subparsers(metavar="ACTION", required=True)

    def add(name: str, command: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=help, description=help)
        made.set_defaults(command=command)
        return made

    add("schema", _config_schema, "the JSON Schema of config.toml, for editors")
    show = add("show", _config_show, "every setting with its value and meaning")
    show.add_argument("--json", action="store_true", help="for programs")
    get = add("get", _config_get, "the value of a setting, or of several, a line each")
    completion.completed(get.add_argument("keys", nargs="+", metavar="KEY"), completion.names)
    setting = add("set", _config_set, "change settings, apply them, and take them back if they do not work")
    completion.completed(setting.add_argument("pairs", nargs="+", metavar="KEY VALUE"), completion.pairs)
    unset = add("unset", _config_unset, "back to the default, applied like a change")
    completion.completed(unset.add_argument("keys", nargs="+", metavar="KEY"), completion.names)
    add("edit", _config_edit, "open config.toml in your editor, check it, apply it")


# --- looking ---------------------------------------------------------------------------------------


def _status(arguments: argparse.Namespace) -> int:
    from . import status

    current = configure.current()
    if arguments.watch:
        from . import screen

        # A look is no use of the server, which may sleep meanwhile.
        return screen.watch(lambda: status.collect(current, knock=False))
    facts = status.collect(current)
    if arguments.json:
        print(json.dumps(facts.as_json(), indent=2))
    else:
        from . import screen

        screen.show(facts)
    return 0 if facts.healthy else EX_UNAVAILABLE


def _url(arguments: argparse.Namespace) -> int:
    from . import password

    current = configure.current()
    address = apply.address(current)
    link = ""
    if not arguments.plain:
        accounts.owner(current.user)
        token = password.new_login_link(paths.Place(current.user).login_links)
        # Behind the #: no browser sends it by itself, so it is in no log and no preview of a chat uses it up.
        link = f"{address}/login?link#token={token}"
    if arguments.json:
        print(json.dumps({"address": address, "login_link": link or None, "valid_seconds": 600 if link else None}))
    elif link:
        print(link)
        say("This link logs in once, within the next 10 minutes.")
        if current.tls_mode == "self-signed":
            say("A browser warns until it trusts this machine: sudo jupyter-remote status")
    else:
        print(address)
    return 0


def _logs(arguments: argparse.Namespace) -> int:
    # What kernels print belongs to their notebooks; here is what their keepers have to say.
    words = ["journalctl", "-u", paths.SERVICE, "-u", paths.KERNELS, "-n", str(arguments.lines), "-o", "short-iso"]
    if arguments.follow:
        words.append("-f")
    if os.geteuid() != 0 and not run("journalctl", "-n", "1", "-u", paths.SERVICE, check=False).stdout.strip():
        say("Only root and the group adm can read the whole log: sudo jupyter-remote logs")
    try:
        os.execvp(words[0], words)
    except FileNotFoundError:
        die("There is no journal here.", hint="The server logs to the terminal of: jupyter-remote run")


# --- changing --------------------------------------------------------------------------------------


def _password(arguments: argparse.Namespace) -> int:
    from . import password

    if arguments.totp or arguments.no_totp:
        return _second_factor(arguments.totp)
    with apply.lock():
        if arguments.lock:
            new = password.LOCKED
        elif arguments.hash:
            new = password.checked_hash(sys.stdin.readline().strip())
        else:
            new = password.hashed(sys.stdin.readline().rstrip("\r\n") if arguments.stdin else password.typed())
        password.store(new)
        if paths.CONFIG.exists():
            _report(apply.apply(configure.current()))
    say("Locked: only login links work now (sudo jupyter-remote url)." if arguments.lock else "The password is set.")
    say("All browsers are logged out.")
    if count := tokens.count():
        tell = f"{count} tokens of programs still work" if count > 1 else "One token of a program still works"
        say(f"{tell}: jupyter-remote token list. An end to all: jupyter-remote token revoke --all")
    return 0


def _second_factor(wanted: bool) -> int:
    from . import secondfactor

    apply.require_root()
    current = configure.current()
    # Not under the lock: a person may take their time.
    new = secondfactor.set_up(current.user, apply.public_name(current)) if wanted else None
    with apply.lock():
        secondfactor.store(new)
        _report(apply.apply(current))
    secondfactor.tell(wanted, apply.address(current))
    return 0


def _apply(arguments: argparse.Namespace) -> int:
    if arguments.install:
        return _install()
    with apply.lock():
        outcome = apply.apply(configure.current())
    outcome.findings += _of_others("apply")
    if arguments.json:
        findings = [vars(finding) for finding in outcome.findings]
        print(json.dumps({"changed": outcome.changed, "restarted": outcome.restarted, "findings": findings}))
    else:
        _report(outcome)
    return EX_UNAVAILABLE if outcome.findings else 0


def _install() -> int:
    """The postinst's apply. Trouble is told and never fails: dpkg must not be left half-way over it."""
    from . import password

    try:
        with apply.lock():
            current = configure.current()
            _report(apply.apply(current, installing=True))
        for trouble in _of_others("apply", "--install"):
            say(f"Needs attention: {trouble}")
    except (Mistake, ProcessFailed, OSError) as trouble:
        say(f"Needs attention: {trouble}\n  Installed, but not running. When mended: sudo jupyter-remote apply")
        return 0
    if paths.PERSON:
        return 0
    configure.next_steps(apply.address(current), bool(password.is_locked()))
    if paths.CONDA_WANTED.exists():
        if machine.has_systemd():
            try:
                systemd.start_in_background(paths.CONDA_SERVICE)
                say(f"  conda is being installed; to watch:  journalctl -fu {paths.CONDA_SERVICE}")
            except ProcessFailed:  # masked: an administrator's decision
                say("  Conda was asked for, but its service does not start; install it:  jupyter-remote conda install")
        else:
            say("  Conda was asked for; install it:  jupyter-remote conda install")
    if not machine.has_systemd():
        say("  There is no systemd here. Serve with:  jupyter-remote run")
    return 0


def _of_others(*words: str) -> list[Finding]:
    """Have further people's Jupyters follow; what went wrong."""
    return [Finding(trouble, "sudo jupyter-remote --for NAME status") for trouble in people.follow(*words)]


def _report(outcome: apply.Outcome) -> None:
    for finding in outcome.findings:
        say(f"Needs attention: {finding}")


def _config_show(arguments: argparse.Namespace) -> int:
    current = configure.current()
    if arguments.json:
        print(json.dumps({name: current.get(name) for name in settings.KEYS}, indent=2))
        return 0
    for name, key in settings.KEYS.items():
        value = current.get(name)
        note = "" if value != key.default else "   (default)"
        print(f"{name} = {configfile.as_text(value)}{note}")
        for line in key.meaning.splitlines():
            print(f"    {line}")
    return 0


def _config_schema(_: argparse.Namespace) -> int:
    print(json.dumps(schema.schema(), indent=2))
    return 0


def _config_get(arguments: argparse.Namespace) -> int:
    names = [settings.key(name).name for name in arguments.keys]
    current = configure.current()
    for name in names:
        print(configfile.as_text(current.get(name)))
    return 0


def _config_set(arguments: argparse.Namespace) -> int:
    apply.require_root()
    return _change(dict(configfile.require_pairs(arguments.pairs)))


def _config_unset(arguments: argparse.Namespace) -> int:
    apply.require_root()
    return _change({settings.key(name).name: None for name in arguments.keys})


def _change(values: dict[str, Scalar | None]) -> int:
    with apply.lock():
        before, after = configure.change(values)
        outcome = _try(before, after)
    return _told(outcome)


def _config_edit(_: argparse.Namespace) -> int:
    with apply.lock():
        before = settings.read(paths.CONFIG)
        outcome = _try(before, _edited(before))
    return _told(outcome)


def _edited(text: str) -> str:
    """What the person makes of it in their editor; asked again while it is not valid."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "editor"
    with tempfile.NamedTemporaryFile("w+", suffix=".toml", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        while True:
            done = run("sh", "-c", f'exec {editor} "$1"', "sh", file.name, capture=False, check=False, terminal=True)
            if done.returncode:
                die(
                    f"The editor {editor} ended with {done.returncode}; nothing was changed.",
                    hint="EDITOR=nano …",
                )
            edited = settings.read(Path(file.name))
            try:
                configure.parsed(edited)
                return edited
            except Mistake as mistake:
                say(f"{mistake}")
                if not sys.stdin.isatty() or input("Edit again? [Y/n] ").strip().lower().startswith("n"):
                    die("Nothing was changed.", code=EX_DATAERR)


def _told(outcome: apply.Outcome) -> int:
    """After a change of settings; the exit code."""
    outcome.findings += _of_others("apply")
    _report(outcome)
    return EX_UNAVAILABLE if outcome.findings else 0


def _try(before: str, after: str) -> apply.Outcome:
    """Apply a new config.toml; the old one is back when the machine does not come up with it."""
    from .transaction import replace

    wanted = configure.parsed(after)
    replace(paths.CONFIG, after)
    try:
        outcome = apply.apply(wanted)
        if not outcome.findings and systemd.running() and (problem := apply.unreachable(wanted)):
            die(f"Jupyter does not answer with the new settings: {problem}", code=EX_UNAVAILABLE)
    except BaseException as failure:
        replace(paths.CONFIG, before)
        # What the settings asked for was not there: nothing was touched. Otherwise: back to the old state.
        with contextlib.suppress(Mistake):
            apply.apply(configure.parsed(before))
        if isinstance(failure, Mistake):
            die(
                failure.what,
                hint=f"{failure.hint}\n  The settings are as before.".lstrip(),
                code=failure.code,
            )
        raise
    if not outcome.findings and "apache2 (reloaded)" in outcome.restarted:
        _report_first_certificate(wanted)
    return outcome


def _report_first_certificate(wanted: settings.Settings) -> None:
    """With an authority: wait for its answer to the new settings, which takes seconds when all is well."""
    if not apply.lacks_certificate(wanted):
        return
    say(f"Asking {wanted.tls_acme_directory} for a certificate …")
    if apply.await_certificate(wanted):
        apply.apply(wanted)  # it is not asked for anew any more
        say(f"The certificate for {', '.join(acme.names(wanted))} is in use.")
    elif finding := acme.finding(wanted):
        say(f"Needs attention: {finding}\n  Until then the certificate that was there before serves.")
    else:
        say("It has not come yet; the one that was there before serves until then. To see: sudo jupyter-remote status")


def _run(arguments: argparse.Namespace) -> int:
    from . import foreground

    foreground.run(configure.current(), keep_kernels=arguments.keep_kernels)


# --- for the package's own scripts ------------------------------------------------------------------


def _configure(_: argparse.Namespace) -> int:
    answers = configure.parse(sys.stdin.read())
    with apply.lock():
        if paths.CONFIG.exists():
            try:
                configure.current()
            except Mistake as broken:
                # An upgrade goes on; what runs keeps running as it is.
                say(f"Needs attention: {broken}")
                return 0
        configure.configure(answers)
    return 0


def _take_credential(_: argparse.Namespace) -> int:
    from . import password
    from .transaction import replace

    apply.require_root()
    new = password.from_credential(Path(os.environ.get("CREDENTIALS_DIRECTORY", "/run/credstore")))
    if new:
        with apply.lock():
            password.store(new)
            replace(paths.CREDENTIAL, new + "\n", 0o600)
            _report(apply.apply(configure.current()))
        say("The password was taken over from a credential. All browsers are logged out.")
    return 0


def _modules(_: argparse.Namespace) -> int:
    from . import apache

    with apply.lock():
        apache.drop_half_enabled()
        if not apache.installed() or apache.configtest():
            return 0
        missing = apply.modules_to_enable(configure.current())
        apache.remember_enabled(set(missing))
    print("\n".join(missing))
    return 0


def _renew(_: argparse.Namespace) -> int:
    for taken in apply.renew(configure.current()):
        say(f"The new certificate {taken} is in use.")
    return 0


def _unconfigure(_: argparse.Namespace) -> int:
    apply.require_root()
    for trouble in people.follow("unconfigure"):
        say(trouble)
    with apply.lock():
        apply.unapply()
    return 0


def _suggest_owner(_: argparse.Namespace) -> int:
    print(accounts.suggest_owner())
    return 0


if __name__ == "__main__":
    sys.exit(main())
