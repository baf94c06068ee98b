"""Keeps what the views read up to date: who broke a rule, mean scores, the frontier.

`refresh(connection, proposal_id)` derives all of it anew from the proposal's own few runs, in the transaction
that changed one of them. Rule violations spread to every descendant, by baseline and by source; being
oversize, unsafe or crashed does not. Whatever the order of calls, the result is that of the definitions.
"""

from typing import NamedTuple, get_args

from sqlalchemy import BindParameter, Connection, RowMapping, bindparam, delete, select, text, update

from agent.records import Trust
from agent.store import statements
from agent.store.frontier import leave, place
from agent.store.schema import (
    campaigns,
    measurements,
    proposals,
    runs,
    scores,
    trunk,
    verdicts,
)

_TRUST: tuple[str, ...] = get_args(Trust)  # from least to most

_DESCENDANTS = """
WITH RECURSIVE below(id) AS (
    SELECT id FROM proposals WHERE id = :proposal_id
    UNION
    SELECT p.id FROM below b JOIN proposals p ON p.baseline_id = b.id OR p.source_id = b.id)
SELECT id FROM below"""


_p, _m, _r = proposals.c, measurements.c, runs.c
_THIS: BindParameter[int] = bindparam("proposal_id")
_PROPOSAL = select(_p.id, _p.campaign_id, _p.state, _p.baseline_id, _p.source_id, _p.invalid, _p.tainted).where(
    _p.id == _THIS
)
_CAMPAIGN = select(campaigns.c.trust, campaigns.c.rung, campaigns.c.artifact_limit).where(
    campaigns.c.id == bindparam("campaign_id")
)
_MEASURED = (
    select(_m.id, _m.board_id, _m.bpb, _m.total_bytes, _m.trust, _m.latest, _m.faults, _m.violations, _m.counts)
    .add_columns(_r.state, _r.outcome, _r.walls, _r.rung, _r.purpose, _r.script_sha, _r.set_aside)
    .join(runs, _r.id == _m.run_id)
    .where(_m.proposal_id == _THIS)
    .order_by(_m.id)
)
_CONDEMNED = select(verdicts.c.id).where(verdicts.c.proposal_id == _THIS, verdicts.c.decision == "invalid").limit(1)
_INHERITS = select(_p.id).where(_p.id.in_([bindparam("baseline_id"), bindparam("source_id")]), _p.tainted == 1)
_NO_SCORES = delete(scores).where(scores.c.proposal_id == bindparam("proposal_key"))


class _Run(NamedTuple):
    """One measured run of the proposal, as far as its standing goes."""

    measurement_id: int
    board_id: int
    deciding: bool
    scored: bool
    counts: bool
    bpb: float
    total_bytes: int | None
    unsafe: bool
    trusted: bool
    report: bool
    script_sha: str


def refresh(connection: Connection, proposal_id: int, *, placed: bool = True) -> None:
    """Everything that is derived from this proposal's runs, findings, verdicts, state and parents.

    `placed`: the frontier knows of its runs that stood so far.
    """
    found = connection.execute(_PROPOSAL, {"proposal_id": proposal_id}).mappings().one()
    campaign = connection.execute(_CAMPAIGN, {"campaign_id": found["campaign_id"]}).mappings().one()
    measured = _measured(connection, proposal_id)
    mine = [_run(row, campaign) for row in measured]
    for row, one in zip(measured, mine, strict=True):
        if row["counts"] != int(one.counts):
            statements.change(connection, measurements, row["id"], {"counts": int(one.counts)})
    invalid = found["state"] == "invalid" or any(row["latest"] and row["violations"] for row in measured)
    invalid = invalid or _condemned(connection, proposal_id)
    tainted = invalid or _inherits(connection, found)
    if (found["invalid"], found["tainted"]) != (int(invalid), int(tainted)):
        values = {"invalid": int(invalid), "tainted": int(tainted)}
        statements.change(connection, proposals, proposal_id, values)
    _score(connection, found, invalid, tainted, campaign, mine)
    for row, one in zip(measured, mine, strict=True):
        stood = placed and row["counts"] and not found["tainted"]
        stands = one.counts and not tainted
        if stands and not stood:
            place(connection, one.measurement_id)
        elif stood and not stands:
            leave(connection, one.measurement_id)
    if tainted and not found["tainted"]:
        _spread(connection, proposal_id)
    elif found["tainted"] and not tainted:
        _clear(connection, proposal_id)


def promote(connection: Connection, proposal_id: int, promoted: bool) -> None:
    connection.execute(update(scores).where(scores.c.proposal_id == proposal_id).values(promoted=int(promoted)))


def grow(connection: Connection, campaign_id: int, head_id: int) -> None:
    """The trunk ends at this head: walks down to where the old and the new chain meet."""
    here, chain, one, meets = trunk.c.campaign_id == campaign_id, list[int](), head_id, -1
    while True:
        step = select(trunk.c.step).where(here, trunk.c.proposal_id == one)
        known = connection.execute(step).scalar_one_or_none()
        if known is not None:
            meets = known
            break
        chain.append(one)
        below = connection.execute(_PROPOSAL, {"proposal_id": one}).mappings().one()["baseline_id"]
        if below is None:
            break
        one = below
    connection.execute(delete(trunk).where(here, trunk.c.step > meets))
    for step_number, proposal_id in enumerate(reversed(chain), meets + 1):
        values = {"campaign_id": campaign_id, "step": step_number, "proposal_id": proposal_id}
        statements.add(connection, trunk, values)


def _measured(connection: Connection, proposal_id: int) -> list[RowMapping]:
    return list(connection.execute(_MEASURED, {"proposal_id": proposal_id}).mappings())


def _run(row: RowMapping, campaign: RowMapping) -> _Run:
    scored = row["latest"] == 1 and row["state"] == "done" and row["outcome"] == "ok" and row["bpb"] is not None
    scored = scored and row["set_aside"] == ""
    limit, total = campaign["artifact_limit"], row["total_bytes"]
    fits = limit is None or (total is not None and total <= limit)
    unsafe = "unsafe" in row["walls"]
    trusted = _TRUST.index(row["trust"]) >= _TRUST.index(campaign["trust"])
    return _Run(
        measurement_id=row["id"],
        board_id=row["board_id"],
        deciding=row["rung"] == campaign["rung"],
        scored=scored,
        counts=scored and fits and not unsafe and trusted and row["faults"] == 0,
        bpb=row["bpb"] if scored else 0.0,
        total_bytes=total,
        unsafe=unsafe,
        trusted=trusted,
        report=row["purpose"] == "report",
        script_sha=row["script_sha"],
    )


def _condemned(connection: Connection, proposal_id: int) -> bool:
    return connection.execute(_CONDEMNED, {"proposal_id": proposal_id}).first() is not None


def _inherits(connection: Connection, found: RowMapping) -> bool:
    parents = {"baseline_id": found["baseline_id"], "source_id": found["source_id"]}
    return connection.execute(_INHERITS, parents).first() is not None


def _score(
    connection: Connection,
    found: RowMapping,
    invalid: bool,
    tainted: bool,
    campaign: RowMapping,
    mine: list[_Run],
) -> None:
    """One row a board, derived from the runs of the proposal's newest script there."""
    connection.execute(_NO_SCORES, {"proposal_key": found["id"]})
    by_board: dict[int, list[_Run]] = {}
    for one in mine:
        if one.scored:
            by_board.setdefault(one.board_id, []).append(one)
    deciding = [one.board_id for one in mine if one.scored and one.deciding]
    for board_id, everyone in by_board.items():
        group = [one for one in everyone if one.script_sha == everyone[-1].script_sha]
        shown = [one for one in group if one.report] or group
        sizes = [one.total_bytes for one in group if one.total_bytes is not None]
        values = {
            "campaign_id": found["campaign_id"],
            "proposal_id": found["id"],
            "board_id": board_id,
            "bpb": sum(one.bpb for one in shown) / len(shown),
            "runs": len(shown),
            "mean_bpb": sum(one.bpb for one in group) / len(group),
            "all_runs": len(group),
            "best_bpb": min(one.bpb for one in group),
            "total_bytes": max(sizes, default=None),
            "deciding": int(bool(deciding) and board_id == deciding[-1]),
            "promoted": int(found["state"] == "promoted"),
            "barred": _barred(invalid, tainted, campaign["artifact_limit"], group, max(sizes, default=None)),
        }
        statements.add(connection, scores, values)


def _barred(invalid: bool, tainted: bool, limit: int | None, group: list[_Run], size: int | None) -> str:
    if invalid:
        return "invalid"
    if tainted:
        return "ancestor"
    if any(one.unsafe for one in group):
        return "unsafe"
    if limit is not None and (size is None or size > limit):
        return "oversize"
    if not all(one.trusted for one in group):
        return "trust"
    return ""


def _spread(connection: Connection, proposal_id: int) -> None:
    """Marks every descendant, in bulk: there may be many, and the writer's lock is held."""
    me = {"proposal_id": proposal_id}
    below = f"({_DESCENDANTS.strip()})"
    connection.execute(text(f"UPDATE proposals SET tainted = 1 WHERE tainted = 0 AND id IN {below}"), me)
    others = f"barred <> 'invalid' AND proposal_id <> :proposal_id AND proposal_id IN {below}"
    connection.execute(text(f"UPDATE scores SET barred = 'ancestor' WHERE {others}"), me)
    query = f"SELECT measurement_id FROM frontier_runs WHERE proposal_id IN {below} ORDER BY measurement_id"
    for measurement_id in list(connection.execute(text(query), me).scalars()):
        leave(connection, measurement_id)


def _clear(connection: Connection, proposal_id: int) -> None:
    """A newer judge found nothing wrong: takes the mark from descendants that have it from nowhere else."""
    ids = [int(one) for one in connection.execute(text(_DESCENDANTS), {"proposal_id": proposal_id}).scalars()]
    below = [one for one in ids if one != proposal_id]
    for start in range(0, len(below), 500):
        some = below[start : start + 500]
        clean = update(proposals).where(proposals.c.id.in_(some), proposals.c.invalid == 0).values(tainted=0)
        connection.execute(clean)
    for one in below:
        refresh(connection, one, placed=False)
