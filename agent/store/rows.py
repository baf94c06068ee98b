"""Rows to records and back: the only place that knows both.

Takes SQLAlchemy rows; gives the frozen records of agent/records.py and a few that only the store gives.
"""

import sys
import zlib
from array import array
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal, NamedTuple

from sqlalchemy import RowMapping

from agent.records import (
    Amount,
    Audited,
    Campaign,
    Caps,
    Event,
    Finding,
    Kind,
    Measurement,
    Mode,
    Proposal,
    ProposalState,
    Run,
    Verdict,
)

ReviewAction = Literal["approve", "edit", "reject", "stop"]
Request = Literal["", "drain", "cancel"]


@dataclass(frozen=True)
class Scored:
    """A run that is done, and what was measured of it."""

    run: Run
    measurement: Measurement


@dataclass(frozen=True)
class ReviewNote:
    """What a person answered to a proposal."""

    id: int
    proposal_id: int
    action: ReviewAction
    who: str
    comment: str
    created: str


class Replicate(NamedTuple):
    """One scored run at the deciding rung: what the noise model is made of."""

    proposal_id: int
    baseline_id: int | None  # which test it belongs to; None for a head's own report runs
    seed: int
    bpb: float
    lease: str = ""


class Pulse(NamedTuple):
    """Whether somebody else has something for a controller."""

    request: Request
    newest_event: int


class Times(NamedTuple):
    """What a run took, in seconds."""

    train_wall_s: float | None
    score_wall_s: float | None
    slot_s: float


class Spent(NamedTuple):
    """What a run's training took of its slot's processor, in seconds."""

    slot: str | None
    train_cpu_s: float


@dataclass(frozen=True)
class TrialRow:
    """What a planner learns from one proposal."""

    proposal_id: int
    state: ProposalState
    knobs: dict[str, str | int | float]
    gain: float | None  # of its last verdict, over its own baseline
    bpb: float | None  # mean over its runs at the deciding rung
    total_bytes: int | None  # the largest of them
    baseline_id: int | None
    runs: int  # how many runs `bpb` is the mean of
    mode: Mode
    source_id: int | None
    planner: str
    kind: Kind
    expected_gain: float
    confidence: float


def now() -> str:
    return iso(datetime.now(UTC))


def iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def amount(row: RowMapping, prefix: str) -> Amount:
    return Amount(
        gpu_s=row[f"{prefix}_gpu_s"],
        usd=row[f"{prefix}_usd"],
        llm_usd=row[f"{prefix}_llm_usd"],
        llm_tokens=row[f"{prefix}_llm_tokens"],
        llm_calls=row[f"{prefix}_llm_calls"],
    )


def amount_columns(value: Amount, prefix: str) -> dict[str, float | int]:
    return {f"{prefix}_{name}": getattr(value, name) for name in _columns(Amount, ())}


def caps(row: RowMapping) -> Caps:
    return Caps(**{field.name: row[f"cap_{field.name}"] for field in fields(Caps)})


def campaign(row: RowMapping) -> Campaign:
    return Campaign(**_same(Campaign, row, "caps", "unsafe"), caps=caps(row), unsafe=bool(row["unsafe"]))


def proposal(row: RowMapping) -> Proposal:
    values = _same(Proposal, row, "commit", "risk", "evidence")
    return Proposal(**values, commit=row["commit_sha"], risk=tuple(row["risk"]), evidence=tuple(row["evidence"]))


def run(row: RowMapping) -> Run:
    return Run(**_same(Run, row, "walls"), walls=tuple(row["walls"]))


def event(row: RowMapping) -> Event:
    return Event(**_same(Event, row))


def verdict(row: RowMapping) -> Verdict:
    return Verdict(**_same(Verdict, row))


def review(row: RowMapping) -> ReviewNote:
    return ReviewNote(**_same(ReviewNote, row))


# Of a measurement, what has tables of its own.
APART = ("doc_nats", "hidden_nats", "findings", "audit")


def measurement(
    row: RowMapping,
    found: tuple[Finding, ...],
    nats: bytes | None,
    hidden: bytes | None,
    audit: RowMapping | None = None,
) -> Measurement:
    values = _same(Measurement, row, *APART)
    documents, others = (unpack(blob) if blob is not None else () for blob in (nats, hidden))
    audited = Audited(**_same(Audited, audit)) if audit is not None else None
    return Measurement(**values, findings=found, doc_nats=documents, hidden_nats=others, audit=audited)


def _same(record: type[Any], row: RowMapping, *but: str) -> dict[str, Any]:
    """Columns named like the record's fields; `but` are filled in by the caller."""
    return {name: row[name] for name in _columns(record, but)}  # type: ignore[arg-type]


@cache
def _columns(record: type[Any], but: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(record) if field.name not in but)


def pack(nats: tuple[float, ...]) -> bytes:
    """Float32 is a hundred times finer than any difference between documents that matters."""
    values = array("f", nats)
    if sys.byteorder == "big":
        values.byteswap()
    return zlib.compress(values.tobytes())


def unpack(blob: bytes) -> tuple[float, ...]:
    values = array("f")
    values.frombytes(zlib.decompress(blob))
    if sys.byteorder == "big":
        values.byteswap()
    return tuple(values)
