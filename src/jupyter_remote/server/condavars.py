"""Print the variables that a conda environment wants to be set, as ``NAME=VALUE`` with NUL after each.

Run by activated.sh at each start of a kernel, with nothing but the standard library's files that Python
itself needs.
"""
# pathlib takes 10 ms to import.
# ruff: noqa: PTH123, PTH207

import glob
import json
import re
import sys
from typing import Any

#: conda's mark for a variable that was taken back.
UNSET = "***unset***"


def read(path: str) -> dict[str, Any]:
    """The JSON object in a file; empty when there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            said = json.load(file)
    except (OSError, ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def variables(prefix: str) -> dict[str, str]:
    """What packages want, overruled by what the environment's owner has set."""
    found: dict[str, Any] = {}
    for path in sorted(glob.glob(f"{glob.escape(prefix)}/etc/conda/env_vars.d/*.json")):
        found.update(read(path))
    own = read(f"{prefix}/conda-meta/state").get("env_vars")
    if isinstance(own, dict):
        found.update(own)
    return {
        name: value
        for name, value in found.items()
        if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)
        and isinstance(value, str)
        and value != UNSET
        and "\0" not in value
    }


if __name__ == "__main__":
    for name, value in variables(sys.argv[1]).items():
        sys.stdout.buffer.write(f"{name}={value}\0".encode("utf-8", "surrogateescape"))
