"""A workspace whose runs go to pods of the stand-in.

Takes a folder, the stand-in and the sshd that its pods are; gives a `Pool`: runners, jobs and what the store says.
"""

import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import select

from agent import track as tracks
from agent.job.folder import JobPaths
from agent.machines import book
from agent.machines.records import Limits
from agent.machines.renting import Renter
from agent.runners.rented.keys import public_key
from agent.runners.rented.runner import Admit, RentingRunner
from agent.runners.runpod.client import Client
from agent.runners.runpod.pods import Pods
from agent.runners.runpod.rental import PodRental
from agent.runners.runpod.settings import Settings
from agent.store.schema import admissions
from tests import far, sshd
from tests.renting import opened
from tests.runpod import KEY, PLACES, QUICK, StandIn
from tests.zoo_runs import TOML


class Pool:
    """A workspace whose runs go to pods; its campaign has a hundred dollars."""

    def __init__(self, root: Path, stand: StandIn, server: sshd.Sshd, corpus: Path) -> None:
        self.stand, self.server = stand, server
        self.world = far.World(root, server, corpus=corpus)
        self.store, self.campaign = opened(self.world.workspace)
        stand.ssh = ("127.0.0.1", server.port, server.host(root).user)
        self.settings = Settings(
            data_centers=PLACES,
            ssh_key=str(server.key),
            folder=str(root / "far"),
            python=str(server.host(root).python),
            idle_s=120.0,
            url=stand.url,
        )
        self.runners: list[RentingRunner] = []

    def renter(self, settings: Settings, limits: Limits | None = None) -> Renter:
        client = Client(KEY, self.stand.url, sleep=self.stand.sleep)
        pods = Pods(client, settings, public_key(settings.ssh_key, self.world.workspace), clock=self.stand.clock)
        return Renter(self.store, pods, "runpod", "here", limits or settings.limits, self.stand.clock, self.stand.sleep)

    def runner(
        self,
        slots: int = 1,
        toml: str = TOML,
        limits: Limits | None = None,
        admit: Admit | None = lambda machine, far: "",
        **changed: object,
    ) -> RentingRunner:
        settings, track = self.settings.model_copy(update=changed), tracks.parse(toml, "toy.toml")
        workspace = self.world.workspace
        rental = PodRental("runpod", settings, workspace)
        made = RentingRunner("runpod", rental, workspace, track, slots, admit=admit)
        made.begin(self.renter(settings, limits), self.campaign.id, threads=False)
        self.runners.append(made)
        return made

    def job(self, runner: RentingRunner, run_id: int = 1, slot: str = "runpod/0") -> JobPaths:
        order = self.world.order(run_id=run_id)
        paths = self.world.place(order)
        runner.submit(order, paths.folder, slot)
        return paths

    def deaf(self, timers: Path) -> tuple[RentingRunner, JobPaths]:
        """A pod that answers and does not hear until when it is paid, and the job that waits for it."""
        self.stand.courses.append(QUICK)
        runner = self.runner(port_s=300.0)
        timers.rmdir()
        paths = self.job(runner)
        self.until(runner, lambda: "its timer can't be moved" in runner._keepers["runpod/0"].why)
        return runner, paths

    def seen(self) -> list[tuple[str, bool, list[str]]]:
        """What spot checks said."""
        with self.store.read() as reads:
            rows = reads.connection.execute(select(admissions)).mappings().all()
        return [(row["lease"], bool(row["ok"]), list(row["reasons"])) for row in rows]

    def rows(self) -> list[str]:
        with self.store.read() as reads:
            return [f"{one.state} {one.place} {one.refused or one.reason}" for one in book.everyone(reads, over=True)]

    def until(
        self, runner: RentingRunner, what: Callable[[], bool], step_s: float = 1.0, within_s: float = 120.0
    ) -> None:
        """Steps, while the stand-in's clock goes on."""
        deadline = time.monotonic() + within_s
        while not what():
            assert time.monotonic() < deadline, (self.rows(), [keeper.why for keeper in runner._keepers.values()])
            runner.step()
            at_work = any(
                one.machine and one.machine.state == "live" and not one.idle for one in runner._keepers.values()
            )
            self.stand.advance(0.05 if at_work else step_s)  # what goes on there takes real time
            time.sleep(0.02)
