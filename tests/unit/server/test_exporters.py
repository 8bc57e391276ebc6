"""What a notebook can be exported as."""

from __future__ import annotations

from nbconvert.exporters import base
from running import Running

from jupyter_remote.server.exporters import exporters


def test_they_are_those_that_nbconvert_names(shared: Running):
    with shared.owner() as owner:
        answer = owner.get("api/nbconvert")
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.json() == exporters()
    assert set(answer.json()) == set(base.get_export_names())
    assert answer.json()["html"] == {"output_mimetype": "text/html"}


def test_they_are_not_for_strangers(shared: Running):
    with shared.visitor() as visitor:
        assert visitor.get("api/nbconvert").status_code == 403
