"""The key that signs cookies: kept over restarts, so that nobody is logged out, and bound to the password,
so that a new password logs everybody out."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

from ..run import EX_CANTCREAT, die

#: Bytes of the stored secret.
SIZE = 32


def cookie_key(file: Path, password_hash: str) -> bytes:
    """The key for this password.

    :param file: where the secret is kept; made with mode 0600 if it is missing or damaged.
    :raises Mistake: it can be neither read nor made.
    """
    try:
        secret = _read(file) or _make(file)
    except OSError as error:
        die(f"The key that signs cookies, {file}, cannot be kept: {error.strerror}.", code=EX_CANTCREAT)
    return hmac.new(secret, password_hash.encode(), hashlib.sha256).digest()


def login_of(key: bytes) -> str:
    """A short name for a key: another one after everybody was logged out. It says nothing about the key itself."""
    return hmac.new(key, b"login", hashlib.sha256).hexdigest()[:16]


def _read(file: Path) -> bytes:
    try:
        secret = file.read_bytes()
    except FileNotFoundError:
        return b""
    # Half a secret, after a full disk, is none.
    return secret if len(secret) == SIZE else b""


def _make(file: Path) -> bytes:
    secret = os.urandom(SIZE)
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(secret)
        stream.flush()
        os.fsync(descriptor)
    new.replace(file)
    return secret
