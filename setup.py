"""The Python package. debian/ builds the .deb around it, stdeb.cfg the slim one."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "src/jupyter_remote/__init__.py").read_text(), re.M)

ABOUT = """\
The command and the server of jupyter-remote for the Jupyter that Debian itself
has: a password, JupyterLab, and kernels that outlive a restart of the server.
It is for who brings https (a proxy or a tunnel) and starts the server: write
the owner and a port into /etc/jupyter-remote/config.toml, set a password with
"jupyter-remote password", and run "jupyter-remote run --keep-kernels".

It has no systemd units, no Apache site, no questions at installation, no
Notebook 7, no memory limits for kernels and no start at boot. The package
jupyter-remote has these, and a Jupyter of pinned versions.
"""

setup(
    name="jupyter-remote",
    version=VERSION.group(1),
    description="One person's remotely reachable Jupyter, behind Apache",
    long_description=ABOUT,
    author="jupyter-remote contributors",
    maintainer="jupyter-remote maintainers",
    maintainer_email="maintainers@jupyter-remote.invalid",
    url="https://jupyter.org/",
    license="BSD-3-Clause",
    python_requires=">=3.11",
    package_dir={"": "src"},
    packages=find_packages("src"),
    # Everything below src/ that is no module: templates, and data that is pinned.
    package_data={
        "": ["*.j2", "*.html", "*.css", "*.js", "*.json", "*.toml", "*.sh", "templates/*", "py.typed"],
        "jupyter_remote.server": ["offer/*", "elsewhere/*", "labextensions/*/*", "labextensions/*/schemas/*/*"],
    },
    install_requires=["notebook>=7", "jinja2", "tomlkit", "argon2-cffi", "rich"],
    entry_points={"console_scripts": ["jupyter-remote = jupyter_remote.cli:main"]},
    classifiers=[
        "Environment :: Web Environment",
        "Framework :: Jupyter",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
    ],
)
