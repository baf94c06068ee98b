"""A job that waits for a machine: what is in the way, for how long already, and when it need not wait any longer.

Takes the job's folder and what all slots share; says whether it is over, ends it, and notes why it waits.
"""

import contextlib
from datetime import datetime
from pathlib import Path

from agent.errors import StoreError
from agent.job.folder import JobPaths, JobResult, Loss
from agent.job.reading import there
from agent.job.writing import write_aside
from agent.machines import work
from agent.runners.far.mirror import lose
from agent.runners.rented.desk import Desk
from agent.runners.results import order_of

AGAIN_S = 30.0  # after the provider failed, or had none; twice as long after each further time
MOST_AGAIN_S = 600.0
GIVE_UP_S = 4 * 3600.0  # of waiting for a machine


class Waits:
    """Of one slot."""

    def __init__(self, desk: Desk) -> None:
        self.why = ""  # what is in the way now
        self._desk = desk
        self._times = 0  # in a row that something was
        self._since: datetime | None = None
        self._said = ""

    def clear(self) -> None:
        """Nothing is in the way."""
        self.why, self._times = "", 0

    def over(self) -> None:
        """The job has its machine, or another one waits now."""
        self._since = None

    def blocked(self, job: Path | None, why: str, patience_s: float) -> float:
        """Seconds until the next try. A job does not wait for ever; what a person must mend, it does not wait for at
        all."""
        self.why, self._times = why, self._times + 1
        if job is None:
            return AGAIN_S
        now = self._desk.renter.clock()
        self._since = min(self._since or now, now)
        if (now - self._since).total_seconds() >= patience_s:
            try:
                lose(job, Loss(False, 0.0, f"no machine was to be had: {why}", machine=True))
            except OSError as error:  # a full disk: it is lost once there is room
                self.why = f"{why}; {error}"
            else:
                self._since = None
            return AGAIN_S
        self.say(job, why)
        return min(MOST_AGAIN_S, AGAIN_S * 2.0 ** min(self._times - 1, 20))

    def say(self, job: Path, why: str) -> None:
        """Once for each job and reason."""
        said = f"{job} {why}"
        if said != self._said:
            with contextlib.suppress(StoreError), self._desk.renter.store.write() as tx:  # a busy moment: the next time
                work.waits(tx, self._desk.campaign_id, order_of(job).run_id, why)
                self._said = said


def over(folder: Path) -> bool:
    paths = JobPaths(folder)
    return there(paths.result) or there(paths.lost)


def cancel(folder: Path) -> None:
    run_id = order_of(folder).run_id
    result = JobResult(run_id, "cancelled", "cancelled before a machine was there", (), 0.0, (), False)
    write_aside(JobPaths(folder).result, result.to_json())
