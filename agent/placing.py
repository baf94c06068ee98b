"""Which wanted run goes on which free slot: by urgency, size, hardware class, cost and queue. Pure.

Takes jobs, most urgent first, and slots, free and busy; gives pairs of both. A job takes the slot where its run costs
least, then the one with the shortest queue, then the one that leaves the fewest GPUs of its machine free, so that whole
machines stay whole for those that need them.

Slots of one machine may share GPUs: one slot of 8 and eight of one. A job whose slot is held up by smaller runs has it
reserved for when the last of them is expected to end; until then only what ends before that may start there. So a
stream of small runs does not starve a large one, and what waits for it is used as long as it can be.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True)
class Slot:
    """A place where one run can execute."""

    name: str
    hardware_class: str
    gpus: frozenset[int]
    """Numbers on its machine; none where a run has no GPU."""
    machine: str
    """Slots of different machines share nothing."""
    price: float = 0.0
    """Dollars an hour."""
    wait_s: float = 0.0
    """What a job is expected to wait in its queue."""

    def shares(self, other: "Slot") -> bool:
        """Whether not both can be used at once."""
        return self.name == other.name or (self.machine == other.machine and bool(self.gpus & other.gpus))


@dataclass(frozen=True)
class Busy:
    """A slot with a run on it."""

    slot: Slot
    left_s: float
    """Until it is expected to be free again."""


@dataclass(frozen=True)
class Job:
    """A run that is wanted."""

    gpus: int
    classes: tuple[str, ...] = ()
    """Of machines that it may be on; empty: any."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """What it is expected to take, by hardware class."""
    test: int | None = None
    """Jobs of one test go to one class, where they may go to any."""


class Placement(NamedTuple):
    job: int
    """Index of the job."""
    slot: str


class Plan(NamedTuple):
    placed: list[Placement]
    reserved: list[Placement]
    """Slots that are kept free for jobs, until they are."""


def place(jobs: Iterable[Job], slots: Sequence[Slot], busy: Sequence[Busy]) -> list[Placement]:
    """`slots`: all of them, those of `busy` too. No job is asked for once no slot is free."""
    return plan(jobs, slots, busy).placed


def plan(jobs: Iterable[Job], slots: Sequence[Slot], busy: Sequence[Busy]) -> Plan:
    """The same, with what is kept for those that could not be placed."""
    return _Placing(slots, busy).place(jobs)


class _Placing:
    def __init__(self, slots: Sequence[Slot], busy: Sequence[Busy]) -> None:
        self._busy = list(busy)
        self._by_size: dict[int, list[Slot]] = {}
        self._on: dict[str, list[Slot]] = {}
        for slot in slots:
            self._by_size.setdefault(len(slot.gpus), []).append(slot)
            self._on.setdefault(slot.machine, []).append(slot)
        self._free = {size: {slot.name: slot for slot in there} for size, there in self._by_size.items()}
        self._left = Counter(slot.machine for slot in slots)  # free slots of each machine
        for one in busy:
            self._close(one.slot)
        self._reserved: list[Busy] = []
        self._bound: dict[int, str] = {}  # the class of a test
        self._full: set[tuple[int, tuple[str, ...]]] = set()  # of which no slot is free

    def place(self, jobs: Iterable[Job]) -> Plan:
        found, kept = list[Placement](), list[Placement]()
        for number, job in enumerate(jobs):
            if not any(self._free.values()):
                break
            slot = self._best(job)
            if slot is not None:
                found.append(Placement(number, slot.name))
                self._take(slot, job)
            elif (name := self._reserve(job)) is not None:
                kept.append(Placement(number, name))
        return Plan(found, kept)

    def _best(self, job: Job) -> Slot | None:
        classes = self._classes(job)
        if (job.gpus, classes) in self._full:
            return None
        free = self._free.get(job.gpus, {}).values()
        fitting = [slot for slot in free if not classes or slot.hardware_class in classes]
        if not fitting:
            self._full.add((job.gpus, classes))
        if self._reserved:
            fitting = [slot for slot in fitting if self._ends_in_time(slot, job)]
        return min(fitting, key=lambda slot: self._rank(slot, job), default=None)

    def _classes(self, job: Job) -> tuple[str, ...]:
        bound = self._bound.get(job.test) if job.test is not None and not job.classes else None
        return (bound,) if bound is not None else job.classes

    def _rank(self, slot: Slot, job: Job) -> tuple[float, float, int]:
        return slot.price * _seconds(job, slot), slot.wait_s, self._left[slot.machine]

    def _ends_in_time(self, slot: Slot, job: Job) -> bool:
        end = slot.wait_s + _seconds(job, slot)
        return all(not slot.shares(one.slot) or end <= one.left_s for one in self._reserved)

    def _take(self, slot: Slot, job: Job) -> None:
        self._busy.append(Busy(slot, slot.wait_s + _seconds(job, slot)))
        if job.test is not None:
            self._bound.setdefault(job.test, slot.hardware_class)
        self._close(slot)

    def _close(self, slot: Slot) -> None:
        for other in self._on.get(slot.machine, ()):
            if slot.shares(other) and self._free[len(other.gpus)].pop(other.name, None) is not None:
                self._left[other.machine] -= 1

    def _reserve(self, job: Job) -> str | None:
        """The block that is whole again soonest, of those that no job waits for yet."""
        classes = self._classes(job)
        blocks = [
            slot
            for slot in (self._by_size.get(job.gpus, ()) if job.gpus > 1 else ())
            if (not classes or slot.hardware_class in classes)
            and not any(slot.shares(one.slot) for one in self._reserved)
        ]
        if not blocks:
            return None
        until = {slot.name: self._until(slot) for slot in blocks}
        first = min(blocks, key=lambda slot: (until[slot.name], slot.name))
        self._reserved.append(Busy(first, until[first.name]))
        return first.name

    def _until(self, slot: Slot) -> float:
        return max((one.left_s for one in self._busy if slot.shares(one.slot)), default=0.0)


def _seconds(job: Job, slot: Slot) -> float:
    return job.seconds.get(slot.hardware_class, 0.0)
