"""Where slot-seconds and the dollars of language models went, and while how long slots could have worked.

Takes `Reads` and a campaign; gives rows that agent/report/costs.py adds up. Grouped by the database: a campaign may
have a million runs.
"""

from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from sqlalchemy import func, select

from agent.store.reads import Reads
from agent.store.rows import now
from agent.store.schema import calls, conversations, events, ledger, machines, proposals, runs
from agent.store.schema.rented import STORAGE

NO_IDEA = "(led to no idea)"
NO_PLANNER = "(of no conversation)"


class Spent(NamedTuple):
    """What the runs of one idea at one rung in one slot settled."""

    proposal_id: int
    rung: str
    kind: str
    planner: str
    hardware_class: str
    lease: str
    slot: str
    lost: bool  # they came to no result
    runs: int
    gpu_s: float


class Asked(NamedTuple):
    """What was paid to language models for one idea, or for none."""

    proposal_id: int | None
    kind: str
    planner: str
    usd: float


class Bill(NamedTuple):
    """What one machine was paid for, whether it worked or not."""

    lease: str  # as its runs name it
    words: str
    gpu_s: float  # of all its GPUs, from the first second that was paid to the last, or to now; a volume has none
    usd: float
    final: bool = True  # its provider said so; else it is reckoned from its price


def bills(reads: Reads, campaign_id: int) -> list[Bill]:
    """As its provider says; until that is known, as the ledger has it, and while the machine is there, by its price."""
    query = (
        select(machines, ledger.c.state.label("entry"), ledger.c.settled_usd)
        .outerjoin(ledger, ledger.c.id == machines.c.entry_id)
        .where(machines.c.campaign_id == campaign_id, machines.c.provider_id != "")  # else it never came to be
        .order_by(machines.c.id)
    )
    found = []
    for row in reads.connection.execute(query):
        seconds = _seconds(row.created, row.ended or now())
        said = row.settled_usd if row.entry == "settled" else row.usd_per_hour * seconds / 3600
        volume = row.provider.endswith(STORAGE)  # it works for whichever machine is there, and is never idle
        kind = row.kind if volume else f"{row.gpus} x {row.kind}"
        words = " ".join(part for part in (row.provider, kind, row.place) if part)
        usd = said if row.billed_usd is None else row.billed_usd
        final = row.billed_usd is not None or row.entry == "settled"
        gpu_s = 0.0 if volume else seconds * max(1, row.gpus)
        found.append(Bill(f"m{row.id}", words, gpu_s, float(usd), final))
    return found


def spent(reads: Reads, campaign_id: int) -> list[Spent]:
    what = (proposals.c.id, runs.c.rung, proposals.c.kind, proposals.c.planner, runs.c.hardware_class)
    place = (runs.c.lease, runs.c.slot, runs.c.state)
    query = (
        select(*what, *place, func.count(), func.sum(ledger.c.settled_gpu_s))
        .join_from(ledger, runs, runs.c.id == ledger.c.run_id)
        .join(proposals, proposals.c.id == runs.c.proposal_id)
        .where(ledger.c.campaign_id == campaign_id, ledger.c.state == "settled")
        .group_by(*what, *place)
    )
    return [
        Spent._make((*row[:-4], row.slot or "", row.state != "done", row[-2], float(row[-1])))
        for row in reads.connection.execute(query)
    ]


def asked(reads: Reads, campaign_id: int) -> list[Asked]:
    """Calls that led to nothing, and lessons, are among them."""
    what = (conversations.c.proposal_id, proposals.c.kind, conversations.c.planner)
    query = (
        select(*what, func.sum(ledger.c.settled_llm_usd))
        .select_from(ledger)
        .outerjoin(calls, calls.c.entry_id == ledger.c.id)
        .outerjoin(conversations, conversations.c.id == calls.c.conversation_id)
        .outerjoin(proposals, proposals.c.id == conversations.c.proposal_id)
        .where(ledger.c.campaign_id == campaign_id, ledger.c.state == "settled", ledger.c.settled_llm_usd > 0)
        .group_by(*what)
    )
    return [
        Asked(proposal_id, kind or NO_IDEA, planner or NO_PLANNER, float(usd))
        for proposal_id, kind, planner, usd in reads.connection.execute(query)
    ]


def open_s(reads: Reads, campaign_id: int) -> float:
    """Seconds in which a controller was at the campaign. One that was killed was there until its last event."""
    query = (
        select(events.c.at, events.c.what)
        .where(events.c.campaign_id == campaign_id, events.c.proposal_id.is_(None), events.c.run_id.is_(None))
        .where(events.c.what.in_(("running", "stopped", "finished")))
        .order_by(events.c.id)
    )
    turns = [(row.at, row.what) for row in reads.connection.execute(query)]
    total = 0.0
    for (start, what), (end, then) in pairwise([*turns, (None, "running")]):
        if what == "running":
            total += _seconds(start, end if then != "running" else _last_event(reads, campaign_id, before=end))
    return total


def _last_event(reads: Reads, campaign_id: int, *, before: str | None) -> str:
    last = select(func.max(events.c.at)).where(events.c.campaign_id == campaign_id)
    if before is not None:
        last = last.where(events.c.at < before)
    return str(reads.connection.execute(last).scalar_one())


def _seconds(start: str, end: str) -> float:
    return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())
