"""What an idea was accepted by, scored once more on a machine that did not train it; or why it was not.

Takes `Reads` or a `Tx`; gives `Rescore`. A score that did not come to the same leaves a finding with the first one.
"""

from typing import NamedTuple

from sqlalchemy import select

from agent.records import Run
from agent.store import measured, statements
from agent.store.reads import Reads
from agent.store.rows import now
from agent.store.schema import findings, rescores
from agent.store.writes import Tx

RULE = "scored_differently"


class Rescore(NamedTuple):
    run_id: int
    by_run_id: int | None
    """None: it was not scored again; `words` say why."""
    trained_on: str
    scored_on: str
    bpb: float | None
    apart_nats: float | None
    """A token, from the first score."""
    allowed_nats: float | None
    agrees: bool | None
    words: str


def of_run(reads: Reads, run_id: int) -> Rescore | None:
    query = select(rescores).where(rescores.c.run_id == run_id)
    row = reads.connection.execute(query).mappings().first()
    if row is None:
        return None
    found = Rescore(*(row[name] for name in Rescore._fields))
    return found._replace(agrees=None if found.agrees is None else bool(found.agrees))


def add(tx: Tx, run: Run, found: Rescore) -> None:
    """Once a run; `run` is the one whose artifact it is."""
    values = found._replace(agrees=None)._asdict()
    keys = {"campaign_id": run.campaign_id, "proposal_id": run.proposal_id, "created": now()}
    agrees = None if found.agrees is None else int(found.agrees)
    statements.add(tx.connection, rescores, {**values, **keys, "agrees": agrees})
    measurement_id = measured.latest(tx.connection, run.id)
    if found.agrees is False and measurement_id is not None:
        said = {"measurement_id": measurement_id, "run_id": run.id, "rule": RULE, "severity": "flag"}
        statements.add(tx.connection, findings, {**said, "text": found.words})
