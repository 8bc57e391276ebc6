"""The built .deb: the same bytes wherever it is built, with nothing in it that does not belong there."""

from __future__ import annotations

import json
import re
import stat
import sys
from pathlib import Path

import debbuild
import pytest
from lab.scratch import scratch
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from jupyter_remote.run import run

TOP = Path(__file__).resolve().parents[2]
#: as OSV says it
ANY_VERSION = {"type": "SEMVER", "events": [{"introduced": "0"}]}


@pytest.fixture(scope="session")
def control(deb: Path) -> dict[str, str]:
    """The fields of the package."""
    fields = re.split(r"\n(?=\S)", run("dpkg-deb", "--field", deb).stdout.strip())
    return {name: value.strip() for name, _, value in (field.partition(":") for field in fields)}


@pytest.fixture(scope="session")
def tree(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the package."""
    directory = tmp_path_factory.mktemp("deb")
    run("dpkg-deb", "--raw-extract", deb, directory)
    return directory


@pytest.fixture(scope="session")
def site(tree: Path) -> Path:
    """The modules of the server's venv."""
    return next(tree.glob("usr/lib/jupyter-remote/lib/python3.*/site-packages"))


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()]


def pinned(name: str, python: str) -> set[str]:
    """The packages of requirements/*name*.txt that are for that Python."""
    lines = re.findall(r"^(\S+==[^\\\n]+)", (TOP / "requirements" / f"{name}.txt").read_text(), re.M)
    environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.2"}
    requirements = [Requirement(line.strip()) for line in lines]
    return {
        canonicalize_name(requirement.name)
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate(environment)
    }


def python_of(site: Path) -> str:
    return site.parent.name.removeprefix("python")


@pytest.mark.one_release
def test_a_build_in_another_place_gives_the_same_bytes(suite: str, deb: Path) -> None:
    with debbuild.built(suite, place="/srv/another/place/to/build", umask=0o077, timezone="Asia/Kathmandu") as (
        _,
        products,
    ):
        second = next(path for path in products if path.suffix == ".deb")
        built_from = (debbuild.DIST / suite / ".built-from").read_text()
        assert debbuild.state_of_sources() == built_from, "the sources were edited during the test"
        assert second.name == deb.name
        assert second.read_bytes() == deb.read_bytes()


#: What Debian 12's lintian alone asks for: an init script beside each unit. Sockets, and a unit for each kernel, are
#: what the package is about; without systemd there is `jupyter-remote run`.
OLD_WISHES = ("--suppress-tags", "package-supports-alternative-init-but-no-init.d-script")


@pytest.mark.either_release
def test_lintian_finds_nothing_that_is_not_explained(suite: str, deb: Path) -> None:
    with scratch(suite, "build", {deb.parent: "/dist"}) as root:
        changes = next(deb.parent.glob("*.changes")).name
        done = root.run(
            *("lintian", "--allow-root", "--fail-on", "error,warning,info", "--display-info", "--tag-display-limit=0"),
            *(OLD_WISHES if suite == "bookworm" else ()),
            f"/dist/{changes}",
            check=False,
        )
    assert not re.findall(r"^[EWI]: .*", done.stdout, re.M)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mismatched-override" not in done.stdout


def test_it_depends_on_the_interpreter_of_its_release(suite: str, control: dict[str, str], site: Path) -> None:
    with scratch(suite, "build") as root:
        python = root.run("py3versions", "--default").stdout.strip()
    assert site.parent.name == python
    depends = {word.split(" (")[0] for word in control["Depends"].split(", ")}
    assert {python, "openssl", "libc6"} <= depends
    # It would go in a release upgrade, and take us along.
    assert f"{python}-venv" not in depends
    # In a plain container there is no systemd, and a machine may have another proxy than Apache.
    assert not {"python3", "systemd", "adduser", "apache2"} & depends
    assert control["Recommends"] == f"apache2 (>= 2.4.47), {python}-venv"


def test_its_version_says_for_which_release_it_is(suite: str, control: dict[str, str]) -> None:
    numbers = {"bookworm": "12", "trixie": "13"}
    assert re.fullmatch(rf"[\d.]+-\d+~deb{numbers[suite]}u1", control["Version"])
    assert run("dpkg", "--compare-versions", control["Version"], "lt", control["Version"].split("~")[0]).returncode == 0


def test_it_contains_what_is_pinned_and_nothing_else(tree: Path, site: Path) -> None:
    installed = {canonicalize_name(path.name.split("-")[0]) for path in site.glob("*.dist-info")}
    assert installed == pinned("server", python_of(site)) | {"jupyter-remote"}
    wheels = tree / "usr/lib/jupyter-remote/share/jupyter-remote/wheels"
    assert {parse_wheel_filename(path.name)[0] for path in wheels.iterdir()} == pinned("kernel", python_of(site))


def test_nobody_can_install_into_the_servers_venv_or_run_a_kernel_in_it(tree: Path, site: Path) -> None:
    venv = tree / "usr/lib/jupyter-remote"
    modules = {path.name for path in site.iterdir()}
    assert not {"pip", "setuptools", "pkg_resources", "ipykernel", "distutils-precedence.pth"} & modules
    assert not list(venv.glob("bin/activate*")) and not list(venv.glob("bin/pip*"))
    assert not (venv / "share/jupyter/kernels").exists()


def test_every_module_is_compiled_and_never_compared_with_its_source(site: Path) -> None:
    sources = [path for path in site.rglob("*.py") if path.parent.name != "__pycache__"]
    compiled = list(site.rglob("__pycache__/*.pyc"))
    missing = {str(path) for path in sources} - {
        str(path.parent.parent / f"{path.name.split('.')[0]}.py") for path in compiled
    }
    # Templates of Python files, and files for other Pythons, that were never meant to be imported.
    assert len(missing) < 5, sorted(missing)
    for path in compiled:
        flags = int.from_bytes(path.read_bytes()[4:8], "little")
        assert flags == 0b01, f"{path} is not an unchecked hash pyc"


def test_nothing_knows_where_it_was_built(tree: Path) -> None:
    traces = (b"/build/jupyter-remote", b"debian/jupyter-remote/usr", b"/wheels/python3")
    assert [path for path in files(tree / "usr") if any(trace in path.read_bytes() for trace in traces)] == []


def test_modes_and_owners_are_those_of_system_files(deb: Path) -> None:
    for line in run("dpkg-deb", "--contents", deb).stdout.splitlines():
        mode, owner, _, _, _, name = line.split(maxsplit=5)
        assert owner == "root/root", line
        if not mode.startswith("l"):
            assert mode[1:] in ("rwxr-xr-x", "rw-r--r--"), f"{name} has mode {mode}"


def test_each_bundled_package_is_listed_with_its_licence(tree: Path, site: Path) -> None:
    listing = run("zcat", "-f", *tree.glob("usr/share/doc/jupyter-remote/bundled-packages.txt*")).stdout
    for name in pinned("server", python_of(site)) | pinned("kernel", python_of(site)):
        row = next(line for line in listing.splitlines() if canonicalize_name(line.split(" ")[0]) == name)
        assert len(row.split()) >= 3, row


def test_the_sbom_names_each_bundled_package(tree: Path, site: Path) -> None:
    sbom = json.loads((tree / "usr/share/jupyter-remote/sbom.cdx.json").read_text())
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.6")
    packages = {one["bom-ref"]: one for one in sbom["components"]}
    assert len(packages) == len(sbom["components"])
    assert sbom["dependencies"][0]["dependsOn"] == sorted(packages)
    assert all(one["version"] and one["licenses"] for one in packages.values())
    of_python = {canonicalize_name(one["name"]) for one in packages.values() if one["purl"].startswith("pkg:pypi/")}
    assert of_python == pinned("server", python_of(site)) | pinned("kernel", python_of(site)) | {"jupyter-remote"}
    # What JupyterLab and Notebook bring for browsers is in nobody's requirements.
    of_browsers = {one["name"] for one in packages.values() if one["purl"].startswith("pkg:npm/")}
    assert {"react", "@lumino/widgets", "@codemirror/view"} <= of_browsers


def test_known_vulnerabilities_of_what_is_bundled_can_be_looked_up(deb: Path, tmp_path: Path) -> None:
    for ecosystem, name in ("PyPI", "tornado"), ("npm", "react"):
        affected = {"package": {"ecosystem": ecosystem, "name": name}, "ranges": [ANY_VERSION]}
        (tmp_path / f"{name}.json").write_text(json.dumps({"id": f"{name}-1", "affected": [affected]}))
    done = run(sys.executable, TOP / "tools/audit", "--database", tmp_path, deb, check=False)
    assert done.returncode == 1, done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"tornado", "react"}


def test_questions_are_asked_in_german_and_french_too(tree: Path) -> None:
    templates = (tree / "DEBIAN/templates").read_text().split("\n\n")
    for template in templates:
        for language in ("de", "fr"):
            assert f"\nDescription-{language}.UTF-8: " in template, template
    (tls,) = [one for one in templates if one.startswith("Template: jupyter-remote/tls\n")]
    # What is stored is the same in each language.
    assert "\nChoices-C: self-signed, acme, existing, none\n" in tls or "\nChoices: self-signed, acme" in tls


def test_the_command_and_the_units_are_in_their_places(tree: Path) -> None:
    assert (tree / "usr/bin/jupyter-remote").is_symlink()
    command = tree / "usr/lib/jupyter-remote/bin/jupyter-remote"
    assert command.read_text().startswith("#!/usr/lib/jupyter-remote/bin/python -I\n")
    assert command.stat().st_mode & stat.S_IXOTH
    units = {path.name for path in tree.glob("**/lib/systemd/system/*")}
    assert units == {path.name for path in (TOP / "systemd").iterdir()}


def test_the_apache_files_are_conffiles_and_the_settings_are_not(tree: Path) -> None:
    conffiles = (tree / "DEBIAN/conffiles").read_text().split()
    assert conffiles == [f"/{path.relative_to(TOP)}" for path in sorted((TOP / "etc").rglob("*")) if path.is_file()]
