"""Many restarts under kernels that never stop talking. ``bench/survive`` does it for longer, and counts more."""

from __future__ import annotations

from collections.abc import Callable

from running import Running

from tests.soak import soak, ways


def test_twenty_restarts_under_five_kernels_are_not_noticed(make_server: Callable[[], Running]):
    server = make_server().keep_kernels().start().wait_until_ready()
    with server.owner() as browser:
        tally = soak(browser, ways(server), server.home / "stop", kernels=5, restarts=20)
    server.close()
    assert tally.perfect and tally.restarts == 20, tally
    assert tally.interruptions == 0, tally
