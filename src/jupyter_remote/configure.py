"""What debconf was told, put into config.toml and the password file. Called by the postinst alone.

The file wins over debconf: an answer is taken only when it differs from the answer of last time. So an
edit of config.toml survives every upgrade, and ``dpkg-reconfigure`` still changes what was asked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from . import accounts, apply, configfile, password, paths, people, settings
from .run import EX_DATAERR, die, say
from .settings import Scalar
from .transaction import replace

#: debconf's names of questions -> names of settings.
_SETTINGS = {
    "user": "user",
    "server-name": "server_name",
    "base-url": "base_url",
    "tls": "tls.mode",
    "acme-email": "tls.acme_email",
    "certificate": "tls.certificate",
    "key": "tls.key",
}
#: Answered with "true" or "false": whether conda is to be installed, once and in the background.
_CONDA = "conda"
_SECRETS = ("password", "password-hash")


def parse(text: str) -> dict[str, str]:
    """``key=value`` lines; a value is the rest of its line.

    :raises Mistake: a line or a key that does not belong here.
    """
    answers: dict[str, str] = {}
    for line in text.split("\n"):
        if not line:
            continue
        name, equals, value = line.partition("=")
        if not equals or name not in (*_SETTINGS, _CONDA, *_SECRETS):
            # The line may hold a password: it is not shown.
            die("configure was given a line that it does not know.", code=EX_DATAERR)
        answers[name] = value
    return answers


def configure(answers: Mapping[str, str]) -> None:
    """Write config.toml and the password's hash. The caller holds the lock and applies afterwards.

    :raises Mistake: an answer that cannot be used; nothing has changed then.
    """
    last = _last_answers()
    given = {
        setting: configfile.from_words(setting, answers[question])
        for question, setting in _SETTINGS.items()
        if answers.get(question) and answers[question] != last.get(question)
    }
    exists = paths.CONFIG.exists()
    if not exists:
        # An answer that is the default anyway stays a comment, to follow a better default one day.
        given = {name: value for name, value in given.items() if value != settings.KEYS[name].default}
    text = settings.read(paths.CONFIG) if exists else ""
    known = settings.parse(text, str(paths.CONFIG))
    if not known.user and not given.get("user") and (likely := accounts.suggest_owner()):
        given["user"] = likely
    new_text = configfile.changed(text, given) if exists else configfile.fresh(given)
    new_hash = _new_hash(answers)
    wanted = settings.parse(new_text, str(paths.CONFIG))
    if wanted.user and (given or not exists):
        apply.check(wanted)

    if new_text != text:
        replace(paths.CONFIG, new_text)
    if new_hash:
        password.store(new_hash)
    elif not paths.PASSWORD_HASH.exists():
        password.store(password.LOCKED)
    replace(
        paths.ANSWERS,
        json.dumps({question: answers.get(question, "") for question in (*_SETTINGS, _CONDA)}) + "\n",
        0o600,
    )
    _ask_for_conda(answers.get(_CONDA, ""), last.get(_CONDA, ""))


def _ask_for_conda(answer: str, last: str) -> None:
    """Leave word for jupyter-remote-conda.service; once for each time that the answer becomes yes."""
    if answer == "true" and last != "true":
        replace(paths.CONDA_WANTED, "")
    elif answer == "false":
        paths.CONDA_WANTED.unlink(missing_ok=True)


def _new_hash(answers: Mapping[str, str]) -> str:
    if ready := answers.get("password-hash"):
        return password.checked_hash(ready)
    if typed := answers.get("password"):
        return password.hashed(typed)
    return ""


def _last_answers() -> dict[str, str]:
    try:
        return json.loads(paths.ANSWERS.read_text())
    except (OSError, ValueError):
        return {}


def next_steps(address: str, locked: bool) -> None:
    """What a person who has just installed the package wants to know."""
    say(f"Your Jupyter: {address}")
    if locked:
        say("  No password is set yet. Set one:  sudo jupyter-remote password")
        say("  Or log in once with a link:       sudo jupyter-remote url")


def current() -> settings.Settings:
    """The settings as they are.

    :raises Mistake: see :func:`jupyter_remote.settings.load`.
    """
    return parsed(settings.read(paths.CONFIG))


def parsed(text: str) -> settings.Settings:
    """Settings out of a text that is, or is to be, in config.toml.

    :raises Mistake: see :func:`jupyter_remote.settings.parse`.
    """
    return settings.parse(text, str(paths.CONFIG), machine=people.machine_settings(), person=paths.PERSON)


def change(values: Mapping[str, Scalar | None]) -> tuple[str, str]:
    """config.toml before and after setting (or unsetting) keys; nothing is written.

    :raises Mistake: the file as it would be then is not valid.
    """
    before = settings.read(paths.CONFIG)
    after = configfile.changed(before, values)
    parsed(after)
    return before, after
