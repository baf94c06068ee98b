"""wanted -> slots: which wanted run starts on which free slot now, and how long the busy ones will take.

Takes the runs under way and the wanted ones; gives pairs. Remembers what runs took, by rung and hardware class; a
resume need not know it.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from agent.clock import REAL, Clock
from agent.errors import InfraError
from agent.placing import Busy, Job, Slot, place
from agent.records import Run
from agent.runners import Queues, size_of
from agent.setting import Setting, known
from agent.steps.wanted import Wanted

WEIGHT = 0.2  # of the newest run in what runs are expected to take
Kind = tuple[str, str]  # rung and hardware class


class Starting(NamedTuple):
    item: Wanted
    slot: str


class Ahead(NamedTuple):
    """What planners have to be ready for."""

    free_in: list[float]
    """Seconds until each slot is free."""
    run_s: float


class Slots:
    """The slots of one controller."""

    def __init__(self, setting: Setting, clock: Clock = REAL) -> None:
        self._setting, self._clock = setting, clock
        self._known: dict[str, Slot] = {}
        self._shared = len(setting.track.sizes()) > 1  # slots of different sizes may be of the same GPUs
        self._queues = setting.runner if isinstance(setting.runner, Queues) else None
        self._since: dict[int, float] = {}  # runs under way
        self._adopted: dict[int, float] = {}  # those that a controller before had started, since when we know of them
        self._took: dict[Kind, float] = {}

    def started(self, run: Run) -> None:
        self._since[run.id] = self._clock.now()

    def ended(self, run: Run, seconds: float, *, whole: bool) -> None:
        """`whole`: it went to its end, so that it says what a run takes: by our clock, where we saw it start."""
        self._adopted.pop(run.id, None)
        if (since := self._since.pop(run.id, None)) is not None:
            seconds = self._clock.now() - since
        if whole:
            kind = (run.rung, run.hardware_class)
            before = self._took.get(kind)
            self._took[kind] = seconds if before is None else before + WEIGHT * (seconds - before)

    def seconds(self, rung: str, hardware_class: str) -> float:
        """What a run there is expected to take; until one has ended, what is known of other machines, or a guess."""
        found = self._took.get((rung, hardware_class))
        if found is not None:
            return found
        same = [took for (other, _), took in self._took.items() if other == rung]
        if same:
            return sum(same) / len(same)
        track = self._setting.track
        return track.guess_run_s() * track.share(track.rung_named(rung))

    def shortest(self) -> float:
        """What the shortest runs are expected to take."""
        track = self._setting.track
        return min(self._took.values(), default=track.guess_run_s())

    def ahead(self, under_way: Collection[Run]) -> "Ahead":
        """When slots will want another idea."""
        rung = self._setting.track.decision.rung
        free = len(self.free_names(under_way))
        left = self._left(under_way)
        took = [seconds for (name, _), seconds in self._took.items() if name == rung]
        return Ahead([0.0] * free + left, min(took, default=self.seconds(rung, "")))

    def _left(self, under_way: Iterable[Run]) -> list[float]:
        """Seconds until each of them is expected to be over."""
        now, takes = self._clock.now(), dict[Kind, float]()
        left = []
        for run in under_way:
            since = self._since.get(run.id)
            if since is None:
                since = self._adopted.setdefault(run.id, now)
            kind = (run.rung, run.hardware_class)
            if kind not in takes:
                takes[kind] = self.seconds(*kind)
            left.append(max(0.0, since + takes[kind] - now))
        return left

    def all(self) -> list[Slot]:
        """As they are now."""
        return [self.slot(name) for name in self._setting.runner.slots]

    def slot(self, name: str) -> Slot:
        if name not in self._known:
            self._known[name] = _slot(self._setting, name)
        found = self._known[name]
        price = self._setting.runner.price(name)  # until a machine is rented, and when others are, it is another
        wait_s = 0.0 if self._queues is None else self._queues.wait_s(name)
        same = (price, wait_s) == (found.price, found.wait_s)
        return found if same else replace(found, price=price, wait_s=wait_s)

    def _under(self, run: Run) -> Slot:
        """Of a run under way. What can't be asked now, or is not there any more, has no other slot either."""
        try:
            return self.slot(known(run.slot))
        except InfraError:
            return Slot(known(run.slot), run.hardware_class, frozenset(), known(run.slot))

    def free(self, under_way: Iterable[Run]) -> list[Slot]:
        """Those on which no run is, and none on their GPUs."""
        return [self.slot(name) for name in self.free_names(under_way)]

    def free_names(self, under_way: Iterable[Run]) -> list[str]:
        """The same, where nobody has to know what they cost."""
        names = {run.slot for run in under_way}
        found = [name for name in self._setting.runner.slots if name not in names]
        if not self._shared:
            return found
        busy = {(slot.machine, gpu) for slot in map(self._under, under_way) for gpu in slot.gpus}
        idle = [slot for slot in map(self.slot, found) if busy.isdisjoint((slot.machine, gpu) for gpu in slot.gpus)]
        return [slot.name for slot in idle]

    def place(
        self,
        items: Sequence[Wanted],
        under_way: Collection[Run],
        closed: Collection[str],
        first: Iterable[tuple[Wanted, str]] = (),
    ) -> list[Starting]:
        """Most urgent first. `closed`: slots on which nothing may start now; `first`: what is placed already."""
        slots = [slot for slot in (self.all() if self._shared else self.free(under_way)) if slot.name not in closed]
        busy = [*self._busy(under_way), *self._taken(first)] if self._shared else []
        classes = {slot.hardware_class for slot in slots}
        by_rung = {rung: {name: self.seconds(rung, name) for name in classes} for rung in {item.rung for item in items}}
        gpus = {rung: self._setting.track.gpus(rung) for rung in by_rung}
        jobs = (  # hundreds may wait for one slot
            Job(gpus[item.rung], item.classes, by_rung[item.rung], None if item.classes else item.proposal.id)
            for item in items
        )
        return [Starting(items[one.job], one.slot) for one in place(jobs, slots, busy)]

    def _busy(self, under_way: Collection[Run]) -> list[Busy]:
        left = self._left(under_way)
        return [Busy(self._under(run), seconds) for run, seconds in zip(under_way, left, strict=True)]

    def _taken(self, placed: Iterable[tuple[Wanted, str]]) -> list[Busy]:
        slots = [(item.rung, self.slot(name)) for item, name in placed]
        return [Busy(slot, self.seconds(rung, slot.hardware_class)) for rung, slot in slots]


def _slot(setting: Setting, name: str) -> Slot:
    """A slot that does not say which GPUs it has has them for itself; if not even how many, those of a deciding run."""
    runner = setting.runner
    gpus, machine = frozenset(runner.gpus(name)), name.rpartition("/")[0]
    if not gpus:
        size = size_of(runner, name)
        deciding = setting.track.gpus(setting.track.decision.rung)
        gpus, machine = frozenset(range(deciding if size is None else size)), name
    return Slot(name, runner.hardware_class(name), gpus, machine, runner.price(name))
