"""One kernel's memory is its own problem."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from lab.vm import Vm

from tests.client import Client, Kernel
from tests.installed import PASSWORD

pytestmark = pytest.mark.one_release

#: More than a kernel may have, in pieces, so that it is certainly used.
TOO_MUCH = "hoard = [b'x' * (1 << 20) for _ in range(1000)]"
#: Nearly as much as it may have, and then nothing until somebody interrupts.
NEARLY_TOO_MUCH = """
import time
group = next(line for line in open("/proc/self/cgroup") if line.startswith("0::")).strip()[3:]
def used():
    stat = dict(line.split() for line in open(f"/sys/fs/cgroup{group}/memory.stat"))
    return int(open(f"/sys/fs/cgroup{group}/memory.current").read()) - int(stat["inactive_file"])
hoard = []
while used() < 280 << 20:
    hoard.append(b"x" * (1 << 20))
time.sleep(600)
"""


@pytest.fixture
def visitor(vm: Vm, client: Callable[..., Client]) -> Client:
    """The owner, logged in."""
    return client(vm).login(PASSWORD)


@pytest.fixture
def kernel(visitor: Client) -> Iterator[Kernel]:
    """A kernel of this test's own, that has run something."""
    started = visitor.start_kernel()
    started.execute("import os")
    yield started
    started.shut_down()


def read_until(kernel: Kernel, request: str, text: str) -> str:
    """What a cell prints until *text* is among it."""
    seen = ""
    while text not in seen:
        message = kernel.receive()
        if message["parent_header"].get("msg_id") == request and message["msg_type"] == "stream":
            seen += message["content"]["text"]
    return seen


def number(kernel: Kernel, expression: str) -> int:
    value = kernel.execute(expression).value
    assert value is not None
    return int(value)


def main_process(vm: Vm, unit: str) -> int:
    return int(vm.sh(f"systemctl show --property=MainPID --value {unit}"))


def test_a_kernel_over_its_limit_dies_alone_and_its_cell_says_why(vm: Vm, visitor: Client, kernel: Kernel):
    other = visitor.start_kernel()
    others_process = number(other, "__import__('os').getpid()")
    keeper = number(kernel, "os.getppid()")
    server = main_process(vm, "jupyter-remote.service")

    said = read_until(kernel, kernel.submit(TOO_MUCH), "it starts again.\n")

    assert "The kernel was ended because it used too much memory: limit 300 MiB, peak 300 MiB." in said
    # the session goes on, on the same connection
    assert kernel.execute("'hoard' in globals()").value == "False"
    assert number(kernel, "__import__('os').getppid()") == keeper
    assert number(other, "__import__('os').getpid()") == others_process
    assert main_process(vm, "jupyter-remote.service") == server
    assert kernel.id in [one["id"] for one in visitor.api("GET", "kernels")]
    other.shut_down()


def test_a_child_that_is_too_fat_dies_before_the_kernel(kernel: Kernel):
    process = number(kernel, "os.getpid()")
    done = kernel.execute(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {TOO_MUCH!r}]).returncode")
    assert done.value == "-9"
    assert "A program that the kernel had started was ended because it used too much memory: limit 300 MiB" in done.text
    assert "The kernel itself goes on." in done.text
    assert number(kernel, "os.getpid()") == process
    assert "too much memory" not in kernel.execute("1 + 1").text


def test_a_child_that_died_is_told_of_while_the_cell_runs_on(kernel: Kernel):
    code = f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {TOO_MUCH!r}]); time.sleep(600)"
    request = kernel.submit(code)
    read_until(kernel, request, "The kernel itself goes on.\n")
    kernel.interrupt()
    assert kernel.result(request).error == "KeyboardInterrupt: "


def test_a_cell_is_warned_once_before_its_kernel_is_ended(kernel: Kernel):
    request = kernel.submit(NEARLY_TOO_MUCH)
    read_until(kernel, request, "The kernel is close to its memory limit: 2")
    kernel.interrupt()
    done = kernel.result(request)
    assert done.error == "KeyboardInterrupt: "
    assert "close to its memory limit" not in done.text
    assert kernel.execute("hoard.clear(); 'lives'").value == "'lives'"


def test_the_server_and_keepers_are_the_last_that_the_system_ends(vm: Vm, kernel: Kernel):
    def score(pid: int) -> int:
        return int(vm.read(f"/proc/{pid}/oom_score_adj"))

    assert score(main_process(vm, "jupyter-remote.service")) == -500
    assert score(number(kernel, "os.getppid()")) == -500
    assert score(number(kernel, "os.getpid()")) == 300


def test_the_list_of_kernels_tells_memory_and_limit(vm: Vm, kernel: Kernel):
    listed = json.loads(vm.sh("jupyter-remote kernels --json"))
    one = next(one for one in listed if one["id"] == kernel.id)
    assert one["memory_limit"] == 300 << 20
    assert 20 << 20 < one["memory"] < 300 << 20
