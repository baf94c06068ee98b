"""The commits of a campaign, so that any controller can have them: packs that hold what their parent lacks.

Takes a `Tx` or a connection and bytes that git made; gives them back in the order in which they were made.
"""

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import Connection, delete, func, insert, select

from agent.store.rows import now
from agent.store.schema import commits, tips
from agent.store.writes import Tx

_c = commits.c


class Commit(NamedTuple):
    sha: str
    parent: str
    ref: str  # that keeps it; empty: only the branch does
    pack: bytes


def keep(tx: Tx, campaign_id: int, commit: Commit) -> None:
    """Before its name stands in any other row."""
    here = _c.campaign_id == campaign_id
    if tx.connection.execute(select(_c.sha).where(here, _c.sha == commit.sha)).first() is not None:
        return
    number = tx.connection.execute(select(func.coalesce(func.max(_c.number), 0) + 1).where(here)).scalar_one()
    values = {**commit._asdict(), "campaign_id": campaign_id, "number": number}
    tx.connection.execute(insert(commits).values(values))


def names(connection: Connection, campaign_id: int) -> dict[str, str]:
    """All of them with their refs, oldest first."""
    query = select(_c.sha, _c.ref).where(_c.campaign_id == campaign_id).order_by(_c.number)
    return {row.sha: row.ref for row in connection.execute(query)}


def of(connection: Connection, campaign_id: int, shas: Collection[str]) -> list[Commit]:
    """Those of these names, oldest first; few at once, for they are held in memory."""
    query = select(_c.sha, _c.parent, _c.ref, _c.pack).where(_c.campaign_id == campaign_id, _c.sha.in_(list(shas)))
    return [Commit(*row) for row in connection.execute(query.order_by(_c.number))]


def tip(connection: Connection, campaign_id: int) -> str | None:
    """Where the campaign's branch was when it was last moved."""
    return connection.execute(select(tips.c.sha).where(tips.c.campaign_id == campaign_id)).scalar()


def set_tip(tx: Tx, campaign_id: int, sha: str) -> None:
    tx.connection.execute(delete(tips).where(tips.c.campaign_id == campaign_id))
    tx.connection.execute(insert(tips).values(campaign_id=campaign_id, sha=sha, since=now()))
