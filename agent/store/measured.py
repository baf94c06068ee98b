"""Writes down a measurement, its findings and its board (the class of scores it may be compared with).

Takes a connection, the run and what the judge measured; used by `Tx.add_measurement`.
"""

from typing import get_args

from sqlalchemy import Connection, bindparam, select

from agent.records import Campaign, Measurement, Run, Trust
from agent.store import checks, rows, statements
from agent.store.schema import audits, boards, doc_nats, findings, measurements

# Findings that bar a run without being a breach of rules: nothing built on it is touched.
NO_BREACH = frozenset({"oversize"})

_CLASS = ("track", "track_sha", "data_sha", "rung", "hardware_class", "judge_version", "trust")
_BOARD = select(boards.c.id).where(*(boards.c[name] == bindparam(name) for name in _CLASS))
_LATEST = select(measurements.c.id).where(measurements.c.run_id == bindparam("run_id"), measurements.c.latest == 1)


def latest(connection: Connection, run_id: int) -> int | None:
    """The measurement of a run that counts."""
    return connection.execute(_LATEST, {"run_id": run_id}).scalar_one_or_none()


def add(connection: Connection, campaign: Campaign, run: Run, measured: Measurement) -> None:
    checks.finite(measured)
    if measured.audit is not None:
        checks.finite(measured.audit)
    checks.one_of("trust", measured.trust, get_args(Trust))
    older = latest(connection, run.id)
    if older is not None:
        row = statements.row(connection, measurements, older)
        if row is not None and row["judge_version"] >= measured.judge_version:
            raise ValueError(f"r{run.id} was measured by judge version {row['judge_version']} already")
        statements.change(connection, measurements, older, {"latest": 0})
    faults = [one for one in measured.findings if one.severity == "invalid"]
    values: dict[str, object] = {
        **{name: value for name, value in vars(measured).items() if name not in rows.APART},
        "campaign_id": run.campaign_id,
        "proposal_id": run.proposal_id,
        "board_id": _board(connection, campaign, run, measured),
        "created": rows.now(),
        "latest": 1,
        "faults": len(faults),
        "violations": sum(one.rule not in NO_BREACH for one in faults),
    }
    measurement_id = statements.add(connection, measurements, values)
    for one in measured.findings:
        keys = {"measurement_id": measurement_id, "run_id": run.id}
        statements.add(connection, findings, {**keys, **vars(one)})
    if measured.audit is not None:
        statements.add(connection, audits, {"measurement_id": measurement_id, "run_id": run.id, **vars(measured.audit)})
    if measured.doc_nats:
        blob = {"documents": len(measured.doc_nats), "nats": rows.pack(measured.doc_nats)}
        blob["hidden"] = rows.pack(measured.hidden_nats) if measured.hidden_nats else None
        statements.add(connection, doc_nats, {"measurement_id": measurement_id, **blob})


def _board(connection: Connection, campaign: Campaign, run: Run, measured: Measurement) -> int:
    values: dict[str, object] = {
        "track": campaign.track,
        "track_sha": campaign.track_sha,
        "data_sha": measured.data_sha,
        "rung": run.rung,
        "hardware_class": run.hardware_class,
        "judge_version": measured.judge_version,
        "trust": measured.trust,
    }
    found = connection.execute(_BOARD, values).scalar_one_or_none()
    if found is not None:
        return int(found)
    parts = (campaign.track, run.rung, run.hardware_class, measured.trust, f"judge {measured.judge_version}")
    return statements.add(connection, boards, {**values, "title": " · ".join(parts)})
