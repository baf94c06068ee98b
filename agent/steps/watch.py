"""Looks at runs under way, each now and then, for what tells early that it need not go on (`inert`, `doomed`), and for
whether it waits for another campaign's run.

Takes the runs; a look costs the end of a log, so how often one is looked at does not grow with how many there are.
"""

import heapq
from collections.abc import Mapping
from pathlib import Path

from agent.clock import REAL, Clock
from agent.job.folder import JobPaths
from agent.machines import work
from agent.records import Run
from agent.runners import turns, waits
from agent.setting import Setting
from agent.steps import doomed, inert
from agent.steps.slots import Slots

LOOKS = 60  # at a run, of the time that it is expected to take
MOST_S = 10.0  # between two of them
MOST_AT_ONCE = 20  # the loop has other things to do


class Watch:
    """The looks of one controller."""

    def __init__(self, setting: Setting, slots: Slots, clock: Clock = REAL) -> None:
        self._setting, self._slots, self._clock = setting, slots, clock
        self._due: list[tuple[float, int]] = []  # a heap
        self._known: dict[int, Run] = {}
        self._logs: dict[int, Path] = {}
        self._sizes: dict[int, int] = {}  # of logs, at the last look
        self._courses: dict[int, doomed.Course] = {}
        self._waits: dict[int, str] = {}  # why they do, as their rows say

    def look(self, runs: Mapping[int, Run]) -> None:
        """At those that it is time for, of all under way."""
        now = self._clock.now()
        self._follow(runs, now)
        looked = 0
        while self._due and self._due[0][0] <= now and looked < MOST_AT_ONCE:
            _, run_id = heapq.heappop(self._due)
            run = self._known.get(run_id)
            if run is None:
                continue
            if run.state == "running":
                self._look(run)
                looked += 1
            pause = min(MOST_S, self._slots.seconds(run.rung, run.hardware_class) / LOOKS)
            heapq.heappush(self._due, (now + pause, run_id))

    def _follow(self, runs: Mapping[int, Run], now: float) -> None:
        for run_id in runs.keys() - self._known.keys():
            self._logs[run_id] = JobPaths(self._setting.job(run_id)).train_log
            heapq.heappush(self._due, (now, run_id))
        for run_id in self._known.keys() - runs.keys():
            for kept in (self._logs, self._sizes, self._courses, self._waits):
                kept.pop(run_id, None)
        self._known = dict(runs)

    def _tell(self, run: Run) -> None:
        """Says in its row whether it waits. What it takes counts from when it does no longer."""
        setting = self._setting
        why = waits(setting.runner, setting.job(run.id))
        said = self._waits.get(run.id, run.reason if turns.words("") in run.reason else "")
        if why == said:
            return
        self._waits[run.id] = why
        with setting.store.write() as tx:
            if why:
                work.waits(tx, setting.campaign.id, run.id, why, still=bool(said))
            else:
                tx.update_run(run.id, reason="")
        if not why:
            self._slots.started(run)

    def _look(self, run: Run) -> None:
        self._tell(run)
        try:
            size = self._logs[run.id].lstat().st_size
        except OSError:
            return
        if size == self._sizes.get(run.id):
            return
        self._sizes[run.id] = size
        inert.stop(self._setting, run)
        course = doomed.stop(self._setting, run, self._courses.get(run.id))
        if course is not None:
            self._courses[run.id] = course
