"""wanted -> launch: fills the free slots of one controller with what is most urgent.

Takes what is wanted and which slots are free; gives how many runs started, and remembers since when none could for want
of money.
"""

from collections.abc import Callable, Iterable

from agent.clock import Clock
from agent.setting import Setting
from agent.steps import anchors, rescore
from agent.steps.agenda import Agenda
from agent.steps.conform import Conforming
from agent.steps.crowded import Crowd
from agent.steps.launch import full_disk, start
from agent.steps.limits import affordable, least_idea
from agent.steps.promote import promote
from agent.steps.recall import useful
from agent.steps.slots import Slots
from agent.steps.wanted import Wanted, begins, sparing


class Filling:
    """The slots of one controller, and what is next on them."""

    def __init__(
        self,
        setting: Setting,
        agenda: Agenda,
        slots: Slots,
        conforming: Conforming,
        may_plan: Callable[[], bool],
        passed: Callable[[], bool],
        clock: Clock,
    ) -> None:
        """`may_plan`: whether ideas may still come; `passed`: whether one that passed waits to be promoted."""
        self._setting, self._agenda, self._slots, self._clock = setting, agenda, slots, clock
        self._may_plan, self._passed = may_plan, passed
        self._conforming, self._crowd = conforming, Crowd(setting, clock)
        self._unpaid_since: float | None = None

    @property
    def unpaid_s(self) -> float | None:
        """Since when nothing runs, or will soon, because what is most urgent can't be paid. None: that is not so."""
        return None if self._unpaid_since is None else self._clock.now() - self._unpaid_since

    def fill(self) -> int:
        """How many started: with what is most urgent, unless the disk could not hold it."""
        started, unpaid = self._fill()
        if not unpaid:
            self._unpaid_since = None
        elif self._unpaid_since is None:
            self._unpaid_since = self._clock.now()
        return started

    def wanted(self) -> list[Wanted]:
        """What may start at all, most urgent first."""
        setting, items = self._setting, self._agenda.wanted()
        if self._agenda.waiting:  # an idea that passed waits for its money
            return sparing(items, idle=not self._agenda.runs)
        if not any(begins(item) or item.purpose == "report" for item in items):
            return items
        with setting.store.read() as reads:
            items = useful(setting, reads, items, may_plan=self._may_plan())
            if not any(begins(item) for item in items):
                return items
            if not affordable(reads.balance(setting.campaign.id), least_idea(setting, reads).gpu_s):
                return [item for item in items if not begins(item)]
        return items

    def _fill(self) -> tuple[int, bool]:
        """How many started, and whether for want of money nothing runs, or will soon."""
        setting, agenda = self._setting, self._agenda
        free = self._slots.free_names(agenda.runs.values())
        if not free:
            return 0, False
        if scored := self._rescore(free):
            return scored, False
        items = [item for item in self.wanted() if not begins(item) or self._conforming.may_run(item.proposal)]
        idle = not items
        if (idle and not anchors.asked_for(setting)) or full_disk(setting) is not None:
            return 0, False
        usable = self._crowd.free(free)
        first = anchors.due(setting, usable, idle=idle)
        rest = set(anchors.usable(setting, usable)) - {slot for _, slot in first}
        closed = set(free) - rest
        placed = self._slots.place(items, agenda.runs.values(), closed, first)
        started, refused = self._start((*first, *placed))
        if not refused:
            return started, False
        agenda.again()
        held = [item for item in items if item.held]
        placed = self._slots.place(held, agenda.runs.values(), closed)
        started += self._start(placed, set_aside=True)[0]
        # What is paid and has no slot now gets one later; not one that must be anchored first.
        later = held and not placed and not first
        return started, not (started or agenda.runs or later)

    def _start(self, placed: Iterable[tuple[Wanted, str]], *, set_aside: bool = False) -> tuple[int, bool]:
        """How many started, and whether one could not be paid: nothing less urgent may eat the rest, but what is set
        aside for a run (`set_aside`) is no other's."""
        started = 0
        for item, slot in placed:
            run = start(self._setting, item, slot, set_aside=set_aside)
            if run is None and not set_aside:
                return started, True
            if run is not None:
                self._agenda.started(run)
                self._slots.started(run)
                started += 1
        return started, False

    def _rescore(self, slots: list[str]) -> int:
        """What passed, on machines that did not train it; promotion waits for nothing else."""
        if not self._passed():
            return 0
        happened, due = 0, rescore.due(self._setting, slots)
        if due and full_disk(self._setting) is not None:
            return 0
        for item, slot in due:
            happened += 1
            run = start(self._setting, item, slot)
            if run is None:
                rescore.unpaid(self._setting, item.proposal)
                promote(self._setting)  # it waits for nothing any more
                self._agenda.everything()
            else:
                self._agenda.started(run)
                self._slots.started(run)
        return happened
