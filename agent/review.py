"""The review queue and its policies: which ideas a person must see, and what the person can do with them.

Takes proposals as the store has them; `policy` and the other judgements are pure, the actions write through a
`Tx`. Policies fail closed: what they don't know, they ask about.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agent import calibration
from agent.errors import EditError, UserError
from agent.planner import edits, unified
from agent.records import Draft, Proposal, Review
from agent.script import literals
from agent.script.syntax import NotParsed
from agent.track import Track

if TYPE_CHECKING:
    from agent.store import Reads, Tx

MAX_WAITING = 8
BELIEVED = 30  # times the smallest gain that matters: whoever expects more comes no sooner for it
LONGEST_TITLE = 200
POLICY = "policy:"  # before its name, where a proposal says who approved it
# Of the ideas that are not better, how many a trial lets through: it ends crashes and what is clearly worse.
PASSED_ANYWAY = 0.5


@dataclass(frozen=True)
class Pending:
    """One idea that waits for a person, and what it would bring for what it is expected to cost."""

    proposal: Proposal
    cost_s: float
    gain_per_hour: float


def policy(review: Review, proposal: Proposal) -> Literal["approve", "ask"]:
    """What the campaign's policy says of a proposal that the guard has passed."""
    if review == "none":
        return "approve"
    if review == "risky" and _is_harmless(proposal):
        return "approve"
    return "ask"


def room(review: Review, waiting: Collection[Proposal]) -> float:
    """How many more ideas may be asked for: each of them may have to wait for a person, and at none planning pauses.

    What a person approved may come back: a new head can change its hunks.
    """
    if review == "none":
        return math.inf
    return MAX_WAITING - sum(map(_may_wait, waiting))


def _may_wait(proposal: Proposal) -> bool:
    by_person = proposal.state == "approved" and not proposal.reviewed_by.startswith(POLICY)
    return by_person or proposal.state in ("drafted", "awaiting_review")


def pending(reads: "Reads", campaign_id: int, run_s: float, track: Track) -> list[Pending]:
    """Who waits, the best expected gain per cost first. `run_s`: what one run costs."""
    trust = calibration.trust_of(calibration.table(reads, campaign_id))
    return ranked(reads.proposals(campaign_id, {"awaiting_review"}), run_s, track, trust)


def ranked(
    waiting: Sequence[Proposal], run_s: float, track: Track, trust: calibration.TrustOf = lambda *_: 1.0
) -> list[Pending]:
    """The sure ones cost more: every idea is screened, and the better it is, the more further runs it will ask for.

    What a planner expects counts for as much as it has come true so far (`trust`).
    """
    items = []
    for proposal in waiting:
        cost = (run_s or 1.0) * _runs(track, proposal)
        expected = min(proposal.expected_gain, BELIEVED * track.decision.min_gain)
        gain = expected * proposal.confidence * trust(proposal.planner, proposal.kind)
        items.append(Pending(proposal, cost, gain * 3600.0 / cost))
    return sorted(items, key=lambda item: (-item.gain_per_hour, item.proposal.id))


def _runs(track: Track, proposal: Proposal) -> float:
    """How many runs it will ask for. With a trial: its share of one, and the rest as likely as it passes."""
    rule, rung = track.decision, track.cheaper(proposal.rung)
    further = proposal.confidence * (rule.max_seeds - 1 + rule.report_seeds)
    if rung is None:
        return 1 + further
    passes = proposal.confidence + (1 - proposal.confidence) * PASSED_ANYWAY
    return track.cost(rung) + passes + further


def approve(tx: "Tx", seen: Collection[Proposal], who: str, comment: str = "") -> list[Proposal]:
    """Approves all of them as they were `seen`, or none if one doesn't wait, or has other hunks on a new head."""
    for one in seen:
        if (now := _waits(tx, one.id)).patch_id != one.patch_id:
            raise UserError(f"p{one.id} was put on p{now.baseline_id} meanwhile, and its diff is another: look again")
    return _answer(tx, seen, "approve", "approved", who, comment)


def reject(tx: "Tx", seen: Collection[Proposal], who: str, comment: str = "") -> list[Proposal]:
    """Declines all of them, or none if one doesn't wait. The comment is kept as the reason."""
    return _answer(tx, seen, "reject", "declined", who, comment)


def edit(
    tx: "Tx", seen: Proposal, who: str, edited: str, files: Mapping[str, str], track: Track, comment: str = ""
) -> Proposal:
    """Puts the person's version in the place of a waiting idea, as a new draft that the guard checks.

    Whoever wrote it has approved it. `seen` is the idea as the person saw it, perhaps on a head that has moved since;
    `files` are those of its baseline then, which the edited diff applies to. A new head that changes its hunks makes it
    wait again. EditError: it does not apply, or says the same.
    """
    editable = track.script.editable
    edited = unified.recounted(edited)
    after = edits.apply(edited, files, editable)
    if after == edits.apply(seen.diff, files, editable):
        raise EditError(f"p{seen.id}: the edited diff says the same; approve it instead")
    now = _waits(tx, seen.id)
    assert now.baseline_id is not None
    tx.add_review(now.id, "edit", who, comment)
    draft = _edited(seen, edited, who, _title(seen, track, files, after))
    new = tx.add_proposal(now.campaign_id, draft, baseline_id=now.baseline_id)
    tx.move(now.id, "declined", _said(f"replaced by p{new.id}, edited", who, comment))
    return tx.update_proposal(new.id, reviewed_by=who)


def stop(tx: "Tx", proposal_id: int, who: str, comment: str = "") -> None:
    """Asks the campaign to end what runs and start nothing more; the idea goes on waiting."""
    proposal = _waits(tx, proposal_id)
    tx.add_review(proposal_id, "stop", who, comment)
    tx.ask(proposal.campaign_id, "drain")


def _answer(
    tx: "Tx",
    seen: Collection[Proposal],
    action: Literal["approve", "reject"],
    state: Literal["approved", "declined"],
    who: str,
    comment: str,
) -> list[Proposal]:
    for one in seen:
        _waits(tx, one.id)
    done = []
    for one in seen:
        tx.add_review(one.id, action, who, comment)
        tx.update_proposal(one.id, reviewed_by=who)
        done.append(tx.move(one.id, state, _said(state, who, comment)))
    return done


def _title(old: Proposal, track: Track, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """What it does now, where that can be told; else that it is no longer quite what it was called."""
    with suppress(NotParsed):  # the guard will say so
        if literals.only_knobs(track, before, after):
            said = literals.changes(literals.read(track, before), literals.read(track, after))
            return ", ".join(said)[:LONGEST_TITLE]
    mark = " (edited)"
    return f"{old.title[: LONGEST_TITLE - len(mark)]}{mark}"


def _edited(old: Proposal, edited: str, who: str, title: str) -> Draft:
    assert old.baseline_id is not None
    return Draft(
        title=title,
        hypothesis=f"Edited by {who}. The original's (p{old.id}): {old.hypothesis}",
        edits=edited,
        planner=f"{old.planner}, edited by {who}",
        mode=old.mode,
        kind=old.kind,
        source_id=old.baseline_id,
        expected_gain=old.expected_gain,
        confidence=old.confidence,
        evidence=(*old.evidence, f"p{old.id}"),
        rung=old.rung,
    )


def _waits(tx: "Tx", proposal_id: int) -> Proposal:
    proposal = tx.proposal(proposal_id)
    if proposal.state != "awaiting_review":
        raise UserError(f"p{proposal_id} doesn't wait for review: it is {proposal.state}")
    return proposal


def _said(what: str, who: str, comment: str) -> str:
    return f"{what} by {who}" + (f": {comment}" if comment else "")


def _is_harmless(proposal: Proposal) -> bool:
    """The guard has been there, found a change of declared knobs alone, and raised no flag."""
    return proposal.kind == "knob" and bool(proposal.ast_hash and proposal.knobs) and not proposal.risk
