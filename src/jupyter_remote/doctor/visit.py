"""A visit, as a browser makes it: page, login, file, kernel, terminal, and all that they are made of."""

from __future__ import annotations

import base64
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import websocket

from .. import password, render
from ..run import Mistake
from .findings import Found, Trouble
from .patient import Patient
from .visitor import Visitor

_LOGS = "sudo jupyter-remote logs -n 100"
#: bytes of a file that goes up and down; more than Apache's or a proxy's usual limits
_UPLOAD = 2 << 20

NO_ANSWER = Trouble(
    "no-answer",
    "Jupyter does not answer through Apache: {reason}.",
    "Browsers get an error in place of the page.",
    mend="jupyter-remote apply",
)
NAME_REFUSED = Trouble(
    "name-refused",
    "The server does not answer to the name {name}.",
    "Browsers get a page that says so: another name could be a trick of another site.",
    "sudo jupyter-remote config set server_name {name}",
)
NO_STATIC = Trouble(
    "no-static",
    "The scripts of JupyterLab do not come: {path} answers {status}.",
    "The page stays empty.",
    "sudo apt install --reinstall jupyter-remote",
)
NO_LOGIN = Trouble(
    "no-login", "A login does not work: {reason}.", "Nobody gets in.", f"See what the server says: {_LOGS}"
)
NO_KERNEL = Trouble(
    "no-kernel", "A kernel does not start: {reason}.", "No cell runs.", f"See what its keeper says: {_LOGS}"
)
SILENT_KERNEL = Trouble(
    "silent-kernel",
    "A kernel starts and does not run a cell: {reason}.",
    "No cell runs.",
    f"See what its keeper says: {_LOGS}",
)
NO_WEBSOCKET = Trouble(
    "no-websocket",
    "The websocket for {what} does not open: {reason}.",
    "{effect}",
    "If another proxy is before or behind Apache, it has to hand on Upgrade and Origin. "
    "Apache's own: sudo jupyter-remote apply",
)
NO_TERMINAL = Trouble("no-terminal", "A terminal does not start: {reason}.", "Nobody gets a shell.", _LOGS)
NO_UPLOAD = Trouble(
    "no-upload",
    "A file of 2 MB does not go up: {reason}.",
    "Files cannot be uploaded, and larger notebooks not saved.",
    "{how}",
)
BAD_DOWNLOAD = Trouble(
    "bad-download",
    "A file comes down as another than went up: {reason}.",
    "What is downloaded cannot be trusted.",
    f"See what the server says: {_LOGS}",
)
GPU_HIDDEN = Trouble(
    "gpu-hidden",
    "There is a GPU, and kernels may not use it: {device}: {reason}.",
    "Computation runs on the processor, many times as slow.",
    "sudo usermod --append --groups {group} {user} — then restart the kernels (jupyter-remote kernels stop --all)",
    may_wait=True,
)
NO_HOME = Trouble(
    "no-home",
    "A kernel cannot write to {home}: {reason}.",
    "What a notebook computes cannot be saved.",
    "See: ls -ld {home}; df {home}",
)

#: What a kernel is asked: what it can open, and whether it can write.
_PROBE = """
import glob, json, os, tempfile
def tried(path):
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError as error:
        return error.strerror
def written():
    try:
        tempfile.TemporaryFile(dir=os.path.expanduser("~")).close()
    except OSError as error:
        return error.strerror
devices = glob.glob("/dev/nvidia[0-9]*") + glob.glob("/dev/kfd") + glob.glob("/dev/dri/renderD*")
print(json.dumps({"devices": {path: tried(path) for path in devices}, "home": written()}))
"""


def page(patient: Patient) -> Iterator[Found]:
    """The first page, without a login."""
    visitor = patient.visitor
    try:
        answer = visitor.ask("GET", "/api")
    except OSError as error:
        yield NO_ANSWER(reason=error.strerror or error)
        return
    if b"version" not in answer.body:
        # The title of the server's own page for it.
        if b"<title>Unknown name</title>" in answer.body:
            yield NAME_REFUSED(name=patient.name)
        else:
            yield NO_ANSWER(reason=f"{patient.settings.base_url}/api answers {answer.status}")
        return
    path = "/static/lab/style.js"
    if (status := visitor.ask("GET", path).status) != 200:
        yield NO_STATIC(path=f"{patient.settings.base_url}{path}", status=status)


def everything(patient: Patient) -> Iterator[Found]:
    """All that needs a login; what it makes it removes."""
    if not patient.is_root and not (patient.owner and patient.owner.uid == os.geteuid()):
        return  # nobody else can make a login link
    visitor = patient.visitor
    try:
        entered = visitor.log_in(password.new_login_link(patient.place.login_links))
    except Mistake as mistake:
        yield NO_LOGIN(reason=mistake.what.rstrip("."))
        return
    except OSError as error:
        yield NO_LOGIN(reason=error)
        return
    if not entered:
        yield NO_LOGIN(reason="a login link is not accepted")
        return
    try:
        yield from _files(patient, visitor)
        yield from _websocket(visitor, "/api/events/subscribe", "events", "New kernels are seen a minute late.")
        troubles = list(_kernel(patient, visitor))
        yield from troubles
        # Terminals are started in the same way.
        if not any(one.id == NO_KERNEL.id for one in troubles):
            yield from _terminal(visitor)
    finally:
        visitor.log_out()


def _files(patient: Patient, visitor: Visitor) -> Iterator[Found]:
    name = f"jupyter-remote-doctor-{os.getpid()}.bin"
    content = os.urandom(_UPLOAD)
    sent = {"type": "file", "format": "base64", "content": base64.b64encode(content).decode()}
    try:
        answer = visitor.api("PUT", f"contents/{name}", sent)
    except OSError as error:
        yield NO_UPLOAD(reason=f"the connection breaks ({error})", how="See: sudo tail /var/log/apache2/error.log")
        return
    if answer.status not in (200, 201):
        limits = "A limit that is too small: grep -rn LimitRequestBody /etc/apache2"
        how = limits if answer.status == 413 else f"See what the server says: {_LOGS}"
        yield NO_UPLOAD(reason=f"{answer.status} {_message(answer.text)}", how=how)
        return
    # With the page that a click on "Download" is on: a file is not for pages of others.
    got = visitor.ask("GET", f"/files/{name}", headers={"Referer": visitor.url})
    _remove(visitor, name, render.notebook_dir(patient.settings, patient.owner) if patient.owner else None)
    if got.body != content:
        yield BAD_DOWNLOAD(reason=f"{got.status}, {len(got.body)} of {len(content)} bytes")


def _remove(visitor: Visitor, name: str, directory: Path | None) -> None:
    """Remove our file, by Jupyter only where there is no other way: it would lie in the owner's trash ever after."""
    with suppress(OSError):
        if directory:
            (directory / name).unlink()
            return
    visitor.api("DELETE", f"contents/{name}")


def _kernel(patient: Patient, visitor: Visitor) -> Iterator[Found]:
    answer = visitor.api("POST", "kernels", {})
    if answer.status != 201:
        yield NO_KERNEL(reason=f"{answer.status} {_message(answer.text)}")
        return
    kernel = json.loads(answer.body)["id"]
    try:
        path = f"/api/kernels/{kernel}/channels?session_id={uuid.uuid4().hex}"
        refused = list(_websocket(visitor, path, "kernels", "No cell runs."))
        if refused:
            yield from refused
            return
        try:
            said = json.loads(_ran(visitor, path, _PROBE))
        except (OSError, ValueError) as error:
            yield SILENT_KERNEL(reason=error)
            return
        if said["home"] and patient.owner:
            yield NO_HOME(home=patient.owner.home, reason=said["home"])
        for device, reason in said["devices"].items():
            if reason:
                group = "video" if "nvidia" in device else "render"
                yield GPU_HIDDEN(device=device, reason=reason, group=group, user=patient.settings.user)
                break
    finally:
        visitor.api("DELETE", f"kernels/{kernel}")


def _ran(visitor: Visitor, path: str, code: str) -> str:
    """What a cell prints.

    :raises OSError: the kernel says nothing, or that it failed.
    """
    header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "username": "doctor", "session": "doctor"}
    request: dict[str, Any] = {
        "header": {**header, "version": "5.3"},
        "parent_header": {},
        "metadata": {},
        "channel": "shell",
        "buffers": [],
        "content": {"code": code, "silent": False, "store_history": False, "allow_stdin": False},
    }
    printed = ""
    try:
        with closing(visitor.websocket(path)) as channel:
            channel.send(json.dumps(request))
            while True:
                message = json.loads(channel.recv())
                if message.get("parent_header", {}).get("msg_id") != header["msg_id"]:
                    continue
                kind, content = message["header"]["msg_type"], message["content"]
                if kind == "stream":
                    printed += content["text"]
                elif kind == "error":
                    raise OSError(f"{content['ename']}: {content['evalue']}")
                elif kind == "status" and content["execution_state"] == "idle":
                    return printed
    except websocket.WebSocketException as error:
        raise OSError(str(error)) from error


def _terminal(visitor: Visitor) -> Iterator[Found]:
    answer = visitor.api("POST", "terminals", {})
    if answer.status not in (200, 201):
        yield NO_TERMINAL(reason=f"{answer.status} {_message(answer.text)}")
        return
    name = json.loads(answer.body)["name"]
    try:
        yield from _websocket(visitor, f"/terminals/websocket/{name}", "terminals", "Terminals stay empty.")
    finally:
        visitor.api("DELETE", f"terminals/{name}")


def _websocket(visitor: Visitor, path: str, what: str, effect: str) -> Iterator[Found]:
    try:
        channel = visitor.websocket(path)
    except (websocket.WebSocketException, OSError) as error:
        status = getattr(error, "status_code", None)
        yield NO_WEBSOCKET(what=what, reason=f"it is answered with {status}" if status else error, effect=effect)
        return
    with suppress(OSError, websocket.WebSocketException):
        channel.close(timeout=1)


def _message(text: str) -> str:
    """What Jupyter says of an error, in one line."""
    try:
        said = str(json.loads(text).get("message", ""))
    except (ValueError, AttributeError):
        said = ""
    return said.partition("\n")[0][:200]
