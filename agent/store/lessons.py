"""What verdicts taught: findings in words, each tied to the runs that showed it.

Takes a `Tx` or `Reads`; gives `Lesson` records. A finding that turned out wrong is marked with the one that says so,
and stays.
"""

import math
from dataclasses import dataclass

from sqlalchemy import RowMapping, select

from agent.errors import UserError
from agent.store import statements
from agent.store.reads import Reads
from agent.store.rows import now
from agent.store.schema import lessons as table
from agent.store.writes import Tx


@dataclass(frozen=True)
class Lesson:
    """One finding; people see its number as l5."""

    id: int
    campaign_id: int
    proposal_id: int
    kind: str
    text: str
    confidence: float
    runs: tuple[int, ...]
    contradicted_by: int | None
    created: str


def lessons(reads: Reads, campaign_id: int) -> list[Lesson]:
    """All of a campaign, oldest first, those that were contradicted too."""
    query = select(table).where(table.c.campaign_id == campaign_id).order_by(table.c.id)
    return [_lesson(row) for row in reads.connection.execute(query).mappings()]


def lesson(reads: Reads, lesson_id: int) -> Lesson:
    row = statements.row(reads.connection, table, lesson_id)
    if row is None:
        raise UserError(f"no finding l{lesson_id} here")
    return _lesson(row)


def add_lesson(
    tx: Tx,
    proposal_id: int,
    *,
    kind: str,
    text: str,
    confidence: float,
    runs: tuple[int, ...],
    conversation_id: int | None = None,
) -> Lesson:
    """Without runs of its campaign a finding is an opinion, and refused."""
    campaign_id = tx.proposal(proposal_id).campaign_id
    if not text.strip():
        raise UserError("a finding needs words")
    if not (math.isfinite(confidence) and 0 <= confidence <= 1):
        raise UserError(f"a finding's confidence is between 0 and 1, not {confidence}")
    if not runs:
        raise UserError("a finding rests on runs; none were named")
    foreign = [run for run in runs if tx.run(run).campaign_id != campaign_id]
    if foreign:
        raise UserError(f"r{foreign[0]} is a run of another campaign than p{proposal_id}")
    values = {
        "campaign_id": campaign_id,
        "proposal_id": proposal_id,
        "conversation_id": conversation_id,
        "kind": kind,
        "text": text,
        "confidence": confidence,
        "runs": sorted(set(runs)),
        "created": now(),
    }
    return lesson(tx, statements.add(tx.connection, table, values))


def contradict(tx: Tx, lesson_id: int, by: int) -> Lesson:
    """Marks a finding as wrong, by a newer one."""
    if lesson(tx, by).id <= lesson(tx, lesson_id).id:
        raise UserError(f"l{by} is not newer than l{lesson_id}, and can't contradict it")
    statements.change(tx.connection, table, lesson_id, {"contradicted_by": by})
    return lesson(tx, lesson_id)


def _lesson(row: RowMapping) -> Lesson:
    return Lesson(
        id=row["id"],
        campaign_id=row["campaign_id"],
        proposal_id=row["proposal_id"],
        kind=row["kind"],
        text=row["text"],
        confidence=row["confidence"],
        runs=tuple(row["runs"]),
        contradicted_by=row["contradicted_by"],
        created=row["created"],
    )
