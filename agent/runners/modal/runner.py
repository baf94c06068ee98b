"""Runs in sandboxes of Modal that are rented for them: `ModalRunner`, as agent/runners/runpod/ but for what differs.

A sandbox is reached through Modal and not over ssh, it ends at a time that can't be moved, and what it costs is known
without asking.
"""

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from agent.machines.records import Candidate
from agent.machines.renting import Renter
from agent.machines.tending import due
from agent.runners.modal.account import Account
from agent.runners.modal.link import SandboxLink
from agent.runners.modal.making import renter
from agent.runners.modal.sandboxes import Sandboxes, candidates
from agent.runners.modal.settings import Settings
from agent.runners.results import order_of
from agent.runners.runpod.hosts import PodHosts
from agent.runners.runpod.keeper import SPARE_S, Admit, Keeper
from agent.runners.runpod.runner import RentingRunner
from agent.runners.ssh.hosts import SshHost
from agent.runners.ssh.link import Wire
from agent.track import Track

if TYPE_CHECKING:
    from agent.store import Store


class SandboxHosts(PodHosts):
    """Reached through the account that made them, once there is one."""

    account: Account

    def _link(self, host: SshHost) -> Wire:
        return SandboxLink(host, self.account)


class SandboxKeeper(Keeper):
    def _use(self, now: datetime) -> float:
        """One whose time is too short for the next run is given back for another one."""
        job, machine = self._job, self.machine
        assert machine is not None
        waits = job is not None and self._handed != job and not self.idle
        if job is not None and waits and due(machine, now, order_of(job).wall_s + SPARE_S):
            self.end("too little of its time is left for the next run")
            return 0.0
        return super()._use(now)

    def _rearm(self) -> None:
        """Modal keeps its time."""


class ModalRunner(RentingRunner):
    keeps = SandboxKeeper

    def __init__(
        self,
        name: str,
        settings: Settings,
        workspace: Path,
        track: Track,
        slots: int,
        *,
        environ: Mapping[str, str] = os.environ,
        admit: Admit | None = None,
    ) -> None:
        """Asks nobody yet, and rents nothing before `opened`. `admit`: another spot check than ours."""
        ssh, most = SandboxHosts((), workspace, track), min(slots, settings.most_sandboxes)
        super().__init__(name, settings, [settings.gpu], most, ssh, track, admit)
        self.notes: tuple[str, ...] = (f"{name}: sandboxes are rented from Modal as they are needed, and cost money.",)
        self._hosts, self._settings, self._workspace, self._environ = ssh, settings, workspace, environ
        self._gpus = track.hardware.gpus
        self._prices = {settings.gpu: settings.usd_per_hour(self._gpus)}

    def renter(self, store: "Store") -> Renter:
        return renter(self.name, self._settings, store, self._workspace, self._environ)

    def begin(self, one: Renter, campaign_id: int, *, threads: bool = True) -> None:
        assert isinstance(one.provider, Sandboxes)
        self._hosts.account = one.provider.account
        super().begin(one, campaign_id, threads=threads)

    def key(self) -> None:
        """Whoever has the account's token is let in."""

    def wanted(self, one: Renter, kind: str) -> list[Candidate]:
        return candidates(self._settings, self._gpus)

    def expected(self, kind: str) -> str:
        return f"cuda/{self._settings.device}/{self._gpus}" if self._track.hardware.kind == "cuda" else ""

    def close(self) -> None:
        try:
            super().close()
        finally:
            if self._desk is not None:
                self._hosts.account.close()
