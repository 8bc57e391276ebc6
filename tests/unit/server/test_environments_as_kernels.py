"""The owner's environments are kernels: named, started, and offered as such."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import venv
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from running import Browser, Running

from jupyter_remote.environments import Environment, Memory
from jupyter_remote.server.environmentspecs import LAUNCHER, Offered, offered
from jupyter_remote.server.watcher import SCHEMA_ID
from tests.client import PATIENCE, Kernel
from tests.unit.homes import Home, add_kernel

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
SITE = f"lib/python{VERSION}/site-packages"


# -- what they are called -----------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def specs(home: Home, *, with_offers: bool = False) -> dict[str, Offered]:
    finder = home.finder()
    return offered(finder.find(), finder.memory, with_offers=with_offers)


def test_condas_kernels_have_the_names_that_nb_conda_kernels_gives_them(home: Home):
    base = home.root()
    torch = home.conda("miniforge3/envs/Torch é+1")
    add_kernel(base)
    add_kernel(torch)
    add_kernel(torch, "ir", language="R", display_name="R", argv=["R", "--slave"])
    add_kernel(torch, "julia-1.10", language="julia", display_name="Julia 1.10", argv=["julia"])
    add_kernel(home.conda(".conda/envs/stats"))
    assert {name: kernel.spec["display_name"] for name, kernel in specs(home).items()} == {
        "conda-base-py": "Python 3.13 (conda: base)",
        "conda-env-Torch_e_1-julia-1.10": "Julia 1.10 (conda: Torch é+1)",
        "conda-env-Torch_e_1-py": "Python 3.13 (conda: Torch é+1)",
        "conda-env-Torch_e_1-r": "R (conda: Torch é+1)",
        "conda-env-.conda-stats-py": "Python 3.13 (conda: stats)",
    }
    metadata = specs(home)["conda-env-Torch_e_1-r"].spec["metadata"]
    assert metadata["conda_env_path"] == str(torch)
    assert metadata["conda_env_name"] == "Torch é+1"
    assert metadata["conda_raw_kernel_name"] == "ir"


def test_other_kernels_are_named_after_their_projects(home: Home):
    add_kernel(home.venv("work/My App/.venv"))
    add_kernel(home.venv("fast/.venv", "uv = 0.9\nversion_info = 3.14.0\n"))
    add_kernel(home.conda("px/.pixi/envs/default"))
    add_kernel(home.conda("px/.pixi/envs/gpu"), "own", display_name="Mine")
    assert {name: kernel.spec["display_name"] for name, kernel in specs(home).items()} == {
        "venv-work-my-app-python3": "Python 3.12 (venv: work/My App)",
        "uv-fast-python3": "Python 3.14 (uv: fast)",
        "pixi-px-python3": "Python 3.13 (pixi: px)",
        "pixi-px-gpu-own": "Mine (pixi: px/gpu)",
    }


def test_two_that_would_have_one_name_have_two(home: Home):
    for path in ("a/b", "a-b", "miniforge3/envs/x", "miniconda3/envs/x"):
        add_kernel(home.venv(f"{path}/.venv") if "/envs" not in path else home.conda(path))
    first, second, third, fourth = sorted(specs(home))
    assert (first, third) == ("conda-env-x-py", "venv-a-b-python3")
    assert re.fullmatch("conda-env-x-py-[0-9a-f]{6}", second)
    assert re.fullmatch("venv-a-b-python3-[0-9a-f]{6}", fourth)


@given(st.lists(st.tuples(st.text(max_size=150), st.text(min_size=1, max_size=150)), max_size=6))
def test_every_name_is_one_that_jupyter_takes(tmp_path_factory: pytest.TempPathFactory, names: list[tuple[str, str]]):
    memory = Memory()
    kernel = tmp_path_factory.getbasetemp() / "kernel"
    if not kernel.is_dir():
        add_kernel(kernel, argv=["/bin/true"])
    environments = [
        Environment("venv", name, Path(f"/{number}"), "3.13", (kernel / "share/jupyter/kernels/python3",), None)
        for number, (name, _) in enumerate(names)
    ]
    found = offered(environments, memory, with_offers=False)
    assert len(found) == len(names)
    for name, kernel_spec in found.items():
        assert re.fullmatch(r"[a-zA-Z0-9._\-]{1,110}", name)
        json.dumps(kernel_spec.spec).encode()


def test_everything_else_of_a_kernel_stays_as_it_was(home: Home):
    prefix = home.venv("app/.venv")
    directory = add_kernel(
        prefix,
        argv=["python3.13", "-m", "x", "{connection_file}", "{prefix}/y"],
        env={"A": "${PATH}"},
        metadata={"debugger": True},
        interrupt_mode="message",
        kernel_protocol_version="5.5",
    )
    [kernel] = specs(home).values()
    assert kernel.directory == directory
    assert kernel.spec["argv"][-5:] == [f"{prefix}/bin/python", "-m", "x", "{connection_file}", f"{prefix}/y"]
    assert kernel.spec["env"] == {"A": "${PATH}"}
    assert kernel.spec["metadata"]["debugger"] is True
    assert kernel.spec["interrupt_mode"] == "message"
    assert kernel.spec["kernel_protocol_version"] == "5.5"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        '{"argv": [], "display_name": "x", "language": "x"}',
        '{"argv": ["a\\u0000b"], "display_name": "x", "language": "x"}',
        '{"argv": ["/bin/true", 1], "display_name": "x", "language": "x"}',
        '{"argv": ["/bin/true"], "display_name": 1, "language": "x"}',
        '{"argv": ["/bin/true"], "display_name": "x"}',
        '{"argv": ["/bin/true"], "display_name": "x", "language": "x", "env": []}',
        '{"argv": ["/bin/true"], "display_name": "x", "language": "x", "interrupt_mode": "x"}',
        '{"argv": ["/not/there"], "display_name": "x", "language": "x"}',
        b"\xff\xfe",
    ],
)
def test_a_kernel_json_that_is_none_is_passed_over(home: Home, text: str | bytes):
    file = add_kernel(home.venv("app/.venv")) / "kernel.json"
    assert len(specs(home)) == 1
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert specs(home) == {}


# -- offers -------------------------------------------------------------------------------------------


def test_a_python_without_a_kernel_is_offered_one(home: Home):
    home.root()
    home.conda("miniforge3/envs/torch")
    home.conda("miniforge3/envs/stats", "r-base-4.4.1-h0_0")
    add_kernel(home.conda("miniforge3/envs/both"), "ir", language="R", argv=["R"])
    add_kernel(home.venv("done/.venv"))
    home.venv("app/.venv")
    found = specs(home, with_offers=True)
    offers = {name: kernel.spec["display_name"] for name, kernel in found.items() if kernel.is_offer}
    assert offers == {
        "add-conda-env-torch": "Add a kernel: conda: torch",
        "add-conda-env-both": "Add a kernel: conda: both",
        "add-venv-app": "Add a kernel: venv: app",
    }
    for name in offers:
        assert found[name].spec["language"] == "none"
        assert found[name].spec["metadata"]["jupyter_remote"]["offer"] is True
        assert (found[name].directory / "logo-svg.svg").is_file()
    assert not any(kernel.is_offer for kernel in specs(home).values())


# -- activated.sh -------------------------------------------------------------------------------------


def activated(
    kind: str, prefix: Path, *command: str, root: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command as a kernel would be."""
    launcher = ["/bin/bash", "-p", str(LAUNCHER), sys.executable, kind, str(prefix), str(root or "")]
    return subprocess.run(
        [*launcher, *command],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **(env or {})},
        cwd="/usr",
        timeout=PATIENCE,
    )


def variables(*arguments: Any, **more: Any) -> dict[str, str]:
    """The variables that a kernel would see."""
    done = activated(*arguments, "/usr/bin/env", "-0", **more)
    assert done.returncode == 0, done.stderr
    return dict(line.split("=", 1) for line in done.stdout.split("\0") if line)


def snippet(prefix: Path, name: str, text: str) -> None:
    directory = prefix / "etc/conda/activate.d"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(text)


def test_a_virtual_environment_is_activated(home: Home):
    seen = variables("venv", home.venv("app/.venv"))
    assert seen["VIRTUAL_ENV"] == f"{home.path}/app/.venv"
    assert seen["PATH"] == f"{home.path}/app/.venv/bin:/usr/bin:/bin"
    assert not [name for name in seen if name.startswith("CONDA")]


def test_a_conda_environment_is_activated(home: Home):
    root = home.root()
    (root / "bin/conda").symlink_to("/bin/true")
    seen = variables("conda", home.conda("miniforge3/envs/torch"), root=root)
    assert seen["PATH"] == f"{root}/envs/torch/bin:/usr/bin:/bin:{root}/condabin"
    assert seen["CONDA_PREFIX"] == f"{root}/envs/torch"
    assert seen["CONDA_DEFAULT_ENV"] == "torch"
    assert seen["CONDA_PROMPT_MODIFIER"] == "(torch) "
    assert seen["CONDA_SHLVL"] == "1"
    assert seen["CONDA_EXE"] == f"{root}/bin/conda"
    assert seen["CONDA_PYTHON_EXE"] == f"{root}/bin/python"
    assert variables("conda", root, root=root)["CONDA_DEFAULT_ENV"] == "base"
    assert variables("conda", home.conda("own"), root=root)["CONDA_DEFAULT_ENV"] == f"{home.path}/own"
    assert "CONDA_EXE" not in variables("conda", home.path / "own")


def test_nothing_is_left_of_another_environment(home: Home):
    inherited = {
        "PYTHONHOME": "/x",
        "VIRTUAL_ENV": "/x",
        "CONDA_PREFIX": "/x",
        "CONDA_PREFIX_1": "/x",
        "CONDA_SHLVL": "2",
        "CONDA_EXE": "/x",
        "PIXI_PROJECT_ROOT": "/x",
    }
    assert not set(variables("venv", home.venv("app"), env=inherited)) & (set(inherited) - {"VIRTUAL_ENV"})
    seen = variables("conda", home.conda("own"), env=inherited)
    assert seen["CONDA_SHLVL"] == "1"
    assert "/x" not in seen.values()


def test_what_the_owner_has_set_for_other_things_is_kept(home: Home):
    mine = {"CONDA_PKGS_DIRS": "/x", "PIXI_HOME": "/y", "BASH_ENV": "/not/there", "BASH_FUNC_module%%": "() { :; }"}
    assert mine.items() <= variables("conda", home.conda("own"), env=mine).items()


@pytest.mark.parametrize("name", ["with blank", "it's", 'a"b', "$(touch x)`y`", "é", "a\nb", "-n", "*", "a;b", "\\"])
def test_any_name_of_a_directory_works(home: Home, name: str):
    prefix = home.conda(name)
    snippet(prefix, "a b.sh", "export SEEN=$CONDA_PREFIX\n")
    (prefix / "conda-meta/state").write_text('{"env_vars": {"SET": "1"}}')
    seen = variables("conda", prefix)
    assert seen["CONDA_PREFIX"] == seen["SEEN"] == str(prefix)
    assert seen["SET"] == "1"
    assert variables("venv", prefix)["VIRTUAL_ENV"] == str(prefix)


def test_snippets_run_in_order_and_see_each_other(home: Home):
    prefix = home.conda("own")
    snippet(prefix, "2.sh", 'export B="$A two"\n')
    snippet(prefix, "1.sh", "export A=one\n")
    snippet(prefix, "3.fish", "export B=\n")
    assert variables("conda", prefix)["B"] == "one two"


@pytest.mark.parametrize(
    "wrong",
    [
        "false",
        "return 3",
        "exit 3",
        "set -eu; echo $NOT_SET; false",
        "set -- other arguments; shift",
        "read line; cat",
        "echo to the output",
        "cd /; unset PWD",
        "if; then",
        "exec >/dev/null",
        "_kernel_start() { :; }; start() { :; }; python=x; prefix=x; snippet=x; root=x; PATH=",
        "trap '' INT; trap 'echo gone' EXIT",
        "shopt -s failglob; set -f -o noclobber; IFS=/",
        "wait; ( sleep 0 ) &",
    ],
)
def test_no_snippet_keeps_a_kernel_from_starting(home: Home, wrong: str):
    prefix = home.conda("own")
    snippet(prefix, "wrong.sh", wrong + "\n")
    done = activated("conda", prefix, "/bin/pwd", "-P")
    assert done.stdout.splitlines()[-1:] == ["/usr"]


def test_an_interrupt_reaches_the_command_whatever_a_snippet_has_done_to_it(home: Home):
    prefix = home.conda("own")
    snippet(prefix, "deaf.sh", "trap '' INT TERM\n")
    done = activated("conda", prefix, "/bin/bash", "-c", "kill -INT $$; echo deaf")
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "")


def test_condas_variables_are_set(home: Home):
    prefix = home.conda("own")
    (prefix / "etc/conda/env_vars.d").mkdir(parents=True)
    (prefix / "etc/conda/env_vars.d/b.json").write_text('{"A": "b", "B": "b", "C": "b"}')
    (prefix / "etc/conda/env_vars.d/a.json").write_text('{"A": "a"}')
    (prefix / "etc/conda/env_vars.d/broken.json").write_text("{")
    value = "line\nline '\"$HOME`x`\\ é"
    odd = {"a-b": "x", "": "x", "N": 1, "A=": "x", "GONE": "***unset***"}
    state = {"version": 1, "env_vars": {"B": value, "C": "***unset***", **odd}}
    (prefix / "conda-meta/state").write_text(json.dumps(state))
    snippet(prefix, "sees.sh", 'export SEEN="$B"\n')
    seen = variables("conda", prefix)
    assert seen["A"] == "b"
    assert seen["B"] == seen["SEEN"] == value
    assert not {"C", "GONE", "a-b", "N"} & set(seen)
    (prefix / "conda-meta/state").write_text("[" * 100_000)
    assert variables("conda", prefix)["B"] == "b"


# -- in a server --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(make_server: Callable[[], Running]) -> Running:
    """A server that runs; each test makes its own environments."""
    return make_server().start().wait_until_ready()


@pytest.fixture
def owner(server: Running) -> Iterator[Browser]:
    with server.owner() as browser:
        yield browser


@pytest.fixture
def make_venv(server: Running, environment: Path) -> Iterator[Callable[..., Path]]:
    """Make virtual environments in the owner's home, at once: what they have installed is the default one's."""
    made = []

    def make(name: str, *, kernel: bool = True) -> Path:
        prefix = server.home / name
        made.append(server.home / Path(name).parts[0])
        venv.create(prefix, symlinks=True)
        (prefix / SITE / "default.pth").write_text(str(environment / SITE))
        pip = prefix / "bin/pip"
        pip.write_text(f'#!/bin/sh\nexec "{prefix}/bin/python" -m pip "$@"\n')
        pip.chmod(0o755)
        if kernel:
            shutil.copytree(environment / "share/jupyter/kernels", prefix / "share/jupyter/kernels")
        return prefix

    yield make
    for path in made:
        shutil.rmtree(path, ignore_errors=True)


def kernelspecs(owner: Browser) -> dict[str, Any]:
    return owner.api("GET", "kernelspecs")["kernelspecs"]  # type: ignore[no-any-return]


def test_an_environment_comes_and_goes_at_the_next_request(owner: Browser, make_venv: Callable[..., Path]):
    assert list(kernelspecs(owner)) == ["python3"]
    prefix = make_venv("work/app/.venv")
    offered = kernelspecs(owner)
    assert set(offered) == {"python3", "venv-work-app-python3"}
    assert offered["venv-work-app-python3"]["spec"]["display_name"] == f"Python {VERSION} (venv: work/app)"
    logo = offered["venv-work-app-python3"]["resources"]["logo-svg"]
    assert owner.http.get(f"https://box.test{logo}").headers["content-type"] == "image/svg+xml"
    assert owner.api("GET", "kernelspecs/venv-work-app-python3")["name"] == "venv-work-app-python3"
    shutil.rmtree(prefix)
    assert list(kernelspecs(owner)) == ["python3"]
    answer = owner.send("POST", "api/kernels", {"name": "venv-work-app-python3"})
    assert answer.status_code >= 400


def test_a_kernel_is_in_its_environment(owner: Browser, server: Running, make_venv: Callable[..., Path]):
    prefix = make_venv("it's mine/.venv")
    kernel = owner.start_kernel("venv-it-s-mine-python3")
    assert kernel.execute("import sys; sys.prefix").value == repr(str(prefix))
    assert kernel.execute("!which python pip; echo $VIRTUAL_ENV").text.splitlines() == [
        f"{prefix}/bin/python",
        f"{prefix}/bin/pip",
        str(prefix),
    ]
    wheel = server.home / "hello-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("hello.py", "")
        archive.writestr("hello-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: hello\nVersion: 1\n")
        archive.writestr("hello-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("hello-1.dist-info/RECORD", "")
    kernel.execute(f"%pip install --no-index {wheel}")
    assert (prefix / SITE / "hello.py").is_file()
    request = kernel.submit("print('go', flush=True)\nimport time\nwhile True: time.sleep(1)")
    while kernel.receive()["msg_type"] != "stream":
        pass
    kernel.interrupt()
    assert (kernel.result(request).error or "").startswith("KeyboardInterrupt")
    kernel.shut_down()


def test_a_value_that_changes_is_there_at_the_next_start(owner: Browser, make_venv: Callable[..., Path]):
    prefix = make_venv("miniforge3/envs/torch")
    (prefix / "conda-meta").mkdir()
    (prefix / "conda-meta/python-3.11.9-h0_0_cpython.json").touch()
    snippet(prefix, "demo.sh", 'export DEMO="$CONDA_PREFIX/share/demo"\n')
    kernel = owner.start_kernel("conda-env-torch-py")
    seeing = "import os; print(os.environ['DEMO'], os.environ.get('KEY'), os.environ['CONDA_DEFAULT_ENV'])"
    assert kernel.execute(seeing).text.split() == [f"{prefix}/share/demo", "None", "torch"]
    (prefix / "conda-meta/state").write_text('{"env_vars": {"KEY": "a$b"}}')
    owner.api("POST", f"kernels/{kernel.id}/restart")
    again: Kernel = owner.connect(kernel.id)
    assert again.execute(seeing).text.split() == [f"{prefix}/share/demo", "a$b", "torch"]
    again.shut_down()


def start_session(owner: Browser, name: str, path: str) -> httpx.Response:
    return owner.send("POST", "api/sessions", {"path": path, "type": "notebook", "kernel": {"name": name}})


def test_a_click_on_an_offer_installs_a_kernel_once_and_starts_it(
    owner: Browser, server: Running, make_venv: Callable[..., Path]
):
    prefix = make_venv("app/.venv", kernel=False)
    # pip sees that nothing is installed here.
    (prefix / SITE / "default.pth").unlink()
    subprocess.run([prefix / "bin/python", "-m", "ensurepip"], check=True, capture_output=True)
    assert list(kernelspecs(owner)) == ["python3", "add-venv-app"]
    # A notebook from before asks for the kernel by its name: that installs nothing.
    assert start_session(owner, "venv-app-python3", "old.ipynb").status_code == 501
    answers: list[httpx.Response] = []

    def click(path: str) -> None:
        with server.owner() as browser:
            answers.append(start_session(browser, "add-venv-app", path))

    clicks = [threading.Thread(target=click, args=(f"{number}.ipynb",)) for number in range(2)]
    for each in clicks:
        each.start()
    for each in clicks:
        each.join()
    assert [answer.status_code for answer in answers] == [201, 201], [answer.text for answer in answers]
    assert {answer.json()["kernel"]["name"] for answer in answers} == {"venv-app-python3"}
    assert list(kernelspecs(owner)) == ["python3", "venv-app-python3"]
    assert server.log.read_text().count(f"Installing a kernel into {prefix}") == 1
    kernel = owner.connect(answers[0].json()["kernel"]["id"])
    assert kernel.execute("import sys; sys.prefix").value == repr(str(prefix))
    for answer in answers:
        owner.api("DELETE", f"sessions/{answer.json()['id']}")


def test_an_offer_that_fails_says_why_and_can_be_clicked_again(
    owner: Browser, server: Running, make_venv: Callable[..., Path]
):
    prefix = make_venv("sad/.venv", kernel=False)
    (prefix / "bin/python").unlink()
    (prefix / "bin/python").write_text("#!/bin/sh\necho 'ERROR: 100% of the disk are full' >&2\nexit 1\n")
    (prefix / "bin/python").chmod(0o755)
    for _ in range(2):
        answer = start_session(owner, "add-venv-sad", "x.ipynb")
        assert answer.status_code == 500
        said = answer.json()["message"]
        assert f"could not be installed into {prefix}: ERROR: 100" in said
        assert "in a terminal" in said
    assert owner.api("GET", "sessions") == []
    assert "add-venv-sad" in kernelspecs(owner)


def test_the_owners_list_of_kernels_decides(make_server: Callable[[], Running], environment: Path):
    running = make_server()
    running.settings["offer_environments"] = False
    for name in "one", "two":
        prefix = running.home / name / ".venv"
        venv.create(prefix, symlinks=True)
        shutil.copytree(environment / "share/jupyter/kernels", prefix / "share/jupyter/kernels")
    venv.create(running.home / "three/.venv", symlinks=True)
    (running.home / ".jupyter").mkdir()
    config = running.home / ".jupyter/jupyter_server_config.json"
    config.write_text(json.dumps({"KernelSpecManager": {"allowed_kernelspecs": ["python3", "venv-two-python3"]}}))
    running.start().wait_until_ready()
    with running.owner() as browser:
        assert set(kernelspecs(browser)) == {"python3", "venv-two-python3"}
        config.unlink()
        running.restart()
        # Not the one without a kernel: offers are switched off.
        assert set(kernelspecs(browser)) == {"python3", "venv-one-python3", "venv-two-python3"}
    running.close()


def test_one_of_the_owners_environments_can_be_the_default_one(make_server: Callable[[], Running], environment: Path):
    running = make_server()
    # Where nobody looks by itself.
    prefix = running.home / "a/b/c/d/e/mine [1]"
    venv.create(prefix, symlinks=True)
    shutil.copytree(environment / "share/jupyter/kernels", prefix / "share/jupyter/kernels")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (prefix / f"lib/{version}/site-packages/there.pth").write_text(f"{environment}/lib/{version}/site-packages\n")
    running.settings["default_environment"] = str(prefix)
    running.start().wait_until_ready()
    with running.owner() as browser:
        kernel = browser.start_kernel()
        assert kernel.execute("import sys; print(sys.prefix)").text.strip() == str(prefix)
        kernel.shut_down()
        # When it is gone there is the one that is made.
        shutil.rmtree(prefix)
        kernel = browser.start_kernel()
        assert kernel.execute("import sys; print(sys.prefix)").text.strip() != str(prefix)
        kernel.shut_down()
    running.close()


def test_the_default_environment_is_not_offered_twice(make_server: Callable[[], Running], environment: Path):
    running = make_server()
    running.settings["environments"] = [
        f"{path}/*" for path in (running.state, environment.parent, Path(sys.prefix).parent)
    ]
    running.start().wait_until_ready()
    with running.owner() as browser:
        metadata = [spec["spec"]["metadata"] for spec in kernelspecs(browser).values()]
    running.close()
    paths = [Path(each["conda_env_path"]) for each in metadata if "conda_env_path" in each]
    assert not [path for path in paths if path.samefile(environment) or path.samefile(sys.prefix)]


# -- in open pages ------------------------------------------------------------------------------------


def test_a_page_that_is_open_hears_of_what_comes_and_goes(owner: Browser, make_venv: Callable[..., Path]):
    events = owner.events()

    def hear() -> None:
        while json.loads(events.recv())["schema_id"] != SCHEMA_ID:
            pass

    # What has happened since the page asked for the list.
    hear()
    prefix = make_venv("heard/.venv")
    hear()
    shutil.rmtree(prefix)
    hear()
    events.close()


@pytest.mark.parametrize("page", ["lab", "tree"])
def test_the_part_that_listens_is_in_the_pages(owner: Browser, page: str):
    found = re.search(r'id="jupyter-config-data"[^>]*>(.*?)</script>', owner.get(page).text, re.DOTALL)
    assert found
    config = json.loads(found[1])
    [ours] = [each for each in config["federated_extensions"] if each["name"] == "jupyter-remote"]
    script = owner.http.get(f"https://box.test{config['fullLabextensionsUrl']}/jupyter-remote/{ours['load']}")
    assert script.status_code == 200
    assert SCHEMA_ID in script.text
    assert ours["extension"] == "./extension"
