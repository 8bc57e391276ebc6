"""Small packages that show what environments can have: activation, versions, a kernel of another language."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conda.package import PLACEHOLDER, File, Package

HERE = Path(__file__).parent
#: what the stand-in calls itself; its package has the same version
CONDA_VERSION = "26.1.1"


def packages() -> list[Package]:
    """All of them, and ``conda`` itself: the stand-in that base has."""
    return [_activation(), _data("1.0"), _data("2.0"), _echo_kernel(), _conda()]


def _activation() -> Package:
    files = {
        "etc/conda/activate.d/demo.sh": File(b'export DEMO_DATA="$CONDA_PREFIX/share/demo"\n'),
        "etc/conda/deactivate.d/demo.sh": File(b"unset DEMO_DATA\n"),
        "share/demo/answer": File(b"42\n"),
    }
    return Package("activate-demo", "1.0", files, noarch="generic")


def _data(version: str) -> Package:
    files = {
        "site-packages/demo_data/__init__.py": File(f'__version__ = "{version}"\n'.encode()),
        f"site-packages/demo_data-{version}.dist-info/METADATA": File(
            f"Metadata-Version: 2.1\nName: demo-data\nVersion: {version}\n".encode()
        ),
        f"site-packages/demo_data-{version}.dist-info/INSTALLER": File(b"conda\n"),
    }
    return Package("demo-data", version, files, ("python",), "py_0", "python")


def _echo_kernel() -> Package:
    kernelspec = {
        "argv": [f"{PLACEHOLDER}/bin/python", "-m", "echo_kernel", "-f", "{connection_file}"],
        "display_name": "Echo",
        "language": "echo",
    }
    files = {
        "site-packages/echo_kernel.py": File((HERE / "echo_kernel.py").read_bytes()),
        "share/jupyter/kernels/echo/kernel.json": File(json.dumps(kernelspec, indent=1).encode()),
    }
    return Package("echo-kernel", "1.0", files, ("python", "ipykernel"), "py_0", "python")


def _conda() -> Package:
    files = {
        "site-packages/conda_standin.py": File((HERE / "standin.py").read_bytes()),
        "etc/profile.d/conda.sh": File((HERE / "profile.sh").read_text().replace("@PREFIX@", PLACEHOLDER).encode()),
        "condabin/conda": File(f'#!/bin/sh\nexec {PLACEHOLDER}/bin/conda "$@"\n'.encode(), 0o755),
    }
    depends = ("python", "py-rattler", "pyyaml")
    return Package("conda", CONDA_VERSION, files, depends, "py_0", "python", ("conda = conda_standin:main",))
