"""Runs on pods that are rented for them: `RunpodRunner`, a Runner whose slots NAME/0, NAME/1, ... each have a pod only
while there is work.

Takes settings and a workspace, and later the campaign whose money it is. A job that is submitted waits in its folder
until its slot's pod is there, then goes over ssh as any other. Nothing here waits for a pod but the slot's own thread.
A slot has one kind of GPU, so that its hardware class can be told before there is a pod.
"""

import contextlib
import os
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import CaddieError, InfraError
from agent.machines import book
from agent.machines.records import Candidate, NoCapacity
from agent.machines.renting import Renter, shut
from agent.machines.sweep import sweep
from agent.runners import NEW, JobPaths, JobResult, JobState, Loss, Progress
from agent.runners.job import write_aside
from agent.runners.order import Order, placed
from agent.runners.reading import read_small, there
from agent.runners.runpod.hosts import PodHosts
from agent.runners.runpod.keeper import AGAIN_S, Admit, Desk, Keeper, Terms
from agent.runners.runpod.making import private_key, renter
from agent.runners.runpod.pods import Pods, avoided, candidates
from agent.runners.runpod.settings import Settings
from agent.runners.runpod.spot import spot_check
from agent.runners.ssh import mirror
from agent.track import Track
from sandbox import BoxName, Level, Policy
from sandbox.policy import reaches

if TYPE_CHECKING:
    from agent.records import Campaign
    from agent.store import Store

# Until the first pod says what it has. A pod with less is given back, and nothing runs on it.
THOUGHT_LEVEL: Level = "landlock"
REMEMBERED_S = 86400.0  # a machine that was not good enough is avoided for so long
TURN_S = 1800.0  # for which another kind of GPU is asked for, when the first is nowhere to be had
COMPARE_S = 3600.0  # bills are final an hour after the hour, and until then more is set aside
SLOT = "slot"  # the file in a job's folder that says which slot it waits for or is in


class RentingRunner(ABC):
    """What is the same whoever rents the machines out."""

    rents = True
    keeps: type[Keeper] = Keeper

    def __init__(
        self, name: str, terms: Terms, kinds: Sequence[str], most: int, ssh: PodHosts, track: Track, admit: Admit | None
    ) -> None:
        """`kinds`: of GPU, the liked one first; `most`: machines at once."""
        self.name = name
        self._terms, self._kinds, self._most, self._ssh = terms, tuple(kinds), most, ssh
        self._track, self._admit = track, admit
        self._kind = self._kinds[0]
        self._turned_at: float | None = None  # since when another kind than the first is asked for
        self._keepers: dict[str, Keeper] = {}
        self._desk: Desk | None = None
        self._prices: dict[str, float] = {}
        self._stop = threading.Event()
        self._news = threading.Event()
        self._threads: list[threading.Thread] = []

    @abstractmethod
    def renter(self, store: "Store") -> Renter:
        """Raises MissingError, UserError: nobody can be asked."""

    @abstractmethod
    def key(self) -> Path | None:
        """What opens its machines, where a key does."""

    @abstractmethod
    def wanted(self, one: Renter, kind: str) -> list[Candidate]:
        """What to ask for, of this kind."""

    @abstractmethod
    def expected(self, kind: str) -> str:
        """The hardware class of a machine of a kind, before there is one; empty where nobody knows."""

    @property
    def slots(self) -> tuple[str, ...]:
        """Those at work, and of the kind that is asked for now as many as there may be beside them. Raises the fault
        that keeps all of them from renting, where a person must mend it."""
        if self._desk is None:
            return self._names(self._kind)
        if self._desk.fault is not None and not self._at_work():
            raise self._desk.fault
        if self._turned_at is not None and time.monotonic() - self._turned_at > TURN_S:
            self._kind, self._turned_at = self._kinds[0], None
        busy = [slot for slot, keeper in self._keepers.items() if keeper.machine is not None or not keeper.idle]
        free = [slot for slot in self._names(self._kind) if slot not in busy]
        return (*busy, *free[: max(0, self._most - len(busy))])

    def lease(self, slot: str) -> str:
        """`NEW` while the slot has no pod; its run is told when there is one."""
        keeper = self._keepers.get(slot)
        return NEW if keeper is None else keeper.lease or NEW

    def refuse(self, lease: str, reason: str) -> None:
        for keeper in self._keepers.values():
            if lease and keeper.lease == lease:
                keeper.refuse(reason)
        self._news.set()

    def hardware_class(self, slot: str) -> str:
        keeper = self._keepers.get(slot)
        if keeper is not None and (place := keeper.place):
            return self._ssh.hardware_class(place)
        return self.expected(keeper.kind if keeper is not None else self._kind)

    def far(self, slot: str) -> bool:
        return True

    def price(self, slot: str) -> float:
        keeper = self._keepers.get(slot)
        if keeper is not None and keeper.machine is not None:
            return keeper.machine.usd_per_hour
        return self._prices.get(self._kind, 0.0)

    def env(self, slot: str) -> dict[str, str]:
        """The pod itself adds what its slot is."""
        return {}

    def gpus(self, slot: str) -> tuple[int, ...]:
        return ()

    def spare(self, slot: str) -> float | None:
        return None

    def level(self, policy: Policy) -> Level:
        there = [keeper for keeper in self._keepers.values() if keeper.place]
        return self._ssh.level(policy) if there else THOUGHT_LEVEL

    def box(self) -> BoxName:
        return ""

    def opened(self, store: "Store", campaign: "Campaign") -> None:
        """From now on pods may be rented, on this campaign's money. What an earlier controller rented is looked for
        first: what is of use is kept, all else ended.

        Raises:
            MissingError, UserError, InfraError: nobody can be asked.
        """
        self.begin(self.renter(store), campaign.id)

    def begin(self, one: Renter, campaign_id: int, *, threads: bool = True) -> None:
        """The same with a renter that is there. Without `threads` nothing happens but in `step`."""
        sweep(one, [campaign_id])
        self._desk = Desk(
            renter=one,
            campaign_id=campaign_id,
            settings=self._terms,
            ssh=self._ssh,
            key=self.key(),
            wanted=lambda kind: self.wanted(one, kind),
            turn=self._turn,
            fits=self._unfit,
            admit=self._admit or (lambda machine, ssh: spot_check(one, campaign_id, self._track, machine, ssh)),
        )
        self._keepers = {slot: self.keeps(slot, kind, self._desk) for kind in self._kinds for slot in self._names(kind)}
        self._adopt(one, campaign_id)
        if threads:
            self._threads = [
                threading.Thread(target=self._keep, args=(keeper,), name=keeper.slot, daemon=True)
                for keeper in self._keepers.values()
            ]
            self._threads.append(threading.Thread(target=self._settle, args=(self._desk,), name="bills", daemon=True))
            for thread in self._threads:
                thread.start()

    def step(self) -> float:
        """One step of every slot; seconds until the next one is due."""
        return min(keeper.step() for keeper in self._keepers.values())

    def submit(self, order: Order, folder: Path, slot: str) -> None:
        placed(folder, order)
        keeper = self._keepers.get(slot)
        if keeper is None:
            raise InfraError(f"there is no slot {slot}; there are {', '.join(self._keepers) or 'none yet'}")
        if there(JobPaths(folder).result) or there(JobPaths(folder).lost):
            return
        if not there(folder / SLOT):
            write_aside(folder / SLOT, slot)
        keeper.put(folder)
        self._news.set()

    def poll(self, folder: Path) -> JobState:
        paths = JobPaths(folder)
        if there(paths.result):
            return "done"
        if there(paths.lost):
            return "lost"
        if (host := self._sent(folder)) is not None:
            for keeper in self._keepers.values():
                keeper.adopt(folder, host)
            return self._ssh.poll(folder)
        waits = self._keepers.get(read_small(folder / SLOT) or "")
        if waits is None:
            raise InfraError(f"{folder} waits for a slot that is not there any more")
        waits.put(folder)  # put by an earlier controller: it waits again
        return "starting"

    def ended(self, folders: Collection[Path]) -> set[Path]:
        return {folder for folder in folders if self.poll(folder) in ("done", "lost")}

    def progress(self, folder: Path) -> Progress | None:
        return self._ssh.progress(folder)

    def cancel(self, folder: Path) -> None:
        if self._sent(folder) is not None:
            self._ssh.cancel(folder)
        elif not there(JobPaths(folder).cancel):
            write_aside(JobPaths(folder).cancel, "")
        self._news.set()

    def collect(self, folder: Path) -> JobResult:
        return self._ssh.collect(folder)

    def loss(self, folder: Path) -> Loss:
        return self._ssh.loss(folder)

    def sweep(self, jobs_root: Path) -> list[int]:
        return self._ssh.sweep(jobs_root)

    def close(self) -> None:
        """Gives every pod back. One that does not end is tried again by the next sweep, and ends itself at its time."""
        self._stop.set()
        self._news.set()
        for thread in self._threads:
            thread.join(60)
        left = [keeper.slot for keeper in self._keepers.values() if not keeper.end("the campaign has stopped")]
        self._ssh.close()
        if left:
            raise InfraError(f"pods of {', '.join(left)} did not end yet: `agent machines reap` tries again")

    def _keep(self, keeper: Keeper) -> None:
        while not self._stop.is_set():
            try:
                wait_s = keeper.step()
            except OSError as error:  # this machine's disk, for now
                keeper.why, wait_s = str(error), AGAIN_S
            self._news.wait(wait_s)
            self._news.clear()

    def _settle(self, desk: Desk) -> None:
        """Now and then the book is compared with what the provider has, and settled from its bill."""
        while not self._stop.wait(COMPARE_S):
            with desk.starts, contextlib.suppress(CaddieError):  # the next time, or the next start
                sweep(desk.renter, [desk.campaign_id])

    def _adopt(self, one: Renter, campaign_id: int) -> None:
        """Pods that are there keep their slots, and their jobs with them."""
        with one.store.read() as reads:
            rows = [m for m in book.everyone(reads, campaign_id=campaign_id, backend=self.name) if m.provider_id]
        for row in rows:
            slot = str(row.facts.get("slot", ""))
            free = [k for k in self._keepers.values() if k.machine is None and k.kind == row.kind]
            keeper = next((k for k in free if k.slot == slot), free[0] if free else None)
            if keeper is None:  # the settings are other ones now
                shut(one, row.id, "no slot is for it any more")
            else:
                keeper.machine = row

    def _names(self, kind: str) -> tuple[str, ...]:
        """NAME/0 and so on; those of another kind than the first say which."""
        word = re.sub(r"[^a-z0-9]+", "-", kind.lower().removeprefix("nvidia ")).strip("-")
        prefix = "" if kind == self._kinds[0] else f"{word}-"
        return tuple(f"{self.name}/{prefix}{n}" for n in range(self._most))

    def _turn(self, kind: str) -> str:
        """The next kind, for a while: then the first one is asked for again."""
        kinds = self._kinds
        if kind == self._kind and len(kinds) > 1:
            self._kind = kinds[(kinds.index(kind) + 1) % len(kinds)]
            self._turned_at = time.monotonic()
        return self._kind if self._kind != kind else ""

    def _unfit(self, place: str, kind: str) -> str:
        """Whether the pod behind a slot at `ssh` is what was asked for."""
        found, expected = self._ssh.hardware_class(place), self.expected(kind)
        if expected and found != expected:
            return f"it is {found}, and {expected} was asked for"
        level, least = self._ssh.level_of(place), self._track.sandbox.minimum
        if not reaches(level, least):
            return f"its walls are of level {level}, and the track asks for {least} or more"
        return ""

    def _sent(self, folder: Path) -> str | None:
        """The machine that a job was handed to."""
        try:
            placed = mirror.read(folder)
        except ValueError:
            return ""  # by somebody: `ssh` says what is wrong
        return None if placed is None else placed.host

    def _at_work(self) -> bool:
        return any(keeper.machine is not None or not keeper.idle for keeper in self._keepers.values())


class RunpodRunner(RentingRunner):
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
        ssh, most = PodHosts((), workspace, track), min(slots, settings.most_pods)
        super().__init__(name, settings, settings.gpu, most, ssh, track, admit)
        self.notes: tuple[str, ...] = (f"{name}: pods are rented from RunPod as they are needed, and cost money.",)
        self._settings, self._workspace, self._environ = settings, workspace, environ
        self._gpus = max(1, track.hardware.gpus)

    def renter(self, store: "Store") -> Renter:
        return renter(self.name, self._settings, store, self._workspace, self._environ)

    def key(self) -> Path:
        return private_key(self._settings, self._workspace)

    def wanted(self, one: Renter, kind: str) -> list[Candidate]:
        """Of this kind, wherever it is to be had."""
        pods = one.provider
        assert isinstance(pods, Pods)
        catalogue = pods.client.gpus(self._gpus, self._settings.cloud)
        volumes = pods.client.volumes() if self._settings.volume else []
        with one.store.read() as reads:
            since = one.clock() - timedelta(seconds=REMEMBERED_S)
            avoid = avoided(book.turned_down(reads, pods.name, since))
        everything = candidates(self._settings, self._gpus, catalogue, volumes, avoid)
        self._prices = {found.kind: found.usd_per_hour for found in reversed(everything)}
        mine = [candidate for candidate in everything if candidate.kind == kind]
        if not mine:
            raise NoCapacity(f"no {kind} with {self._gpus} GPUs")
        return mine

    def expected(self, kind: str) -> str:
        """As the pod's own runner will say it; of a track without GPUs nobody knows before."""
        return f"cuda/{kind}/{self._gpus}" if self._track.hardware.kind == "cuda" else ""
