"""Passkeys (WebAuthn, level 2): the owner's public keys, and what a browser signs with the private ones.

The keys are in the owner's state. A browser is given a challenge, signs it, and sends it back in an ordinary form.
Challenges are kept nowhere: each carries our signature, its purpose and its time, and is refused when it has been
used. The key of that signature is made when the server starts, so a restart makes all challenges worthless and need
not remember which were used.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import importlib
import ipaddress
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from .. import transaction

#: What a challenge is for: a new passkey, a login by a passkey alone, the second step of a login.
NEW, WHOLE, SECOND = "new", "whole", "second"

#: Seconds that a challenge is good for.
LIFETIME = 300

#: Longer than what any authenticator sends, in characters.
LONGEST = 65_536

#: Letters of a passkey's name.
LONGEST_NAME = 60

#: COSE algorithms, what authenticators like best first: ES256, EdDSA, RS256. The library verifies all of them.
_ALGORITHMS = (-7, -8, -257)

_NONCE, _TIME = 16, 8


@dataclass(frozen=True)
class Passkey:
    """A public key. ``host`` is the name of ours that it is for; a browser shows it to no other."""

    id: str
    name: str
    host: str
    made: str
    #: the key with its id, as the library packs it; base64
    key: str
    #: of signatures, where the authenticator counts them
    counter: int


class Refused(Exception):
    """What a browser sent proves nothing; the text says why, for the log."""


class Passkeys:
    """Those of the owner."""

    def __init__(self, file: Path, base_url: str, clock: Callable[[], float] = time.time) -> None:
        """
        :param file: where they are kept.
        :param base_url: tells several instances on one host apart.
        """
        self._file, self._base_url, self._clock = file, base_url, clock
        self._key = os.urandom(32)
        self._used: dict[bytes, float] = {}

    def all(self, host: str | None = None) -> list[Passkey]:
        """Every one, or those for one of our names. A damaged file holds none."""
        try:
            kept = [Passkey(**entry) for entry in json.loads(self._file.read_text(encoding="utf-8"))]
        except (OSError, ValueError, TypeError):
            return []
        return [passkey for passkey in kept if host in (None, passkey.host)]

    def remove(self, identifier: str) -> Passkey | None:
        """Forget one; which it was."""
        kept = self.all()
        gone = next((passkey for passkey in kept if passkey.id == identifier), None)
        self._store([passkey for passkey in kept if passkey.id != identifier])
        return gone

    # -- what a browser is asked ----------------------------------------------------------------------

    def request(self, host: str, purpose: str) -> str:
        """The options of ``navigator.credentials.get`` in JSON, bytes in base64url.

        A login by a passkey alone names no key, so that a stranger learns none.
        """
        known = self.all(host) if purpose == SECOND else []
        return json.dumps(
            {
                "challenge": _text(self._challenge(purpose)),
                "rpId": host,
                "timeout": LIFETIME * 1000,
                "allowCredentials": [{"type": "public-key", "id": passkey.id} for passkey in known],
                # Alone it must be two things: the device, and the finger or PIN that unlocks it.
                "userVerification": "required" if purpose == WHOLE else "preferred",
            }
        )

    def creation(self, host: str, user: str, display_name: str) -> str:
        """The same of ``navigator.credentials.create``."""
        handle = hashlib.sha256(f"{host} {self._base_url} {user}".encode()).digest()
        return json.dumps(
            {
                "challenge": _text(self._challenge(NEW)),
                "rp": {"id": host, "name": f"Jupyter on {host}"},
                "user": {"id": _text(handle), "name": user, "displayName": display_name},
                "pubKeyCredParams": [{"type": "public-key", "alg": number} for number in _ALGORITHMS],
                "timeout": LIFETIME * 1000,
                "excludeCredentials": [{"type": "public-key", "id": passkey.id} for passkey in self.all(host)],
                "authenticatorSelection": {"residentKey": "preferred", "userVerification": "preferred"},
                "attestation": "none",
            }
        )

    # -- what it answers ------------------------------------------------------------------------------

    def add(self, host: str, origin: str, answer: str, name: str) -> Passkey:
        """Take a new one.

        :param origin: of our own page, ``https://box.test``.
        :param answer: what the page sent, JSON.
        :raises Refused: it is not an answer to a challenge of ours, from our own page.
        """
        from fido2.webauthn import RegistrationResponse

        given, challenge = self._read(answer, RegistrationResponse.from_dict, {NEW})
        try:
            data = _library(host, origin).register_complete(_state(challenge, False), given)
            key = bytes(data.credential_data)
            identifier = _text(data.credential_data.credential_id)
        except Exception as error:  # whatever the library makes of what a stranger sends
            raise Refused(str(error)) from None
        name = "".join(char for char in name if char.isprintable()).strip()[:LONGEST_NAME]
        passkey = Passkey(identifier, name or "Passkey", host, date.today().isoformat(), _text(key), data.counter)
        self._used[challenge] = self._clock()
        self._store([*(known for known in self.all() if known.id != identifier), passkey])
        return passkey

    def check(self, host: str, origin: str, answer: str, purposes: set[str]) -> tuple[Passkey, str]:
        """Which one has signed, and for what purpose of those.

        :raises Refused: none has, or not what we asked for, or not from our own page, or a second time.
        """
        known = {passkey.id: passkey for passkey in self.all(host)}
        if not known:
            raise Refused("there is none")
        from fido2.webauthn import AttestedCredentialData, AuthenticationResponse

        given, challenge = self._read(answer, AuthenticationResponse.from_dict, purposes)
        purpose = self._purpose(challenge)
        assert purpose is not None
        try:
            keys = [AttestedCredentialData(_bytes(passkey.key)) for passkey in known.values()]
            state = _state(challenge, purpose == WHOLE)
            used = _library(host, origin).authenticate_complete(state, keys, given)
            passkey = known[_text(used.credential_id)]
            counter = given.response.authenticator_data.counter
        except Exception as error:
            raise Refused(str(error)) from None
        if passkey.counter and counter <= passkey.counter:
            raise Refused(f"the counter of {passkey.name!a} went back: somebody has a copy of it")
        self._used[challenge] = self._clock()
        if counter != passkey.counter:
            # On a full disk the old count is as good.
            with contextlib.suppress(OSError):
                self._store([replace(one, counter=counter) if one.id == passkey.id else one for one in self.all()])
        return passkey, purpose

    def _read(self, answer: str, parse: Callable[[Any], Any], purposes: set[str]) -> tuple[Any, bytes]:
        if len(answer) > LONGEST:
            raise Refused("it is too long")
        try:
            given = parse(json.loads(answer))
            client = given.response.client_data
            challenge, framed = bytes(client.challenge), client.cross_origin
        except Exception:
            raise Refused("it cannot be read") from None
        if framed:
            raise Refused("it was asked for in a page of another site")
        if self._purpose(challenge) not in purposes:
            raise Refused("it answers no question of ours, or too late")
        if challenge in self._used:
            raise Refused("it has been sent before")
        return given, challenge

    # -- challenges -----------------------------------------------------------------------------------

    def _challenge(self, purpose: str) -> bytes:
        open_part = os.urandom(_NONCE) + int(self._clock()).to_bytes(_TIME, "big")
        return open_part + self._seal(purpose, open_part)

    def _purpose(self, challenge: bytes) -> str | None:
        """What a challenge of ours is for; None when it is not ours, or too old."""
        now = self._clock()
        for used in [used for used, when in self._used.items() if now - when > LIFETIME]:
            del self._used[used]
        open_part, seal = challenge[: _NONCE + _TIME], challenge[_NONCE + _TIME :]
        if not 0 <= now - int.from_bytes(open_part[_NONCE:], "big") <= LIFETIME:
            return None
        purposes = (NEW, WHOLE, SECOND)
        return next((each for each in purposes if hmac.compare_digest(seal, self._seal(each, open_part))), None)

    def _seal(self, purpose: str, open_part: bytes) -> bytes:
        return hmac.new(self._key, purpose.encode() + open_part, hashlib.sha256).digest()

    def _store(self, passkeys: list[Passkey]) -> None:
        transaction.replace(self._file, json.dumps([asdict(passkey) for passkey in passkeys], indent=1) + "\n", 0o600)


async def load() -> None:
    """Import the library beside the event loop: it takes a quarter of a second, once."""
    await asyncio.get_running_loop().run_in_executor(None, importlib.import_module, "fido2.server")


def can_have(host: str) -> bool:
    """Whether a browser has passkeys for this name of ours: for addresses it has none."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


def _library(host: str, origin: str) -> Any:
    from fido2.server import Fido2Server
    from fido2.webauthn import PublicKeyCredentialRpEntity

    # Our own page and no other: the library's own check would take a subdomain, and another port.
    return Fido2Server(PublicKeyCredentialRpEntity(id=host, name=host), verify_origin=lambda said: said == origin)


def _state(challenge: bytes, verified: bool) -> dict[str, Any]:
    return {"challenge": _text(challenge), "user_verification": "required" if verified else None}


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
