"""``jupyter-remote conda install``: one command, whatever goes wrong on the way.

The channel and the installer are the tests' own (tests/conda); what could not be proved with them is in
docs/conda.md.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from lab.box import Box, Person

from tests.client import Client
from tests.conda import served
from tests.conda.served import Served
from tests.installed import ANSWERS, PASSWORD
from tests.pages import blocks, reader

MakeClient = Callable[..., Client]
FIRST, MORE, UNATTENDED, MIRROR, PROOF = blocks("docs/conda.md")
CREATE, *_ = blocks("docs/dask.md")
PREFIX = "/home/alice/miniforge3"
SCRIPT = "/usr/lib/jupyter-remote/conda-bootstrap"


@pytest.fixture
def channel(box: Box) -> Served:
    """A channel and an installer in ``box``."""
    return served.set_up(box)


def install(person: Person, channel: Served, more: str = "", *, prefix: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command; how it ends is the test's business."""
    return person.attempt(f"{prefix} {command(channel)} {more}".strip())


def command(channel: Served) -> str:
    return f"jupyter-remote conda install --installer-url {channel.installer_url} --sha256 {channel.sha256}"


def succeeds(person: Person, channel: Served, more: str = "--no-environment") -> None:
    """The same command, when the cause is gone: there is a conda, and nothing else was left."""
    done = install(person, channel, more)
    assert done.returncode == 0, done.stderr
    assert person.sh("~/miniforge3/bin/conda --version").startswith("conda ")
    assert leftovers(person.box) == []


def leftovers(box: Box) -> list[str]:
    """What an installation keeps only while it is at work."""
    return box.sh("find /home /srv /mnt -xdev -name '.jupyter-remote-*' -o -xdev -name '*.jupyter-remote-*'").split()


def leaves_nothing(box: Box) -> bool:
    return leftovers(box) == [] and not box.exists(PREFIX)


# --- what it is for --------------------------------------------------------------------------------


@pytest.mark.either_release
def test_one_command_and_a_cell_runs_in_conda(box: Box, channel: Served, client: MakeClient, alice: Person):
    done = install(alice, channel, "activate-demo demo-data=1.0")
    assert done.returncode == 0, done.stderr
    assert "100 %" in done.stderr and "MB/s" in done.stderr
    visitor = client(box).login(PASSWORD)
    specs = visitor.api("GET", "kernelspecs")["kernelspecs"]
    assert specs["conda-env-main-py"]["spec"]["display_name"] == "Python 3.11 (conda: main)"
    kernel = visitor.start_kernel("conda-env-main-py")
    environment = f"{PREFIX}/envs/main"
    assert kernel.execute("import sys; sys.prefix").value == repr(environment)
    assert kernel.execute("import os; os.environ['DEMO_DATA']").value == repr(f"{environment}/share/demo")
    assert kernel.execute("!which python pip").text.split() == [f"{environment}/bin/python", f"{environment}/bin/pip"]
    # An interrupt reaches the kernel itself and no shell in front of it.
    running = kernel.submit("import time\nprint('begun', flush=True)\ntime.sleep(600)")
    while "begun" not in str(kernel.receive()["content"]):
        pass
    kernel.interrupt()
    assert kernel.result(running).error == "KeyboardInterrupt: "


@pytest.mark.either_release
def test_packages_that_are_installed_in_a_cell_are_the_kernels_and_survive_an_upgrade(
    box: Box, deb: Path, channel: Served, client: MakeClient, alice: Person
):
    succeeds(alice, channel, "demo-data=1.0")
    kernel = client(box).login(PASSWORD).start_kernel("conda-env-main-py")
    installed = kernel.execute("%conda install --yes demo-data=2.0")
    assert installed.error is None, installed
    wheels = "/usr/lib/jupyter-remote/share/jupyter-remote/wheels"
    piped = kernel.execute(f"%pip install --no-index --find-links {wheels} --no-deps --ignore-installed comm")
    assert "Successfully installed comm" in piped.text
    box.sh(f"apt-get install --yes --reinstall {box.put(deb)} 2>&1", env={"DEBIAN_FRONTEND": "noninteractive"})
    after = client(box).login(PASSWORD).start_kernel("conda-env-main-py")
    assert after.execute("import demo_data; demo_data.__version__").value == "'2.0'"
    places = after.execute("import comm; comm.__file__").value
    assert places is not None and f"{PREFIX}/envs/main/" in places


@pytest.mark.one_release
def test_what_the_page_says(box: Box, deb: Path, channel: Served, client: MakeClient):
    alice, visitor = reader(box), client(box).login(PASSWORD)
    # Of the mirror first: there is no other way from here.
    mirror = "https://mirror.example.org"
    own = {f"{mirror}/Miniforge3.sh": channel.installer_url, f"{mirror}/conda-forge": channel.url}
    alice.sh(MIRROR.filled({**own, "DIGEST": channel.sha256}))
    box.sh(f"cp {box.put(deb)} /root/jupyter-remote.deb")
    for command in yaml.safe_load(UNATTENDED.filled({"numpy, pandas": "demo-data"}))["runcmd"]:
        box.sh(command if isinstance(command, str) else " ".join(command))
    assert alice.sh("~/miniforge3/envs/main/bin/python -c 'import demo_data; print(demo_data.__version__)'") == "2.0"
    alice.sh(FIRST.text)
    box.write("/home/alice/environment.yml", "name: stats\ndependencies: [demo-data=1.0]\n", owner="alice")
    alice.sh("set -e\n" + MORE.filled({"numpy pandas matplotlib": "demo-data", "pytorch": "activate-demo"}))
    conda = {"conda create": "~/miniforge3/bin/conda create", "dask distributed bokeh cryptography": "demo-data"}
    alice.sh(CREATE.filled(conda))
    for proof in PROOF.filled({"r-irkernel": "echo-kernel"}).splitlines():
        # The publishers are not here; by then all of the line was understood.
        assert alice.attempt(proof).returncode == (68 if "--distribution" in proof else 0), proof
    found = set(visitor.api("GET", "kernelspecs")["kernelspecs"])
    assert {f"conda-env-{name}" for name in ("main-py", "stats-py", "torch-py", "cluster-py", "r-echo")} <= found


@pytest.mark.one_release
def test_root_installs_it_for_the_owner(box: Box, channel: Served, alice: Person):
    box.sh(f"{command(channel)} --no-environment")
    assert box.sh(f"find {PREFIX} -not -user alice") == ""
    assert alice.sh("jupyter-remote conda list") == "conda: base  Python 3.11   no kernel\n\n" + (
        "A kernel for one that has none:  jupyter-remote conda add-kernel base"
    )


@pytest.mark.either_release
def test_an_answer_to_debconf_installs_it_in_the_background(fresh_box: Box, deb: Path):
    channel = served.set_up(fresh_box)
    # A mirror is set before the package comes, as cloud-init does it.
    fresh_box.write(
        "/etc/jupyter-remote/config.toml",
        f'user = "alice"\n[conda]\ninstaller_url = "{channel.installer_url}"\ninstaller_sha256 = "{channel.sha256}"\n',
    )
    channel.stop()
    fresh_box.preseed(ANSWERS)
    fresh_box.sh("debconf-set-selections", input="jupyter-remote jupyter-remote/conda boolean true\n")
    fresh_box.install(deb)
    # No network yet: the installation itself does not wait, and what is missing is said.
    fresh_box.sh("until journalctl -u jupyter-remote-conda | grep 'There is no way to'; do sleep 0.2; done")
    status = fresh_box.attempt("until jupyter-remote status | grep 'conda is not installed yet'; do sleep 0.2; done")
    assert "sudo jupyter-remote conda install" in fresh_box.attempt("jupyter-remote status").stdout, status.stdout
    channel.start()
    # What the timer of its restart would do in five minutes; a reboot does it too.
    fresh_box.reboot()
    channel.start()
    fresh_box.sh("systemctl restart jupyter-remote-conda")
    assert fresh_box.sh("su alice -c '~/miniforge3/bin/conda env list --json'").count("miniforge3/envs/main") == 1
    assert fresh_box.attempt("jupyter-remote status").returncode == 0
    # Once done it is done, also at the next boot.
    assert not fresh_box.exists("/var/lib/jupyter-remote/conda-wanted")


@pytest.mark.one_release
def test_a_first_environment_of_a_file(box: Box, channel: Served, alice: Person):
    text = "name: torch\nchannels: [conda-forge]\ndependencies:\n- demo-data=1.0\n"
    box.write("/home/alice/environment.yml", text, owner="alice")
    done = install(alice, channel, "--file environment.yml")
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(alice.sh("jupyter-remote conda list --json"))}
    assert rows["torch"]["kernels"] == ["python3"]
    box.write("/home/alice/environment.yml", "dependencies: numpy", owner="alice")
    assert install(alice, channel, "--file environment.yml").returncode == 66


@pytest.mark.one_release
def test_an_environment_without_a_kernel_gets_one_by_one_command(
    box: Box, channel: Served, client: MakeClient, alice: Person
):
    succeeds(alice, channel)
    alice.sh("~/miniforge3/bin/conda create --yes --name bare python pip")
    visitor = client(box).login(PASSWORD)
    specs = visitor.api("GET", "kernelspecs")["kernelspecs"]
    assert specs["add-conda-env-bare"]["spec"]["display_name"] == "Add a kernel: conda: bare"
    assert alice.attempt("jupyter-remote conda add-kernel barre").stderr.endswith("Did you mean bare?\n")
    alice.sh("jupyter-remote conda add-kernel bare")
    specs = visitor.api("GET", "kernelspecs")["kernelspecs"]
    assert "conda-env-bare-py" in specs and "add-conda-env-bare" not in specs
    assert visitor.start_kernel("conda-env-bare-py").execute("6 * 7").value == "42"


@pytest.mark.one_release
def test_a_kernel_of_another_language_is_offered_and_runs(box: Box, channel: Served, client: MakeClient, alice: Person):
    succeeds(alice, channel, "echo-kernel")
    visitor = client(box).login(PASSWORD)
    specs = visitor.api("GET", "kernelspecs")["kernelspecs"]
    assert specs["conda-env-main-echo"]["spec"]["display_name"] == "Echo (conda: main)"
    assert visitor.start_kernel("conda-env-main-echo").execute("hello").text.strip() == "hello"


# --- a conda that is there -------------------------------------------------------------------------


@pytest.mark.one_release
def test_an_anaconda_that_is_there_is_used_and_gets_nothing_from_defaults(box: Box, channel: Served, alice: Person):
    channel.install_anaconda()
    before = box.files("/home/alice/anaconda3/conda-meta")
    channel.forget()
    done = install(alice, channel)
    assert done.returncode == 0, done.stderr
    assert "Using the conda that is there: /home/alice/anaconda3" in done.stderr
    assert alice.sh("~/anaconda3/envs/main/bin/python -c 'import ipykernel; print(1)'") == "1"
    assert {request.path.split("/")[1] for request in channel.requests()} == {"conda-forge"}
    assert box.files("/home/alice/anaconda3/conda-meta") == before
    assert not box.exists(PREFIX)
    # Again: nothing is made twice.
    assert "is there already" in install(alice, channel).stderr


@pytest.mark.one_release
def test_a_conda_that_does_not_run_is_named_and_left_alone(box: Box, channel: Served, alice: Person):
    succeeds(alice, channel)
    alice.sh("rm ~/miniforge3/bin/python*")
    done = install(alice, channel)
    assert done.returncode == 70
    assert f"mv {PREFIX} {PREFIX}.old" in done.stderr
    alice.sh("mv ~/miniforge3 ~/miniforge3.old")
    succeeds(alice, channel)


@pytest.mark.one_release
def test_a_foreign_directory_is_left_alone(box: Box, channel: Served, alice: Person):
    alice.sh("mkdir ~/miniforge3 && echo mine > ~/miniforge3/notes")
    done = install(alice, channel)
    assert done.returncode == 72
    assert "left alone" in done.stderr and "--prefix" in done.stderr
    assert alice.sh("cat ~/miniforge3/notes") == "mine"
    alice.sh("mv ~/miniforge3 ~/notes")
    succeeds(alice, channel)


# --- who and where ---------------------------------------------------------------------------------


@pytest.mark.one_release
def test_root_by_accident_is_refused(box: Box, channel: Served, alice: Person, bob: Person):
    done = box.attempt(f"{SCRIPT} --installer-url {channel.installer_url} --sha256 {channel.sha256}")
    assert done.returncode == 77
    assert "sudo jupyter-remote conda install" in done.stderr
    assert not box.exists("/root/miniforge3")
    done = install(bob, channel)
    assert done.returncode == 77 and "Only alice" in done.stderr
    # The script alone is anybody's.
    bob.sh(f"{SCRIPT} --installer-url {channel.installer_url} --sha256 {channel.sha256} --no-environment")
    assert bob.sh("~/miniforge3/bin/conda --version").startswith("conda ")


@pytest.mark.one_release
def test_a_home_with_a_blank_is_told_and_another_place_works(box: Box, channel: Served, alice: Person):
    box.sh("mkdir '/srv/al ice' && chown alice: '/srv/al ice' && install -d -o alice /srv/conda")
    done = install(alice, channel, prefix="env HOME='/srv/al ice'")
    assert done.returncode == 78
    assert "sudo install -d -o" in done.stderr
    assert box.sh("ls -A '/srv/al ice'") == ""
    done = install(alice, channel, "--prefix /srv/conda/miniforge3", prefix="env HOME='/srv/al ice'")
    assert done.returncode == 0, done.stderr
    assert alice.sh("/srv/conda/miniforge3/envs/main/bin/python -c 'import ipykernel; print(1)'") == "1"


@pytest.mark.one_release
def test_another_architecture_is_told(box: Box, alice: Person, channel: Served):
    done = alice.attempt("setarch i686 jupyter-remote conda install")
    assert done.returncode == 71
    assert "i686" in done.stderr and "aarch64" in done.stderr
    assert leaves_nothing(box)
    succeeds(alice, channel)


@pytest.mark.one_release
def test_a_wrong_command_line_is_a_usage_error(alice: Person):
    assert alice.attempt("jupyter-remote conda install --distribution mambaforge").returncode == 64
    assert alice.attempt("jupyter-remote conda install --sha256 12").returncode == 64
    assert alice.attempt(f"{SCRIPT} --prefix relative/path").returncode == 64
    assert alice.attempt("jupyter-remote conda install --name ../up").returncode == 64


# --- the network -----------------------------------------------------------------------------------

_TRANSFERS = {
    "a wrong digest": ({"corrupt": True}, 65, "is not what was expected"),
    "a page instead of a file": ({"html": True}, 76, "answers with a page"),
    "a page that pretends to be a file": ({"redirect": "/conda-forge/noarch/repodata.json"}, 76, "answers with a page"),
    "a transfer that breaks off": ({"truncate": 1 << 20, "ignore_ranges": True}, 74, "breaks off"),
    "a file that is not there": ({"status": 404}, 69, "404"),
    "a server that is busy": ({"status": 503}, 69, "503"),
    "a proxy that wants a login": ({"status": 407}, 69, "407"),
}


@pytest.mark.one_release
@pytest.mark.parametrize("case", _TRANSFERS)
def test_a_download_that_fails_leaves_nothing(box: Box, channel: Served, alice: Person, case: str):
    what, code, said = _TRANSFERS[case]
    channel.fault(channel.installer_url, **what)
    done = install(alice, channel)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert "\n  " in done.stderr.strip(), "no next step"
    assert leaves_nothing(box)
    channel.mend()
    succeeds(alice, channel)


@pytest.mark.one_release
def test_a_transfer_goes_on_where_it_broke_off(box: Box, channel: Served, alice: Person):
    channel.fault(channel.installer_url, truncate=1 << 20, times=1)
    succeeds(alice, channel)
    ranges = [request.range for request in channel.requests() if "Miniforge" in request.path]
    assert ranges == ["", f"bytes={1 << 20}-"]


@pytest.mark.one_release
def test_no_network_is_told(box: Box, channel: Served, alice: Person):
    channel.stop()
    refused = install(alice, channel)
    assert refused.returncode == 68 and "connection refused" in refused.stderr
    unknown = alice.attempt(
        f"jupyter-remote conda install --installer-url https://nowhere.test/x.sh --sha256 {channel.sha256}"
    )
    assert unknown.returncode == 68 and "the name is not known" in unknown.stderr
    assert leaves_nothing(box)
    channel.start()
    succeeds(alice, channel)


@pytest.mark.one_release
def test_a_certificate_that_nobody_vouches_for_is_told(box: Box, channel: Served, alice: Person):
    done = alice.attempt(
        f"jupyter-remote conda install --installer-url https://localhost/x.sh --sha256 {channel.sha256}"
    )
    assert done.returncode == 76
    assert "update-ca-certificates" in done.stderr
    assert leaves_nothing(box)


@pytest.mark.one_release
def test_a_channel_that_is_down_and_up_again(box: Box, channel: Served, alice: Person):
    channel.fault("/conda-forge/*", status=503)
    done = install(alice, channel)
    assert done.returncode == 79, done.stderr
    assert "conda itself is installed and stays" in done.stderr
    assert alice.sh("~/miniforge3/bin/conda --version").startswith("conda ")
    assert not box.exists(f"{PREFIX}/envs/main") and leftovers(box) == []
    channel.mend()
    succeeds(alice, channel, "")
    assert alice.sh("~/miniforge3/envs/main/bin/python -c 'import ipykernel; print(1)'") == "1"


@pytest.mark.one_release
def test_a_package_that_is_not_there_is_told(box: Box, channel: Served, alice: Person):
    done = install(alice, channel, "no-such-package")
    assert done.returncode == 80, done.stderr
    assert not box.exists(f"{PREFIX}/envs/main") and leftovers(box) == []
    succeeds(alice, channel, "demo-data")


# --- the disk --------------------------------------------------------------------------------------


def small_disk(box: Box, megabytes: int) -> str:
    """A file system of its own, of that size, that alice may write to."""
    box.sh(f"mkdir -p /mnt/disk && mount -t tmpfs -o size={megabytes}M,uid=1000,mode=755 tmpfs /mnt/disk")
    return "--prefix /mnt/disk/miniforge3"


@pytest.mark.one_release
def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(box: Box, channel: Served, alice: Person):
    prefix = small_disk(box, 20)
    channel.forget()
    done = install(alice, channel, prefix)
    assert done.returncode == 73
    assert "need" in done.stderr and "MB" in done.stderr
    assert box.sh("ls -A /mnt/disk") == ""
    box.sh("mount -o remount,size=1000M /mnt/disk")
    assert install(alice, channel, f"{prefix} --no-environment").returncode == 0


@pytest.mark.one_release
def test_a_disk_that_fills_up_during_the_download(box: Box, channel: Served, alice: Person):
    prefix = small_disk(box, 600)
    channel.fault(channel.installer_url, rate=2 << 20)
    box.sh(
        "systemd-run --quiet sh -c 'until ls /mnt/disk/.jupyter-remote-conda-*/installer.sh; do sleep 0.1; done;"
        " head -c 1G /dev/zero > /mnt/disk/ballast'"
    )
    done = install(alice, channel, prefix)
    assert done.returncode == 73, done.stderr
    assert box.sh("ls -A /mnt/disk") == "ballast"
    box.sh("rm /mnt/disk/ballast")
    channel.mend()
    assert install(alice, channel, f"{prefix} --no-environment").returncode == 0


@pytest.mark.one_release
def test_a_disk_that_is_full_when_packages_come(box: Box, channel: Served, alice: Person):
    prefix = small_disk(box, 1000)
    assert install(alice, channel, f"{prefix} --no-environment").returncode == 0
    box.sh("head -c 1G /dev/zero > /mnt/disk/ballast; truncate -s -8M /mnt/disk/ballast", timeout=60)
    done = install(alice, channel, prefix)
    assert done.returncode == 73, done.stderr
    assert not box.exists("/mnt/disk/miniforge3/envs/main")
    box.sh("rm /mnt/disk/ballast")
    assert install(alice, channel, prefix).returncode == 0
    assert alice.sh("/mnt/disk/miniforge3/envs/main/bin/python -c 'import ipykernel; print(1)'") == "1"


# --- interrupted -----------------------------------------------------------------------------------


def started(box: Box, channel: Served, until: str, more: str) -> str:
    """Begin an installation as alice, wait until it says *until*; the unit it runs in."""
    unit = f"conda-{time.monotonic_ns()}"
    box.sh(
        f"systemd-run --quiet --unit={unit} --uid=alice --setenv=HOME=/home/alice --working-directory=/home/alice"
        f" --property=KillMode=process --remain-after-exit {command(channel)} {more}"
    )
    box.sh(f"until journalctl -u {unit} | grep -q '{until}'; do sleep 0.05; done", timeout=120)
    return unit


def wait_for_end(box: Box, unit: str) -> None:
    box.sh(f"until [ $(systemctl show {unit} -P MainPID) = 0 ]; do sleep 0.1; done", timeout=300)


@pytest.mark.one_release
@pytest.mark.parametrize("number", ["TERM", "INT", "KILL"])
@pytest.mark.parametrize("moment", ["Downloading", "Installing into", "Making the environment"])
def test_an_interruption_at_any_moment_leaves_nothing_half_made(
    box: Box, channel: Served, alice: Person, number: str, moment: str
):
    # What was asked for, without what takes long and comes after the moment.
    asked = "demo-data" if moment == "Making the environment" else "--no-environment"
    channel.fault(channel.installer_url, rate=20 << 20)
    unit = started(box, channel, moment, asked)
    box.sh(f"kill -{number} $(systemctl show {unit} -P MainPID)")
    wait_for_end(box, unit)
    if number != "KILL":
        assert leftovers(box) == []
        assert box.sh("pgrep -u alice -f 'installer.sh|bin/conda' || true") == ""
        code = box.sh(f"systemctl show {unit} -P ExecMainStatus")
        assert code == {"TERM": "143", "INT": "130"}[number]
    channel.mend()
    succeeds(alice, channel, asked)
    if asked == "demo-data":
        assert alice.sh("~/miniforge3/envs/main/bin/python -c 'import ipykernel, demo_data; print(1)'") == "1"


@pytest.mark.one_release
def test_two_at_once_are_one(box: Box, channel: Served, alice: Person):
    channel.fault(channel.installer_url, rate=6 << 20)
    unit = started(box, channel, "Downloading", "--no-environment")
    second = install(alice, channel)
    assert second.returncode == 75
    assert "Wait for its end" in second.stderr
    wait_for_end(box, unit)
    assert "conda is ready" in box.journal(unit)
    succeeds(alice, channel)
