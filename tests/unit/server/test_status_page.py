"""The page that says how things stand. (That it is right is proved in boxes.)"""

from __future__ import annotations

from running import Browser


def test_the_page_may_stand_in_our_own_pages_and_nowhere_else(visitor: Browser, owner: Browser):
    assert visitor.get("status").url.path == "/jupyter/login"
    page = owner.get("status")
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "frame-ancestors 'self'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]
    assert owner.get("static/jupyter-remote/status.js").status_code == 200


def test_when_nothing_can_be_found_out_it_says_so(owner: Browser):
    # There is no config.toml here.
    answer = owner.get("api/jupyter-remote/status")
    assert answer.status_code == 503
    assert "config.toml" in answer.json()["message"]


def test_without_a_login_nobody_hears_anything(visitor: Browser):
    assert visitor.get("api/jupyter-remote/status", follow_redirects=False).status_code == 403
