"""A workspace whose runs go to pods of the stand-in.

Takes a folder, the stand-in and the sshd that its pods are; gives a `Pool`: runners, jobs and what the store says.
"""

from pathlib import Path

from sqlalchemy import select

from agent import track as tracks
from agent.job.folder import JobPaths
from agent.machines.records import Limits
from agent.machines.renting import Renter
from agent.runners.rented.keys import public_key
from agent.runners.rented.runner import Admit, RentingRunner
from agent.runners.runpod.client import Client
from agent.runners.runpod.pods import Pods
from agent.runners.runpod.rental import PodRental
from agent.runners.runpod.settings import Settings
from agent.store.schema import admissions
from tests import far, pools, sshd
from tests.runpod import KEY, PLACES, QUICK, StandIn
from tests.zoo_runs import TOML


class Pool(pools.Pool):
    """Of pods."""

    slot = "runpod/0"
    step_s, look_s = 1.0, 0.02

    def __init__(self, root: Path, stand: StandIn, server: sshd.Sshd, corpus: Path) -> None:
        super().__init__(far.World(root, server, corpus=corpus), stand.advance)
        self.stand, self.server = stand, server
        stand.ssh = ("127.0.0.1", server.port, server.host(root).user)
        self.settings = Settings(
            data_centers=PLACES,
            ssh_key=str(server.key),
            folder=str(root / "far"),
            python=str(server.host(root).python),
            idle_s=120.0,
            url=stand.url,
        )

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
