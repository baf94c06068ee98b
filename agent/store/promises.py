"""What planners promised of their ideas, what came of it, and what it cost.

Calibration and the choice between planners rest on these rows. Takes `Reads` and a campaign; gives its newest ideas as
`Promise`s, and what planners paid to language models. No call grows with the campaign.
"""

from typing import NamedTuple

from sqlalchemy import func, literal_column, select

from agent.records import Kind, ProposalState
from agent.store.reads import Reads
from agent.store.schema import calls, conversations, ledger, proposals, runs, verdicts
from agent.store.views import MEASURED_BYTES, MEASURED_STEP

# Older ideas say less of what a planner is worth now: the head they were compared with is gone.
REMEMBERED = 400


class Promise(NamedTuple):
    """One idea: what its planner expected, what was measured, what its runs and its planning cost."""

    proposal_id: int
    planner: str
    kind: Kind
    state: ProposalState
    expected_gain: float
    confidence: float
    gain: float | None  # of its last verdict that has one, with its standard error
    stderr: float | None
    slot_s: float  # of all its runs but those that a head is to be compared by
    llm_usd: float  # as the planner said
    expected_bytes: int | None = None
    measured_bytes: int | None = None  # the largest at the rung that decides; of those that expected something
    expected_step: float | None = None
    measured_step: float | None = None  # time of a step there, as a multiple of the baseline's; likewise


def promises(reads: Reads, campaign_id: int, newest: int = REMEMBERED) -> list[Promise]:
    """The newest ideas by id, the base aside."""
    last = (
        select(func.max(verdicts.c.id))
        .where(verdicts.c.proposal_id == proposals.c.id, verdicts.c.gain.is_not(None))
        .correlate(proposals)
        .scalar_subquery()
    )
    spent = (
        select(func.coalesce(func.sum(ledger.c.settled_gpu_s), 0.0))
        .join_from(ledger, runs, runs.c.id == ledger.c.run_id)
        .where(ledger.c.proposal_id == proposals.c.id, runs.c.baseline_id.is_not(None))
        .correlate(proposals)
        .scalar_subquery()
    )
    query = (
        select(proposals.c.id, proposals.c.planner, proposals.c.kind, proposals.c.state, proposals.c.expected_gain)
        .add_columns(proposals.c.confidence, proposals.c.gain, verdicts.c.stderr, spent, proposals.c.cost_llm_usd)
        .add_columns(proposals.c.expected_bytes, literal_column(MEASURED_BYTES))
        .add_columns(proposals.c.expected_step, literal_column(MEASURED_STEP))
        .outerjoin(verdicts, verdicts.c.id == last)
        .where(proposals.c.campaign_id == campaign_id, proposals.c.kind != "base")
        .order_by(proposals.c.id.desc())
        .limit(newest)
    )
    return [Promise(*row) for row in reads.connection.execute(query)][::-1]


def paid(reads: Reads, campaign_id: int, newest: int = 10 * REMEMBERED) -> dict[str, float]:
    """Dollars of each planner's newest calls of a language model, those that led to nothing included."""
    query = (
        select(conversations.c.planner, ledger.c.settled_llm_usd)
        .join_from(calls, conversations, conversations.c.id == calls.c.conversation_id)
        .join(ledger, ledger.c.id == calls.c.entry_id)
        .where(calls.c.campaign_id == campaign_id)
        .order_by(calls.c.id.desc())
        .limit(newest)
    )
    found: dict[str, float] = {}
    for planner, usd in reads.connection.execute(query):
        found[planner] = found.get(planner, 0.0) + usd
    return found


def begun(reads: Reads, campaign_id: int, *, after: int) -> list[int]:
    """The ideas that have run, of those with a greater id; by id."""
    mine = (runs.c.campaign_id == campaign_id) & (runs.c.proposal_id > after)
    return sorted(reads.connection.execute(select(runs.c.proposal_id).where(mine).distinct()).scalars())


def overtaken(reads: Reads, campaign_id: int, proposal_id: int, most: int) -> int:
    """How many younger ideas have run; counted up to `most`."""
    younger = (
        select(runs.c.proposal_id)
        .where(runs.c.campaign_id == campaign_id, runs.c.proposal_id > proposal_id)
        .distinct()
        .limit(most)
    )
    return int(reads.connection.execute(select(func.count()).select_from(younger.subquery())).scalar_one())
