"""Debian 12 becomes Debian 13 while somebody works, and the package of Debian 13 follows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lab import sources
from lab.box import NONINTERACTIVE, Box

from tests import installed
from tests.client import Client, wait_until
from tests.installed import PASSWORD

MakeClient = Callable[..., Client]


@pytest.mark.one_release
def test_what_runs_lives_through_a_release_upgrade(suite: str, pytestconfig: pytest.Config, client: MakeClient):
    del suite
    build = not pytestconfig.getoption("no_build")
    before, after = (installed.deb(name, build=build) for name in ("bookworm", "trixie"))
    with Box("bookworm", layer=installed.layer("bookworm", before)) as box:
        visitor = client(box).login(PASSWORD)
        kernel = visitor.start_kernel()
        kernel.execute("import sys; kept = 42")
        box.sh("jupyter-remote config set kernels.cull_idle 30d")
        box.write("/etc/apt/sources.list", "".join(f"{line}\n" for line in sources.for_suite("trixie")))
        box.sh("rm -f /etc/apt/sources.list.d/*")
        box.sh("apt-get update")
        simulated = box.sh("apt-get full-upgrade --simulate")
        assert "Remv jupyter-remote" not in simulated
        box.sh("apt-get full-upgrade --yes --option Dpkg::Options::=--force-confold", env=NONINTERACTIVE, timeout=1500)
        assert "13." in box.read("/etc/debian_version")
        # It is still the package of Debian 12, with that one's Python, which nobody has taken away. Apache was started
        # anew, so a page connects again.
        kernel = visitor.connect(kernel.id)
        assert kernel.execute("kept, sys.version_info[:2]").value == "(42, (3, 11))"
        assert visitor.logged_in
        box.sh("systemctl restart jupyter-remote")
        assert visitor.logged_in
        assert kernel.execute("kept").value == "42"

        # The package of Debian 13 over it, and the same kernel.
        box.install(after)
        assert visitor.logged_in
        assert kernel.execute("kept").value == "42"
        assert box.sh("jupyter-remote config get kernels.cull_idle") == str(30 * 86400)
        new = visitor.start_kernel()
        assert new.execute("import sys; sys.version_info[:2]").value == "(3, 13)"
        # Nobody needs the old Python any more.
        box.sh("apt-get autoremove --yes", env=NONINTERACTIVE)
        assert kernel.execute("kept").value == "42"
        box.reboot()
        wait_until(lambda: client(box).try_login(PASSWORD), "nobody is let in after the reboot")
        assert client(box).login(PASSWORD).start_kernel().execute("6 * 7").value == "42"
        assert box.sh("systemctl --failed --no-legend") == ""
