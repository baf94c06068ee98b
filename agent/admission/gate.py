"""Decides over a machine by what its spot check printed, and remembers both.

Takes the store, that text, what is wanted and the lease; gives an `Admission`. Whoever rented the machine returns it
where the answer is no.
"""

import json
from collections.abc import Collection
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from agent.admission.judgement import (
    AGAIN,
    OF_SETTINGS,
    Admission,
    Class,
    Wanted,
    admit,
    hardware_class,
    slowest_link,
    step_ms,
)
from agent.admission.seen import Record, read
from agent.store import Reads, Store, admissions
from agent.store.rows import iso

MOST_KEPT = 2000  # characters of what is no record


def decide(
    store: Store,
    text: str,
    want: Wanted,
    *,
    lease: str,
    campaign_id: int | None = None,
    alike: Collection[str] = (),
) -> Admission:
    """Text that is no record is a machine that is refused. `alike`: leases of machines that were made of the same, so
    that the same is installed there."""
    try:
        record = read(text)
    except ValueError as error:
        refused = Admission(False, (f"what it showed of itself can't be read: {str(error)[:300]}",), "")
        _remember(store, text, None, refused, lease, campaign_id)
        return refused
    with store.read() as reads:
        decided = admit(record, want, known(reads, hardware_class(record, want), alike), _sent_back(reads, record))
    _remember(store, text, record, decided, lease, campaign_id)
    return decided


def known(reads: Reads, name: str, alike: Collection[str] = ()) -> Class:
    """What the machines of a class showed that were taken. They were read strictly once, and are again."""
    read = [(one.lease, _record(one.record)) for one in admissions.of_class(reads, name)]
    shown = [record for _, record in read if record is not None]
    links = [slowest for record in shown if (slowest := slowest_link(record)) is not None]
    return Class(
        tuple(step_ms(record.step) for record in shown if record.step is not None),
        tuple(links),
        tuple(record.data.mb_s for record in shown if record.data is not None and record.data.mb_s is not None),
        next((one.environment for lease, one in reversed(read) if lease in alike and one and one.environment), None),
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
    """Why, at first hand: that it came again and was known adds nothing, nor does what other settings do away with."""
    if record.host is None:
        return ""
    since = iso(datetime.now(UTC) - timedelta(seconds=admissions.SENT_BACK_S))
    for shown in admissions.of_machine(reads, record.host.machine, since):
        own = [reason for reason in shown.reasons if not reason.startswith((AGAIN, *OF_SETTINGS))]
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
