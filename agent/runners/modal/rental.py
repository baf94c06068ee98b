"""Sandboxes as a table of runners.toml rents them: their price is known without asking, their time can't be moved.

Takes settings, the workspace and the environment. Tokens are read when they are needed, and stay in memory.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from agent.machines.homes import home
from agent.machines.records import Candidate, Machine
from agent.machines.renting import Renter
from agent.runners.modal.account import Account, account
from agent.runners.modal.link import SandboxLink
from agent.runners.modal.sandboxes import Sandboxes, candidates
from agent.runners.modal.settings import Settings
from agent.runners.rented.rental import Shell
from agent.runners.ssh.hosts import SshHost
from agent.runners.ssh.pins import Pins
from agent.store import Store


class SandboxRental:
    fixed = True

    def __init__(self, name: str, settings: Settings, environ: Mapping[str, str] = os.environ) -> None:
        self.terms, self.kinds = settings, (settings.gpu,)
        self.note = f"{name}: sandboxes are rented from Modal as they are needed, and cost money."
        self._name, self._environ = name, environ
        self._account: Account | None = None

    def device(self, kind: str) -> str:
        return self.terms.device

    def price(self, kind: str, gpus: int) -> float:
        return self.terms.usd_per_hour(gpus)

    def renter(self, store: Store) -> Renter:
        self._account = account(self._environ)
        return Renter(store, Sandboxes(self._account, self.terms), self._name, home(store), self.terms.limits)

    def key(self) -> None:
        """Whoever has the account's token is let in."""

    def candidates(self, one: Renter, kind: str, gpus: int) -> list[Candidate]:
        return candidates(self.terms, gpus)

    def link(self, host: SshHost, pins: Pins) -> SandboxLink:
        """Through the account that made it."""
        assert self._account is not None
        return SandboxLink(host, self._account)

    def rearm(self, machine: Machine, seconds: float, shell: Shell) -> None:
        """Modal keeps its time."""

    def hurry(self) -> None:
        """A sandbox that has no place to run yet is waited for in `create`."""
        if self._account is not None:
            self._account.hurry()

    def close(self) -> None:
        if self._account is not None:
            self._account.close()


def rental(name: str, settings: Settings, workspace: Path, environ: Mapping[str, str] = os.environ) -> SandboxRental:
    return SandboxRental(name, settings, environ)
