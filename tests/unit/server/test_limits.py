"""How often somebody may try: the bookkeeping alone, with a clock that the test turns."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_remote.server import limits
from jupyter_remote.server.limits import CODES, FAILED, FREE, LONGEST_WAIT, NEW, Caller, Limits, canonical, network

#: an attack: which of its addresses tries next, and how many seconds later
ATTACKS = st.lists(st.tuples(st.integers(0, 199), st.floats(0, 2)), max_size=600)

OWNER = "203.0.113.9"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def made() -> tuple[Limits, Clock]:
    clock = Clock()
    return Limits(clock), clock


def enemy(number: int) -> str:
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def attack(kept: Limits, clock: Clock, tries: list[tuple[int, float]]) -> int:
    """Play an attack; how many of its tries were let through."""
    through = 0
    for number, later in tries:
        clock.now += later
        through += not kept.attempt(kept.caller(enemy(number), None))
    return through


def flood(kept: Limits, clock: Clock, addresses: int, seconds: int) -> int:
    """Each address tries once in a second."""
    return attack(kept, clock, [(number, 1 / addresses) for _ in range(seconds) for number in range(addresses)])


def try_until_it_may(kept: Limits, clock: Clock, caller: Caller) -> float:
    """Come when it is said; the seconds until then."""
    begun = clock.now
    for _ in range(3):
        if not (wait := kept.attempt(caller)):
            return clock.now - begun
        clock.now += wait
    raise AssertionError("never let through at the time that was said")


@settings(deadline=None)
@given(ATTACKS)
def test_what_is_compared_stays_within_the_rates_whoever_tries(tries: list[tuple[int, float]]):
    kept, clock = made()
    begun = clock.now
    through = attack(kept, clock, tries)
    elapsed = clock.now - begun
    assert through <= sum(rate.at_once + elapsed / rate.seconds for rate in (NEW, FAILED))


@settings(deadline=None)
@given(ATTACKS, ATTACKS)
def test_an_address_that_has_not_failed_is_let_through_at_the_time_that_it_is_told(
    before: list[tuple[int, float]], meanwhile: list[tuple[int, float]]
):
    kept, clock = made()
    attack(kept, clock, before)
    wait = kept.attempt(kept.caller(OWNER, None))
    assert wait <= 200 * NEW.seconds
    if wait:
        clock_at = clock.now
        attack(kept, clock, meanwhile)
        clock.now = max(clock.now, clock_at + wait)
        if clock.now <= clock_at + wait + limits.TURN_KEPT:
            assert kept.attempt(kept.caller(OWNER, None)) == 0


@settings(deadline=None)
@given(ATTACKS)
def test_who_has_been_in_before_notices_nothing_of_an_attack(tries: list[tuple[int, float]]):
    kept, clock = made()
    kept.succeeded(kept.caller(OWNER, None), OWNER)
    attack(kept, clock, tries)
    assert kept.attempt(kept.caller(OWNER, None)) == 0
    assert kept.attempt(kept.caller("192.0.2.1", "a-browser-s-mark")) == 0


@settings(deadline=None)
@given(ATTACKS, ATTACKS)
def test_the_next_server_knows_all_of_it(before: list[tuple[int, float]], after: list[tuple[int, float]]):
    kept, clock = made()
    kept.succeeded(kept.caller(OWNER, None), OWNER)
    attack(kept, clock, before)
    following = Limits(clock)
    following.recall(json.loads(json.dumps(kept.remembered())))
    assert following.caller(OWNER, None).familiar
    now = clock.now
    through = attack(kept, clock, after)
    clock.now = now
    assert attack(following, clock, after) == through


@pytest.mark.parametrize("damaged", [None, {}, [], {"strangers": 1}, {"strangers": [["x"]], "familiar": []}])
def test_what_is_damaged_changes_nothing(damaged: object):
    kept, clock = made()
    flood(kept, clock, 1, 60)
    known = kept.remembered()
    with pytest.raises((KeyError, TypeError, ValueError)):
        kept.recall(damaged)
    assert kept.remembered() == known


def test_a_browser_that_has_been_in_gets_in_from_the_attackers_own_address():
    kept, clock = made()
    flood(kept, clock, 1, 3600)
    assert kept.attempt(kept.caller(enemy(0), None)) > 0
    assert kept.attempt(kept.caller(enemy(0), "mark")) == 0


@pytest.mark.parametrize("addresses", [1, 200])
def test_after_the_first_minutes_of_an_attack_a_new_address_does_not_wait_at_all(addresses: int):
    kept, clock = made()
    flood(kept, clock, addresses, 300)
    assert kept.attempt(kept.caller(OWNER, None)) == 0


@pytest.mark.parametrize("addresses", [1, 200])
def test_who_mistypes_during_an_attack_gets_another_turn(addresses: int):
    kept, clock = made()
    flood(kept, clock, addresses, 100)
    caller = kept.caller(OWNER, None)
    assert kept.attempt(caller) == 0
    assert try_until_it_may(kept, clock, caller) <= 200 * FAILED.seconds


def test_the_wait_grows_with_each_failure_up_to_its_limit():
    kept, clock = made()
    caller = kept.caller("192.0.2.1", "mark")
    waits = []
    for _ in range(FREE + 12):
        assert kept.attempt(caller) == 0
        waits.append(kept.wait(caller))
        clock.now += waits[-1]
    assert waits[: FREE - 1] == [0] * (FREE - 1)
    assert waits == sorted(waits)
    assert waits[FREE] > waits[FREE - 1] > 0
    assert max(waits) == pytest.approx(LONGEST_WAIT, rel=0.05)


def test_asking_too_early_makes_the_wait_no_longer():
    kept, clock = made()
    caller = kept.caller(OWNER, None)
    for _ in range(FREE):
        try_until_it_may(kept, clock, caller)
    end = clock.now + kept.wait(caller)
    for _ in range(50):
        clock.now += 0.01
        assert clock.now + kept.attempt(caller) == pytest.approx(end)


def test_failures_are_forgotten_in_time():
    kept, clock = made()
    caller = kept.caller("192.0.2.1", "mark")
    for _ in range(40):
        clock.now += kept.attempt(caller)
    clock.now += LONGEST_WAIT
    assert kept.attempt(caller) == 0
    assert kept.wait(caller) > 100
    clock.now += 15 * limits.FORGOTTEN_AFTER
    for _ in range(FREE - 1):
        assert kept.attempt(caller) == 0
        assert kept.wait(caller) == 0


def test_a_long_attack_from_one_address_comes_to_a_guess_in_ten_minutes():
    kept, clock = made()
    flood(kept, clock, 1, 7200)
    assert flood(kept, clock, 1, 36_000) <= 36_000 / limits.FORGOTTEN_AFTER + 1


def test_of_a_hundred_at_once_a_few_are_let_through():
    kept, _ = made()
    assert sum(not kept.attempt(kept.caller(OWNER, None)) for _ in range(100)) == FREE
    assert sum(not kept.attempt(kept.caller("192.0.2.1", "mark")) for _ in range(100)) == FREE


def test_getting_in_forgets_the_failures_before():
    kept, clock = made()
    caller = kept.caller(OWNER, None)
    for _ in range(FREE):
        try_until_it_may(kept, clock, caller)
    kept.succeeded(caller, OWNER)
    assert kept.wait(kept.caller(OWNER, None)) == 0
    assert kept.caller(OWNER, None).familiar


def test_an_address_does_not_stay_familiar_for_ever():
    kept, clock = made()
    kept.succeeded(kept.caller(OWNER, None), OWNER)
    clock.now += limits.FAMILIAR_FOR
    assert not kept.caller(OWNER, None).familiar


def test_two_hundred_thousand_addresses_do_not_fill_the_memory():
    kept, clock = made()
    assert flood(kept, clock, 200_000, 1) <= NEW.at_once + 2 / NEW.seconds
    assert len(kept._strangers) == limits.REMEMBERED
    for number in range(1000):
        kept.succeeded(kept.caller(enemy(number), str(number)), enemy(number))
        kept.attempt(kept.caller(OWNER, f"mark {number}"))
    assert len(kept._known_networks) == len(kept._familiar) == limits.FAMILIAR


def test_a_machine_has_one_count_for_all_of_its_ipv6_addresses():
    kept, _ = made()
    for number in range(FREE):
        assert kept.attempt(kept.caller(f"2001:db8:0:7::{number:x}", None)) == 0
    assert kept.attempt(kept.caller("2001:db8:0:7:ffff::1", None)) > 0
    assert kept.attempt(kept.caller("2001:db8:0:8::1", None)) == 0


def test_a_right_password_between_wrong_codes_resets_nothing():
    kept, clock = made()
    caller = kept.caller("192.0.2.1", "mark")
    waited = 0.0
    for _ in range(10):
        # The password, which they have ...
        waited += try_until_it_may(kept, clock, caller)
        kept.withdraw(caller)
        # ... and a guess.
        waited += try_until_it_may(kept, clock, caller)
    assert waited > 30


def test_codes_are_guessed_once_in_a_minute_by_all_strangers_together():
    kept, clock = made()
    through = 0
    for _ in range(3600):
        for number in range(50):
            through += not kept.attempt(kept.caller(enemy(number), None), CODES)
        clock.now += 1
    assert through <= CODES.at_once + 3600 / CODES.seconds


def test_what_another_one_would_not_say_changes_nothing():
    kept, clock = made()
    before = json.dumps(kept.remembered())
    another = Limits(clock)
    another.attempt(another.caller(OWNER, None))
    said = another.remembered()
    for turns in (said["turns"][:-1], [*said["turns"], 0.0], [*said["turns"][:-1], "x"]):
        with pytest.raises(ValueError, match=r"zip|float"):
            kept.recall({**said, "turns": turns})
        assert json.dumps(kept.remembered()) == before


@given(st.ip_addresses())
def test_an_address_in_the_log_is_an_address_and_its_network_is_one_key(address: object):
    assert canonical(str(address)) != "unknown"
    assert network(canonical(str(address))) == network(str(address))


@given(st.text())
def test_nothing_but_an_address_gets_into_the_log(text: str):
    said = canonical(text)
    assert said == "unknown" or set(said) <= set("0123456789abcdef:.")
