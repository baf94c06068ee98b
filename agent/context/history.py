"""What the store knows of a campaign's ideas, as a prompt tells it: few columns, bounded rows.

Takes `Reads`; gives frozen records. Lists that grow come oldest first, with the number of their first item, so that
what was said once can be said again at the same place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Join, RowMapping, ScalarSelect, Select, and_, func, not_, or_, select

from agent.records import Proposal, ProposalState
from agent.states import FINAL, TRANSITIONS
from agent.store import Reads
from agent.store.schema import campaigns, heads, lessons, measurements, proposals, runs, scores, trunk, verdicts
from agent.store.schema import reviews as reviewed

MOST = 600  # rows of one list
NEAR = 8
# Ideas that came to nothing, and why is known. Those given up for want of means may be had again.
FAILED: frozenset[ProposalState] = frozenset(
    {
        *("edit_failed", "duplicate", "blocked", "declined", "invalid"),
        *("oversize", "crashed", "worse", "inconclusive", "reverted"),
    }
)
# Measured, better, and not accepted: by chance, for want of bytes, runs or money.
SHELVED: tuple[ProposalState, ...] = ("inconclusive", "worse", "oversize", "unfunded")
_ON_THE_WAY = sorted(set(TRANSITIONS) - FINAL)
_p, _v, _w, _s, _l = proposals.c, verdicts.c, verdicts.alias("newest").c, scores.c, lessons.c


@dataclass(frozen=True)
class Head:
    name: str
    title: str
    bpb: float | None
    """Mean of its fresh runs."""
    runs: int
    total_bytes: int | None


@dataclass(frozen=True)
class Step:
    """One accepted commit."""

    name: str
    title: str
    kind: str
    gain: float | None
    """Over the step before, as its verdict had it."""
    stderr: float | None
    runs: int | None
    total_bytes: int | None


@dataclass(frozen=True)
class Tried:
    """An idea that was not kept."""

    name: str
    title: str
    state: str
    kind: str
    against: str
    gain: float | None
    stderr: float | None
    runs: int | None
    total_bytes: int | None
    reason: str
    at: str


@dataclass(frozen=True)
class Lesson:
    """What a verdict taught, in a model's words."""

    name: str
    about: str
    kind: str
    text: str
    confidence: float
    runs: tuple[str, ...]
    contradicted_by: str
    at: str


@dataclass(frozen=True)
class History:
    """Two lists, oldest first."""

    failed: tuple[Tried, ...]
    first_failed: int
    """How many came before the first."""
    lessons: tuple[Lesson, ...]
    first_lesson: int


@dataclass(frozen=True)
class Waiting:
    """An idea on its way."""

    name: str
    title: str
    state: str
    kind: str
    planner: str
    hypothesis: str
    gain: float | None
    """As measured so far."""


@dataclass(frozen=True)
class Review:
    about: str
    title: str
    action: str
    comment: str


def head_since(reads: Reads, campaign_id: int) -> str:
    query = select(heads.c.since).where(heads.c.campaign_id == campaign_id)
    return str(reads.connection.execute(query).scalar_one())


def head(reads: Reads, proposal: Proposal) -> Head:
    query = select(_s.bpb, _s.runs, _s.total_bytes).where(_s.proposal_id == proposal.id, _s.deciding == 1)
    row = reads.connection.execute(query).first()
    bpb, runs, size = tuple(row) if row else (None, 0, None)
    return Head(f"p{proposal.id}", proposal.title, bpb, runs, size)


def total_bytes(reads: Reads, proposal_id: int) -> int | None:
    query = select(func.max(_s.total_bytes)).where(_s.proposal_id == proposal_id, _s.deciding == 1)
    found: int | None = reads.connection.execute(query).scalar_one_or_none()
    return found


def lineage(reads: Reads, campaign_id: int) -> tuple[Step, ...]:
    """From the base to the head."""
    accepted = _last_verdict(_w.decision == "accept")
    query = (
        select(_p.id, _p.title, _p.kind, _v.gain, _v.stderr, _v.n_candidate, _s.total_bytes)
        .select_from(_with_scores(accepted).join(trunk, trunk.c.proposal_id == _p.id))
        .where(trunk.c.campaign_id == campaign_id)
        .order_by(trunk.c.step)
    )
    return tuple(
        Step(f"p{r['id']}", r["title"], r["kind"], r["gain"], r["stderr"], r["n_candidate"], r["total_bytes"])
        for r in _all(reads, query)
    )


def failures(reads: Reads, head: Proposal, since: str, *, region: bool) -> History:
    """What failed, and what was learnt: of the present head's `region`, or of what was before."""
    here = or_(_p.baseline_id == head.id, _p.updated >= since)
    which = and_(_p.campaign_id == head.campaign_id, _p.state.in_(sorted(FAILED)), here if region else not_(here))
    told = (_l.campaign_id == head.campaign_id) & ((_l.created >= since) if region else (_l.created < since))
    failed = _all(reads, _tried().where(which).order_by(_p.updated.desc(), _p.id.desc()).limit(MOST))
    taught = _all(reads, select(lessons).where(told).order_by(_l.id.desc()).limit(MOST))
    return History(
        failed=tuple(_one(row) for row in reversed(failed)),
        first_failed=_count(reads, select(func.count()).select_from(proposals).where(which)) - len(failed),
        lessons=tuple(_lesson(row) for row in reversed(taught)),
        first_lesson=_count(reads, select(func.count()).select_from(lessons).where(told)) - len(taught),
    )


def lessons_of(reads: Reads, campaign_id: int) -> tuple[Lesson, ...]:
    """The newest findings of a campaign, oldest first."""
    mine = _l.campaign_id == campaign_id
    found = _all(reads, select(lessons).where(mine).order_by(_l.id.desc()).limit(MOST))
    return tuple(_lesson(row) for row in reversed(found))


def near_misses(reads: Reads, head: Proposal) -> tuple[Tried, ...]:
    """Better than the present head, and not accepted; or than an older one, and not paid for. The best first."""
    mine = (_p.campaign_id == head.campaign_id) & or_(_p.baseline_id == head.id, _p.state == "unfunded")
    near = mine & (_p.gain > 0) & _p.state.in_(SHELVED)
    return tuple(_one(row) for row in _all(reads, _tried().where(near).order_by(_p.gain.desc(), _p.id).limit(NEAR)))


def in_flight(reads: Reads, campaign_id: int) -> tuple[Waiting, ...]:
    query = (
        select(_p.id, _p.title, _p.state, _p.kind, _p.planner, _p.hypothesis, _p.gain)
        .where(_p.campaign_id == campaign_id, _p.state.in_(_ON_THE_WAY))
        .order_by(_p.id.desc())
        .limit(MOST)
    )
    return tuple(
        Waiting(f"p{r['id']}", r["title"], r["state"], r["kind"], r["planner"], r["hypothesis"], r["gain"])
        for r in reversed(_all(reads, query))
    )


def reviews(reads: Reads, campaign_id: int) -> tuple[Review, ...]:
    """What people refused, and whatever they said, the newest last."""
    _r = reviewed.c
    query = (
        select(_p.id, _p.title, _r.action, _r.comment)
        .select_from(reviewed.join(proposals, _p.id == _r.proposal_id))
        .where(_r.campaign_id == campaign_id, or_(_r.action == "reject", _r.comment != ""))
        .order_by(_r.id.desc())
        .limit(MOST)
    )
    return tuple(Review(f"p{r['id']}", r["title"], r["action"], r["comment"]) for r in reversed(_all(reads, query)))


def sigma(reads: Reads, campaign_id: int) -> float | None:
    """Noise between seeds, as the newest verdict had it."""
    query = select(_v.sigma).where(_v.campaign_id == campaign_id, _v.sigma.is_not(None)).order_by(_v.id.desc()).limit(1)
    found: float | None = reads.connection.execute(query).scalar_one_or_none()
    return found


def run_s(reads: Reads, campaign_id: int) -> float | None:
    """What a run takes of a slot, on average, at the rung that decides."""
    query = (
        select(func.avg(measurements.c.slot_s))
        .join_from(measurements, runs, runs.c.id == measurements.c.run_id)
        .join(campaigns, campaigns.c.id == measurements.c.campaign_id)
        .where(measurements.c.campaign_id == campaign_id, runs.c.rung == campaigns.c.rung)
    )
    found: float | None = reads.connection.execute(query).scalar_one_or_none()
    return found


def _tried() -> Select[Any]:
    return (
        select(_p.id, _p.title, _p.state, _p.kind, _p.baseline_id, _p.gain, _p.reason, _p.updated)
        .add_columns(_v.stderr, _v.n_candidate, _s.total_bytes)
        .select_from(_with_scores(_last_verdict(_w.gain.is_not(None))))
    )


def _with_scores(verdict: ScalarSelect[Any]) -> Join:
    """Proposals, each with one of its verdicts and its score at the rung that decides, where it has them."""
    scored = and_(_s.proposal_id == _p.id, _s.deciding == 1)
    return proposals.outerjoin(verdicts, _v.id == verdict).outerjoin(scores, scored)


def _last_verdict(which: ColumnElement[bool]) -> ScalarSelect[Any]:
    """The newest such verdict of the row's proposal."""
    return select(func.max(_w.id)).where(_w.proposal_id == _p.id, which).correlate(proposals).scalar_subquery()


def _one(row: RowMapping) -> Tried:
    return Tried(
        name=f"p{row['id']}",
        title=row["title"],
        state=row["state"],
        kind=row["kind"],
        against=f"p{row['baseline_id']}",
        gain=row["gain"],
        stderr=row["stderr"],
        runs=row["n_candidate"],
        total_bytes=row["total_bytes"],
        reason=row["reason"],
        at=row["updated"],
    )


def _lesson(row: RowMapping) -> Lesson:
    return Lesson(
        name=f"l{row['id']}",
        about=f"p{row['proposal_id']}",
        kind=row["kind"],
        text=row["text"],
        confidence=row["confidence"],
        runs=tuple(f"r{run}" for run in row["runs"]),
        contradicted_by=f"l{row['contradicted_by']}" if row["contradicted_by"] is not None else "",
        at=row["created"],
    )


def _all(reads: Reads, query: Select[Any]) -> Sequence[RowMapping]:
    return reads.connection.execute(query).mappings().all()


def _count(reads: Reads, query: Select[Any]) -> int:
    return int(reads.connection.execute(query).scalar_one())
