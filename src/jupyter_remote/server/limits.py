"""How often somebody may try to log in: decided before anything is hashed, and answered at once.

Three kinds of callers are told apart:

* *familiar* ones: a browser that carries our signed mark from an earlier login, or an address that somebody has
  logged in from. Each has a count of failures of its own and waits for nobody else.
* *new* ones: an address that has not failed lately. All of them together have :data:`NEW`.
* the *failed*: all the others. All of them together have :data:`FAILED`, and each has to wait after its fifth
  failure, twice as long each time, up to ten minutes. One failure is forgotten every ten minutes.

An address is one IPv4 address, or a whole IPv6 /64, which one machine has for itself. Who comes when the rate is
used up gets a turn: the page and ``Retry-After`` say when, and at that time it is kept. So nobody stands in a queue
with a connection held open, and nobody has to be quicker than the attacker.

What an attacker can do with

* one address: about one guess in ten minutes. Nobody else notices.
* 200 addresses: the same 200 times, at most one guess in two seconds. In the first minute, while none of them has
  failed yet, an address that was never seen before waits for its turn, 50 s at most; from then on not at all.
* more addresses than :data:`REMEMBERED` (a botnet, or an IPv6 /48): four or five guesses a second, for all of
  them together, 400 000 a day. A password of a few words does not mind. Turns are given for ten minutes
  ahead and not more, so then an address that was never seen before may find none. Browsers and addresses that have
  been in before do not notice it, nor do sessions and login links (`jupyter-remote url`), which know no limits.
* the password, and a second factor in the way: :data:`CODES`, one guess a minute for all who are not familiar.
* a place behind the same address as the owner (a university's): they share its count. The owner's browser that has
  been in before has its own; another one takes a login link.

All of it is in memory, and a server that is stopped, or sleeps, hands it on to the next one. One that is killed, and a
reboot, forget it (browsers' marks hold on). With ``listen`` set to a port,
local users can claim any address, and so be as many as they like, or fail in the name of another; the default, a
unix socket, is Apache's alone.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

#: Failures before an address has to wait: typing errors.
FREE = 5

#: Seconds: the longest wait after a failure, and after how long one failure is forgotten.
LONGEST_WAIT = 600.0
FORGOTTEN_AFTER = 600.0

#: More failures than this say nothing new: the wait is the longest already.
_MOST = 15.0

#: Addresses that are remembered at most, and familiar callers. About 200 bytes each.
REMEMBERED = 16_384
FAMILIAR = 256

#: Seconds that a turn may be ahead, and how long it is kept after its time has come.
FARTHEST_TURN = 600.0
TURN_KEPT = 120.0

#: Seconds that an address stays familiar after a login.
FAMILIAR_FOR = 30 * 86_400.0


@dataclass(frozen=True)
class Rate:
    """So many at once, and from then on one in so many seconds."""

    at_once: int
    seconds: float


#: A password's hash takes a tenth of a second of one core.
NEW = Rate(at_once=20, seconds=0.25)
FAILED = Rate(at_once=5, seconds=2.0)

#: For codes of the second factor. Each guess is right with a chance of 3 in a million.
CODES = Rate(at_once=10, seconds=60.0)


@dataclass(frozen=True)
class Caller:
    """Who tries. ``key`` is a network or the name of a browser's mark; ``familiar`` as above."""

    key: str
    familiar: bool


class Limits:
    """The bookkeeping. Nothing is done here: no clock but the given one, no log, no request."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """:param clock: seconds, that never go back."""
        self._clock = clock
        self._strangers: OrderedDict[str, _Entry] = OrderedDict()
        self._familiar: OrderedDict[str, _Entry] = OrderedDict()
        self._known_networks: OrderedDict[str, float] = OrderedDict()
        self._rates = {rate: _Turns(rate) for rate in (NEW, FAILED, CODES)}

    def caller(self, address: str, mark: str | None) -> Caller:
        """Who tries, from what is known of a request.

        :param address: the client's IP address.
        :param mark: what the browser was given at a login, if it has it and it is genuine.
        """
        if mark is not None:
            return Caller(f"browser {mark}", True)
        key = network(address)
        since = self._known_networks.get(key)
        return Caller(key, since is not None and self._clock() - since < FAMILIAR_FOR)

    def attempt(self, caller: Caller, rate: Rate | None = None) -> float:
        """Ask for one attempt. It counts as failed, until :meth:`succeeded` or :meth:`withdraw` says otherwise:
        of a hundred at once from one address five are let through.

        :param rate: what strangers share; without it the one for passwords.
        :returns: 0 when it may go on, or the seconds to wait.
        """
        now = self._clock()
        table, most = (self._familiar, FAMILIAR) if caller.familiar else (self._strangers, REMEMBERED)
        entry = table.get(caller.key)
        if entry is None:
            entry = table[caller.key] = _Entry()
            if len(table) > most:
                table.popitem(last=False)
        else:
            table.move_to_end(caller.key)
        entry.forget(now)
        if now < entry.until:
            return entry.until - now
        if not caller.familiar and not entry.takes_turn(now):
            turn = self._rates[rate or (FAILED if entry.failures else NEW)].take(now)
            if turn is None:
                return FARTHEST_TURN
            if turn > now:
                entry.until = entry.turn = turn
                return turn - now
        entry.count(now)
        return 0.0

    def wait(self, caller: Caller) -> float:
        """The seconds for which it is known already that an attempt would be refused. Changes nothing."""
        entry = (self._familiar if caller.familiar else self._strangers).get(caller.key)
        return max(0.0, entry.until - self._clock()) if entry else 0.0

    def succeeded(self, caller: Caller, address: str) -> None:
        """They are in: their failures are forgotten, and their address is familiar from now on."""
        self._familiar.pop(caller.key, None)
        self._strangers.pop(caller.key, None)
        key = network(address)
        self._strangers.pop(key, None)
        self._known_networks[key] = self._clock()
        self._known_networks.move_to_end(key)
        if len(self._known_networks) > FAMILIAR:
            self._known_networks.popitem(last=False)

    def withdraw(self, caller: Caller) -> None:
        """The last attempt was none, or was right but was not all that is asked for: it does not count."""
        table = self._familiar if caller.familiar else self._strangers
        if (entry := table.get(caller.key)) is not None:
            entry.failures -= 1
            entry.until = 0.0
            if entry.failures <= 0:
                del table[caller.key]

    def remembered(self) -> dict[str, Any]:
        """All that is known, as JSON has it, for :meth:`recall` of another one with the same clock."""
        return {
            "strangers": _as_rows(self._strangers),
            "familiar": _as_rows(self._familiar),
            "networks": list(self._known_networks.items()),
            "turns": [turns.next for turns in self._rates.values()],
        }

    def recall(self, known: Any) -> None:
        """Know what another one has known.

        :raises KeyError, TypeError, ValueError: that is nothing that one of us would say. Then it changes nothing.
        """
        strangers, familiar = _from_rows(known["strangers"]), _from_rows(known["familiar"])
        networks = OrderedDict((str(key), float(since)) for key, since in known["networks"])
        turns = list(zip(self._rates.values(), map(float, known["turns"]), strict=True))
        for rate, free in turns:
            rate.next = free
        self._strangers, self._familiar, self._known_networks = strangers, familiar, networks


def _as_rows(table: Mapping[str, _Entry]) -> list[tuple[str, float, float, float, float]]:
    return [(key, entry.failures, entry.since, entry.until, entry.turn) for key, entry in table.items()]


def _from_rows(rows: Any) -> OrderedDict[str, _Entry]:
    table: OrderedDict[str, _Entry] = OrderedDict()
    for key, *numbers in rows:
        entry = table[str(key)] = _Entry()
        entry.failures, entry.since, entry.until, entry.turn = map(float, numbers)
    return table


class _Entry:
    """What is remembered of one caller."""

    __slots__ = ("failures", "since", "turn", "until")

    def __init__(self) -> None:
        self.failures = 0.0
        self.since = 0.0
        #: no attempt before
        self.until = 0.0
        #: when a turn of its own begins; 0 without one
        self.turn = 0.0

    def forget(self, now: float) -> None:
        self.failures = max(0.0, self.failures - (now - self.since) / FORGOTTEN_AFTER)
        self.since = now

    def takes_turn(self, now: float) -> bool:
        mine = 0.0 < self.turn <= now <= self.turn + TURN_KEPT
        self.turn = 0.0
        return mine

    def count(self, now: float) -> None:
        self.failures = min(_MOST, self.failures + 1)
        if (beyond := self.failures - (FREE - 1)) > 0:
            self.until = now + min(LONGEST_WAIT, 2.0**beyond)


class _Turns:
    """A rate's calendar: the generic cell rate algorithm, which needs to remember one number."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        #: the first time that is free
        self.next = -float("inf")

    def take(self, now: float) -> float | None:
        """The earliest time that is free, which is taken then; None when that is too far ahead."""
        turn = max(self.next, now - self._rate.seconds * (self._rate.at_once - 1))
        if turn - now > FARTHEST_TURN:
            return None
        self.next = turn + self._rate.seconds
        return max(turn, now)


def canonical(address: str) -> str:
    """An IP address as the log has it: nothing but an address, written in one way.

    >>> canonical("::ffff:203.0.113.9"), canonical("2001:DB8::0:7%eth0"), canonical("x")
    ('203.0.113.9', '2001:db8::7', 'unknown')
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def network(address: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 that an IPv6 address is in.

    >>> network("203.0.113.9"), network("::ffff:203.0.113.9"), network("2001:db8::1:2:3:4")
    ('203.0.113.9', '203.0.113.9', '2001:db8::/64')
    """
    known = canonical(address)
    # No address: a socket without Apache in front of it. All of these are one.
    return str(ipaddress.IPv6Network((known, 64), strict=False)) if ":" in known else known
