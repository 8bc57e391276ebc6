"""The second step of a login: a code from the owner's app (TOTP, RFC 6238), or a recovery code.

The secret is root's (``jupyter-remote password --totp``) and reaches the server as a credential, as the password's
hash does. What has been used is remembered in the owner's state: no code opens twice.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import transaction
from ..run import EX_CONFIG, die

#: The credential's name. Without a second factor it says :data:`NONE`, or is not there.
CREDENTIAL = "second-factor"
NONE = "none"

#: Seconds that a code is good for (what every app takes for granted), and how many codes before and after the
#: present one are taken too: clocks differ.
PERIOD = 30
_TOLERANCE = 1

_SECRET = re.compile(r"[A-Z2-7]{32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class SecondFactor:
    """What root has switched on: the secret in base32, and the digests of the recovery codes."""

    secret: str
    recovery: tuple[str, ...]

    def as_text(self) -> str:
        """As it is stored."""
        return json.dumps({"totp": self.secret, "recovery": list(self.recovery)}) + "\n"

    @property
    def name(self) -> str:
        """Says which one it is, and nothing about the secret."""
        return hashlib.sha256(f"second factor {self.secret}".encode()).hexdigest()[:16]


def read(credentials: Path | None) -> SecondFactor | None:
    """The second factor as the unit got it; None when there is none.

    :param credentials: ``$CREDENTIALS_DIRECTORY``, or None.
    :raises Mistake: it is damaged. Nobody may be let in then as if there were none.
    """
    if credentials is None:
        return None
    try:
        text = (credentials / CREDENTIAL).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        text = "damaged"
    return None if text in ("", NONE) else parse(text)


def parse(text: str) -> SecondFactor:
    """The contrary of :meth:`SecondFactor.as_text`.

    :raises Mistake: this is something else.
    """
    try:
        given: Any = json.loads(text)
        secret, recovery = given["totp"], given["recovery"]
        if _SECRET.fullmatch(secret) and all(_DIGEST.fullmatch(digest) for digest in recovery):
            return SecondFactor(secret, tuple(recovery))
    except (ValueError, LookupError, TypeError):
        pass
    die(
        "The second factor, /etc/jupyter-remote/second-factor, cannot be read, so nobody can be let in.",
        hint="Make a new one: sudo jupyter-remote password --totp — or have none: … --no-totp",
        code=EX_CONFIG,
    )


def code_at(secret: str, step: int) -> str:
    """The code of one period of :data:`PERIOD` seconds."""
    import pyotp  # not at the start: hardly anybody logs in then

    return str(pyotp.TOTP(secret).generate_otp(step))


def digest_of(recovery_code: str) -> str:
    """What is kept of a recovery code. It has 80 random bits: a quick hash is as good as a slow one."""
    return hashlib.sha256(_plain(recovery_code).encode()).hexdigest()


def step_of(secret: str, code: str, now: float, after: int = -1) -> int | None:
    """The period that a code is of, if that is about now.

    :param after: the last period whose code has been used.
    """
    import hmac

    present = int(now) // PERIOD
    for step in range(present - _TOLERANCE, present + _TOLERANCE + 1):
        if step > after and hmac.compare_digest(code_at(secret, step), _plain(code)):
            return step
    return None


class Codes:
    """Takes codes, each once."""

    def __init__(self, factor: SecondFactor, used: Path, clock: Callable[[], float] = time.time) -> None:
        """
        :param used: the file that remembers what has been used.
        :param clock: seconds since 1970.
        """
        self._factor, self._file, self._clock = factor, used, clock

    def use(self, code: str) -> str:
        """How the code opens the second step: ``"code"`` or ``"recovery code"``; empty when it does not.

        :raises OSError: it cannot be remembered that the code is used now, so it opens nothing.
        """
        code = _plain(code)
        last, recovery = self._used()
        if re.fullmatch(r"[0-9]{6}", code):
            step = step_of(self._factor.secret, code, self._clock(), after=last)
            if step is None:
                return ""
            self._remember(step, recovery)
            return "code"
        digest = digest_of(code)
        if digest not in self._factor.recovery or digest in recovery:
            return ""
        self._remember(last, [*recovery, digest])
        return "recovery code"

    @property
    def recovery_left(self) -> int:
        """How many recovery codes have not been used."""
        return len(set(self._factor.recovery) - set(self._used()[1]))

    def _used(self) -> tuple[int, list[str]]:
        try:
            kept = json.loads(self._file.read_text(encoding="utf-8"))
            if kept["of"] == self._factor.name:
                return int(kept["step"]), [str(digest) for digest in kept["recovery"]]
        except FileNotFoundError:
            pass
        except (ValueError, LookupError, TypeError):
            # Damaged: by its owner, who could have removed it too.
            pass
        return -1, []

    def _remember(self, step: int, recovery: list[str]) -> None:
        used = {"of": self._factor.name, "step": step, "recovery": recovery}
        transaction.replace(self._file, json.dumps(used) + "\n", 0o600)


def _plain(code: str) -> str:
    """A code without what people put in to read it better."""
    return re.sub(r"[\s-]", "", code).lower()
