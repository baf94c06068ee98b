"""What ideas set the knobs to that are too old for a planner to be told of one by one.

Takes `Reads` and ids of proposals; gives configurations.
"""

from sqlalchemy import select

from agent.store.reads import Reads
from agent.store.schema import proposals
from agent.store.selects import TRIED


def configurations(reads: Reads, campaign_id: int, *, after: int, before: int) -> list[dict[str, str | int | float]]:
    """Of the proposals between these two ids, those given up for want of means, and without a score, aside."""
    query = select(proposals.c.knobs).where(
        proposals.c.campaign_id == campaign_id,
        proposals.c.id > after,
        proposals.c.id < before,
        TRIED,
    )
    return list(reads.connection.execute(query).scalars())
