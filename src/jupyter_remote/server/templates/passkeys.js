// A passkey: asks the browser for it, and sends what it says as an ordinary form.
"use strict";
(() => {
    const form = document.querySelector("form[data-passkey]");
    const asked = JSON.parse(form.dataset.passkey);
    const said = form.querySelector("output");

    const bytes = (text) =>
        Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));
    const text = (buffer) =>
        btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
    const withBytes = (list) => list.map((one) => ({ ...one, id: bytes(one.id) }));

    async function ask() {
        const publicKey = { ...asked, challenge: bytes(asked.challenge) };
        if ("user" in asked) {
            publicKey.user = { ...asked.user, id: bytes(asked.user.id) };
            publicKey.excludeCredentials = withBytes(asked.excludeCredentials);
            return navigator.credentials.create({ publicKey });
        }
        publicKey.allowCredentials = withBytes(asked.allowCredentials);
        return navigator.credentials.get({ publicKey });
    }

    function asJson(credential) {
        const response = {};
        for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature"]) {
            if (credential.response[name]) {
                response[name] = text(credential.response[name]);
            }
        }
        return JSON.stringify({ id: credential.id, rawId: text(credential.rawId), type: credential.type, response });
    }

    if (!window.PublicKeyCredential) {
        return; // the form stays hidden
    }
    form.hidden = false;
    form.addEventListener("submit", async (event) => {
        event.preventDefault();
        said.textContent = "";
        try {
            form.elements.credential.value = asJson(await ask());
        } catch (error) {
            said.textContent =
                error.name === "InvalidStateError" ? "This device has a passkey for this place already."
                : error.name === "NotAllowedError" ? "No passkey was used. Please try again."
                : String(error);
            return;
        }
        form.submit();
    });
})();
