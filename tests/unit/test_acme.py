"""What mod_md has written, read and explained. (That it does write so is proved in boxes, with a real authority.)"""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from jupyter_remote import acme, paths
from jupyter_remote.settings import Settings

_SETTINGS = Settings(server_name="lab.test", tls_mode="acme", tls_acme_directory="https://127.0.0.1:9/dir")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "MD_STORE", tmp_path)
    return tmp_path


def write_job(store: Path, **said: Any) -> Path:
    directory = store / "staging" / "lab.test"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "job.json").write_text(json.dumps(said))
    return directory


def failed(store: Path, problem: str, detail: str = "") -> None:
    write_job(
        store, errors=1, last={"problem": problem, "detail": detail}, **{"next-run": formatdate(time.time() + 60)}
    )


def test_a_certificate_is_for_the_public_names_alone() -> None:
    aliases = ["www.lab.test", "lab", "lab.local", "192.0.2.1", "lab.test"]
    assert acme.names(Settings(server_name="lab.test", server_aliases=aliases)) == ["lab.test", "www.lab.test"]
    assert acme.contact(_SETTINGS) == "root@lab.test"
    assert acme.contact(Settings(server_name="lab.test", tls_acme_email="a@b.test")) == "a@b.test"


def test_without_a_job_there_is_nothing_to_say(store: Path) -> None:
    assert acme.job("lab.test") == acme.Job()
    assert acme.finding(_SETTINGS) is None
    assert not acme.is_ready("lab.test")
    assert acme.certificate("lab.test") is None


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("dns", "does not find lab.test in the DNS"),
        ("connection", "does not reach this machine as lab.test"),
        ("tls", "does not reach this machine as lab.test"),
        ("incorrectResponse", "Something else answers as lab.test"),
        ("rateLimited", "asked too often"),
        ("caa", "may not give certificates for lab.test"),
        ("rejectedIdentifier", "no certificate for lab.test"),
        ("invalidContact", "does not take the address root@lab.test"),
    ],
)
def test_each_problem_has_words_and_a_way_out(store: Path, kind: str, complaint: str) -> None:
    failed(store, f"urn:ietf:params:acme:error:{kind}", "its own words")
    found = acme.finding(_SETTINGS)
    assert found
    assert complaint in found.what
    assert "It said: its own words" in found.what
    assert "Apache asks again at" in found.what
    assert "{" not in found.what + found.hint
    assert found.hint


def test_a_problem_that_nobody_knows_is_passed_on(store: Path) -> None:
    failed(store, "urn:ietf:params:acme:error:newInTheYear2040", "well {name}, \x1b[2Jno\nand\tno")
    found = acme.finding(_SETTINGS)
    assert found
    # Nobody answers at that address; otherwise it is what the authority said.
    assert "127.0.0.1 cannot be reached" in found.what
    failed(store, "challenge-setup-failure", "well {name}, \x1b[2Jno\nand\tno")
    found = acme.finding(_SETTINGS)
    assert found
    assert "It said: well {name}, [2Jno and no" in found.what


def test_a_certificate_is_ready_when_it_is_whole_and_valid(store: Path) -> None:
    directory = write_job(store, finished=True)
    assert not acme.is_ready("lab.test")
    (directory / "pubcert.secp256r1.pem").write_text("x")
    assert acme.is_ready("lab.test")
    write_job(store, finished=True, **{"valid-from": formatdate(time.time() + 3600)})
    assert not acme.is_ready("lab.test")
    write_job(store, finished=False)
    assert not acme.is_ready("lab.test")


def test_a_certificate_is_under_way_until_it_is_there_or_has_failed(store: Path) -> None:
    assert not acme.is_under_way("lab.test")
    for said, under_way in (({}, True), ({"finished": True}, False), ({"errors": 1}, False)):
        write_job(store, **said)
        assert acme.is_under_way("lab.test") is under_way


@pytest.mark.parametrize("text", ["", "[]", "{", '{"last": 7, "errors": "x", "next-run": "never"}', "\x00"])
def test_a_job_that_cannot_be_read_is_none(store: Path, text: str) -> None:
    (write_job(store) / "job.json").write_text(text)
    assert acme.job("lab.test") == acme.Job()


def test_apaches_workers_cannot_have_another_file_read(store: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"errors": 1, "last": {"detail": "a secret"}}))
    job = write_job(store) / "job.json"
    job.unlink()
    job.symlink_to(other)
    assert acme.job("lab.test") == acme.Job()


# As Apache 2.4.71 has written it; pebble was the authority.
_LOGGED = (
    "[Thu Nov 26 08:06:18.437470 2026] [md:error] [pid 2294:tid 2295] ACME server authz: challenge 'invalid' for "
    "lab.test at https://ca.test:14000/authZ/h7. Exact response was: "
    '{"status":"invalid","identifier":{"type":"dns","value":"lab.test"},"challenges":[{"type":"http-01","url":'
    '"https://ca.test:14000/chalZ/IV","token":"x","status":"invalid","error":{"type":'
    '"urn:ietf:params:acme:error:connection","detail":"dial tcp 10.77.0.10:81: \\\\"refused\\\\"","status":400}}]}'
)


def test_the_authoritys_words_are_found_in_apaches_log(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "error.log"
    monkeypatch.setattr(acme, "_LOG", log)
    failed(store, "", "Error waiting on domain names to be validated")
    found = acme.finding(_SETTINGS)
    assert found
    assert "does not see that this machine is lab.test" in found.what
    log.write_text(f"{_LOGGED.replace('connection', 'dns').replace('lab.test', 'other.test')}\n{_LOGGED}\nlast\n")
    found = acme.finding(_SETTINGS)
    assert found
    assert 'does not reach this machine as lab.test. It said: dial tcp 10.77.0.10:81: "refused"' in found.what


def test_starting_over_forgets_the_failure_and_follows_no_link(store: Path, tmp_path: Path) -> None:
    failed(store, "urn:ietf:params:acme:error:dns")
    acme.start_over("lab.test")
    assert acme.finding(_SETTINGS) is None
    acme.start_over("never-asked.test")
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").write_text("x")
    (store / "staging/linked.test").symlink_to(other)
    acme.start_over("linked.test")
    assert (other / "file").exists()
