"""tools/audit: bundled packages with known vulnerabilities, by a database that was saved before."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

AUDIT = Path(__file__).resolve().parents[2] / "tools/audit"

#: as osv.dev has them
TORNADO = {
    "id": "GHSA-8w49-h785-mj3c",
    "aliases": ["CVE-2024-52804"],
    "summary": "Tornado has an HTTP cookie parsing DoS vulnerability",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "tornado"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "6.4.2"}]}],
        }
    ],
}
DOMPURIFY = {
    "id": "GHSA-vhxf-7vqr-mrjg",
    "aliases": ["CVE-2025-26791"],
    "summary": "DOMPurify allows Cross-site Scripting (XSS)",
    "affected": [
        {
            "package": {"ecosystem": "npm", "name": "dompurify"},
            "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}, {"fixed": "3.2.4"}]}],
        }
    ],
}


def audit(tmp_path: Path, advisories: list[dict[str, Any]], *purls: str) -> subprocess.CompletedProcess[str]:
    database, sbom = tmp_path / "database", tmp_path / "sbom.json"
    database.mkdir(exist_ok=True)
    for number, advisory in enumerate(advisories):
        (database / f"{number}.json").write_text(json.dumps(advisory))
    sbom.write_text(json.dumps({"components": [{"purl": f"pkg:{purl}"} for purl in purls]}))
    return subprocess.run([sys.executable, AUDIT, "--database", database, sbom], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("advisory", "purl"),
    [(TORNADO, "pypi/tornado@6.4.1"), (DOMPURIFY, "npm/dompurify@3.2.3")],
    ids=["python", "browser"],
)
def test_a_vulnerable_version_is_named_with_the_one_that_mends_it(
    tmp_path: Path, advisory: dict[str, Any], purl: str
) -> None:
    done = audit(tmp_path, [TORNADO, DOMPURIFY], purl, "pypi/jinja2@3.1.6")
    assert done.returncode == 1, done.stderr
    (line,) = done.stdout.splitlines()
    assert advisory["id"] in line
    assert advisory["aliases"][0] in line
    assert line.endswith("6.4.2" if advisory is TORNADO else "3.2.4")


def test_later_versions_and_other_ecosystems_are_not_meant(tmp_path: Path) -> None:
    done = audit(tmp_path, [TORNADO, DOMPURIFY], "pypi/tornado@6.4.2", "npm/dompurify@3.2.10", "npm/tornado@6.0.0")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_what_was_taken_back_is_nothing(tmp_path: Path) -> None:
    assert audit(tmp_path, [{**TORNADO, "withdrawn": "2025-01-01T00:00:00Z"}], "pypi/tornado@6.4.1").returncode == 0


@pytest.mark.parametrize(
    ("version", "is_affected"),
    [
        *(("1.0", False), ("1.1", True), ("1.4.9", True), ("1.5", False), ("2.0rc1", False), ("2.0", True)),
        *(("2.2", True), ("2.2.post1", False), ("3.7", True), ("4.0-of-nobody", True)),
    ],
)
def test_several_ranges_the_last_affected_and_single_versions(tmp_path: Path, version: str, is_affected: bool) -> None:
    events = [{"introduced": "1.1"}, {"fixed": "1.5"}, {"introduced": "2.0"}, {"last_affected": "2.2"}]
    affected = {
        "package": {"ecosystem": "PyPI", "name": "Some_Package"},
        "ranges": [{"type": "GIT", "events": [{"introduced": "0"}]}, {"type": "ECOSYSTEM", "events": events}],
        "versions": ["3.7"],
    }
    done = audit(tmp_path, [{"id": "X-1", "affected": [affected]}], f"pypi/some-package@{version}")
    assert done.returncode == int(is_affected), done.stderr


def test_a_database_may_be_a_zip_and_an_empty_one_is_none(tmp_path: Path) -> None:
    (tmp_path / "sbom.json").write_text(json.dumps({"components": [{"purl": "pkg:pypi/tornado@6.4.1"}]}))
    for content, code in ({"GHSA.json": json.dumps(TORNADO)}, 1), ({}, 78):
        with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
            for name, text in content.items():
                archive.writestr(name, text)
        argv = [sys.executable, AUDIT, "--database", tmp_path / "all.zip", tmp_path / "sbom.json"]
        done = subprocess.run(argv, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
