"""Make the systems and packages of a test run before it begins, with progress.

The fixtures would make them too; but then two workers of pytest wait for each other in silence.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
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
        # Most of a build keeps one core busy, and the smallest machine has two.
        with ThreadPoolExecutor(2) as pool:
            jobs = [pool.submit(_installed, suite, build="--no-build" not in arguments) for suite in chosen]
            # for tests that run on one release only
            jobs.append(pool.submit(installed.earlier, chosen[-1]))
            jobs += [pool.submit(installer.ensure, one) for one in (installer.MINIFORGE, installer.ANACONDA)]
            for job in jobs:
                job.result()
    except (Mistake, ProcessFailed) as failed:
        say(f"test.sh: {failed}")
        return 1
    return 0


def _installed(suite: str, *, build: bool) -> None:
    """The package for *suite*, and a system that has it."""
    say(f"building the package for {suite}, unless it is there")
    deb = installed.deb(suite, build=build)
    installed.ready(suite, deb)
    installed.layer(suite, deb)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
