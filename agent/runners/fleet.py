"""Several runners as one: `Fleet({"local": ..., "lab": ...})`, itself a Runner.

Takes runners by name, whose slots are called NAME/...; a call goes to the one that the slot or the job's folder names.
Where a job was placed is written in its folder before it is handed over, so that any later controller finds it there.
A backend that fails is left alone for a while, longer each time, and the others go on.
"""

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from agent.errors import BudgetExceeded, BusyError, CaddieError, InfraError, StoreError, did_you_mean
from agent.job.folder import JobPaths, JobResult, JobState, Loss, Progress
from agent.job.reading import read_small, there
from agent.job.writing import write_aside
from agent.runners import Far, Late, Leases, Queues, Runner, began_on, ended, lease_of, rents, size_of, waits
from agent.runners.far.mirror import lose
from agent.runners.order import Order
from agent.runners.rests import Rests
from agent.strict import strict
from sandbox import BoxName, Level, Policy
from sandbox.policy import reaches

if TYPE_CHECKING:
    from agent.records import Campaign
    from agent.store import Store

ALONE_S = 1800.0  # for a planner that thinks; a campaign that has nothing else to do does not wait for ever
OURS = (StoreError, BusyError, BudgetExceeded)  # no backend's fault, but one of the whole campaign


class NotPlacedError(InfraError):
    """No machine took the job, so nothing of it ran: it may be placed anywhere else."""


@runtime_checkable
class Closes(Protocol):
    """A runner that holds something which can be given back."""

    def close(self) -> None: ...


@runtime_checkable
class Joins(Protocol):
    """A runner that keeps books of its own beside the campaign's."""

    def opened(self, store: "Store", campaign: "Campaign") -> None: ...


@dataclass(frozen=True)
class Placed:
    """What the folder says of where its job is."""

    runner: str
    slot: str


class Fleet:
    """`clock`: seconds that only grow."""

    def __init__(self, runners: Mapping[str, Runner], clock: Callable[[], float] = time.monotonic) -> None:
        self.runners = dict(runners)
        self._far = {name: runner for name, runner in runners.items() if isinstance(runner, Far)}
        self._queues = {name: runner for name, runner in runners.items() if isinstance(runner, Queues)}
        self._rests, self._clock = Rests(clock), clock
        self._alone_since: float | None = None  # since when only what a person must mend has runs
        self._placed: dict[Path, str] = {}

    @property
    def slots(self) -> tuple[str, ...]:
        """Those of backends that are not resting.

        Raises:
            CaddieError: somebody must act before one of them can go on, and the others have none.
        """
        found: list[str] = []
        wrong: list[CaddieError] = []
        for name, runner in self.runners.items():
            if self._rests.resting(name):
                wrong += [fault] if (fault := self._rests.fault(name)) else []
                continue
            try:
                found += runner.slots
            except InfraError as error:
                self._rests.failed(name, error)
            except CaddieError as error:  # no money, a key that is refused: the others go on meanwhile
                wrong.append(error)
        if wrong and not found:
            raise wrong[0]
        return tuple(found)

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(note for runner in self.runners.values() for note in runner.notes)

    @property
    def rents(self) -> bool:
        return any(rents(runner) for runner in self.runners.values())

    def resting(self) -> dict[str, float]:
        """Backends that are left alone, and for how many seconds still."""
        return {name: left_s for name in self.runners if (left_s := self._rests.resting(name))}

    def hardware_class(self, slot: str) -> str:
        return self._of(slot).hardware_class(slot)

    def far(self, slot: str) -> bool:
        runner = self._far.get(self._name(slot))
        return runner is not None and runner.far(slot)

    def price(self, slot: str) -> float:
        return self._of(slot).price(slot)

    def wait_s(self, slot: str) -> float:
        runner = self._queues.get(self._name(slot))
        return 0.0 if runner is None else runner.wait_s(slot)

    def lease(self, slot: str) -> str:
        return lease_of(self._of(slot), slot)

    def refuse(self, lease: str, reason: str) -> None:
        """Whoever has it knows it."""
        for runner in self.runners.values():
            if isinstance(runner, Leases):
                runner.refuse(lease, reason)

    def waits(self, folder: Path) -> str:
        name = self._where(folder)
        return "" if name is None else waits(self.runners[name], folder)

    def began_on(self, folder: Path) -> str:
        name = self._where(folder)
        return "" if name is None else began_on(self.runners[name], folder)

    def pinned(self, seen: Callable[[], Sequence[str]]) -> dict[str, str]:
        found: dict[str, str] = {}
        for runner in self.runners.values():
            if isinstance(runner, Late):
                found |= runner.pinned(seen)
        return found

    def env(self, slot: str) -> dict[str, str]:
        return self._of(slot).env(slot)

    def gpus(self, slot: str) -> tuple[int, ...]:
        return self._of(slot).gpus(slot)

    def size(self, slot: str) -> int | None:
        return size_of(self._of(slot), slot)

    def spare(self, slot: str) -> float | None:
        return self._of(slot).spare(slot)

    def level(self, policy: Policy) -> Level:
        """The weakest of them: a run may be placed on any."""
        levels = [runner.level(policy) for runner in self.runners.values()]
        return reduce(lambda one, other: other if reaches(one, other) else one, levels)

    def box(self) -> BoxName:
        return next((runner.box() for name, runner in self.runners.items() if name == "local"), "")

    def submit(self, order: Order, folder: Path, slot: str) -> None:
        name = self._name(slot)
        before = self._where(folder)
        if before is not None and before != name:
            raise InfraError(f"{folder} was handed to {before}, and can't be handed to {name} too")
        if not folder.is_dir():
            raise InfraError(f"{folder} holds no job")
        if before is None:
            write_aside(JobPaths(folder).placed, _text(Placed(name, slot)))
            self._placed[folder] = name
        try:
            self.runners[name].submit(order, folder, slot)
        except OURS:
            raise
        except CaddieError as error:
            self._rests.failed(name, error)
            with suppress(CaddieError):  # should it have been taken all the same
                self.runners[name].cancel(folder)
            raise NotPlacedError(f"{slot} did not take the job: {error}") from error
        self._rests.went_well(name)

    def poll(self, folder: Path) -> JobState:
        """A backend that can't say how its job fares says nothing of the job: it counts as running. But what waits for
        a slot that is not there any more, as after other settings, never began."""
        name = self._where(folder)
        if name is None:
            return "lost"  # it was never handed over, and its run is not `queued` any more
        try:
            return self.runners[name].poll(folder)
        except OURS:
            raise
        except CaddieError as error:
            where = placed(folder)
            if isinstance(error, InfraError) and where and self.runners[name].hardware_class(where.slot) == "":
                lose(folder, Loss(False, 0.0, str(error), machine=True))
                return "lost"
            self._rests.failed(name, error)
            return "running"

    def ended(self, folders: Collection[Path]) -> set[Path]:
        """
        Raises:
            CaddieError: somebody must act before anything can be known of what is under way, of all of it; and no other
                backend has a slot, or none had a run for long.
        """
        by_runner: dict[str, list[Path]] = {}
        found: set[Path] = set()
        faults: list[CaddieError] = []
        for folder in folders:
            if (name := self._where(folder)) is None:
                found.add(folder)
            else:
                by_runner.setdefault(name, []).append(folder)
        for name, mine in by_runner.items():
            try:
                found |= ended(self.runners[name], mine)
            except OURS:
                raise
            except CaddieError as error:  # of one of them, or of all
                found |= {folder for folder in mine if self.poll(folder) in ("done", "lost")}
                faults += [] if isinstance(error, InfraError) else [error]
        if found or not faults or len(faults) < len(by_runner):
            self._alone_since = None
            return found
        if self._alone_since is None:
            self._alone_since = self._clock()
        if self._clock() - self._alone_since >= ALONE_S:
            raise faults[0]
        try:
            _ = self.slots
        except CaddieError:
            raise faults[0] from None
        return found

    def progress(self, folder: Path) -> Progress | None:
        name = self._where(folder)
        return None if name is None else self.runners[name].progress(folder)

    def cancel(self, folder: Path) -> None:
        """What no backend has can't be stopped there; its run is placed first, or given up."""
        if (name := self._where(folder)) is not None:
            self.runners[name].cancel(folder)

    def collect(self, folder: Path) -> JobResult:
        if (name := self._where(folder)) is None:
            raise InfraError(f"{folder} was never handed to a machine")
        return self.runners[name].collect(folder)

    def loss(self, folder: Path) -> Loss:
        if (name := self._where(folder)) is None:
            return Loss(False, 0.0, "it was never handed to a machine")
        return self.runners[name].loss(folder)

    def sweep(self, jobs_root: Path) -> list[int]:
        """Each backend sweeps what it knows; one that can't be reached is swept by a later controller."""
        found: list[int] = []
        for name, runner in self.runners.items():
            try:
                found += runner.sweep(jobs_root)
            except InfraError as error:
                self._rests.failed(name, error)
        return found

    def opened(self, store: "Store", campaign: "Campaign") -> None:
        """Tells each that keeps books which campaign this is."""
        for runner in self.runners.values():
            if isinstance(runner, Joins):
                runner.opened(store, campaign)

    def close(self) -> None:
        """Gives back what is idle, wherever it is.

        Raises:
            CaddieError: one of them could not do so, and how a person can; all others were asked.
        """
        wrong: list[CaddieError] = []
        for runner in self.runners.values():
            if isinstance(runner, Closes):
                try:
                    runner.close()
                except CaddieError as error:  # a key that is refused by now, a machine that did not end
                    wrong.append(error)
        if len(wrong) > 1:
            wrong[0].args = ("\n".join(map(str, wrong)),)
        if wrong:
            raise wrong[0]

    def _of(self, slot: str) -> Runner:
        return self.runners[self._name(slot)]

    def _name(self, slot: str) -> str:
        name = slot.partition("/")[0]
        if name not in self.runners:
            known = ", ".join(self.runners)
            raise InfraError(f"slot {slot}: no runner {name!r}.{did_you_mean(name, self.runners)} There are: {known}")
        return name

    def _where(self, folder: Path) -> str | None:
        """The runner that has the folder's job; None: it was not handed to any of these."""
        if folder not in self._placed and (found := placed(folder)) is not None and found.runner in self.runners:
            self._placed[folder] = found.runner
        return self._placed.get(folder)


def placed(folder: Path) -> Placed | None:
    """Where a job was placed, as its folder says; None where it does not say so, or nothing that could be true."""
    path = JobPaths(folder).placed
    try:
        return strict(Placed, read_small(path) or "") if there(path) else None
    except ValueError:
        return None


def _text(where: Placed) -> str:
    return json.dumps(asdict(where))


def tells_leases(runner: Runner) -> bool:
    """Whether every machine that it may use can be told from the others."""
    return all(isinstance(one, Leases) for one in parts(runner))


def parts(runner: Runner) -> tuple[Runner, ...]:
    """The runners that it is made of."""
    return tuple(runner.runners.values()) if isinstance(runner, Fleet) else (runner,)
