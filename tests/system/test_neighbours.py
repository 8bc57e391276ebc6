"""Other people on the machine, and Apache's account: what they see of the owner's Jupyter, and what they can do.

What is ours is looked for on the machine and not listed here. The table in ``docs/security.md`` says whose each
thing is and who may; it is read here, and must be true both ways.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lab.box import Box, Person

from tests.client import Client, wait_until
from tests.installed import PASSWORD

MakeClient = Callable[..., Client]

TABLE = Path(__file__).parents[2] / "docs/security.md"

#: Prints, as root, all that is the owner's or has our name: files, sockets, processes, and what they listen at.
FIND = r"""
import grp, json, os, pwd, re, stat, sys
owner = pwd.getpwnam("alice").pw_uid
# Packages' own files and records, what only looks like files, and PID 1's notes about units.
left_out = {"/proc", "/usr", "/boot", "/var/lib/dpkg", "/var/lib/systemd", "/var/lib/apache2", "/var/lib/apt",
            "/var/cache", "/run/systemd", "/sys"}
files = []
def look(top):
    for directory, names, plain in os.walk(top):
        names[:] = [name for name in names if os.path.join(directory, name) not in left_out]
        for name in names + plain:
            path = os.path.join(directory, name)
            facts = os.lstat(path)
            if stat.S_ISLNK(facts.st_mode):
                continue
            # Of control groups only what systemd has given to the owner; the rest is its own.
            if facts.st_uid != owner and ("jupyter" not in path or path.startswith("/sys/")):
                continue
            if path == "/home/alice" or os.path.exists(path.replace("/home/alice/", "/etc/skel/")) and "/home/" in path:
                continue
            files.append({
                "path": path, "kind": stat.filemode(facts.st_mode)[0], "mode": f"{stat.S_IMODE(facts.st_mode):04o}",
                "owner": pwd.getpwuid(facts.st_uid).pw_name + ":" + grp.getgrgid(facts.st_gid).gr_name,
            })
look("/")
look("/sys/fs/cgroup")
processes, inodes = [], {}
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        unit = re.search(r"/(jupyter-remote[^/]*\.service)", open(f"/proc/{pid}/cgroup").read())
        if not unit:
            continue
        status = dict(line.split(":\t", 1) for line in open(f"/proc/{pid}/status").read().splitlines() if ":\t" in line)
        processes.append({
            "pid": int(pid), "unit": unit[1], "owner": pwd.getpwuid(int(status["Uid"].split()[0])).pw_name,
            "argv": open(f"/proc/{pid}/cmdline").read().split("\0"),
            "confined": status["NoNewPrivs"] == "1" and all(int(status[f"Cap{s}"], 16) == 0 for s in ("Prm", "Bnd")),
        })
        for fd in os.listdir(f"/proc/{pid}/fd"):
            inodes[os.readlink(f"/proc/{pid}/fd/{fd}")] = int(pid)
    except FileNotFoundError:
        pass
doors = []
for line in open("/proc/net/unix").read().splitlines()[1:]:
    inode, _, path = line.split(maxsplit=6)[6].partition(" ")
    if path.startswith("@") and f"socket:[{inode}]" in inodes:
        doors.append(path)
for table, waiting in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07"), ("raw", "07"), ("raw6", "07")):
    for line in open(f"/proc/net/{table}").read().splitlines()[1:]:
        words = line.split()
        if words[3] == waiting and f"socket:[{words[9]}]" in inodes:
            doors.append(f"{table} {words[1]}")
json.dump({"files": files, "processes": processes, "doors": doors}, sys.stdout)
"""

#: Tries everything with what FIND has found; prints what has worked, and how many attempts were refused.
TRY = r"""
import ctypes, errno, json, os, resource, signal, socket, sys
found = json.load(open("/opt/found.json"))
worked, refused = [], 0
def attempt(what, how, action):
    global refused
    try:
        action()
    except OSError as error:
        # Anything else would mean that nobody has refused.
        assert error.errno in (errno.EACCES, errno.EPERM, errno.EROFS), (what, how, error)
        refused += 1
    else:
        worked.append([what, how])
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)
def make(directory):
    os.mkdir(directory + "/of-a-neighbour")
    os.rmdir(directory + "/of-a-neighbour")
def connect(path):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        try:
            return socket.socket(socket.AF_UNIX, kind).connect(path)
        except OSError as error:
            if error.errno != errno.EPROTOTYPE:
                raise
for file in found["files"]:
    path, kind = file["path"], file["kind"]
    if kind == "d":
        attempt(path, "read", lambda: os.listdir(path))
        attempt(path, "write", lambda: make(path))
    elif kind == "s":
        attempt(path, "connect", lambda: connect(path))
    else:
        attempt(path, "read", lambda: open(path, "rb").close())
        attempt(path, "write", lambda: os.close(os.open(path, os.O_WRONLY)))
    attempt(path, "take", lambda: os.rename(path, path + ".mine"))
    attempt(path, "chmod", lambda: os.chmod(path, 0o777))
for process in found["processes"]:
    pid = process["pid"]
    for name in ("environ", "maps", "smaps", "mem", "auxv", "io", "syscall", "stack"):
        attempt(pid, name, lambda: open(f"/proc/{pid}/{name}", "rb").read(1))
    for name in ("fd", "map_files", "root/"):
        attempt(pid, name, lambda: os.listdir(f"/proc/{pid}/{name}"))
    for name in ("cwd", "exe", "root", "ns/mnt"):
        attempt(pid, name, lambda: os.readlink(f"/proc/{pid}/{name}"))
    for number in (0, signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP):
        attempt(pid, "kill", lambda: os.kill(pid, number))
    attempt(pid, "ptrace", lambda: call("ptrace", 0x4206, pid, None, None))  # PTRACE_SEIZE
    buffer = ctypes.create_string_buffer(8)
    vector = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 8)
    attempt(pid, "memory", lambda: call("process_vm_readv", pid, vector, 1, vector, 1, 0))
    attempt(pid, "descriptor", lambda: call("syscall", 438, os.pidfd_open(pid), 0, 0))  # pidfd_getfd
    attempt(pid, "renice", lambda: os.setpriority(os.PRIO_PROCESS, pid, 19))
    attempt(pid, "pin", lambda: os.sched_setaffinity(pid, {0}))
    attempt(pid, "limit", lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, (8, 8)))
json.dump({"worked": worked, "refused": refused}, sys.stdout)
"""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    owner: str
    mode: str
    #: who may, as the table says it: "root", "the owner", "the owner and Apache", "everybody reads"
    who: str
    proof: str

    @property
    def is_file(self) -> bool:
        return self.what.startswith("/")

    def fits(self, path: str) -> bool:
        """Whether the row is about this path itself."""
        return bool(re.fullmatch(_pattern(self.what.rstrip("/")), path))

    def is_true_of(self, file: dict[str, str]) -> bool:
        """Whether kind, owner and mode are as the row says; releases of Debian may differ: ``0400 or 0440``."""
        owners = self.owner.replace("OWNER", "alice").split(" or ")
        alike = (file["kind"] == "d") == self.what.endswith("/") and file["mode"] in self.mode.split(" or ")
        return file["owner"] in owners and (alike or self.mode == "any")

    def keeps(self, path: str) -> bool:
        """Whether this is a directory that shuts others out, and the path is below it."""
        shut = self.what.endswith("/") and self.mode.endswith("00")
        return shut and bool(re.match(_pattern(self.what) + ".", path))


def _pattern(what: str) -> str:
    """``OWNER``, ``ID`` (of a kernel, or a terminal's number), ``*`` within a name, ``**`` for any depth."""
    words = {"OWNER": "alice", "ID": r"(?:[0-9a-f-]{36}|\d+)", r"\*\*": ".*", r"\*": "[^/]*"}
    return re.sub(r"OWNER|\bID\b|\\\*\\\*|\\\*", lambda word: words[word[0]], re.escape(what).replace(r"\-", "-"))


def table() -> list[Row]:
    lines = TABLE.read_text().splitlines()
    rows = [
        [cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines if line[:2] == "| "
    ]
    return [Row(*row[:4], row[-1]) for row in rows if row[0] != "what" and len(row) == 6]


def find(box: Box) -> dict[str, Any]:
    """What is ours on the machine."""
    found: dict[str, Any] = json.loads(box.sh("python3 -", input=FIND))
    return found


def attempts(box: Box, person: str, found: dict[str, Any]) -> set[tuple[str, str]]:
    """What that person can do with it: path or process, and how."""
    box.write("/opt/found.json", json.dumps(found))
    done = json.loads(box.as_user(person).sh("python3 -", input=TRY))
    assert done["refused"] > 3 * len(found["files"])
    return {(str(what), how) for what, how in done["worked"]}


@pytest.fixture
def busy(box: Box, client: MakeClient) -> Client:
    """The owner's browser, with all open that there can be."""
    # Since the machine was started nobody has.
    box.sh("jupyter-remote apply")
    visitor = client(box).login(PASSWORD)
    wish = {"path": "private.ipynb", "name": "private.ipynb", "type": "notebook", "kernel": {"name": "python3"}}
    kernel = visitor.connect(visitor.api("POST", "sessions", wish)["kernel"]["id"])
    kernel.execute("print('said by a kernel')")
    kernel.execute("from multiprocessing import shared_memory as m; s = m.SharedMemory(create=True, size=4096)")
    kernel.execute("import tempfile; f = tempfile.NamedTemporaryFile()")
    cells = [{"cell_type": "markdown", "metadata": {}, "source": "written in a notebook"}]
    content = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
    visitor.api("PUT", "contents/private.ipynb", {"type": "notebook", "content": content})
    visitor.api("POST", "contents/private.ipynb/checkpoints")
    visitor.open_terminal().run("echo said by a shell")
    visitor.events()
    box.as_user("alice").sh("jupyter-remote url; jupyter-remote token create laptop")
    return visitor


def test_the_table_of_who_may_what_is_true_and_nobody_else_may_anything(box: Box, busy: Client, bob: Person):
    files = find(box)["files"]
    # also what is there only between two servers
    box.sh("systemctl stop jupyter-remote.socket jupyter-remote.service")
    paths = {file["path"] for file in files}
    files += [file for file in find(box)["files"] if file["path"] not in paths]
    box.sh("systemctl start jupyter-remote.socket jupyter-remote.service")
    assert busy.logged_in
    found, rows = find(box) | {"files": files}, table()
    processes = found["processes"]

    # each thing has a row, and is as it says
    used: set[Row] = set()
    exact: dict[str, Row] = {}
    different = []
    for file in files:
        fitting = [row for row in rows if row.is_file and row.fits(file["path"])]
        used.update(fitting)
        if fitting:
            row = exact[file["path"]] = fitting[0]
            if not row.is_true_of(file):
                different.append((row, file))
        elif not any(row.keeps(file["path"]) for row in rows):
            different.append((None, file))
    assert not different, "\n".join(map(str, different))
    for process in processes:
        fitting = [row for row in rows if re.fullmatch(_pattern(row.what), process["unit"])]
        used.update(fitting)
        assert len(fitting) == 1, process
        assert (process["owner"], process["confined"]) == ("alice", True), process
        assert fitting[0].owner == "OWNER"
    # each row has its thing
    assert [row.what for row in rows if row not in used] == []
    # nothing waits for anybody but in files
    assert found["doors"] == []

    # what others can do is what the table says, all of it and no more
    readable = {path for path, row in exact.items() if row.who == "everybody reads"}
    for person, door in (("bob", None), ("www-data", "/run/jupyter-remote/http.sock")):
        can = attempts(box, person, found)
        assert {path for path, how in can if how not in ("read", "connect")} == set(), (person, can)
        assert {path for path, how in can if how == "connect"} == {door} - {None}
        read = {path for path, how in can if how == "read"}
        assert {path for path in readable if exact[path].mode != "any"} <= read <= readable, person

    # a process list is everybody's to read, and there is no secret in it
    key = json.loads(box.sh("cat /run/jupyter-remote/alice/kernel-*.json"))["key"]
    argv = " ".join(word for process in processes for word in process["argv"])
    assert argv and key not in argv and PASSWORD not in argv and "argon2" not in argv
    for command in ("systemctl show jupyter-remote 'jupyter-remote-kernel@*'", "systemctl cat jupyter-remote"):
        shown = bob.sh(command)
        assert "Jupyter" in shown and key not in shown and "argon2" not in shown

    # nor does anybody else read what was logged, or give orders
    everything = bob.attempt("journalctl --no-pager; systemctl status --no-pager --lines=50 jupyter-remote").stdout
    assert "JupyterRemote]" in box.sh("journalctl --no-pager --unit=jupyter-remote")
    assert "JupyterRemote]" not in everything and "said by" not in everything
    for verb in ("stop", "restart", "kill", "set-property --runtime", "mask"):
        last = " CPUWeight=1" if verb.startswith("set-") else ""
        assert bob.attempt(f"systemctl {verb} jupyter-remote.service{last}").returncode != 0, verb
    assert busy.logged_in and busy.api("GET", "kernels")[0]["execution_state"] == "idle"


#: Tries to be where the server is, or to make room for it; prints what has worked.
TAKE = """
import os, socket
place = "/run/jupyter-remote"
def bind(name):
    socket.socket(socket.AF_UNIX).bind(f"{place}/{name}")
for how, action in {
    "bind": lambda: bind("http.sock"), "bind2": lambda: bind("kernel.sock"), "bind3": lambda: bind("other.sock"),
    "remove": lambda: os.remove(f"{place}/http.sock"), "link": lambda: os.symlink("/tmp", f"{place}/http.sock"),
    "move": lambda: os.rename(place, "/run/elsewhere"), "make": lambda: os.mkdir("/run/jupyter"),
}.items():
    try:
        action()
    except (PermissionError, FileExistsError, FileNotFoundError):
        continue
    except OSError as error:
        if error.strerror == "Address already in use":
            continue
    print(how)
"""

PORT = 8888
#: Takes the port and writes down whatever is sent to it.
THIEF = f"""
import socket
door = socket.create_server(("127.0.0.1", {PORT}))
while True:
    caller, _ = door.accept()
    open("/tmp/stolen", "ab").write(caller.recv(65536) or b"nothing")
    caller.close()
"""


@pytest.mark.one_release
def test_nobody_takes_the_servers_place_while_it_is_down(box: Box, bob: Person, client: MakeClient):
    visitor = client(box).login(PASSWORD)

    def nobody_takes_a_socket() -> None:
        for person in ("bob", "www-data", "alice"):
            assert box.as_user(person).sh("python3 -", input=TAKE) == "", person

    nobody_takes_a_socket()
    down = "systemctl stop jupyter-remote.service jupyter-remote.socket jupyter-remote-kernel.socket"
    up = "systemctl start jupyter-remote-kernel.socket jupyter-remote.service"
    box.sh(down)
    assert not box.exists("/run/jupyter-remote/http.sock")
    nobody_takes_a_socket()
    assert visitor.get("api/status").status_code == 503
    box.sh(up)
    assert visitor.logged_in

    # With a port the server is found there too; Apache does not go to it, for whoever is first can have a port.
    box.sh(f"jupyter-remote config set listen {PORT}")
    ask = f"curl --silent --fail http://127.0.0.1:{PORT}/jupyter/api"
    assert "version" in bob.sh(ask)
    assert bob.attempt(ask.replace("api", "api/contents")).returncode == 22, "without a login"
    box.sh(down)
    box.write("/opt/thief.py", THIEF)
    box.sh("systemd-run --unit=thief --uid=bob python3 /opt/thief.py")
    wait_until(lambda: bob.attempt(ask).returncode != 7, "the port is taken")
    stolen = len(box.read("/tmp/stolen"))
    assert stolen
    assert visitor.get("api/status").status_code == 503
    failed = box.attempt(up)
    assert failed.returncode != 0
    assert visitor.get("api/status").status_code == 503
    assert len(box.read("/tmp/stolen")) == stolen, "Apache has brought the owner's cookies"
    assert "taken by python3" in box.attempt("jupyter-remote apply").stderr
    box.sh("systemctl stop thief")
    box.sh(up)
    assert visitor.logged_in


#: Asks each of these ports what a debugger is asked first; prints what it got by port.
DEBUG = """
import json, socket, sys
asked = json.dumps({"seq": 1, "type": "request", "command": "initialize", "arguments": {"adapterID": "x"}})
answers = {}
for port in map(int, sys.argv[1:]):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        try:
            connection.sendall(f"Content-Length: {len(asked)}\\r\\n\\r\\n{asked}".encode())
            answers[port] = connection.recv(65536).decode()
        except (ConnectionResetError, BrokenPipeError):
            answers[port] = ""
        except TimeoutError:
            answers[port] = "nothing yet"
print(json.dumps(answers))
"""


@pytest.mark.one_release
def test_a_debugger_listens_to_its_owner_alone(box: Box, alice: Person, bob: Person, client: MakeClient):
    kernel = client(box).login(PASSWORD).start_kernel()

    def debug(number: int, command: str, **arguments: Any) -> dict[str, Any]:
        content = {"type": "request", "seq": number, "command": command, "arguments": arguments}
        kernel.send("control", "debug_request", content)
        while True:
            message = kernel.receive()
            if message["msg_type"] == "debug_reply" and message["content"].get("request_seq") == number:
                return message["content"]
            # The answer to this one comes at the very end of what it begins.
            if command == "attach" and message["content"].get("event") == "initialized":
                return message["content"]

    assert debug(1, "initialize", adapterID="", pathFormat="path")["success"]
    debug(2, "attach")
    ports = [int(door.rpartition(":")[2], 16) for door in find(box)["doors"]]
    assert len(ports) == 2, "where a client comes in, and where other processes of the notebook would"
    for person, at_least in ((bob, 0), (box.as_user("www-data"), 0), (alice, 1)):
        answers = json.loads(person.sh(f"python3 - {' '.join(map(str, ports))}", input=DEBUG, timeout=60))
        assert sum("Content-Length" in answer for answer in answers.values()) >= at_least
        assert at_least or set(answers.values()) == {""}, person
    assert kernel.execute("6 * 7").value == "42"


@pytest.mark.one_release
def test_nobody_stands_in_the_way_of_an_administrator(box: Box, bob: Person):
    """Neither by a file that we would open, nor by holding one that they can read."""
    box.sh("jupyter-remote apply")
    hold = "for file in /run/jupyter-remote/lock /run/lock/jupyter-remote.lock /etc/jupyter-remote/config.toml; do "
    hold += "flock --nonblock $file sleep 600 & done; wait"
    bob.attempt("ln -s /etc/jupyter-remote/password-hash /run/lock/jupyter-remote.lock")
    box.write("/opt/hold.sh", hold)
    box.sh("systemd-run --unit=hold --uid=bob sh /opt/hold.sh")
    wait_until(lambda: box.attempt("pgrep -u bob sleep").returncode == 0, "something is held")
    assert "Waiting" not in box.sh("jupyter-remote apply 2>&1")
    assert box.read("/etc/jupyter-remote/password-hash").startswith("argon2:")
