"""The machine that is looked at: facts that several checks want, each found out once."""

from __future__ import annotations

import os
from functools import cached_property

from .. import accounts, apache, apply, machine, paths
from ..accounts import Account
from ..machine import Machine
from ..run import Mistake, ProcessFailed
from ..settings import Settings
from .visitor import Visitor


class Patient:
    """One machine with its settings.

    :param settings: those of config.toml.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.is_root = os.geteuid() == 0
        self.place = paths.Place(settings.user)

    @cached_property
    def owner(self) -> Account | None:
        """Whose Jupyter it is; None when that is somebody who cannot be."""
        try:
            return accounts.owner(self.settings.user)
        except Mistake:
            return None

    @cached_property
    def machine(self) -> Machine:
        """This machine; for root with all that settings make of it, as an apply would see it."""
        return apply.surroundings(self.settings) if self.is_root else machine.this()

    @cached_property
    def name(self) -> str:
        """What browsers call it."""
        return apply.public_name(self.settings)

    @cached_property
    def does_https(self) -> bool:
        return self.settings.tls_mode != "none"

    @cached_property
    def apache(self) -> list[apache.Directive]:
        """Apache's configuration as it understands it; empty when it does not, or for want of rights."""
        try:
            return apache.directives() if self.is_root and apache.installed() else []
        except ProcessFailed:
            return []

    @cached_property
    def visitor(self) -> Visitor:
        """A browser, at the address that others on the network would use."""
        address = next(iter(self.machine.addresses), "127.0.0.1") if self.does_https else "127.0.0.1"
        return Visitor(self.name, address, self.settings.base_url, https=self.does_https)
