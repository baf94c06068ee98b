"""Keeps the frontier: runs that lowered the best valid BPB of their campaign and board when measured.

`place` takes a measurement in where it belongs, `leave` takes one out and lets in those it had kept out. Each
touches the few rows between two steps of the frontier, never all runs.
"""

from sqlalchemy import Connection, RowMapping, delete, insert, select

from agent.store.schema import frontier_runs, measurements, proposals

_f = frontier_runs.c
_m = measurements.c


def place(connection: Connection, measurement_id: int) -> None:
    """A run that may stand: enters if none before was as low; those after it that are no lower fall out."""
    if connection.execute(select(_f.run_id).where(_f.measurement_id == measurement_id)).first() is not None:
        return
    run = connection.execute(select(measurements).where(_m.id == measurement_id)).mappings().one()
    before = _neighbour(connection, run, before=True)
    if before is not None and before["bpb"] <= run["bpb"]:
        return
    here = (_f.campaign_id == run["campaign_id"], _f.board_id == run["board_id"])
    connection.execute(
        delete(frontier_runs).where(*here, _f.measurement_id >= run["id"], _f.bpb >= run["bpb"])
    )
    connection.execute(insert(frontier_runs).values(_step(run)))


def leave(connection: Connection, measurement_id: int) -> None:
    """A run that may not stand (any more)."""
    gone = (
        connection.execute(select(frontier_runs).where(_f.measurement_id == measurement_id))
        .mappings()
        .first()
    )
    if gone is None:
        return
    connection.execute(delete(frontier_runs).where(_f.measurement_id == measurement_id))
    run = connection.execute(select(measurements).where(_m.id == measurement_id)).mappings().one()
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
            connection.execute(insert(frontier_runs).values(_step(one)))


def _neighbour(connection: Connection, run: RowMapping, *, before: bool) -> RowMapping | None:
    """The step of the frontier just before or after this measurement, in the order of measuring."""
    query = select(frontier_runs).where(_f.campaign_id == run["campaign_id"], _f.board_id == run["board_id"])
    if before:
        query = query.where(_f.measurement_id < run["id"]).order_by(_f.measurement_id.desc())
    else:
        query = query.where(_f.measurement_id > run["id"]).order_by(_f.measurement_id)
    return connection.execute(query.limit(1)).mappings().first()


def _step(run: RowMapping) -> dict[str, object]:
    columns = ("campaign_id", "board_id", "run_id", "proposal_id", "bpb", "total_bytes")
    return {"measurement_id": run["id"], **{column: run[column] for column in columns}}
