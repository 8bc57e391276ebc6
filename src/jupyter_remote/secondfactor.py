"""The second factor on disk, and its setting up on a terminal. The server's side is ``server/secondfactor.py``."""

from __future__ import annotations

import base64
import io
import secrets
import sys
import time
from pathlib import Path

from . import paths
from .run import EX_DATAERR, EX_USAGE, die, say
from .server.secondfactor import SecondFactor, digest_of, step_of
from .transaction import replace

#: Recovery codes that are made.
_CODES = 10

#: Wrong codes while it is set up.
_TRIES = 3


def is_on(path: Path = paths.SECOND_FACTOR) -> bool:
    """Whether a code is asked for after the password. Everybody may know."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def store(factor: SecondFactor | None, path: Path = paths.SECOND_FACTOR) -> None:
    """Put it in place, readable by root alone; None takes it away."""
    if factor is None:
        path.unlink(missing_ok=True)
    else:
        replace(path, factor.as_text(), 0o600)


def set_up(owner: str, host: str) -> SecondFactor:
    """Show a new secret on the terminal, and ask for a code that proves that an app has it.

    :param owner: the name that the app shows,
    :param host: and where.
    :returns: the second factor; nothing is stored yet, and its recovery codes have been shown.
    :raises Mistake: there is no terminal, or no code that fits is typed.
    """
    import pyotp
    import segno

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        die("The secret is shown on a terminal, and here is none.", hint="Log in and try again.", code=EX_USAGE)
    secret = pyotp.random_base32()
    address = pyotp.TOTP(secret).provisioning_uri(name=f"{owner}@{host}", issuer_name="Jupyter")
    drawn = io.StringIO()
    segno.make(address, error="l", micro=False).terminal(drawn, compact=True, border=2)
    for line in drawn.getvalue().splitlines():
        # Bright on dark, whatever the terminal's colours are: some apps read no negative.
        print(f"\x1b[97;40m{line}\x1b[0m")
    print("Let an app for one-time codes read this picture, or type this into it:")
    print(f"  {_in_groups(secret)}\n")
    for _ in range(_TRIES):
        if step_of(secret, input("The code that it shows now: "), time.time()) is not None:
            break
        print("That is not the code. Is the clock of this machine right, and the telephone's?")
    else:
        die("No code fitted. Nothing was changed.", hint="sudo jupyter-remote password --totp", code=EX_DATAERR)
    # 80 bits each: nobody guesses one, and a quick hash of it cannot be undone.
    codes = [base64.b32encode(secrets.token_bytes(10)).decode().lower() for _ in range(_CODES)]
    print("\nRecovery codes. Each lets you in once in place of a code, when the telephone is lost.")
    print("They are not shown again: write them down, or print them.")
    for first, second in zip(codes[::2], codes[1::2], strict=True):
        print(f"  {_in_groups(first)}   {_in_groups(second)}")
    print()
    return SecondFactor(secret, tuple(digest_of(code) for code in codes))


def _in_groups(text: str) -> str:
    return " ".join(text[at : at + 4] for at in range(0, len(text), 4))


def tell(on: bool, address: str) -> None:
    """What the change means.

    :param address: of the front page.
    """
    if on:
        say("From now on a code is asked for after the password.")
        say("Browsers that were logged in have been logged out.")
        say("A login link needs no code (sudo jupyter-remote url): who can make one is here already.")
        say(f"A passkey can stand in for the code: {address}/passkeys")
    else:
        say("No code is asked for any more.")
