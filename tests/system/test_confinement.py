"""The units' walls: how high they are, and that a notebook's real work goes on inside of them.

What is installed with conda under these units is in ``test_conda.py``; memory limits are in ``vm/``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from lab.box import NONINTERACTIVE, Box, Person

from tests.client import Client
from tests.installed import PASSWORD

MakeClient = Callable[..., Client]

SECURITY = Path(__file__).parents[2] / "docs/security.md"

#: What `systemd-analyze security` may say at most: 0 is a wall without a door, 10 is no wall.
MOST = {"jupyter-remote.service": 3.5, "jupyter-remote-kernel@0.service": 5.0}


def exposure(box: Box, unit: str) -> float:
    """The figure of `systemd-analyze security`."""
    said = box.sh(f"systemd-analyze security --no-pager {unit} | tail -1")
    found = re.search(r"exposure level for \S+: ([\d.]+) ", said)
    assert found, said
    return float(found[1])


def test_the_units_are_as_exposed_as_the_documentation_says(box: Box, suite: str):
    for unit, most in MOST.items():
        measured = exposure(box, unit)
        assert measured <= most
        name = re.escape(unit.replace("@0", "@"))
        (row,) = re.findall(rf"\| `{name}` \| ([\d.]+) \| ([\d.]+) \|", SECURITY.read_text())
        assert float(row[{"bookworm": 0, "trixie": 1}[suite]]) == measured, unit


#: Cells, each with its value. What they import they write first: what multiprocessing spawns cannot see a notebook.
WORK = {
    "pip": """
import zipfile, importlib
with zipfile.ZipFile("/tmp/probe-1-py3-none-any.whl", "w") as wheel:
    wheel.writestr("probe.py", "answer = 42")
    wheel.writestr("probe-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: probe\\nVersion: 1\\n")
    wheel.writestr("probe-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nGenerator: x\\nTag: py3-none-any\\n")
    wheel.writestr("probe-1.dist-info/RECORD", "")
%pip install --quiet --no-index /tmp/probe-1-py3-none-any.whl
importlib.invalidate_caches()
import probe
probe.answer
""",
    "a program": "import subprocess; subprocess.run('echo $((6 * 7))', shell=True, capture_output=True).stdout",
    "a program, waited for by the event loop": """
import asyncio
process = await asyncio.create_subprocess_exec("echo", "42", stdout=asyncio.subprocess.PIPE)
(await process.communicate())[0]
""",
    "many processes with shared memory": """
open("crowd.py", "w").write('''
from multiprocessing import shared_memory
def add(number, name, lock):
    memory = shared_memory.SharedMemory(name)
    with lock:
        memory.buf[0] += number
    memory.close()
def square(number):
    return number * number
''')
import multiprocessing, sys
from multiprocessing import shared_memory
sys.path.insert(0, "")
import crowd
sums = []
for method in ("fork", "spawn", "forkserver"):
    context = multiprocessing.get_context(method)
    memory = shared_memory.SharedMemory(create=True, size=1)
    lock = context.Lock()
    crew = [context.Process(target=crowd.add, args=(number, memory.name, lock)) for number in (20, 22)]
    [one.start() for one in crew], [one.join() for one in crew]
    with context.Pool(2) as pool:
        sums.append((memory.buf[0], sum(pool.map(crowd.square, range(10)))))
    memory.close(); memory.unlink()
sums
""",
    "sockets of each kind": """
import socket, threading, tempfile, os
def talk(family, kind, address):
    door = socket.socket(family, kind)
    door.bind(address)
    if kind == socket.SOCK_STREAM:
        door.listen()
        threading.Thread(target=lambda: door.accept()[0].sendall(b"42")).start()
    caller = socket.socket(family, kind)
    if kind == socket.SOCK_STREAM:
        caller.connect(door.getsockname())
        return caller.recv(2)
    caller.sendto(b"42", door.getsockname())
    return door.recv(2)
place = tempfile.mkdtemp()
answers = {talk(family, kind, address) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM) for family, address in (
    (socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET6, ("::1", 0)), (socket.AF_UNIX, f"{place}/{kind}"),
    (socket.AF_UNIX, f"\\0of-a-notebook-{kind}"))}
answers.add(talk(socket.AF_INET, socket.SOCK_STREAM, ("0.0.0.0", 0)))
answers, bool(socket.if_nameindex()), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).family.name
""",
    "machine code, made while it runs": """
import ctypes, mmap, platform
code = {"x86_64": "b82a000000c3", "aarch64": "40058052c0035fd6"}[platform.machine()]
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex(code))
function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
called_back = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda number: number + 1)
function(), called_back(41)
""",
    "a debugger": """
open("debugged.py", "w").write('''
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
child = os.fork()
if child == 0:
    libc.ptrace(0, 0, None, None)  # PTRACE_TRACEME
    os.kill(os.getpid(), signal.SIGSTOP)
    os._exit(42)
assert os.WIFSTOPPED(os.waitpid(child, 0)[1])
assert libc.ptrace(7, child, None, None) == 0  # PTRACE_CONT
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
''')
subprocess.run([sys.executable, "debugged.py"], capture_output=True, text=True).stdout
""",
    "files and locks": """
import fcntl, pathlib
def use(directory):
    file = pathlib.Path(directory, "figures.txt").open("w+")
    fcntl.flock(file, fcntl.LOCK_EX); fcntl.lockf(file, fcntl.LOCK_EX)
    file.write("42"); file.flush()
    return mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED)[:]
[use(place) for place in (".", "/data", "/tmp", "/var/tmp", "/dev/shm")]
""",
    "more open files": """
import resource
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
most >= 4096
""",
    "a device": """
gpu = os.open("/dev/gpu0", os.O_RDWR)
mmap.mmap(gpu, 4096, mmap.MAP_SHARED)[:2]
""",
    "other people's processes, for top": """
"systemd" in subprocess.run(["ps", "-C", "systemd", "-o", "comm="], capture_output=True, text=True).stdout
""",
}

DONE = {
    "pip": "42",
    "a program": r"b'42\n'",
    "a program, waited for by the event loop": r"b'42\n'",
    "many processes with shared memory": "[(42, 285), (42, 285), (42, 285)]",
    "sockets of each kind": "({b'42'}, True, 'AF_NETLINK')",
    "machine code, made while it runs": "(42, 42)",
    "a debugger": r"'42\n'",
    "files and locks": "[b'42', b'42', b'42', b'42', b'42']",
    "more open files": "True",
    "a device": r"b'\x00\x00'",
    "other people's processes, for top": "True",
}


def test_the_work_of_notebooks_goes_on_inside(box: Box, alice: Person, client: MakeClient):
    visitor = client(box).login(PASSWORD)
    kernel = visitor.start_kernel()
    # A disk that is mounted and a device that comes while the kernel runs. The device stands for a GPU's: boxes have
    # no others than each machine has, so it is one of them under a name of its own.
    box.sh("mkdir /data && mount -t tmpfs -o uid=alice,mode=0700 data /data && ln -s /data /home/alice/data")
    box.sh("touch /dev/gpu0 && mount --bind /dev/zero /dev/gpu0")
    came = {}
    for name, code in WORK.items():
        done = kernel.execute(code)
        came[name] = done.value if done.error is None else done.error
    assert came == DONE

    # What a forked process prints is the cell's.
    request = kernel.submit("multiprocessing.get_context('fork').Process(target=print, args=('by a fork',)).start()")
    printed = ""
    while "by a fork" not in printed:
        message = kernel.receive()
        if message["parent_header"].get("msg_id") == request and message["msg_type"] == "stream":
            printed += message["content"]["text"]

    # Namespaces, as containers without root are made of, as far as a shell of the owner's has them on this machine.
    for line in (
        "unshare --user --map-root-user id --user",
        "unshare --user --map-root-user --mount --net --ipc --uts --pid --fork id --user",
        "unshare --user --map-root-user --mount sh -c 'mount -t tmpfs x /mnt && echo 42 > /mnt/x && cat /mnt/x'",
        "unshare --user --map-root-user --net sh -c 'ip link set lo up && ip -brief link show lo'",
    ):
        outside = alice.sh(line)
        assert outside
        assert kernel.execute(f"print(subprocess.run({line!r}, shell=True, capture_output=True, text=True))").text == (
            f"CompletedProcess(args={line!r}, returncode=0, stdout={outside + chr(10)!r}, stderr='')\n"
        )

    # The server's walls are higher; what people ask of it goes on.
    cells = [{"cell_type": "markdown", "metadata": {}, "source": "forty-two"}]
    content = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
    visitor.api("PUT", "contents/data/by-the-server.ipynb", {"type": "notebook", "content": content})
    assert "forty-two" in box.read("/data/by-the-server.ipynb")
    from_our_page = {"Referer": f"{visitor.url}/lab"}
    assert "forty-two" in visitor.get("nbconvert/html/data/by-the-server.ipynb", headers=from_our_page).text
    pid = box.sh("systemctl show -P MainPID jupyter-remote.service")
    assert "gpu0" in box.sh("ls /dev") and "gpu0" not in box.sh(f"ls /proc/{pid}/root/dev")
    assert "hidepid=invisible" in box.read(f"/proc/{pid}/mounts")


@pytest.mark.one_release
def test_shared_memory_outlives_the_owners_last_login_and_ends_with_its_kernel(box: Box, client: MakeClient):
    box.sh("apt-get -qq update && apt-get -qq install --yes libpam-systemd", env=NONINTERACTIVE)
    visitor = client(box).login(PASSWORD)
    kernel = visitor.start_kernel()
    kernel.execute("from multiprocessing import shared_memory as m; s = m.SharedMemory(create=True, size=4096)")
    # As logind does it for whoever logs in and out; what is in the machine's own place goes.
    box.as_user("alice").sh("touch /dev/shm/of-a-shell")
    assert "alice" in box.sh("systemd-run --quiet --pipe --wait --property=PAMName=login --uid=alice loginctl")
    box.sh("while [ -e /dev/shm/of-a-shell ]; do sleep 0.2; done", timeout=120)
    assert kernel.execute("m.SharedMemory(s.name).size").value == "4096"
    other = visitor.start_kernel()
    assert other.execute("import os; os.listdir('/dev/shm')").value == "[]"
    assert box.sh("ls /dev/shm") == ""


#: Prints in which ways it can look into a process.
LOOK = """
import ctypes, os, sys
pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
def trace():
    if libc.ptrace(0x4206, pid, None, None) < 0:  # PTRACE_SEIZE
        raise OSError(ctypes.get_errno(), "ptrace")
for way, look in {
    "environment": lambda: open(f"/proc/{pid}/environ").read(),
    "memory": lambda: open(f"/proc/{pid}/mem", "rb"),
    "files": lambda: os.listdir(f"/proc/{pid}/fd"),
    "root": lambda: os.listdir(f"/proc/{pid}/root/"),
    "ptrace": trace,
}.items():
    try:
        look()
    except PermissionError:
        continue
    print(way)
print("looked")
"""


def test_a_notebook_cannot_look_into_the_server(box: Box, client: MakeClient):
    kernel = client(box).login(PASSWORD).start_kernel()

    def looks_into(pid: str) -> list[str]:
        # A program of its own: what it traces goes on when it ends.
        box.write("/opt/look.py", LOOK)
        done = kernel.execute(f"import subprocess, sys; print(subprocess.getoutput('python3 /opt/look.py {pid}'))")
        return done.text.split()

    def server() -> str:
        return box.sh("systemctl show -P MainPID jupyter-remote.service")

    assert looks_into(server()) == ["looked"]
    box.sh("systemctl restart jupyter-remote")
    assert looks_into(server()) == ["looked"]
    # The test can fail: a keeper is a process like others.
    keeper = kernel.execute("import os; os.getppid()").value
    assert looks_into(keeper or "") == ["environment", "memory", "files", "root", "ptrace", "looked"]


@pytest.mark.one_release
def test_sudo_works_in_a_terminal_after_one_command_and_not_before(box: Box, client: MakeClient):
    box.write("/etc/sudoers.d/alice", "alice ALL=(ALL) NOPASSWD: ALL\n", mode=0o440)
    visitor = client(box).login(PASSWORD)
    who = "sudo --non-interactive id -un"
    before = visitor.open_terminal()
    assert "no new privileges" in before.run(who)
    pid = box.sh("systemctl show -P MainPID jupyter-remote.service")

    box.sh("jupyter-remote config set kernels.sudo allowed")
    assert "no new privileges" in before.run(who), "for those that are started from then on"
    terminal = visitor.open_terminal()
    assert terminal.run(who) == "root"
    assert terminal.run("sudo -n -u bob id -un") == "bob"
    box.sh("apt-get -qq update")
    assert "ii  hello" in terminal.run("sudo -n apt-get -qq install --yes hello >/dev/null 2>&1; dpkg -l hello")
    assert box.sh("hello")
    assert terminal.run("sudo -n systemctl is-active apache2") == "active"
    kernel = visitor.start_kernel()
    assert kernel.execute(f"print(__import__('subprocess').getoutput({who!r}))").text == "root\n"
    # the server stays as it is
    assert box.sh("systemctl show -P MainPID jupyter-remote.service") == pid
    assert "NoNewPrivs:\t1" in box.read(f"/proc/{pid}/status")

    box.sh("jupyter-remote config unset kernels.sudo")
    assert "no new privileges" in visitor.open_terminal().run(who)
