"""Runs on machines that are reached over ssh: detached there, mirrored here, and found again by whoever comes later.

Takes the machines and a workspace; speaks the Runner protocol. Nothing here waits for a machine: `submit` writes down
where a job goes, tasks in a thread of their own bring it there, look after it and bring back what came of it, and
`poll` answers from what the mirror holds. A machine that is silent costs nothing but time: its jobs go on there.
"""

import asyncio
import contextlib
import hashlib
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.errors import CaddieError, InfraError, MissingError
from agent.runners.job import JobPaths, JobResult, JobState, Loss, Progress, strict
from agent.runners.order import Order, placed
from agent.runners.progress import progress
from agent.runners.reading import read_small, there
from agent.runners.ssh import mirror
from agent.runners.ssh.errand import Errand, lose
from agent.runners.ssh.hosts import SshHost
from agent.runners.ssh.link import Pins, Thread
from agent.runners.ssh.machine import Machine
from agent.runners.ssh.mirror import Placed
from sandbox import BoxName, Level, Policy
from sandbox.policy import LEVELS

OPEN_S = 300.0  # for the first look at all machines together


@dataclass(frozen=True)
class Slot:
    machine: Machine
    number: int
    price: float


class SshRunner:
    def __init__(self, hosts: Sequence[SshHost], workspace: Path, campaign: str, track: str) -> None:
        """Looks at all machines first; those that can't be used are named in `notes`.

        Raises:
            MissingError: none can be used.
        """
        self._corpora = workspace / ".caddie" / "data"
        self._thread = Thread("ssh")
        pins = Pins(workspace / ".caddie" / "hosts")
        jobs = f"jobs/{_install(workspace)}-{campaign}"
        self._machines = [self._thread.wait(_made(host, pins, jobs, track)) for host in hosts]
        self._errands: dict[Path, Errand] = {}
        said = self._thread.wait(self._look(), OPEN_S)
        self.notes = tuple(note for machine in self._machines for note in self._notes(machine, said))
        self._slots = {
            f"{machine.host.name}/{n}": Slot(machine, n, machine.host.price / facts.slots)
            for machine in self._machines
            if (facts := machine.facts) is not None
            for n in range(facts.slots)
        }
        if not self._slots:
            self.close()
            raise MissingError("no machine can be used:\n" + "\n".join(f"  - {note}" for note in self.notes))
        self.slots = tuple(self._slots)

    def hardware_class(self, slot: str) -> str:
        facts = self._slots[slot].machine.facts
        assert facts is not None
        return facts.hardware_class

    def price(self, slot: str) -> float:
        return self._slots[slot].price

    def env(self, slot: str) -> dict[str, str]:
        """The machine itself adds what its slots are."""
        return {}

    def gpus(self, slot: str) -> tuple[int, ...]:
        return ()

    def spare(self, slot: str) -> float | None:
        return None

    def level(self, policy: Policy) -> Level:
        """Of the weakest of the machines."""
        found = [facts.level for machine in self._machines if (facts := machine.facts) is not None]
        return min((level for level in LEVELS if level in found), key=LEVELS.index)

    def box(self) -> BoxName:
        return ""

    def submit(self, order: Order, folder: Path, slot: str) -> None:
        placed(folder, order)
        where = self._slots.get(slot)
        if where is None:
            raise InfraError(f"there is no slot {slot}; there are {', '.join(self.slots)}")
        if there(JobPaths(folder).result) or there(JobPaths(folder).lost):
            return
        if _read(folder) is None:
            mirror.write(folder, Placed(slot, where.machine.host.name))
        self._adopt(folder)

    def poll(self, folder: Path) -> JobState:
        paths = JobPaths(folder)
        if there(paths.result):
            return "done"
        if there(paths.lost):
            return "lost"
        errand = self._adopt(folder)
        if errand is None:
            lose(folder, Loss(False, 0.0, "it was never sent to a machine that is known here"))
            return "lost"
        return "running" if there(paths.heartbeat) else "starting"

    def progress(self, folder: Path) -> Progress | None:
        return progress(folder)

    def cancel(self, folder: Path) -> None:
        errand = self._adopt(folder)
        if errand is not None:
            with contextlib.suppress(FileExistsError):
                JobPaths(folder).cancel.touch(exist_ok=False)
            self._thread.loop.call_soon_threadsafe(errand.hurry)

    def collect(self, folder: Path) -> JobResult:
        text = read_small(JobPaths(folder).result)
        if text is None:
            raise InfraError(f"{folder} has no result that can be read")
        try:
            return JobResult.from_json(text)
        except ValueError as error:
            raise InfraError(f"the result in {folder} is damaged: {error}") from error

    def loss(self, folder: Path) -> Loss:
        """Doubt counts as `ran`."""
        try:
            return strict(Loss, read_small(JobPaths(folder).lost) or "")
        except ValueError:
            return Loss(True, 0.0, "the machine took it away without a word")

    def sweep(self, jobs_root: Path) -> list[int]:
        """What runs on a machine and is nobody's any more is ended there, in the background. Gives no ids: processes
        of another machine have none here."""
        wanted = {path.name for path in jobs_root.glob("r*") if _in_flight(path)}
        for slot in {id(slot.machine): slot for slot in self._slots.values()}.values():
            self._thread.start(_swept(slot.machine, wanted))
        return []

    def fence(self, host: str) -> None:
        """The machine is gone for sure (it was given back): what it still had is lost, and can't be running."""
        for errand in self._errands.values():
            if errand.machine.host.name == host:
                errand.fenced = True
                self._thread.loop.call_soon_threadsafe(errand.hurry)

    def close(self) -> None:
        """The links go; the jobs stay."""

        async def end() -> None:
            await asyncio.gather(*(machine.close() for machine in self._machines), return_exceptions=True)

        self._thread.wait(end(), 20)
        self._thread.close()

    def _adopt(self, folder: Path) -> Errand | None:
        """Whoever looks after the job; a later controller takes over what an earlier one began."""
        if folder in self._errands:
            return self._errands[folder]
        known = _read(folder)
        machine = next((m for m in self._machines if known is not None and m.host.name == known.host), None)
        if known is None or machine is None or not there(JobPaths(folder).order):
            return None
        try:
            order = Order.from_json(read_small(JobPaths(folder).order) or "")
        except ValueError:
            return None
        errand = Errand(machine, folder, order, self._corpora / order.limited.data.corpus)
        self._errands[folder] = errand
        self._thread.start(errand.run())
        return errand

    async def _look(self) -> dict[str, str]:
        """What is wrong with each machine."""
        found = await asyncio.gather(*(machine.ready() for machine in self._machines), return_exceptions=True)
        said = {}
        for machine, one in zip(self._machines, found, strict=True):
            if isinstance(one, CaddieError):
                said[machine.host.name] = str(one)
            elif isinstance(one, BaseException):
                raise one
        return said

    def _notes(self, machine: Machine, said: dict[str, str]) -> list[str]:
        name = machine.host.name
        if name in said:
            return [said[name]]
        return [f"{name}: {note}" for note in machine.facts.notes] if machine.facts else []


async def _made(host: SshHost, pins: Pins, jobs: str, track: str) -> Machine:
    return Machine(host, pins, jobs, track)


async def _swept(machine: Machine, wanted: set[str]) -> None:
    """Folders there of jobs that nobody waits for, and whatever runs without a shepherd."""
    with contextlib.suppress(CaddieError):
        for job in (await machine.ask("there"))["jobs"]:
            if str(job).removesuffix(".judge") not in wanted:
                await machine.ask("end", job=job)
        await machine.ask("sweep")


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
