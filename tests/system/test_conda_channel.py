"""The conda that other tests trust: a channel and an installer of our own, see tests/conda."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable

import pytest
from lab.box import Box, Person

from tests.conda.served import Served

BASE = "~/miniforge3"
CONDA = f"{BASE}/bin/conda"
MakeChannel = Callable[[Box], Served]


def alice_with_conda(box: Box, served: Served) -> Person:
    alice = box.as_user("alice")
    alice.sh(f"bash {served.installer} -b -p {BASE}")
    return alice


def test_an_environment_with_a_kernel_is_solved_and_installed_and_runs(fresh_box: Box, channel: MakeChannel):
    served = channel(fresh_box)
    alice = alice_with_conda(fresh_box, served)
    assert alice.sh(f"{CONDA} --version") == "conda 26.1.1"

    alice.sh(f"{CONDA} create -n demo --yes --override-channels -c {served.url} python ipykernel activate-demo")

    environment = "/home/alice/miniforge3/envs/demo"
    modules = "ipykernel, ssl, sqlite3, ctypes, lzma, bz2, readline, curses, uuid, zmq"
    assert alice.sh(f"{environment}/bin/python -c 'import sys, {modules}; print(sys.prefix)'") == environment
    kernelspec = json.loads(alice.read(f"{environment}/share/jupyter/kernels/python3/kernel.json"))
    assert kernelspec["argv"][0] == f"{environment}/bin/python"
    assert "bin/conda create -n demo" in alice.read(f"{environment}/conda-meta/history")
    assert alice.read("/home/alice/.conda/environments.txt").split() == ["/home/alice/miniforge3", environment]
    assert json.loads(alice.sh(f"{CONDA} env list --json"))["envs"] == ["/home/alice/miniforge3", environment]
    activated = alice.sh(f'. {BASE}/etc/profile.d/conda.sh; conda activate demo; echo "$DEMO_DATA"; which python')
    assert activated.split() == [f"{environment}/share/demo", f"{environment}/bin/python"]


@pytest.mark.one_release
def test_packages_come_and_go(fresh_box: Box, channel: MakeChannel):
    served = channel(fresh_box)
    alice = alice_with_conda(fresh_box, served)

    def versions() -> dict[str, str]:
        listed = json.loads(alice.sh(f"{CONDA} list -n demo --json"))
        return {package["name"]: package["version"] for package in listed}

    alice.sh(f"{CONDA} create -n demo -y --override-channels -c conda-forge demo-data=1.0 pip")
    assert versions()["demo-data"] == "1.0"
    alice.sh(f"{CONDA} update -n demo -y demo-data")
    assert versions()["demo-data"] == "2.0"
    alice.sh(f"{CONDA} install -n demo -y echo-kernel")
    assert {"echo-kernel", "ipykernel"} <= versions().keys()
    alice.sh(f"{CONDA} remove -n demo -y demo-data")
    assert "demo-data" not in versions() and "echo-kernel" in versions()
    alice.sh("cat > /tmp/environment.yml", input="name: two\nchannels: [conda-forge]\ndependencies: [demo-data=1]\n")
    alice.sh(f"{CONDA} env create -f /tmp/environment.yml")
    assert alice.sh(f"{BASE}/envs/two/bin/python -c 'import demo_data; print(demo_data.__version__)'") == "1.0"
    places = "import site, sysconfig; print(site.getsitepackages()[0] == sysconfig.get_path('purelib'))"
    assert alice.sh(f'{BASE}/envs/demo/bin/python -c "{places}"') == "True"
    assert "demo-data" not in alice.sh(f"{BASE}/envs/demo/bin/python -m pip list")


@pytest.mark.one_release
def test_the_kernel_of_another_language_runs(fresh_box: Box, channel: MakeChannel):
    served = channel(fresh_box)
    alice = alice_with_conda(fresh_box, served)
    alice.sh(f"{CONDA} create -n other -y echo-kernel")
    program = """
        from jupyter_client.manager import start_new_kernel
        manager, client = start_new_kernel(kernel_name="echo", startup_timeout=300)
        client.execute_interactive("a program in Echo", timeout=300)
        manager.shutdown_kernel(now=True)
    """
    assert alice.sh(f"{BASE}/envs/other/bin/python -", input=textwrap.dedent(program)) == "a program in Echo"


@pytest.mark.one_release
def test_what_goes_wrong_is_said_as_conda_says_it(fresh_box: Box, channel: MakeChannel):
    served = channel(fresh_box)
    alice = alice_with_conda(fresh_box, served)

    def failure(what: str) -> str:
        done = alice.attempt(f"{CONDA} create -n wrong -y {what}")
        assert done.returncode == 1
        return done.stderr

    assert "PackagesNotFoundError" in failure("nothing-of-this-name")
    assert "LibMambaUnsatisfiableError" in failure("'demo-data>=2' 'demo-data<2'")
    served.fault("*/repodata.json", status=404)
    assert "CondaHTTPError: HTTP 404 NOT FOUND" in failure("demo-data")
    served.mend()
    for trouble in ({"corrupt": True}, {"html": True}):
        served.fault("*/demo-data-2.0-*", **trouble)
        assert "ChecksumMismatchError" in failure("demo-data")
    served.fault("*/demo-data-2.0-*", truncate=100)
    assert "CondaHTTPError: HTTP 000 CONNECTION FAILED" in failure("demo-data")
    served.mend()
    served.stop()
    assert "CondaHTTPError: HTTP 000 CONNECTION FAILED" in failure("-c conda-forge demo-data")
    served.start()
    alice.sh(f"{CONDA} create -n right -y demo-data")


@pytest.mark.one_release
def test_an_anaconda_reaches_for_the_channels_of_anaconda(fresh_box: Box, channel: MakeChannel):
    served = channel(fresh_box)
    served.install_anaconda()
    alice = fresh_box.as_user("alice")

    without = alice.attempt("~/anaconda3/bin/conda create -n demo -y -c conda-forge demo-data")
    assert without.returncode == 1 and "repo.anaconda.com" in without.stderr
    alice.sh("~/anaconda3/bin/conda create -n demo -y --override-channels -c conda-forge demo-data")


@pytest.mark.one_release
def test_a_full_disk_is_no_space_left_on_device(fresh_box: Box, channel: MakeChannel):
    served = channel(fresh_box)
    alice = alice_with_conda(fresh_box, served)
    alice.sh(f"mkdir {BASE}/envs/full")
    fresh_box.sh("mount -t tmpfs -o size=8m,uid=1000,mode=755 none /home/alice/miniforge3/envs/full")
    done = alice.attempt(f"{CONDA} create -p {BASE}/envs/full -y python")
    assert done.returncode == 1 and "[Errno 28] No space left on device" in done.stderr


@pytest.mark.one_release
@pytest.mark.parametrize("signal", ["INT", "TERM"])
def test_a_signal_ends_it(fresh_box: Box, channel: MakeChannel, signal: str):
    served = channel(fresh_box)
    alice = alice_with_conda(fresh_box, served)
    served.fault("*/python-*", stall=100_000)
    begun = f"{CONDA} create -n demo -y python & conda=$!"
    downloads = f"until ls {BASE}/pkgs/python-*.lock; do sleep 0.1; done >/dev/null 2>&1; sleep 0.5"
    done = alice.attempt(f"{begun}; {downloads}; kill -{signal} $conda; wait $conda", timeout=120)
    assert done.returncode == 1 and "CondaError: " in done.stderr


@pytest.mark.one_release
def test_the_installer_refuses_what_constructors_installers_refuse(fresh_box: Box, channel: MakeChannel):
    served = channel(fresh_box)
    alice = alice_with_conda(fresh_box, served)

    again = alice.attempt(f"bash {served.installer} -b -p {BASE}")
    assert again.returncode == 1 and "ERROR: File or directory already exists: " in again.stderr
    alice.sh(f"rm {BASE}/bin/conda; bash {served.installer} -b -u -p {BASE}; {CONDA} --version")
    spaces = alice.attempt(f"bash {served.installer} -b -p '/home/alice/my conda'")
    assert spaces.returncode == 1 and "ERROR: Cannot install into directories with spaces" in spaces.stderr
    assert alice.attempt(f"bash {served.installer} -h").returncode == 2
    alice.sh(f"head -c 1000000 {served.installer} > half.sh")
    half = alice.attempt("bash half.sh -b -p ~/half")
    assert half.returncode == 1 and "md5sum mismatch" in half.stderr


@pytest.mark.one_release
def test_the_server_fails_as_it_is_told(fresh_box: Box, channel: MakeChannel):
    served = channel(fresh_box)

    def fetch(options: str = "") -> str:
        return fresh_box.attempt(
            f"curl --silent --max-time 5 {options} {served.installer_url} -o /tmp/got"
            " -w '%{http_code} %{size_download}' ; echo \" $?\"; sha256sum /tmp/got"
        ).stdout

    def outcome(options: str = "", **trouble: object) -> list[str]:
        served.mend()
        served.fault(served.installer_url, **trouble)
        return fetch(options).split()[:3]

    size = str(served.size)
    assert served.sha256 in fetch()
    assert outcome(status=503) == ["503", "3", "0"]
    assert outcome(html=True)[0] == "200"
    assert outcome(truncate=5000) == ["200", "5000", "18"]
    assert outcome(stall=5000) == ["200", "5000", "28"]
    assert outcome(corrupt=True) == ["200", size, "0"]
    assert served.sha256 not in fetch()
    assert outcome("--range 5-9") == ["206", "5", "0"]
    assert outcome("--range 5-9", ignore_ranges=True)[0] == "200"
    assert outcome(no_length=True) == ["200", size, "0"]
    assert outcome("--location", redirect="/elsewhere") == ["404", "3", "0"]
    served.stop()
    assert fetch().split()[2] == "7"
    served.start()
    served.mend()
    served.forget()
    assert served.sha256 in fetch()
    assert [(request.status, request.sent) for request in served.requests()] == [(200, served.size)]
