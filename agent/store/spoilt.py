"""Whether a proposal broke a rule, or was built on one that did: violations spread to all that comes after.

Takes `Reads` and a proposal; gives it in words.
"""

from sqlalchemy import or_, select

from agent.store.reads import Reads
from agent.store.schema import findings, measurements, proposals

_p, _m, _f = proposals.c, measurements.c, findings.c


def spoilt(reads: Reads, proposal_id: int) -> str:
    """By whom, the first of them, and by what; empty: nobody broke any."""
    tainted = select(_p.id).where(_p.id == proposal_id, _p.tainted == 1)
    if reads.connection.execute(tainted).first() is None:
        return ""
    columns = select(_p.id, _p.baseline_id, _p.source_id)
    above = columns.where(_p.id == proposal_id).cte("above", recursive=True)
    above = above.union(columns.where(or_(_p.id == above.c.baseline_id, _p.id == above.c.source_id)))
    query = select(_p.id, _p.reason).join(above, above.c.id == _p.id).where(_p.invalid == 1).order_by(_p.id).limit(1)
    first = reads.connection.execute(query).mappings().first()
    if first is None:
        return ""
    why = _why(reads, first["id"]) or first["reason"]
    return why if first["id"] == proposal_id else f"p{first['id']}, on which it was built, broke a rule: {why}"


def _why(reads: Reads, proposal_id: int) -> str:
    """What the newest judge found; empty: it was a verdict that found it invalid."""
    query = (
        select(_m.run_id, _f.rule, _f.text)
        .join(findings, _f.measurement_id == _m.id)
        .where(_m.proposal_id == proposal_id, _m.latest == 1, _f.severity == "invalid")
        .order_by(_m.run_id)
        .limit(1)
    )
    row = reads.connection.execute(query).mappings().first()
    return "" if row is None else f"r{row['run_id']}: {row['rule']}: {row['text']}"
