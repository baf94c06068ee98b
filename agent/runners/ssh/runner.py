"""Runs on machines that are reached over ssh: detached there, mirrored here, and found again by whoever comes later.

Takes the machines and a workspace; speaks the Runner protocol. Nothing waits for a machine, but for the first look at
all of them: `submit` writes down where a job goes, tasks in a thread of their own bring it there, look after it and
bring back what came of it, and `poll` answers from what the mirror holds. A machine that is silent costs nothing but
time: its jobs go on there.
"""

import asyncio
import contextlib
import hashlib
import platform
import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from agent.errors import CaddieError, InfraError, MissingError
from agent.job.folder import JobPaths, JobResult, JobState, Loss, Progress
from agent.job.reading import read_small, there
from agent.runners.far.mirror import lose, lost
from agent.runners.order import Order, placed
from agent.runners.progress import progress
from agent.runners.results import result_of
from agent.runners.ssh import depot, mirror
from agent.runners.ssh.answers import Facts, Jobs, Nothing
from agent.runners.ssh.errand import Errand, name_of, surely_over
from agent.runners.ssh.hosts import SshHost
from agent.runners.ssh.link import Link, Wire
from agent.runners.ssh.machine import Machine
from agent.runners.ssh.machines import Machines
from agent.runners.ssh.mirror import Placed
from agent.runners.ssh.pins import Pins
from agent.runners.turns import TAKEN_S
from agent.track import Track
from agent.workspace import corpora_folder, hosts_folder
from sandbox import BoxName, Level, Policy
from sandbox.policy import LEVELS

OLD_DAYS = "30"  # of what a machine was sent and nobody asked for since


class SshRunner:
    def __init__(
        self,
        hosts: Sequence[SshHost],
        workspace: Path,
        track: Track,
        links: Callable[[SshHost, Pins], Wire] = Link,
    ) -> None:
        """Connects to nothing yet. `links`: how a machine is reached, where that is not over ssh."""
        self._corpora = corpora_folder(workspace)
        pins = Pins(hosts_folder(workspace))
        self.machines = Machines(hosts, f"jobs/{_install(workspace)}", track, lambda host: links(host, pins))
        self._errands: dict[Path, Errand] = {}
        self._adopting = threading.Lock()  # the loop asks while the keeper of a machine hands a run over

    @property
    def slots(self) -> tuple[str, ...]:
        """Of the machines that answer."""
        names = [machine.host.name for machine in self.machines.all()]
        known = [(name, facts) for name in names if (facts := self.machines.facts(name)) is not None]
        return tuple(f"{name}/{n}" for name, facts in known for n in range(facts.slots))

    @property
    def notes(self) -> tuple[str, ...]:
        """Which machines can't be used, and what those that can say of themselves."""
        there = self.machines.all()
        said = [words for machine in there if (words := self.machines.wrong(machine.host.name))]
        for machine in there:
            said += [f"{machine.host.name}: {note}" for note in (machine.facts.notes if machine.facts else ())]
        return tuple(said)

    def kept_from(self, track: Track) -> frozenset[str]:
        """Sums of files that no machine may have."""
        return depot.validation_text(track, self._corpora / track.data.corpus)

    def hardware_class(self, slot: str) -> str:
        return self._known(slot)[1].hardware_class

    def far(self, slot: str) -> bool:
        return True

    def price(self, slot: str) -> float:
        machine, facts = self._known(slot)
        return machine.host.price / facts.slots

    def lease(self, slot: str) -> str:
        machine, facts = self._known(slot)
        return f"{machine.host.name}/{facts.boot[:13]}"

    def refuse(self, lease: str, reason: str) -> None:
        """Nobody takes it back: whoever owns it has to see what is wrong with it."""

    def env(self, slot: str) -> dict[str, str]:
        """The machine itself adds what its slots are."""
        return {}

    def gpus(self, slot: str) -> tuple[int, ...]:
        return ()

    def spare(self, slot: str) -> float | None:
        return None

    def wait_s(self, slot: str) -> float:
        return TAKEN_S if self.machines.taken(slot) else 0.0

    def waits(self, folder: Path) -> str:
        known = _read(folder)
        return "" if known is None else known.waits

    def level(self, policy: Policy) -> Level:
        """Of the weakest of the machines.

        Raises:
            MissingError: none can be used.
        """
        found = [machine.facts.level for machine in self.machines.all() if machine.facts is not None]
        if not found:
            raise MissingError("no machine can be used:\n" + "\n".join(f"  - {note}" for note in self.notes))
        return min((level for level in LEVELS if level in found), key=LEVELS.index)

    def box(self) -> BoxName:
        return ""

    def submit(self, order: Order, folder: Path, slot: str) -> None:
        placed(folder, order)
        machine = self.machines.of(slot)
        if there(JobPaths(folder).result) or there(JobPaths(folder).lost):
            return
        if _read(folder) is None:
            mirror.write(folder, Placed(slot, machine.host.name))
        self._adopted(folder)

    def poll(self, folder: Path) -> JobState:
        paths = JobPaths(folder)
        if there(paths.result):
            return "done"
        if there(paths.lost):
            return "lost"
        if self._adopted(folder) is None and not self._forgotten(folder):
            return "lost"
        return "running" if there(paths.heartbeat) else "starting"

    def ended(self, folders: Collection[Path]) -> set[Path]:
        return {folder for folder in folders if self.poll(folder) in ("done", "lost")}

    def progress(self, folder: Path) -> Progress | None:
        return progress(folder)

    def cancel(self, folder: Path) -> None:
        errand = self._adopted(folder)
        if errand is not None:
            with contextlib.suppress(FileExistsError):
                JobPaths(folder).cancel.touch(exist_ok=False)
            self._soon(errand)

    def collect(self, folder: Path) -> JobResult:
        return result_of(folder)

    def loss(self, folder: Path) -> Loss:
        return lost(folder, "the machine took it away without a word")

    def sweep(self, jobs_root: Path) -> list[int]:
        """What runs on a machine and is nobody's any more is ended there, in the background. Gives no ids: processes
        of another machine have none here."""
        thread = self.machines.opened()
        wanted = {name_of(path) for path in jobs_root.glob("r*") if _in_flight(path)}
        prefix = name_of(jobs_root / "r")
        for machine in self.machines.all():
            if machine.facts is not None:
                thread.start(_swept(machine, prefix, wanted))
        return []

    def remove(self, name: str) -> None:
        """The machine was given back, or is gone for sure: what it had is lost, and can't be running any more."""
        self.machines.remove(name)
        for errand in list(self._errands.values()):
            if errand.machine.host.name == name:
                errand.fenced = True
                self._soon(errand)

    def close(self) -> None:
        """The links go; the jobs stay."""
        self.machines.close()
        self._errands = {}

    def _known(self, slot: str) -> tuple[Machine, Facts]:
        """Raises InfraError: there is no such machine, or it has not answered yet."""
        machine = self.machines.of(slot)
        if machine.facts is None:
            raise InfraError(f"slot {slot}: {machine.host.name} has not answered yet")
        return machine, machine.facts

    def _adopted(self, folder: Path) -> Errand | None:
        """Whoever looks after the job; a later controller takes over what an earlier one began."""
        with self._adopting:
            return self._errands.get(folder) or self._new(folder)

    def _new(self, folder: Path) -> Errand | None:
        thread = self.machines.opened()
        known = _read(folder)
        machine = self.machines.named(known.host) if known is not None else None
        if machine is None:
            return None
        try:
            order = Order.from_json(read_small(JobPaths(folder).order) or "")
        except ValueError:
            return None
        errand = Errand(machine, folder, order, self._corpora / order.limited.data.corpus)
        self._errands[folder] = errand
        thread.start(errand.run()).add_done_callback(lambda task: self._mourn(folder, task))
        return errand

    def _mourn(self, folder: Path, task: "asyncio.Future[None]") -> None:
        """A fault of ours must not leave a run in flight for ever: where even that can't be written, it is taken up
        anew at the next question."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        try:
            lose(folder, Loss(True, 0.0, f"a fault of Caddie's: {type(error).__name__}: {error}"[:1000]))
        except OSError:
            self._errands.pop(folder, None)

    def _forgotten(self, folder: Path) -> bool:
        """Whether a job of a machine that nobody names any more may still run there; if not, it is lost."""
        known = _read(folder)
        may_run = known is not None and known.asked is not None and not self.machines.gone(known.host)
        if known is not None and may_run and not surely_over(folder, known):
            return True
        ran = known is not None and known.asked is not None
        gone = known is not None and self.machines.gone(known.host)
        lose(
            folder,
            Loss(ran, 0.0, f"no machine {known.host} is known any more" if known else "it was sent nowhere", gone),
        )
        return False

    def _soon(self, errand: Errand) -> None:
        self.machines.opened().loop.call_soon_threadsafe(errand.hurry)


async def _swept(machine: Machine, prefix: str, wanted: set[str]) -> None:
    """Folders there of jobs that nobody waits for, and whatever runs without a shepherd."""
    with contextlib.suppress(CaddieError):
        for job in (await machine.ask(Jobs, "there")).jobs:
            if job.startswith(prefix) and job.removesuffix(".judge") not in wanted:
                await machine.end(job)
        await machine.ask(Nothing, "sweep")
        for folder in {"", machine.host.shelf}:
            await depot.call(machine.link, "tidy", OLD_DAYS, folder=folder)


def _in_flight(folder: Path) -> bool:
    paths = JobPaths(folder)
    return there(paths.order) and not there(paths.result) and not there(paths.lost)


def _read(folder: Path) -> Placed | None:
    try:
        return mirror.read(folder)
    except ValueError:
        return None


def _install(workspace: Path) -> str:
    """Tells this workspace from others that use the same machines."""
    return hashlib.sha256(f"{platform.node()}\0{workspace.resolve()}".encode()).hexdigest()[:12]
