"""A passkey's other half: what a browser and its authenticator make of a question of ours (WebAuthn, level 2)."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from fido2.cose import ES256
from fido2.webauthn import AttestationObject, AttestedCredentialData, AuthenticatorData

FLAG = AuthenticatorData.FLAG


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Authenticator:
    """One that asks for its person's finger, and counts what it signs.

    What it says can be bent: ``origin``, ``verified``, ``host``, ``more`` for the browser's own words.
    """

    def __init__(self, origin: str = "https://box.test", host: str = "box.test") -> None:
        self.origin, self.host = origin, host
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.id = os.urandom(16)
        self.counter = 0
        self.verified = True
        self.more: dict[str, Any] = {}

    def create(self, options: str) -> str:
        """The answer to ``navigator.credentials.create``."""
        public = ES256.from_cryptography_key(self.key.public_key())
        credential = AttestedCredentialData.create(b"\0" * 16, self.id, public)
        data = self._data(FLAG.AT, credential)
        client = self._client("webauthn.create", options)
        attestation = AttestationObject.create("none", data, {})
        return self._answer(clientDataJSON=client, attestationObject=bytes(attestation))

    def get(self, options: str) -> str:
        """The answer to ``navigator.credentials.get``."""
        client = self._client("webauthn.get", options)
        data = self._data(FLAG(0))
        signature = self.key.sign(bytes(data) + hashlib.sha256(client).digest(), ec.ECDSA(SHA256()))
        return self._answer(clientDataJSON=client, authenticatorData=bytes(data), signature=signature)

    def _data(self, more: FLAG, credential: bytes = b"") -> AuthenticatorData:
        self.counter += 1
        flags = FLAG.UP | more | (FLAG.UV if self.verified else FLAG(0))
        return AuthenticatorData.create(hashlib.sha256(self.host.encode()).digest(), flags, self.counter, credential)

    def _client(self, kind: str, options: str) -> bytes:
        said = {"type": kind, "challenge": json.loads(options)["challenge"], "origin": self.origin}
        return json.dumps({**said, "crossOrigin": False, **self.more}).encode()

    def _answer(self, **response: bytes) -> str:
        parts = {name: text(part) for name, part in response.items()}
        return json.dumps({"id": text(self.id), "rawId": text(self.id), "type": "public-key", "response": parts})
