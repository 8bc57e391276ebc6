"""Certificates, made and judged by the real openssl."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupyter_remote import tls
from jupyter_remote.run import Mistake, run

_NAMES = ("lab.test", "lab", "localhost")
_ADDRESSES = ("10.77.0.5", "198.51.100.7", "2001:db8::1")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "self-signed"


def verifies(directory: Path, *question: str) -> bool:
    return not run(
        "openssl", "verify", "-CAfile", directory / "ca.crt", *question, directory / "leaf.crt", check=False
    ).returncode


def test_our_certificate_is_good_for_every_name_and_address(own: Path) -> None:
    tls.self_signed(own, _NAMES, _ADDRESSES)
    for name in _NAMES:
        assert verifies(own, "-verify_hostname", name)
    for address in _ADDRESSES:
        assert verifies(own, "-verify_ip", address)
    assert not verifies(own, "-verify_hostname", "bank.example")


def test_nothing_is_made_anew_without_need(own: Path) -> None:
    first = tls.self_signed(own, _NAMES, _ADDRESSES)
    assert tls.self_signed(own, _NAMES, _ADDRESSES) == first


def test_a_private_address_that_changes_needs_no_new_trust_and_a_new_name_does(own: Path) -> None:
    tls.self_signed(own, _NAMES, ("10.77.0.5",))
    trusted = tls.ca_certificate(own)
    tls.self_signed(own, _NAMES, ("192.168.1.9",))
    assert tls.ca_certificate(own) == trusted
    assert verifies(own, "-verify_ip", "192.168.1.9")
    tls.self_signed(own, (*_NAMES, "other.test"), ("192.168.1.9",))
    assert tls.ca_certificate(own) != trusted
    assert verifies(own, "-verify_hostname", "other.test")


def test_a_stolen_ca_key_is_of_no_use_against_other_sites(own: Path, tmp_path: Path) -> None:
    tls.self_signed(own, _NAMES, _ADDRESSES)
    run("openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=bank.example",
        "-keyout", tmp_path / "k", "-out", tmp_path / "csr")  # fmt: skip
    (tmp_path / "ext").write_text("subjectAltName=DNS:bank.example\n")
    run("openssl", "x509", "-req", "-in", tmp_path / "csr", "-CA", own / "ca.crt", "-CAkey", own / "ca.key",
        "-set_serial", "7", "-extfile", tmp_path / "ext", "-out", tmp_path / "forged.crt")  # fmt: skip
    judged = run("openssl", "verify", "-CAfile", own / "ca.crt", tmp_path / "forged.crt", check=False)
    assert judged.returncode != 0
    assert "permitted subtree violation" in judged.stdout + judged.stderr


def test_private_keys_are_readable_by_their_owner_alone(own: Path) -> None:
    tls.self_signed(own, _NAMES, _ADDRESSES)
    for key in ("ca.key", "leaf.key"):
        assert (own / key).stat().st_mode & 0o077 == 0


# --- an administrator's own pair ---------------------------------------------------------------------


@pytest.fixture
def theirs(own: Path) -> tuple[Path, Path]:
    tls.self_signed(own, _NAMES, _ADDRESSES)
    return own / "leaf.crt", own / "leaf.key"


def complaint(certificate: Path, key: Path) -> str:
    with pytest.raises(Mistake) as caught:
        tls.existing(certificate, key)
    return str(caught.value)


def test_a_good_pair_is_taken_as_it_is(theirs: tuple[Path, Path]) -> None:
    assert tls.existing(*theirs).certificate == theirs[0].read_text()


def test_a_pair_that_cannot_work_is_told_what_is_wrong(theirs: tuple[Path, Path], tmp_path: Path) -> None:
    certificate, key = theirs
    assert "is not there" in complaint(tmp_path / "none.pem", key)
    assert "is not there" in complaint(certificate, tmp_path / "none.pem")
    assert "is not a certificate" in complaint(key, key)
    assert "not a private key" in complaint(certificate, certificate)
    assert "does not belong" in complaint(certificate, certificate.parent / "ca.key")
    binary = tmp_path / "der"
    run("openssl", "x509", "-in", certificate, "-outform", "DER", "-out", binary)
    assert "openssl x509 -inform DER" in complaint(binary, key)
    locked = tmp_path / "locked.pem"
    run("openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:secret", "-out", locked)
    assert "passphrase" in complaint(certificate, locked)


def test_an_expired_certificate_is_told_when_it_ended(tmp_path: Path) -> None:
    run("openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x",
        "-keyout", tmp_path / "k", "-out", tmp_path / "csr")  # fmt: skip
    run("openssl", "x509", "-req", "-in", tmp_path / "csr", "-signkey", tmp_path / "k",
        "-days", "-1", "-out", tmp_path / "c")  # fmt: skip
    assert "expired on" in complaint(tmp_path / "c", tmp_path / "k")
