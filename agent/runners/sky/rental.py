"""Clusters as a table of runners.toml rents them: what to ask for, how a machine is reached, how its time is moved.

Takes settings and the workspace. Keys of clouds are SkyPilot's own business.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from agent.machines.homes import home
from agent.machines.records import Candidate, Machine
from agent.machines.renting import Renter
from agent.runners.rented import deadman
from agent.runners.rented.avoided import avoided
from agent.runners.rented.keys import private_key, public_key
from agent.runners.rented.rental import Shell
from agent.runners.sky.account import Account
from agent.runners.sky.clusters import Clusters, candidates, minutes
from agent.runners.sky.settings import Settings
from agent.runners.ssh.hosts import SshHost
from agent.runners.ssh.link import Link
from agent.runners.ssh.pins import Pins
from agent.store import Store


class ClusterRental:
    fixed = False

    def __init__(self, name: str, settings: Settings, workspace: Path) -> None:
        self.terms, self.kinds = settings, tuple(settings.accelerators)
        self.note = (
            f"{name}: machines are rented through SkyPilot as they are needed, and cost money. "
            "This runner was never run against a cloud: watch `agent machines` and the cloud's own console."
        )
        self._name, self._workspace = name, workspace
        self._account: Account | None = None

    def device(self, kind: str) -> str:
        return self.terms.accelerators[kind]

    def price(self, kind: str, gpus: int) -> None:
        """The catalogue says."""

    def renter(self, store: Store) -> Renter:
        settings = self.terms
        self._account = Account()
        clusters = Clusters(self._account, settings, public_key(settings.ssh_key, self._workspace))
        return Renter(store, clusters, self._name, home(store), settings.limits)

    def key(self) -> Path:
        return private_key(self.terms.ssh_key, self._workspace)

    def candidates(self, one: Renter, kind: str, gpus: int) -> list[Candidate]:
        """A track without GPUs gets a machine with one: only those are in the catalogue."""
        assert self._account is not None
        gpus = max(1, gpus)
        catalogue = self._account.offers(gpus, self.terms.clouds)
        return candidates(self.terms, kind, gpus, catalogue, avoided(one))

    def link(self, host: SshHost, pins: Pins) -> Link:
        return Link(host, pins)

    def rearm(self, machine: Machine, seconds: float, shell: Shell) -> None:
        """SkyPilot's switch, then our own by the machine's clock."""
        assert self._account is not None
        self._account.ends_in(machine.provider_id, minutes(seconds))
        deadman.tell(machine.name, seconds, shell)

    def hurry(self) -> None:
        """A launch can't be cut off so that it is known what came of it."""

    def close(self) -> None:
        """Its server goes on by itself: it is the person's."""


def rental(name: str, settings: Settings, workspace: Path, environ: Mapping[str, str] = os.environ) -> ClusterRental:
    return ClusterRental(name, settings, workspace)
