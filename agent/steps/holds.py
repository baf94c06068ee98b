"""What is set aside for an idea that passed its screening, so that to go on with it can never pass a cap.

Takes a transaction; gives nothing, or raises BudgetExceeded and changes nothing. What can't be paid waits while others
may still give money back (`hopeless`).
"""

from agent import budget
from agent.errors import BudgetExceeded
from agent.records import Proposal, ProposalState
from agent.setting import Setting
from agent.steps.limits import worst_run
from agent.store import Reads, Tx

# On their way to become the head.
RACING: frozenset[ProposalState] = frozenset({"confirming", "auditing", "replaying", "accepted"})


def begin(setting: Setting, tx: Tx, proposal: Proposal, seeds: int) -> None:
    """Sets aside the worst case of saying yes after so many seeds: the others, one replay on a new head, the head's
    fresh runs.

    Where so much is not left, an idea that no other races with goes on without a replay: while it holds what is left,
    no other can be confirmed and become the head before it. And with fewer further seeds, if it must, down to one: it
    passes if that is enough for it.
    """
    rule, worst = setting.track.decision, worst_run(setting, tx)
    further = rule.max_seeds - seeds
    alone = not tx.count_proposals(setting.campaign.id, RACING)
    for runs in (further + rule.max_seeds, *(range(further, 0, -1) if alone else ())):
        try:
            budget.reserve(
                tx, setting.campaign.id, worst.times(runs + rule.report_seeds), "hold", proposal_id=proposal.id
            )
            return
        except BudgetExceeded as error:
            refused = error
    raise refused


def extend(setting: Setting, tx: Tx, proposal: Proposal) -> None:
    """Before one more seed of an idea that is being confirmed: what it holds must pay for that and for the head's fresh
    runs, else the yes could not be said."""
    least = worst_run(setting, tx).times(setting.track.decision.report_seeds + 1)
    held = budget.holds(tx, proposal.id)
    if not held:
        budget.reserve(tx, setting.campaign.id, least, "hold", proposal_id=proposal.id)
    elif not budget.covers(held[0], least):
        budget.resize(tx, held[0].id, least)


def hopeless(reads: Reads, proposal: Proposal) -> bool:
    """Whether nothing that others have set aside can still become free for it.

    Of two that hold something and need more the older gives up, or each would wait for the other for ever.
    """
    holds = bool(budget.holds(reads, proposal.id))
    return not any(
        entry.reserved.gpu_s > 0
        and entry.proposal_id != proposal.id
        and (not holds or entry.what != "hold" or (entry.proposal_id or 0) < proposal.id)
        for entry in budget.open_entries(reads, proposal.campaign_id)
    )
