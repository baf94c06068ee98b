"""What one controller has to look at: kept from turn to turn, so that an event costs what it touches and no more.

Takes what happened; gives the runs under way, and what is wanted, as `wanted` would say it. All of it follows from the
store: it is read whole at the start, whenever the head moves or another process wrote something, and from time to time.
"""

import time
from bisect import bisect_right, insort
from collections.abc import Iterable
from pathlib import Path

from agent import calibration
from agent.clock import REAL, Clock
from agent.records import Proposal, Run
from agent.runners import classes
from agent.setting import Setting
from agent.steps.wanted import LIVE, PATIENCE, Wanted, look, ordered, report, test
from agent.store import Reads
from agent.store.promises import begun
from agent.store.rows import Request

EVERY_S = 60.0  # between two looks at everything, whatever was seen of it
SHARE = 0.05  # of the controller's time that such looks may take where other processes write all the time
STALE = 0.05  # by this part more verdicts, after which it is asked anew how far planners can be trusted


class Agenda:
    """One campaign's."""

    def __init__(self, setting: Setting, clock: Clock = REAL) -> None:
        self._setting, self._clock = setting, clock
        self.runs: dict[int, Run] = {}
        """Under way."""
        self.folders: dict[Path, Run] = {}
        """The same, by their job folders."""
        self.waiting: frozenset[int] = frozenset()
        """Ideas that passed and wait for money."""
        self.whole = True
        """Whether everything is to be looked at."""
        self.stalled: set[int] = set()
        """Ideas that wait for a verdict until their baseline has run."""
        self._touched: set[int] = set()  # of which what is wanted may be something else now
        self._live: dict[int, Proposal] = {}
        self._tests: dict[int, list[Wanted]] = {}
        self._looks: dict[int, int] = {}
        self._reports: list[Wanted] | None = None
        self._found: list[Wanted] = []  # what was wanted when it was last asked
        self._head_id = 0  # 0: all that is wanted may be something else now
        self._booked = False  # whether a run of them is not handed over: a controller before was killed
        self._unread = True  # whether everything is to be read before what is wanted can be said
        self._again = False
        self._begun: list[int] = []  # ideas that have run, by id
        self._trust: calibration.TrustOf | None = None
        self._verdicts = self._verdicts_then = 0
        self._due = 0.0  # when everything is looked at again
        self._soonest = 0.0  # when that may be, where another process wrote something
        self._started = 0.0  # the turn, by our processor time
        self._seen = 0  # the newest event that is known
        self._own = 0  # events that this process had written when that was asked

    def hear(self) -> Request:
        """Before a turn: what a person asks for, and whether another process wrote something."""
        self._own = self._setting.store.told
        with self._setting.store.read() as reads:
            pulse = reads.pulse(self._setting.campaign.id)
        if pulse.newest_event > self._seen:
            self._due = min(self._due, self._soonest)
        self._seen = pulse.newest_event
        return pulse.request

    def turn(self) -> None:
        """Begins a turn: sees whether it is time to look at everything."""
        self._started = time.process_time()
        if self.whole or self._booked or self._again or self._clock.now() >= self._due:
            self.everything()
            self._again = False
            self.read_runs()

    def everything(self) -> None:
        """From here on this turn looks at everything; what is wanted is read anew, however late somebody asks."""
        self.whole = self._unread = True

    def again(self) -> None:
        """The next turn looks at everything."""
        self._again = True

    def read_runs(self) -> None:
        with self._setting.store.read() as reads:
            found = reads.runs(self._setting.campaign.id, states={"queued", "running"})
        self.runs = {run.id: run for run in found}
        self.folders = {self._setting.job(run.id): run for run in found}
        self._booked = any(run.state == "queued" for run in found)

    def turned(self, happened: int) -> None:
        """Ends it: from now on only what happens is looked at. `happened`: how much of it was the controller's own."""
        if self.whole:
            now = self._clock.now()
            self._due, self._soonest = now + EVERY_S, now + (time.process_time() - self._started) / SHARE
            self.whole = False
        if happened:
            own = self._setting.store.told - self._own
            with self._setting.store.read() as reads:
                count, self._seen = reads.events_after(self._setting.campaign.id, self._seen)
            if count > own:  # another process wrote meanwhile
                self._due = min(self._due, self._soonest)

    def touch(self, proposal_ids: Iterable[int]) -> None:
        self._touched.update(proposal_ids)

    def started(self, run: Run) -> None:
        if run.state in ("queued", "running"):
            self.runs[run.id] = run
            self.folders[self._setting.job(run.id)] = run
        self._run_changed(run)
        if run.baseline_id is None and (run.purpose != "report" or len(classes(self._setting.runner)) > 1):
            self._head_id = 0  # what others want depends on it
        after = bisect_right(self._begun, run.proposal_id)
        if not after or self._begun[after - 1] != run.proposal_id:
            insort(self._begun, run.proposal_id)

    def ended(self, run: Run) -> set[int]:
        """The ideas that may be decided by it."""
        self.runs.pop(run.id, None)
        self.folders.pop(self._setting.job(run.id), None)
        self._run_changed(run)
        if run.baseline_id is not None:
            return {run.proposal_id}
        if run.purpose != "report":
            self._head_id = 0
        return set(self.stalled)  # others are compared with it

    def decided(self, proposal_ids: Iterable[int]) -> None:
        ids = set(proposal_ids)
        self._touched |= ids
        self._verdicts += len(ids)
        if ids:
            self._reports = None

    def wanted(self) -> list[Wanted]:
        """All runs that could start now, most urgent first."""
        if not (self._unread or self._touched or self._reports is None or self._head_id == 0):
            return self._found
        setting = self._setting
        with setting.store.read() as reads:
            head = reads.head(setting.campaign.id)
            if self._unread or head.id != self._head_id:
                self._read_all(reads, head)
            else:
                for one in self._touched:
                    self._read(reads, head, reads.proposal(one))
            self._touched.clear()
            if self._reports is None:
                self._reports = report(setting, reads, head, list(self._looks.values()))
            live = list(self._live.values())
            tests, reports = self._tests, self._reports
            self._found = ordered(setting, live, reports, tests, self._waited, lambda: self._trusted(reads))
        return self._found

    def _read_all(self, reads: Reads, head: Proposal) -> None:
        self._live, self._tests, self._looks, self._reports = {}, {}, {}, None
        self._unread = False
        self._head_id = head.id
        for proposal in reads.proposals(head.campaign_id, LIVE):
            self._read(reads, head, proposal)
        new = [one.id for one in self._live.values() if one.state == "approved"]
        self._begun = begun(reads, head.campaign_id, after=min(new)) if new else []

    def _read(self, reads: Reads, head: Proposal, proposal: Proposal) -> None:
        for known in (self._live, self._tests, self._looks):
            known.pop(proposal.id, None)
        if proposal.state in LIVE:
            self._live[proposal.id] = proposal
            self._tests[proposal.id] = test(self._setting, reads, proposal)
            if (seeds := look(self._setting, reads, head, proposal)) is not None:
                self._looks[proposal.id] = seeds
                self._reports = None

    def _run_changed(self, run: Run) -> None:
        self._touched.add(run.proposal_id)
        if run.baseline_id is None:
            self._reports = None

    def _waited(self, proposal_id: int) -> bool:
        """Whether so many younger ideas have run."""
        return len(self._begun) - bisect_right(self._begun, proposal_id) >= PATIENCE

    def _trusted(self, reads: Reads) -> calibration.TrustOf:
        if self._trust is None or self._verdicts > self._verdicts_then * (1 + STALE) + 1:
            self._trust = calibration.trust_of(calibration.table(reads, self._setting.campaign.id))
            self._verdicts_then = self._verdicts
        return self._trust
