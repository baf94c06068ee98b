"""Decides over a machine by what its spot check printed, and remembers both.

Takes the store, that text, what is wanted and the lease; gives an `Admission`. Whoever rented the machine returns it
where the answer is no.
"""

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from agent.admission.judgement import AGAIN, Admission, Class, Wanted, admit, hardware_class, slowest_link, step_ms
from agent.admission.seen import Record, read
from agent.store import Reads, Store, admissions
from agent.store.rows import iso

MOST_KEPT = 2000  # characters of what is no record


def decide(store: Store, text: str, want: Wanted, *, lease: str, campaign_id: int | None = None) -> Admission:
    """Text that is no record is a machine that is refused."""
    try:
        record = read(text)
    except ValueError as error:
        refused = Admission(False, (f"what it showed of itself can't be read: {str(error)[:300]}",), "")
        _remember(store, text, None, refused, lease, campaign_id)
        return refused
    with store.read() as reads:
        decided = admit(record, want, known(reads, hardware_class(record, want)), _sent_back(reads, record))
    _remember(store, text, record, decided, lease, campaign_id)
    return decided


def known(reads: Reads, name: str) -> Class:
    """What the machines of a class showed that were taken. They were read strictly once, and are again."""
    shown = [record for one in admissions.of_class(reads, name) if (record := _record(one.record)) is not None]
    links = [slowest for record in shown if (slowest := slowest_link(record)) is not None]
    return Class(
        tuple(step_ms(record.step) for record in shown if record.step is not None),
        tuple(links),
        tuple(record.data.mb_s for record in shown if record.data is not None and record.data.mb_s is not None),
        next((record.environment for record in reversed(shown) if record.environment is not None), None),
        tuple(
            record.disk.read_mb_s for record in shown if record.disk is not None and record.disk.read_mb_s is not None
        ),
    )


def _record(kept: object) -> Record | None:
    """None: of an older version, which says nothing here."""
    try:
        return read(json.dumps(kept))
    except ValueError:
        return None


def _sent_back(reads: Reads, record: Record) -> str:
    """Why, at first hand: that it came again and was known adds nothing."""
    if record.host is None:
        return ""
    since = iso(datetime.now(UTC) - timedelta(seconds=admissions.SENT_BACK_S))
    for shown in admissions.of_machine(reads, record.host.machine, since):
        own = [reason for reason in shown.reasons if not reason.startswith(AGAIN)]
        if shown.ok or own:
            return "; ".join(own)[:300]
    return ""


def _remember(store: Store, text: str, record: Record | None, decided: Admission, lease: str, of: int | None) -> None:
    known_by = record.host.machine if record is not None and record.host is not None else ""
    with store.write() as tx:
        admissions.add(
            tx,
            of,
            lease=lease,
            machine_key=known_by,
            hardware_class=decided.hardware_class,
            reasons=decided.reasons,
            step_ms=None if record is None or record.step is None else step_ms(record.step),
            record={"unreadable": text[:MOST_KEPT]} if record is None else asdict(record),
        )
