"""What the plots show, read from the store: dots, the accepted envelope, heads, spending.

Takes the store's rows; gives frozen records. `picture` reads them all; the plots and the terminal draw them.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import select

from agent.records import Event, Proposal
from agent.report.figures import counted
from agent.store import Reads, Scored
from agent.store.schema import ledger
from agent.track import parse

Standing = Literal["head", "valid", "oversize", "invalid"]
PAGE = 5000


@dataclass(frozen=True)
class Dot:
    """One run that has a score."""

    run_id: int
    proposal_id: int
    n: int  # which finished run of the campaign it was, from 1
    bpb: float
    total_bytes: int | None
    standing: Standing


@dataclass(frozen=True)
class Blank:
    """One run that ended without a score: it was stopped, crashed, or left nothing to score."""

    run_id: int
    n: int


@dataclass(frozen=True)
class Step:
    """From its run on, this proposal was the head."""

    n: int
    proposal_id: int
    bpb: float
    reverted: bool  # the one before it was taken back


@dataclass(frozen=True)
class Node:
    """One proposal of the tree, with the mean of its runs."""

    proposal_id: int
    baseline_id: int | None
    title: str
    state: str
    bpb: float
    total_bytes: int | None


@dataclass(frozen=True)
class Spent:
    """How much had been settled, and when."""

    hours: float  # since the first
    slot_hours: float


@dataclass(frozen=True)
class Picture:
    campaign: str
    track: str
    limit: int | None
    runs: int  # finished ones, with a score or without
    dots: tuple[Dot, ...]
    steps: tuple[Step, ...]
    nodes: tuple[Node, ...]
    lineage: tuple[int, ...]  # proposals from the base to the head
    spent: tuple[Spent, ...]
    reserved_hours: float
    cap_hours: float | None
    blanks: tuple[Blank, ...] = ()


def picture(reads: Reads, campaign_id: int) -> Picture:
    campaign = reads.campaign_by_id(campaign_id)
    balance = reads.balance(campaign_id)
    track = parse(campaign.track_toml, f"track of {campaign.name}")
    limit, rung = track.limits.artifact_bytes, track.decision.rung
    proposals = {one.id: one for one in reads.proposals(campaign_id)}
    # Scores of other rungs can't be shown beside these.
    ended = [s for s in reads.scored(campaign_id, documents=False) if s.run.rung == rung]
    scored = [s for s in ended if s.measurement.bpb is not None]
    events = _events(reads, campaign_id)
    order, figures = _order(events), _figures(scored, rung)
    return Picture(
        campaign=campaign.name,
        track=campaign.track,
        limit=limit,
        runs=len(order),
        dots=tuple(_dot(one, proposals[one.run.proposal_id], order, limit) for one in scored),
        steps=tuple(_steps(events, proposals, figures)),
        nodes=tuple(_nodes(proposals, scored, figures)),
        lineage=tuple(one.id for one in reads.lineage(reads.head(campaign_id).id)),
        spent=tuple(_spent(reads, campaign_id)),
        reserved_hours=balance.reserved.gpu_s / 3600,
        cap_hours=None if balance.caps.gpu_s is None else balance.caps.gpu_s / 3600,
        blanks=tuple(Blank(s.run.id, order[s.run.id]) for s in ended if s.measurement.bpb is None),
    )


def _events(reads: Reads, campaign_id: int) -> list[Event]:
    found: list[Event] = []
    while page := reads.events(campaign_id, after=found[-1].id if found else 0, limit=PAGE):
        found += page
    return found


def _order(events: Sequence[Event]) -> dict[int, int]:
    """Runs by when they finished."""
    order: dict[int, int] = {}
    for event in events:
        if event.what == "done" and event.run_id is not None:
            order.setdefault(event.run_id, len(order) + 1)
    return order


def _dot(one: Scored, proposal: Proposal, order: dict[int, int], limit: int | None) -> Dot:
    found = one.measurement
    assert found.bpb is not None
    return Dot(
        run_id=one.run.id,
        proposal_id=proposal.id,
        n=order.get(one.run.id, len(order)),
        bpb=found.bpb,
        total_bytes=found.total_bytes,
        standing=_standing(one, proposal, limit),
    )


def _standing(one: Scored, proposal: Proposal, limit: int | None) -> Standing:
    if proposal.state == "invalid" or any(f.severity == "invalid" for f in one.measurement.findings):
        return "invalid"
    if limit is not None and (one.measurement.total_bytes or 0) > limit:
        return "oversize"
    return "head" if proposal.state == "promoted" else "valid"


def _figures(scored: Sequence[Scored], rung: str) -> dict[int, float]:
    return {
        idea: statistics.fmean(one.measurement.bpb or 0.0 for one in runs)
        for idea, runs in counted(scored, rung).items()
    }


def _steps(events: Sequence[Event], proposals: dict[int, Proposal], figures: dict[int, float]) -> list[Step]:
    """The envelope: what had been accepted after each run, back down when a head was reverted."""
    steps: list[Step] = []
    done = 0
    for event in events:
        if event.what == "done":
            done += 1
        proposal = proposals.get(event.proposal_id or 0)
        if proposal is None or event.what not in ("promoted", "reverted"):
            continue
        head = proposal.id if event.what == "promoted" else proposal.baseline_id
        if head is not None and head in figures:
            steps.append(Step(done, head, figures[head], event.what == "reverted"))
    return steps


def _nodes(proposals: dict[int, Proposal], scored: Sequence[Scored], figures: dict[int, float]) -> list[Node]:
    sizes: dict[int, int] = {}
    for one in scored:
        known = sizes.get(one.run.proposal_id, 0)
        sizes[one.run.proposal_id] = max(known, one.measurement.total_bytes or 0)
    return [
        Node(p.id, p.baseline_id, p.title, p.state, figures[p.id], sizes[p.id] or None)
        for p in proposals.values()
        if p.id in figures
    ]


def _spent(reads: Reads, campaign_id: int) -> list[Spent]:
    query = (
        select(ledger.c.closed, ledger.c.settled_gpu_s)
        .where(ledger.c.campaign_id == campaign_id, ledger.c.state == "settled")
        .order_by(ledger.c.closed)
    )
    rows = [(datetime.fromisoformat(row.closed), row.settled_gpu_s) for row in reads.connection.execute(query)]
    if not rows:
        return []
    start = datetime.fromisoformat(reads.campaign_by_id(campaign_id).created)
    found, total = [Spent(0.0, 0.0)], 0.0
    for at, seconds in rows:
        total += seconds
        found.append(Spent(max(0.0, (at - start).total_seconds() / 3600), total / 3600))
    return found
