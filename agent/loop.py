"""The loop: the only file that knows the order of the stages.

    store -> search -> context -> planner -> guard -> review -> worktree -> runner -> judge -> verdict -> promote

It keeps nothing in memory that matters. Every turn reads the store, looks at the world, takes each arrow as far as it
can go, and writes each record before the next side effect; so a resume is simply the next turn.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Literal

from agent.llm.meter import write_off
from agent.runners.fleet import Closes
from agent.setting import Setting
from agent.steps import anchors
from agent.steps.admit import admit, record, refresh
from agent.steps.collect import cancel_all, collect
from agent.steps.conform import Conforming
from agent.steps.crowded import Crowd
from agent.steps.decide import decide, undecided
from agent.steps.ending import NO_MORE_IDEAS, Ending, close, ending, over
from agent.steps.launch import free_slots, full_disk, start
from agent.steps.learn import Learning
from agent.steps.limits import affordable, worst_idea
from agent.steps.plan import Asking
from agent.steps.promote import promote
from agent.steps.wanted import begins, sparing, wanted
from agent.store.lease import hold

LOOK_S = 0.05  # between two looks at what runs and at the planners
LESSONS_S = 120.0  # at the end, for findings that are still being written
TURN_S = 1.0  # after which a turn is taken anyway: a person may have said something in the store

Asked = Literal["", "drain", "cancel"]


class Loop:
    """One controller of one campaign."""

    def __init__(self, setting: Setting, show: Callable[[], None] = lambda: None) -> None:
        self._setting = setting
        self._show = show
        self._asking = Asking(setting)
        self._learning = Learning(setting)
        self._conforming = Conforming(setting)
        self._crowd = Crowd(setting)
        self._interrupts = 0
        self._told: Asked = ""
        self._found_at = 0.0  # since when there is nothing left but findings
        self._over: bool | None = None  # asked again when something has happened
        self._run_s = setting.track.limits.worst_s() / 2  # what a run takes: a guess until some have ended

    def run(self) -> Ending:
        """Works until the budget, the target, the planner or the person says stop."""
        setting = self._setting
        with hold(setting.store, f"campaign {setting.campaign.name}") as lease, self._interruptible():
            setting.repo.sweep(setting.campaign.name)
            setting.runner.sweep(setting.jobs)
            with setting.store.write() as tx:
                write_off(tx, setting.campaign.id, "its controller was killed")
            while (found := self._ending()) is None:
                lease.check()
                if not self._turn():
                    self._rest()
                self._show()
            close(setting, found)
            if isinstance(setting.runner, Closes):
                setting.runner.close()
            return found

    def _turn(self) -> int:
        """Takes every arrow as far as it can go; gives how much happened."""
        setting = self._setting
        seconds = collect(setting)
        self._run_s = sum(seconds, self._run_s) / (len(seconds) + 1)
        happened = len(seconds)
        happened += decide(setting)
        happened += promote(setting)
        happened += refresh(setting)
        if happened or self._over is None:
            self._look()
        happened += self._learn(happened)
        happened += self._conforming.collect()
        happened += self._plan()
        if not self._over and not self._asked():
            self._conforming.ask()
        if not self._over:
            happened += self._launch()
        return happened

    def _look(self) -> None:
        """Whether anything new is to be planned or started at all."""
        with self._setting.store.read() as reads:
            self._over = over(self._setting, reads) is not None

    def _rest(self) -> None:
        """Until a run has ended, a planner has answered or a person has interrupted; a turn costs what a run needs."""
        setting, interrupts, until = self._setting, self._interrupts, time.monotonic() + TURN_S
        with setting.store.read() as reads:
            jobs = [setting.job(run.id) for run in reads.runs(setting.campaign.id, states={"queued", "running"})]
        while time.monotonic() < until and self._interrupts == interrupts and not self._answered():
            if any(setting.runner.poll(job) in ("done", "lost") for job in jobs):
                return
            time.sleep(LOOK_S)
            self._show()

    def _answered(self) -> bool:
        """Whether something came back that is to be written down."""
        return self._asking.answered() or self._conforming.answered()

    def _launch(self) -> int:
        """Fills the free slots with what is most urgent, unless the disk could not hold it."""
        if self._asked() or full_disk(self._setting) is not None:
            return 0
        setting, started = self._setting, 0
        with setting.store.read() as reads:
            slots = free_slots(setting, reads)
            items = wanted(setting, reads) if slots else []
            if slots and undecided(setting, reads):  # an idea that passed waits for its money
                items = sparing(items, idle=len(slots) == len(setting.runner.slots))
            elif items and not affordable(reads.balance(setting.campaign.id), worst_idea(setting, reads).gpu_s):
                items = [item for item in items if not begins(item)]
            items = [item for item in items if not begins(item) or self._conforming.may_run(item.proposal)]
        if items:
            slots = self._crowd.free(slots)
        first = anchors.due(setting, slots) if items else []
        rest = [slot for slot in anchors.usable(setting, slots) if slot not in {slot for _, slot in first}]
        for item, slot in (*first, *zip(items, rest, strict=False)):
            if start(setting, item, slot) is None:
                break  # what is most urgent can't be paid: nothing less urgent may eat the rest
            started += 1
        return started

    def _learn(self, happened: int) -> int:
        """Writes down what verdicts taught, and asks about those that came since."""
        found = self._learning.collect()
        if (found or happened) and not self._asked():
            self._learning.ask()
        return found

    def _plan(self) -> int:
        """Asks for as many ideas as the slots will need, writes down what planners answered, and checks it.

        Before launching, so that a turn that was cut off is repeated with the same questions in the same order.
        """
        setting, answered = self._setting, 0
        while True:
            may_ask = not self._over and not self._asked()
            if may_ask:
                self._asking.ask(self._run_s)
            drafts = self._asking.answers()
            for draft in drafts:
                record(setting, draft)
            answered += len(drafts)
            if not may_ask:  # what was under way is not lost; the next controller checks it
                return answered
            with setting.store.read() as reads:
                drafted = reads.proposals(setting.campaign.id, {"drafted"})
            states = {admit(setting, proposal).state for proposal in drafted}
            if not drafts:
                return answered
            if not states & {"approved", "awaiting_review"}:
                self._look()  # ideas that no check lets through may come without end

    def _ending(self) -> Ending | None:
        """How the campaign ends now, if it does; what runs is let finish, or cancelled and settled, before."""
        setting, asked = self._setting, self._asked()
        self._tell(asked)
        if asked == "cancel":
            cancel_all(setting)
        with setting.store.read() as reads:
            if reads.runs(setting.campaign.id, states={"queued", "running"}):
                return None
            if asked:
                return Ending("stopped", "cancelled by a person" if asked == "cancel" else "stopped by a person")
            found = ending(setting, reads, may_plan=not self._asking.exhausted or self._asking.busy() > 0)
        if found is not None and self._learning.busy():
            self._found_at = self._found_at or time.monotonic()
            if time.monotonic() < self._found_at + LESSONS_S:
                return None  # what the last verdicts taught is worth a minute
        if found == NO_MORE_IDEAS and self._asking.why:
            broken = self._asking.broken
            return Ending("stopped" if broken else "finished", self._asking.why, failed=broken)
        return found

    def _asked(self) -> Asked:
        """What a person wants: Ctrl-C here, or `agent stop` from another terminal."""
        with self._setting.store.read() as reads:
            request = reads.request(self._setting.campaign.id)
        if self._interrupts > 1 or request == "cancel":
            return "cancel"
        return "drain" if self._interrupts or request else ""

    def _tell(self, asked: Asked) -> None:
        """Says once that it was heard, and what comes now."""
        if asked in ("", self._told):
            return
        self._told = asked
        words = {
            "drain": "planning nothing more, finishing what runs; Ctrl-C again or `agent stop --now` cancels it",
            "cancel": "cancelling what runs",
        }
        with self._setting.store.write() as tx:
            tx.add_event(self._setting.campaign.id, "stopping", words[asked])

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Ctrl-C once: finish what runs. Twice, or a SIGTERM: cancel it, settle, exit."""

        def interrupt(number: int, frame: FrameType | None) -> None:
            self._interrupts += 2 if number == signal.SIGTERM else 1

        before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def wind_up(setting: Setting, reason: str) -> None:
    """Ends a campaign that can't go on: what runs is cancelled and settled, and every idea ends in a final state."""
    with setting.store.write() as tx:
        tx.ask(setting.campaign.id, "cancel")
    Loop(setting).run()
    close(setting, Ending("finished", reason))
