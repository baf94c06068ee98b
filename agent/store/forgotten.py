"""What ideas set the knobs to that are too old for a planner to be told of one by one.

Takes `Reads` and ids of proposals; gives configurations.
"""

from sqlalchemy import bindparam, select

from agent.store.reads import Reads
from agent.store.schema import proposals
from agent.store.selects import TRIED

_BETWEEN = select(proposals.c.knobs).where(
    proposals.c.campaign_id == bindparam("campaign_id"),
    proposals.c.id > bindparam("after"),
    proposals.c.id < bindparam("before"),
    TRIED,
)


def configurations(reads: Reads, campaign_id: int, *, after: int, before: int) -> list[dict[str, str | int | float]]:
    """Of the proposals between these two ids, those given up for want of means, and without a score, aside."""
    values = {"campaign_id": campaign_id, "after": after, "before": before}
    return list(reads.connection.execute(_BETWEEN, values).scalars())
