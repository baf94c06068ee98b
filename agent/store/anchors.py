"""How fast machines were, as runs of one commit on them tell.

Takes `Reads` and a campaign; gives seconds by run.
"""

from typing import NamedTuple

from sqlalchemy import select

from agent.store.reads import Reads
from agent.store.schema import measurements, runs


class StepTime(NamedTuple):
    """Seconds of a step of one run. Others on the machine are in them, so they show too."""

    own: float | None
    """By the script's clock, which stands still while it compiles and quantises. None: it says nothing of it."""
    wall: float
    """Of all of training."""


def step_times(reads: Reads, campaign_id: int) -> dict[int, StepTime]:
    """Of each anchor that says how many steps it took."""
    _m = measurements.c
    query = (
        select(runs.c.id, _m.train_ms / (1000.0 * _m.steps), _m.train_wall_s / _m.steps)
        .join(measurements, (_m.run_id == runs.c.id) & (_m.latest == 1))
        .where(runs.c.campaign_id == campaign_id, runs.c.purpose == "anchor", runs.c.state == "done")
        .where(_m.steps > 0, _m.train_wall_s > 0)
    )
    return {run_id: StepTime(own or None, float(wall)) for run_id, own, wall in reads.connection.execute(query)}
