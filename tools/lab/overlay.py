"""A writable view on frozen layers: what is written goes to a directory of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jupyter_remote.run import run

# Spelled out, since kernels differ in their defaults and a difference must mean the same on each.
OPTIONS = "index=off,metacopy=off,redirect_dir=off,xino=off,volatile"


@dataclass(frozen=True)
class Overlay:
    """*root* is the whole, *difference* what was written to it."""

    root: Path
    difference: Path


def mount(directory: Path, lowerdirs: Sequence[Path]) -> Overlay:
    """Mount an overlay in *directory*, which gets all of its parts.

    An earlier difference found there goes on, as after a reboot.
    """
    for name in ("root", "difference", "work"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    # left by "volatile" when an overlay was not unmounted; we never need what it protects
    run("rm", "-rf", directory / "work" / "work")
    view = Overlay(directory / "root", directory / "difference")
    layers = ":".join(str(path) for path in lowerdirs)
    run(
        "mount", "-t", "overlay", "overlay", view.root,
        "-o", f"lowerdir={layers},upperdir={view.difference},workdir={directory / 'work'},{OPTIONS}",
    )  # fmt: skip
    return view


def unmount(view: Overlay) -> None:
    """Unmount; what is still open keeps working until it is closed."""
    run("umount", "--lazy", view.root)


@contextmanager
def mounted(directory: Path, lowerdirs: Sequence[Path]) -> Iterator[Overlay]:
    """:func:`mount` for the length of a ``with`` block; the difference stays."""
    view = mount(directory, lowerdirs)
    try:
        yield view
    finally:
        unmount(view)
