"""The loop: the only file that knows the order of the stages.

    store -> search -> context -> planner -> guard -> review -> worktree -> runner -> judge -> verdict -> promote -> store

It keeps nothing in memory that matters. Every turn reads the store, looks at the world, takes each arrow as far as it can
go, and writes each record before the next side effect; so a resume is simply the next turn.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Literal

from agent.records import CampaignState, Proposal
from agent.setting import Setting
from agent.steps.admit import admit, record, refresh
from agent.steps.collect import cancel_all, collect
from agent.steps.decide import decide
from agent.steps.launch import free_slots, start
from agent.steps.plan import WAITING, Asking
from agent.steps.promote import promote
from agent.steps.wanted import LIVE, wanted
from agent.store.lease import hold

IDLE_S = 0.1  # between two turns in which nothing happened
STUBBORN = 12  # ideas in a row that ended without a score, after which something else is wrong

Asked = Literal["", "drain", "cancel"]


class Loop:
    """One controller of one campaign."""

    def __init__(self, setting: Setting, show: Callable[[], None] = lambda: None) -> None:
        self._setting = setting
        self._show = show
        self._asking = Asking(setting)
        self._interrupts = 0

    def run(self) -> CampaignState:
        """Works until the budget, the target, the planner or the person says stop."""
        setting = self._setting
        with hold(setting.store, f"campaign {setting.campaign.name}"), self._interruptible():
            setting.repo.sweep(setting.campaign.name)
            setting.runner.sweep(setting.jobs)
            try:
                while (ending := self._ending()) is None:
                    if not self._turn():
                        time.sleep(IDLE_S)
                    self._show()
            finally:
                self._asking.close()
            return self._end(*ending)

    def _turn(self) -> int:
        """One turn; gives how much happened in it."""
        setting = self._setting
        happened = collect(setting)
        happened += decide(setting)
        happened += promote(setting)
        happened += refresh(setting)
        happened += self._launch()
        happened += self._plan()
        return happened

    def _launch(self) -> int:
        if self._asked():
            return 0
        started = 0
        with self._setting.store.read() as reads:
            slots = free_slots(self._setting, reads)
            items = wanted(self._setting, reads) if slots else []
        for slot, item in zip(slots, items, strict=False):
            if start(self._setting, item, slot) is None:
                break  # what is most urgent can't be paid: nothing less urgent may eat the rest
            started += 1
        return started

    def _plan(self) -> int:
        if self._asked():
            return 0
        drafts = self._asking.answers()
        for draft in drafts:
            record(self._setting, draft)
        with self._setting.store.read() as reads:
            drafted = reads.proposals(self._setting.campaign.id, {"drafted"})
        for proposal in drafted:
            admit(self._setting, proposal)
        self._asking.ask(self._run_seconds())
        return len(drafts) + len(drafted)

    def _ending(self) -> tuple[CampaignState, str] | None:
        """How the campaign ends now, if it does; and what a stop needs first."""
        setting, asked = self._setting, self._asked()
        if asked == "cancel":
            cancel_all(setting)
        with setting.store.read() as reads:
            if reads.runs(setting.campaign.id, states={"queued", "running"}):
                return None
            if asked:
                return "stopped", f"asked to {asked}"
            return self._finished(reads)

    def _finished(self, reads: Reads) -> tuple[CampaignState, str] | None:
        """Nothing runs: is there anything left to do, and anything left to do it with?"""
        setting, campaign = self._setting, self._setting.campaign
        broken = broken_base(setting, reads)
        if broken:
            return "stopped", broken
        stubborn = _stubborn(reads.recent(campaign.id, STUBBORN))
        if stubborn:
            return "stopped", stubborn
        head = reads.head(campaign.id)
        if campaign.target_bpb is not None and target_reached(reads, head, campaign.target_bpb):
            return "finished", f"target reached: p{head.id}"
        items = wanted(setting, reads)
        if any(item.held for item in items) or undecided(setting, reads):
            return None
        if not affordable(reads.balance(campaign.id), setting.worst_run()):
            return "finished", "the budget does not cover another run"
        if items or self._asking.busy() or not self._asking.exhausted:
            return None
        if reads.proposals(campaign.id, WAITING):
            return None
        return "finished", "the planner has no more ideas"
