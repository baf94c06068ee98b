"""When a campaign is over, and in what words.

Takes the store's rows when nothing is running; gives the state it ends in and why, or None while there is work left.
"""

from typing import NamedTuple

from agent import budget
from agent.judge import gates
from agent.llm.meter import write_off
from agent.records import CampaignState, Proposal, ProposalState, Run
from agent.setting import Setting
from agent.states import FINAL
from agent.steps import classes, losses, rescore
from agent.steps.decide import undecided
from agent.steps.fresh import disturbed
from agent.steps.launch import covering, full_disk
from agent.steps.limits import affordable, least_idea, worst_run
from agent.steps.plan import WAITING
from agent.steps.promote import awaits_branch
from agent.steps.recall import useful
from agent.steps.wanted import LIVE, begins, given_up, wanted
from agent.store import Reads, Tx

STUBBORN = 12  # ideas in a row that ended without a score, after which something else is wrong
SCORELESS: frozenset[ProposalState] = frozenset({"edit_failed", "blocked", "duplicate", "crashed"})


class Ending(NamedTuple):
    state: CampaignState
    reason: str
    failed: bool = False
    """Something is wrong that a person must mend. Where going on would only show it again, the campaign is finished:
    the next start opens a new one on what was mended."""
    left: str = ""
    """What could not be given back, and what a person can do about it."""


NO_MORE_IDEAS = Ending("finished", "the planner has no more ideas")


def over(setting: Setting, reads: Reads) -> Ending | None:
    """Why nothing new is to be planned or started, whatever is left."""
    head = reads.head(setting.campaign.id)
    return (
        _broken_base(reads, setting)
        or _stubborn(reads, setting)
        or _on_target(setting, reads, head, setting.campaign.target_bpb)
    )


def ending(setting: Setting, reads: Reads, *, may_plan: bool, unpaid: bool = False) -> Ending | None:
    """Nothing runs: is there anything left to do, and anything left to do it with? `unpaid`: what is most urgent can't
    be paid, and nothing that is."""
    campaign = setting.campaign
    if (found := over(setting, reads)) is not None:
        return found
    resting = _resting(setting, reads)  # before what is wanted is asked: a rest that ends in between is no end
    items = useful(setting, reads, wanted(setting, reads), may_plan=may_plan)
    second = rescore.awaited(setting, reads)
    if (items or second) and (full := full_disk(setting)) is not None:
        return Ending("stopped", full, failed=True)
    if second:
        return None  # it waits for a slot on another machine
    if awaits_branch(setting, reads):
        return None
    if resting:
        return None
    if unpaid:
        return Ending("finished", "the budget does not cover what has to run next")
    worst = worst_run(setting, reads)
    if any(covering(reads, item, worst) for item in items):
        return None
    balance = reads.balance(campaign.id)
    payable = affordable(balance, worst.gpu_s)
    passed = reads.count_proposals(campaign.id, {"auditing", "accepted"}) > 0
    if (passed or undecided(setting, reads)) and (payable or not items):
        return None  # decided when what others set aside has shrunk, or when nothing is set aside any more
    if not payable:
        return Ending("finished", "the budget does not cover another run")
    if all(begins(item) for item in items) and not affordable(balance, least_idea(setting, reads).gpu_s):
        return Ending("finished", "what is left of the budget could not confirm another idea")
    if items or may_plan or reads.proposals(campaign.id, WAITING):
        return None
    return NO_MORE_IDEAS


def close(setting: Setting, found: Ending) -> None:
    """Writes the end down. After a finished campaign nothing is left half-way; a stopped one can be resumed.

    Calls of models are written off in the same breath: from then on none is opened any more.
    """
    with setting.store.write() as tx:
        write_off(tx, setting.campaign.id, "the campaign ended before it was answered")
        if found.state == "finished":
            _end_all(tx, setting, found.reason)
        tx.end_campaign(setting.campaign.id, found.state, found.reason)


ENDS: dict[ProposalState, ProposalState] = {
    "drafted": "cancelled",
    "awaiting_review": "expired",
    "approved": "unfunded",
    "lost": "unfunded",
    "measured": "unfunded",
    "confirming": "cancelled",
    "replaying": "cancelled",
    "auditing": "cancelled",
    "accepted": "cancelled",
}


def _end_all(tx: Tx, setting: Setting, reason: str) -> None:
    """Every idea ends in a final state, and nothing stays set aside."""
    for proposal in tx.proposals(setting.campaign.id, tuple(ENDS)):
        tx.move(proposal.id, ENDS[proposal.state], reason)
        budget.let_go(tx, proposal.id, reason)
    budget.let_go(tx, tx.head(setting.campaign.id).id, reason)


def _resting(setting: Setting, reads: Reads) -> bool:
    """Whether anything is only put off: a try of an idea, or of the head, whose machines were lost."""
    campaign_id = setting.campaign.id
    for one in (reads.head(campaign_id), *reads.proposals(campaign_id, LIVE)):
        runs = [run for run in reads.runs(campaign_id, proposal_id=one.id) if run.purpose != "rescore"]
        for seed in {run.seed for run in runs}:
            if not losses.hopeless(runs, seed, one) and losses.rests([run for run in runs if run.seed == seed]):
                return True
    return False


def _broken_base(reads: Reads, setting: Setting) -> Ending | None:
    """A base that does not run, does not fit or breaks a rule makes every comparison meaningless."""
    base = reads.base(setting.campaign.id)
    limit = setting.track.limits.artifact_bytes
    runs = reads.runs(setting.campaign.id, proposal_id=base.id, states={"done", "lost"}, purposes={"report"})
    scored = reads.scored(setting.campaign.id, proposal_id=base.id, documents=False)
    measured = {one.run.id: one.measurement for one in scored}
    runs = classes.within(runs, classes.home(setting, reads, base))
    if (broken := gates.barred(scored)) is not None:
        return Ending("finished", f"the base breaks a rule ({broken.words})", failed=True)
    lost = given_up(setting, reads, runs, base)
    if lost is not None:
        words = f"a run of the base was lost {losses.MAX_ATTEMPTS} times with the same seed (r{lost.id}): {lost.reason}"
        return Ending("finished", words, failed=True)
    for run in _standing(setting, reads, base, runs):
        log = setting.job(run.id) / "train.log"
        if run.outcome != "ok":
            return Ending(
                "finished",
                f"the base itself does not run (r{run.id} {run.outcome}): {run.reason}; see {log}",
                failed=True,
            )
        found = measured.get(run.id)
        if found is not None and found.bpb is None:
            why = "; ".join(finding.text for finding in found.findings if finding.rule == "no_score")
            fix = "" if setting.track.script.score else "; the script has to end with a line `val_bpb: 1.2345`"
            return Ending("finished", f"the base gives no score (r{run.id}): {why}{fix}; see {log}", failed=True)
        if found is None or limit is None:
            continue
        if found.total_bytes is None:
            words = f"r{run.id} of the base told no size, and the track allows {limit:,} bytes: let the script log it"
            return Ending("finished", f"{words} (docs/judging.md), or leave artifact_bytes out", failed=True)
        if found.total_bytes > limit:
            return Ending(
                "finished", f"the base is {found.total_bytes:,} bytes, over the limit of {limit:,}", failed=True
            )
    return None


def _standing(setting: Setting, reads: Reads, base: Proposal, runs: list[Run]) -> list[Run]:
    """Of each seed the last run that is done, none that a busy core stopped."""
    out = disturbed(setting, reads, base, runs)
    last = {run.seed: run for run in runs if run.state == "done" and run.seed not in out.all}
    return list(last.values())


def _stubborn(reads: Reads, setting: Setting) -> Ending | None:
    newest = reads.trials(setting.campaign.id, newest=2 * STUBBORN)
    ended = [row for row in newest if row.state in FINAL and row.baseline_id is not None][-STUBBORN:]
    if len(ended) < STUBBORN or any(row.state not in SCORELESS for row in ended):
        return None
    last = reads.proposal(ended[-1].proposal_id)
    return Ending("finished", f"{STUBBORN} ideas in a row ended without a score; the last: {last.reason}", failed=True)


def _on_target(setting: Setting, reads: Reads, head: Proposal, target: float | None) -> Ending | None:
    if target is None:
        return None
    scored = reads.scored(head.campaign_id, proposal_id=head.id, documents=False)
    mine = classes.scored_within(scored, classes.home(setting, reads, head))
    scores = [s.measurement.bpb for s in mine if s.run.purpose == "report"]
    known = [bpb for bpb in scores if bpb is not None]
    if not known or sum(known) / len(known) > target:
        return None
    return Ending(
        "finished",
        f"target reached: p{head.id} has {sum(known) / len(known):.4f} over {len(known)} fresh runs",
    )
