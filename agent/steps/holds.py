"""What is set aside for an idea that passed its screening, so that to go on with it can never pass a cap.

Takes a transaction; gives nothing, or raises BudgetExceeded and changes nothing. What can't be paid waits while others
may still give money back (`hopeless`).
"""

from agent import budget
from agent.errors import BudgetExceeded
from agent.records import Proposal, ProposalState
from agent.setting import Setting
from agent.steps.limits import affordable, least_idea, least_yes, worst_run
from agent.store import Reads, Tx

# On their way to become the head.
RACING: frozenset[ProposalState] = frozenset({"confirming", "auditing", "replaying", "accepted"})


def begin(setting: Setting, tx: Tx, proposal: Proposal, seeds: int) -> None:
    """Sets aside the worst case of saying yes after so many seeds: the others, one replay on a new head, the head's
    fresh runs.

    Where that would keep all other ideas waiting, or so much is not left, an idea that no other races with goes on
    without a replay, which is paid when it comes. And with fewer further seeds, if it must, down to one: it passes if
    that is enough for it.
    """
    rule, worst = setting.track.decision, worst_run(setting, tx)
    further = rule.max_seeds - seeds
    whole, alone = further + rule.max_seeds, not tx.count_proposals(setting.campaign.id, RACING)
    sizes = (whole, *range(further, 0, -1)) if alone else (whole,)
    amounts = [worst.times(runs + rule.report_seeds) for runs in sizes]
    balance, other = tx.balance(setting.campaign.id), least_idea(setting, tx).gpu_s
    open_to_others = [one for one in amounts[:2] if affordable(balance, one.gpu_s + other)]
    for amount in (*open_to_others, *amounts):
        try:
            budget.reserve(tx, setting.campaign.id, amount, "hold", proposal_id=proposal.id)
            return
        except BudgetExceeded as error:
            refused = error
    raise refused


def extend(setting: Setting, tx: Tx, proposal: Proposal) -> None:
    """Before one more seed of an idea that is being confirmed: what it holds must pay for that and for the head's fresh
    runs, else the yes could not be said."""
    least = least_yes(setting, tx)
    if not any(budget.covers(hold, least) for hold in budget.holds(tx, proposal.id)):
        budget.let_go(tx, proposal.id, "too little for one more seed")
        budget.reserve(tx, setting.campaign.id, least, "hold", proposal_id=proposal.id)


def hopeless(setting: Setting, reads: Reads, proposal: Proposal) -> bool:
    """Whether nothing that others have set aside can still become free for it.

    Of two that hold something and need more, and have no run under way, the older gives up, or each would wait for the
    other for ever.
    """
    others: dict[int | None, list[budget.Entry]] = {}
    for entry in budget.open_entries(reads, proposal.campaign_id):
        if entry.reserved.gpu_s > 0:
            others.setdefault(entry.proposal_id, []).append(entry)
    mine = others.pop(proposal.id, [])
    if not mine:
        return not others
    return all(one is not None and one > proposal.id and _waits(setting, reads, one, others[one]) for one in others)


def _waits(setting: Setting, reads: Reads, proposal_id: int, entries: list[budget.Entry]) -> bool:
    """Whether an idea that others race with needs more than it holds, too: it is due for a verdict, or has passed."""
    one, rule = reads.proposal(proposal_id), setting.track.decision
    if any(entry.what != "hold" for entry in entries):
        return False
    if one.state == "auditing":
        least = worst_run(setting, reads).times(rule.report_seeds)
    elif one.state == "confirming" and _due(reads, one):
        least = least_yes(setting, reads)
    else:
        return False
    return not any(budget.covers(entry, least) for entry in entries)


def _due(reads: Reads, proposal: Proposal) -> bool:
    runs = reads.runs(proposal.campaign_id, proposal_id=proposal.id, states={"done"})
    done = sum(run.baseline_id == proposal.baseline_id for run in runs)
    return done > sum(one.baseline_id == proposal.baseline_id for one in reads.verdicts(proposal.id))
