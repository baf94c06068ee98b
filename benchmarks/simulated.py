"""Simulated time for whole campaigns: a clock that is stepped, a runner and a planner with realistic times.

Takes nothing from the machine but the processor time that the controller itself uses: the clock moves by that too, so
that a controller that is slow leaves slots empty here as it would anywhere. Everything else of a campaign is real:
loop, store, git, guard, job folders, verdicts.
"""

import heapq
import itertools
import random
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from agent.job.folder import JobPaths, JobResult, JobState
from agent.planner import Request
from agent.records import Draft
from agent.runners.fake import FakeRunner, Imagine
from agent.runners.order import Order
from benchmarks.endless import Endless

T = TypeVar("T")


class SimulatedClock:
    """Seconds that pass when somebody waits for them, and while the controller works."""

    def __init__(self) -> None:
        self._now = 0.0
        self._used = time.process_time()  # up to when the controller's time has passed here too
        self._numbers = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def now(self) -> float:
        return self._now

    def at(self, when: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), happens))

    def rest(self, seconds: float, most: float) -> None:
        """Steps to the next event, but by `seconds` at the least: whoever sleeps sees nothing before. By `most` where
        none comes before."""
        used = time.process_time()
        self._now += used - self._used
        self._used = used
        to = self._now + most
        if self._events:
            to = min(to, self._events[0][0])
        self._now = max(self._now + seconds, to)
        self.catch_up()

    def catch_up(self) -> None:
        """Lets happen what is due."""
        while self._events and self._events[0][0] <= self._now:
            heapq.heappop(self._events)[2]()

    def background(self, name: str, work: Callable[[], T]) -> "Future[T]":
        """The answer is made of what is known now, and comes when the planner has thought."""
        answer: Future[T] = Future()
        started = time.process_time()
        try:
            found = work()
        except Exception as error:
            answer.set_exception(error)
            return answer
        finally:
            self._used += time.process_time() - started  # it thinks on another machine
        think_s = getattr(found, "think_s", 0.0)
        self.at(self.now() + think_s, lambda: answer.set_result(found))
        return answer


class Thought(Draft):
    """An idea, and how long it was thought about."""

    think_s = 0.0


@dataclass
class SlowThinker(Endless):
    """Ideas by number, each after a time that is drawn around the median `think_s`."""

    clock: SimulatedClock = field(default_factory=SimulatedClock)
    last_at: float = 0.0
    """When the last idea was asked for."""

    def propose(self, request: Request) -> Draft | None:
        median, self.think_s = self.think_s, 0.0
        draft = super().propose(request)
        self.think_s = median
        if draft is None:
            return None
        self.last_at = self.clock.now()
        found = Thought(**vars(draft))
        object.__setattr__(found, "think_s", median * random.Random(draft.title).lognormvariate(0.0, 0.5))
        return found


class SimulatedRunner(FakeRunner):
    """Runs that take their time by a simulated clock."""

    def __init__(self, clock: SimulatedClock, slots: int, world: Imagine, **more: object) -> None:
        super().__init__(slots, 0.0, world, **more)  # type: ignore[arg-type]
        self._clock = clock
        self._over: set[Path] = set()
        self.spans: list[tuple[float, float, str]] = []
        """Of each run: from when to when, and on which slot."""

    def submit(self, order: Order, folder: Path, slot: str) -> None:
        super().submit(order, folder, slot)
        seconds = JobResult.from_json(JobPaths(folder).result.read_text()).slot_s
        now = self._clock.now()
        self.spans.append((now, now + seconds, slot))
        self._clock.at(now + seconds, lambda: self._over.add(folder))

    def ended(self, folders: Collection[Path]) -> set[Path]:
        self._clock.catch_up()
        return {one for one in self._over if one in folders}

    def poll(self, folder: Path) -> JobState:
        self._clock.catch_up()
        return "done" if folder in self._over else "running"

    def collect(self, folder: Path) -> JobResult:
        self._over.discard(folder)
        return super().collect(folder)

    def busy(self, start: float, end: float) -> float:
        """Slot-seconds of runs between two moments."""
        return sum(max(0.0, min(to, end) - max(since, start)) for since, to, _ in self.spans)


def drawn(seed: int | str, run_s: float, *, spread: float, crashes: float) -> tuple[float, bool]:
    """What a run takes, and whether it crashes: early or late."""
    draw = random.Random(f"time/{seed}")
    if draw.random() < crashes:
        return run_s * draw.uniform(0.02, 0.8), True
    return run_s * (1 + spread * draw.uniform(-1.0, 1.0)), False
