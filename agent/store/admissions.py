"""What machines showed before they were used, kept: by class, for those that come later, and by machine, for those that
come again.

Takes `Reads` or a `Tx`; gives `Shown`. No call grows with the table: of a class the newest are asked for.
"""

from typing import NamedTuple

from sqlalchemy import RowMapping, select

from agent.store import statements
from agent.store.reads import Reads
from agent.store.rows import now
from agent.store.schema import admissions
from agent.store.writes import Tx

REMEMBERED = 100  # machines of one class
SENT_BACK_S = 7 * 24 * 3600.0  # a machine that was sent back may have been mended after so long


class Shown(NamedTuple):
    lease: str
    machine_key: str
    hardware_class: str
    ok: bool
    reasons: tuple[str, ...]
    step_ms: float | None
    record: object  # JSON, as it was read
    created: str


def add(
    tx: Tx,
    campaign_id: int | None,
    *,
    lease: str,
    machine_key: str,
    hardware_class: str,
    reasons: tuple[str, ...],
    step_ms: float | None,
    record: object,
) -> int:
    """Taken where there is no reason against it."""
    values = {
        "campaign_id": campaign_id,
        "lease": lease,
        "machine_key": machine_key,
        "hardware_class": hardware_class,
        "ok": int(not reasons),
        "reasons": list(reasons),
        "step_ms": step_ms,
        "record": record,
        "created": now(),
    }
    return statements.add(tx.connection, admissions, values)


def of_class(reads: Reads, hardware_class: str, newest: int = REMEMBERED) -> list[Shown]:
    """Those that were taken, oldest first; of a machine that came several times, its last."""
    mine = (admissions.c.hardware_class == hardware_class) & (admissions.c.ok == 1)
    query = select(admissions).where(mine).order_by(admissions.c.id.desc()).limit(newest)
    found: dict[str, Shown] = {}
    for row in reads.connection.execute(query).mappings():
        found.setdefault(row["machine_key"], _shown(row))
    return list(found.values())[::-1]


def of_machine(reads: Reads, machine_key: str, since: str, newest: int = 20) -> list[Shown]:
    """What one machine came to, newest first. One that gives no name is never known again."""
    mine = (admissions.c.machine_key == machine_key) & (admissions.c.created >= since)
    query = select(admissions).where(mine).order_by(admissions.c.id.desc()).limit(newest if machine_key else 0)
    return [_shown(row) for row in reads.connection.execute(query).mappings()]


def _shown(row: RowMapping) -> Shown:
    shown = Shown(*(row[name] for name in Shown._fields))
    return shown._replace(ok=bool(shown.ok), reasons=tuple(shown.reasons))
