"""A soak of a whole system: systemd restarts the server, and clients come over https, through Apache."""

from __future__ import annotations

import pytest
from lab.box import Box

from tests.client import Client
from tests.installed import PASSWORD
from tests.soak import Tally, soak

_SERVER = "jupyter-remote.service"
_STOP = "/home/alice/stop"

#: What happens, in turn. Of Apache's restart the pages notice that they must connect again.
_HAPPENINGS = (
    "systemctl restart jupyter-remote",
    f"systemctl kill --signal=KILL {_SERVER}",
    # It hangs, until the watchdog has enough.
    f"systemctl kill --signal=STOP {_SERVER}; systemctl kill --signal=KILL {_SERVER}",
    "systemctl restart apache2",
)


def soak_box(box: Box, *, kernels: int, restarts: int, pause: float = 0.02) -> Tally:
    """:func:`.soak` for a box in which our package is installed for alice."""

    def happens(what: str) -> None:
        before = box.sh("systemctl show -P MainPID jupyter-remote apache2").split()
        box.sh(what)
        # Killed, it is started again by itself.
        box.sh(
            f'until [ "$(systemctl show -P MainPID jupyter-remote apache2 | xargs)" != "{" ".join(before)}" ]'
            " && systemctl is-active --quiet jupyter-remote apache2; do sleep 0.1; done",
            timeout=120,
        )

    box.sh(f"rm -f {_STOP}*")
    url = f"https://{box.hostname}/jupyter"
    with Client(box.ip, url, box.read("/var/lib/jupyter-remote/ca.crt")) as visitor:
        visitor.login(PASSWORD)
        return soak(
            visitor,
            [lambda what=what: happens(what) for what in _HAPPENINGS],  # type: ignore[misc]
            box.path(_STOP),
            seen=_STOP,
            kernels=kernels,
            restarts=restarts,
            pause=pause,
        )


@pytest.mark.one_release
def test_whatever_is_restarted_nothing_is_lost_and_nothing_comes_twice(box: Box):
    tally = soak_box(box, kernels=3, restarts=8)
    assert tally.perfect and tally.restarts == 8, tally
    assert tally.interruptions == 3 * 2, "Apache's restarts are noticed by each page, and no other"
