"""The loss curves of runs, point by point, as their logs said them.

Takes `Reads` or a `Tx`; gives `Point`s. Apart from what the views read, which a million curves do not slow down.
"""

from collections.abc import Sequence

from sqlalchemy import bindparam, insert, select

from agent.records import Point
from agent.store.reads import Reads
from agent.store.schema import points
from agent.store.writes import Tx

_OF_RUN = select(points).where(points.c.run_id == bindparam("run_id")).order_by(points.c.step)
_FIRST = _OF_RUN.limit(1)
_ADD = insert(points)


def of_run(reads: Reads, run_id: int) -> tuple[Point, ...]:
    """By step; empty where its log named none, and for what ended before curves were kept."""
    found = reads.connection.execute(_OF_RUN, {"run_id": run_id}).mappings()
    return tuple(Point(**{name: value for name, value in row.items() if name != "run_id"}) for row in found)


def add(tx: Tx, run_id: int, found: Sequence[Point]) -> None:
    """Once a run: one that has a curve keeps it."""
    if found and tx.connection.execute(_FIRST, {"run_id": run_id}).first() is None:
        tx.connection.execute(_ADD, [{"run_id": run_id, **vars(point)} for point in found])
