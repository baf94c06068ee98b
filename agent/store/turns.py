"""Whose turn it is, where several campaigns wait for the same machines: who holds least, then who has waited longest.

Takes waiting jobs and how many GPUs each campaign holds; gives the jobs in their order. Pure. What was counted is GPUs,
so a campaign that runs eight at once waits for one that runs them one by one.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Waiting(NamedTuple):
    """A job that nobody has taken."""

    job_id: int
    campaign_id: int
    hardware_class: str
    gpus: int
    wall_s: float
    """That it may take at most; 0: nobody said."""


def in_turn(waiting: Iterable[Waiting], held: Mapping[int, int]) -> list[Waiting]:
    """`held`: GPUs, or slots without one, by campaign. Of one campaign the older job comes first."""
    queues: dict[int, deque[Waiting]] = {}
    for one in sorted(waiting):
        queues.setdefault(one.campaign_id, deque()).append(one)
    counted = dict(held)
    found: list[Waiting] = []
    while queues:
        campaign_id = min(queues, key=lambda it: (counted.get(it, 0), queues[it][0].job_id))
        one = queues[campaign_id].popleft()
        found.append(one)
        counted[campaign_id] = counted.get(campaign_id, 0) + max(1, one.gpus)
        if not queues[campaign_id]:
            del queues[campaign_id]
    return found
