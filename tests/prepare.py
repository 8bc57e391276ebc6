"""Make the systems and packages of a test run before it begins, one after the other, with progress.

The fixtures would make them too; but then two workers of pytest wait for each other in silence.
"""

from __future__ import annotations

import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
# In place of this directory, whose packaging/ would be taken for the library of that name.
sys.path[:1] = [str(TOP / "src"), str(TOP / "tools"), str(TOP)]

from lab import host, layers, vm  # noqa: E402

from jupyter_remote.run import Mistake, ProcessFailed, say  # noqa: E402
from tests import installed  # noqa: E402
from tests.conda import installer  # noqa: E402


def main(arguments: list[str]) -> int:
    """*arguments* are pytest's; ours among them are ``--suite`` and ``--no-build``. Returns the exit code.

    With ``--vm`` only the disk of the virtual machine is made, of the last release.
    """
    chosen = installed.SUITES
    for position, argument in enumerate(arguments):
        if argument.startswith("--suite"):
            _, _, joined = argument.partition("=")
            chosen = (joined or arguments[position + 1]).split(",")
    try:
        host.require_root("booting systems")
        if "--vm" in arguments:
            deb = installed.deb(chosen[-1], build="--no-build" not in arguments)
            vm.image(chosen[-1], installed.layer(chosen[-1], deb))
            return 0
        host.require(*host.PACKAGES.keys() - set(vm.PROGRAMS), *host.FILES)
        for suite in chosen:
            for layer in ("plain", "box", "pebble"):
                layers.ensure(suite, layer)
            say(f"building the package for {suite}, unless it is there")
            deb = installed.deb(suite, build="--no-build" not in arguments)
            installed.ready(suite, deb)
            installed.layer(suite, deb)
        # for tests that run on one release only
        if earlier := installed.earlier(chosen[-1]):
            say(f"the package of an earlier commit: {earlier.name}")
        for distribution in (installer.MINIFORGE, installer.ANACONDA):
            installer.ensure(distribution)
    except (Mistake, ProcessFailed) as failed:
        say(f"test.sh: {failed}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
