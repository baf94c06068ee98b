"""Which waiting jobs a worker starts now, each on which of its slots, and for which it keeps GPUs free.

Takes the runner of the machine, what it runs and what waits, in turn; gives a `Choice`. Slots of several sizes may be
of the same GPUs. A block that is not free is kept for the job whose turn it is: until then only what is over before it
is whole again may start there, so that a large run waits for what runs, and for nothing that comes after it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agent.placing import Busy, Job, Slot, plan
from agent.runners import Runner
from agent.store.turns import Waiting

ENDLESS_S = 1e9  # a job that does not say what it may take


class Choice(NamedTuple):
    """Both by the jobs' ids."""

    starts: dict[int, str]
    holds: dict[int, str]
    """At most one, whose slot is to be kept free."""


class Choosing:
    def __init__(self, runner: Runner) -> None:
        self._slots = {name: _slot(runner, name) for name in runner.slots}
        self._sizes = {one.hardware_class: len(one.gpus) for one in self._slots.values()}
        self.kinds = dict(Counter(one.hardware_class for one in self._slots.values()))
        """Slots by hardware class."""
        smallest = min(self._sizes.values())
        self.at_once = sum(len(one.gpus) == smallest for one in self._slots.values())
        """Runs, at most."""

    def free(self, busy: Mapping[str, float]) -> bool:
        """Whether anything could be started. `busy`: seconds that the runs in these slots may still take."""
        taken = [one.slot for one in self._busy(busy)]
        return any(not any(one.shares(other) for other in taken) for one in self._slots.values())

    def choose(self, waiting: Sequence[Waiting], busy: Mapping[str, float], held: Waiting | None) -> Choice:
        """`held`: the job that a block is kept for already; it comes first."""
        everyone = [held, *waiting] if held is not None else list(waiting)
        everyone = [one for one in everyone if one.hardware_class in self._sizes]
        jobs = [
            Job(
                self._sizes[one.hardware_class],
                (one.hardware_class,),
                {one.hardware_class: one.wall_s or ENDLESS_S},
            )
            for one in everyone
        ]
        found = plan(jobs, list(self._slots.values()), self._busy(busy))
        starts = {everyone[one.job].job_id: one.slot for one in found.placed}
        holds = {everyone[one.job].job_id: one.slot for one in found.reserved[:1]} if held is None else {}
        return Choice(starts, holds)

    def _busy(self, busy: Mapping[str, float]) -> list[Busy]:
        """What is left of a worker that was shaped otherwise is in no slot of this one."""
        return [Busy(self._slots[name], left) for name, left in busy.items() if name in self._slots]


def _slot(runner: Runner, name: str) -> Slot:
    """All GPUs are of this machine; without one a slot shares nothing."""
    gpus = frozenset(runner.gpus(name))
    return Slot(name, runner.hardware_class(name), gpus, "here" if gpus else name)
