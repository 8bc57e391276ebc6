"""Passkeys in Chromium, with its virtual authenticator: what a laptop with a fingerprint reader would do."""

from __future__ import annotations

import re

import pyotp
import pytest
from lab.box import Box
from playwright.sync_api import expect

from jupyter_remote.server.secondfactor import SecondFactor
from tests.browser.browser import Browser
from tests.installed import PASSWORD

#: in Chromium's words: part of the machine, keeps keys, knows its person
LAPTOP = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@pytest.mark.one_release
def test_a_passkey_is_the_whole_login_and_stands_in_for_the_code(browser: Browser, box: Box):
    page = browser.page
    devtools = browser.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    laptop = devtools.send("WebAuthn.addVirtualAuthenticator", {"options": LAPTOP})["authenticatorId"]

    def log_out() -> None:
        browser.open("logout")
        browser.open("lab")
        expect(page.locator("input[name=password]")).to_be_visible()

    browser.login(PASSWORD)
    browser.open("passkeys")
    page.get_by_label("Name of a new one").fill("Alice's laptop")
    page.get_by_role("button", name="Add a passkey").click()
    expect(page.get_by_text("Alice's laptop")).to_be_visible()
    browser.screenshot("passkeys")
    # The same device does not become two.
    page.get_by_label("Name of a new one").fill("again")
    page.get_by_role("button", name="Add a passkey").click()
    expect(page.get_by_text("This device has a passkey for this place already.")).to_be_visible()

    # The whole login, back to where one wanted to go.
    log_out()
    browser.screenshot("login-with-passkey")
    page.get_by_role("button", name="Log in with a passkey").click()
    page.wait_for_url(re.compile(r"/lab\b"))
    assert 'with the passkey "Alice\'s laptop"' in box.journal("jupyter-remote")

    # Not without the finger.
    log_out()
    devtools.send("WebAuthn.setUserVerified", {"authenticatorId": laptop, "isUserVerified": False})
    page.get_by_role("button", name="Log in with a passkey").click()
    expect(page.get_by_text("No passkey was used. Please try again.")).to_be_visible()
    devtools.send("WebAuthn.setUserVerified", {"authenticatorId": laptop, "isUserVerified": True})

    # After the password, where a code is asked for.
    factor = SecondFactor(pyotp.random_base32(), ())
    box.write("/etc/jupyter-remote/second-factor", factor.as_text(), mode=0o600)
    box.sh("jupyter-remote apply", timeout=120)
    browser.try_login(PASSWORD, "lab")
    expect(page.get_by_label("Code from your app")).to_be_visible()
    browser.screenshot("second-step")
    page.get_by_role("button", name="Log in with a passkey").click()
    page.wait_for_url(re.compile(r"/lab\b"))
    assert "with the password and the passkey" in box.journal("jupyter-remote")

    # And it can be taken away.
    browser.open("passkeys")
    page.get_by_role("button", name="Remove Alice's laptop").click()
    expect(page.get_by_text("There are none yet.")).to_be_visible()
    log_out()
    expect(page.get_by_role("button", name="Log in with a passkey")).to_have_count(0)
    assert [complaint for complaint in browser.complaints if "Content Security Policy" in complaint] == []
