"""What a shell offers after Tab: names of settings and the words that they take, ids of what runs.

argcomplete asks the command itself, with ``_ARGCOMPLETE`` in its environment, from the scripts that the package has for
bash, zsh and fish.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from typing import Any

from .paths import Place

#: Called with what argcomplete knows, by name.
Completer = Callable[..., Iterable[str]]


def offer(parser: argparse.ArgumentParser) -> None:
    """Answer a shell, and end; do nothing when none asks."""
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)


def completed(action: argparse.Action, completer: Completer) -> None:
    """From now on that argument is completed so."""
    action.completer = completer  # type: ignore[attr-defined]


def names(**_: Any) -> Iterable[str]:
    """Of all settings."""
    from .settings import KEYS

    return KEYS


def pairs(parsed_args: argparse.Namespace, **_: Any) -> Iterable[str]:
    """For ``config set``: names, and behind a name the words that it takes."""
    from .settings import KEYS

    words = getattr(parsed_args, "pairs", None) or []
    if len(words) % 2 == 0:
        return KEYS
    key = KEYS.get(words[-1])
    return key.choices if key else ()


def kernel_ids(**_: Any) -> Iterable[str]:
    """Of kernels and terminals, for those who may see them."""
    from . import kernels

    return _of_owner(
        lambda place: {one.id: one.notebook or one.kind for one in kernels.find(place.runtime, place.sessions)}
    )


def session_ids(**_: Any) -> Iterable[str]:
    """Of browsers that are logged in, for those who may see them."""
    from .passes import Passes

    return _of_owner(lambda place: {one.id: f"{one.browser}, {one.address}" for one in Passes(place.logins).all()})


def _of_owner(ids: Callable[[Place], dict[str, str]]) -> dict[str, str]:
    """Ids, each with words that say what it is."""
    from . import accounts, configure

    owner = accounts.owner(configure.current().user)
    if not accounts.may_act_as(owner):
        return {}
    with accounts.acting_as(owner):
        return ids(Place(owner.name))
