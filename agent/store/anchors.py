"""How fast machines were, as runs of one commit on them tell.

Takes `Reads` and a campaign; gives seconds by run.
"""

from sqlalchemy import select

from agent.store.reads import Reads
from agent.store.schema import measurements, runs


def step_times(reads: Reads, campaign_id: int) -> dict[int, float]:
    """The time of a step of each anchor that says how many steps it took. Others on the machine are in it, so they show
    too."""
    query = (
        select(runs.c.id, measurements.c.train_wall_s / measurements.c.steps)
        .join(measurements, (measurements.c.run_id == runs.c.id) & (measurements.c.latest == 1))
        .where(runs.c.campaign_id == campaign_id, runs.c.purpose == "anchor", runs.c.state == "done")
        .where(measurements.c.steps > 0, measurements.c.train_wall_s > 0)
    )
    return {run_id: float(seconds) for run_id, seconds in reads.connection.execute(query)}
