"""Keeps the frontier: runs that lowered the best valid BPB of their campaign and board when measured.

`place` takes a measurement in where it belongs, `leave` takes one out and lets in those it had kept out. Each
touches the few rows between two steps of the frontier, never all runs.
"""

from sqlalchemy import Connection, RowMapping, bindparam, delete, select

from agent.store import statements
from agent.store.schema import frontier_runs, measurements, proposals

_f = frontier_runs.c
_m = measurements.c
_HERE = select(frontier_runs).where(_f.campaign_id == bindparam("campaign_id"), _f.board_id == bindparam("board_id"))
_BEFORE = _HERE.where(_f.measurement_id < bindparam("measurement_id")).order_by(_f.measurement_id.desc()).limit(1)
_AFTER = _HERE.where(_f.measurement_id > bindparam("measurement_id")).order_by(_f.measurement_id).limit(1)


def place(connection: Connection, measurement_id: int) -> None:
    """A run that may stand: enters if none before was as low; those after it that are no lower fall out."""
    run = _measurement(connection, measurement_id)
    before = _neighbour(connection, run, before=True)
    if before is not None and before["bpb"] <= run["bpb"]:
        return
    here = (_f.campaign_id == run["campaign_id"], _f.board_id == run["board_id"])
    no_lower = (_f.measurement_id >= run["id"], _f.bpb >= run["bpb"])
    connection.execute(delete(frontier_runs).where(*here, *no_lower))
    statements.add(connection, frontier_runs, _step(run))


def leave(connection: Connection, measurement_id: int) -> None:
    """A run that may not stand (any more)."""
    gone = connection.execute(select(frontier_runs).where(_f.measurement_id == measurement_id)).mappings().first()
    if gone is None:
        return
    connection.execute(delete(frontier_runs).where(_f.measurement_id == measurement_id))
    run = _measurement(connection, measurement_id)
    before, after = _neighbour(connection, run, before=True), _neighbour(connection, run, before=False)
    query = (
        select(measurements)
        .join(proposals, proposals.c.id == _m.proposal_id)
        .where(
            _m.campaign_id == run["campaign_id"],
            _m.board_id == run["board_id"],
            _m.counts == 1,
            _m.bpb >= gone["bpb"],
            _m.id > measurement_id,
            proposals.c.tainted == 0,
        )
        .order_by(_m.id)
    )
    if before is not None:
        query = query.where(_m.bpb < before["bpb"])
    if after is not None:
        query = query.where(_m.id < after["measurement_id"])
    best = before["bpb"] if before is not None else float("inf")
    for one in list(connection.execute(query).mappings()):
        if one["bpb"] < best:
            best = one["bpb"]
            statements.add(connection, frontier_runs, _step(one))


def _neighbour(connection: Connection, run: RowMapping, *, before: bool) -> RowMapping | None:
    """The step of the frontier just before or after this measurement, in the order of measuring."""
    where = {"campaign_id": run["campaign_id"], "board_id": run["board_id"], "measurement_id": run["id"]}
    return connection.execute(_BEFORE if before else _AFTER, where).mappings().first()


def _measurement(connection: Connection, measurement_id: int) -> RowMapping:
    found = statements.row(connection, measurements, measurement_id)
    assert found is not None
    return found


def _step(run: RowMapping) -> dict[str, object]:
    columns = ("campaign_id", "board_id", "run_id", "proposal_id", "bpb", "total_bytes")
    return {"measurement_id": run["id"], **{column: run[column] for column in columns}}
