"""verdict -> promote: moves the trunk, replays an idea on a newer head, reverts a head that fresh runs contradict."""

from collections.abc import Callable, Sequence

from agent import budget, worktree
from agent.errors import BudgetExceeded, EditError, InfraError, UserError
from agent.judge import gates, verdict
from agent.records import Proposal, ProposalState, Verdict
from agent.setting import Setting, known
from agent.steps import admit, anchors, classes, holds, rescore, stuck
from agent.steps.auditing import unaudited
from agent.steps.decide import noise_of
from agent.steps.fresh import fresh
from agent.steps.limits import worst_run
from agent.steps.losses import MAX_ATTEMPTS
from agent.steps.wanted import given_up
from agent.store import Reads, Scored
from agent.store.spoilt import spoilt

CONTRADICTED = "contradicted"  # the event of a head that is to be reverted as soon as the branch may be moved


def promote(setting: Setting) -> int:
    """Takes every idea that passed as far as it can go now, and looks at the head; gives how many moved."""
    return sum(
        (
            _each(setting, "accepted", _to_trunk),
            _each(setting, "auditing", _audited),
            _each(setting, "replaying", _replay),
            _spoilt(setting) or _contradicted(setting),
        )
    )


def passed(setting: Setting) -> bool:
    """Whether one that passed waits: for its money, another score or the branch; or a head for its end."""
    with setting.store.read() as reads:
        campaign_id = setting.campaign.id
        return bool(reads.count_proposals(campaign_id, {"auditing", "accepted"})) or contradicted(reads, campaign_id)


def contradicted(reads: Reads, campaign_id: int) -> bool:
    """Whether the head is only the head until it can be reverted."""
    return reads.count_events(reads.head(campaign_id).id, CONTRADICTED) > 0


def awaits_branch(setting: Setting, reads: Reads) -> bool:
    """Whether something is to be done as soon as a person leaves the branch."""
    if contradicted(reads, setting.campaign.id):
        return True
    waiting = reads.proposals(setting.campaign.id, {"auditing", "accepted"})
    told = any(reads.count_events(one.id, stuck.WHAT) for one in waiting)
    return told and bool(setting.repo.held(setting.campaign.name))


def _each(setting: Setting, state: ProposalState, step: Callable[[Setting, Proposal], bool]) -> int:
    with setting.store.read() as reads:
        proposals = reads.proposals(setting.campaign.id, {state})
    return sum(step(setting, proposal) for proposal in proposals)


def _audited(setting: Setting, proposal: Proposal) -> bool:
    """An idea is what its audited runs say that it is.

    Two gains measured apart are not yet a gain together: a stale baseline means a replay. Where there is another
    machine of its class, the idea is scored there too before it counts.

    An accepted idea goes to the trunk at once, so that the next one in line sees the new head.
    """
    with setting.store.write() as tx:
        if (lacking := unaudited(setting, tx, proposal)) is not None:
            tx.move(proposal.id, "inconclusive", lacking)
            budget.let_go(tx, proposal.id, "inconclusive")
            return True
        head = tx.head(setting.campaign.id)
        if proposal.baseline_id != head.id:
            tx.move(proposal.id, "replaying", f"the head is now p{head.id}")
            return True
        second = rescore.look(setting, tx, proposal)
        if second.waits:
            return False
        if second.against:
            tx.move(proposal.id, "inconclusive", second.against)
            budget.let_go(tx, proposal.id, "inconclusive")
            return True
    if _held(setting, proposal):
        return False
    try:
        with setting.store.write() as tx:
            tx.move(proposal.id, "accepted", known(tx.verdicts(proposal.id))[-1].words)
            # The replay is not needed; the head's fresh runs are.
            budget.let_go(tx, proposal.id, "no replay needed")
            amount = worst_run(setting, tx).times(setting.track.decision.report_seeds)
            budget.reserve(tx, setting.campaign.id, amount, "hold", proposal_id=proposal.id)
            proposal = tx.proposal(proposal.id)
    except BudgetExceeded as error:
        return _unfunded(setting, proposal, str(error))
    return _to_trunk(setting, proposal)


def _unfunded(setting: Setting, proposal: Proposal, why: str) -> bool:
    """Its runs were repeated so often that they used up what was set aside for it. It waits while others may still give
    money back; a head without fresh runs would have no figure, so if nobody will, it is for the next campaign."""
    with setting.store.write() as tx:
        if not holds.hopeless(setting, tx, proposal):
            return False
        words = f"{known(tx.verdicts(proposal.id))[-1].words}; but its fresh runs can't be paid: {why}"
        tx.move(proposal.id, "unfunded", words)
        budget.let_go(tx, proposal.id, "unfunded")
        return True


def _replay(setting: Setting, proposal: Proposal) -> bool:
    """Puts the idea on the present head as a new commit; it is then measured against that head from the start.

    If that changed what a person approved, the person is asked again, and until then no money is held for it.
    """
    with setting.store.read() as reads:
        head = reads.head(setting.campaign.id)
    try:
        committed = admit.moved(setting, proposal, head)
    except EditError as error:
        with setting.store.write() as tx:
            tx.move(proposal.id, "inconclusive", f"can't be replayed on p{head.id}: {error}")
            budget.let_go(tx, proposal.id, "not replayed")
        return True
    except InfraError:
        return False  # it is tried again when all is looked at anew
    with setting.store.write() as tx:
        fresh = committed.write(tx, proposal)
        if admit.still_approved(setting, tx, fresh, proposal.patch_id):
            tx.move(fresh.id, "confirming", f"replayed on p{head.id}")
        else:
            tx.move(fresh.id, "awaiting_review", f"changed by the replay on p{head.id}")
            budget.let_go(tx, fresh.id, "waits for review again")
    return True


def _to_trunk(setting: Setting, proposal: Proposal) -> bool:
    """One commit with its trailers on the trunk, then the head. Cut off anywhere, it is done again to the same end."""
    if _held(setting, proposal):
        return False
    repo, campaign, paths = setting.repo, setting.campaign, setting.track.script.editable
    with setting.store.read() as reads:
        head = reads.head(campaign.id)
        scored = reads.scored(campaign.id, proposal_id=proposal.id)
    rung = setting.track.decision.rung
    mine = [s for s in scored if s.run.baseline_id == head.id and s.run.rung == rung and not s.run.set_aside]
    runs = gates.effective(mine)
    tip = _tip(setting)
    if tip != proposal.commit:
        if repo.files(tip, paths) != repo.files(known(head.commit), paths):
            raise UserError(
                f"branch caddie/{campaign.name} was changed by hand; put it back on p{head.id}'s commit "
                f"(git branch -f caddie/{campaign.name} {known(head.commit)[:12]}), then `agent resume`"
            )
        files = repo.files(known(proposal.commit), paths)
        sha = repo.commit_candidate(campaign.name, proposal.id, tip, files, _message(proposal, runs))
        with setting.store.write() as tx:
            tx.update_proposal(proposal.id, commit=sha)
        repo.move_trunk(campaign.name, sha, tip)
    with setting.store.write() as tx:
        tx.move(proposal.id, "promoted", known(tx.verdicts(proposal.id))[-1].words)
        tx.set_head(campaign.id, proposal.id)
        budget.let_go(tx, head.id, "it is the head no more")
    return True


def _held(setting: Setting, proposal: Proposal) -> bool:
    """Whether a person has the branch checked out: the idea waits, and what else there is goes on."""
    words = setting.repo.held(setting.campaign.name)
    if not words:
        return False
    with setting.store.write() as tx:
        if not tx.count_events(proposal.id, stuck.WHAT):
            text = f"p{proposal.id} waits: {words}; it goes on by itself"
            tx.add_event(setting.campaign.id, stuck.WHAT, text, proposal_id=proposal.id)
    return True


def _tip(setting: Setting) -> str:
    """Where the campaign's branch is. Raises UserError: a person has removed it."""
    name = setting.campaign.name
    tip = setting.repo.trunk(name)
    if tip is None:
        raise UserError(f"branch caddie/{name} is gone; `agent resume` makes it again at the head's commit")
    return tip


def _message(proposal: Proposal, runs: Sequence[Scored]) -> str:
    scores = [known(s.measurement.bpb) for s in runs if s.measurement.bpb is not None]
    sizes = [s.measurement.total_bytes for s in runs if s.measurement.total_bytes is not None]
    return worktree.message(
        proposal.title,
        proposal.hypothesis,
        {
            "Proposal": f"p{proposal.id}",
            "Runs": " ".join(f"r{s.run.id}" for s in runs),
            "Val-Bpb": f"{sum(scores) / len(scores):.5f}",
            "Artifact-Bytes": str(max(sizes)) if sizes else "not measured",
            "Planner": proposal.planner,
            "Reviewed-by": proposal.reviewed_by,
        },
    )


def _spoilt(setting: Setting) -> int:
    """Reverts a head that broke a rule, as any of its runs may show, or that was built on what did: nothing more may be
    built on it."""
    with setting.store.read() as reads:
        head = reads.head(setting.campaign.id)
        why = spoilt(reads, head.id)
        if head.baseline_id is None or not why:
            return 0
        parent = reads.proposal(head.baseline_id)
    return _revert(setting, head, parent, why)


def _contradicted(setting: Setting) -> int:
    """Reverts the head when its fresh runs, which gated nothing, do not show the gain: asked with each further one."""
    campaign, rule = setting.campaign, setting.track.decision
    with setting.store.read() as reads:
        head = reads.head(campaign.id)
        if head.baseline_id is None:
            return 0
        runs = reads.runs(campaign.id, proposal_id=head.id, purposes={"report"})
        asked = reads.count_events(head.id, "reported")
        due = rule.report_seeds + asked
        home = classes.home(setting, reads, head)
        runs = classes.within(runs, home)
        lost = given_up(setting, reads, runs, head)
        if lost is None and len({run.seed for run in runs if run.state == "done" and not run.set_aside}) < due:
            return 0
        own = fresh(setting, reads, head, home)
        if lost is None and len(own) < due:
            return 0
        parent = reads.proposal(head.baseline_id)
        old = fresh(setting, reads, parent, home)
        sigma = noise_of(setting, reads, home)
        gain = anchors.gain(setting, reads, own, old, sigma) if anchors.asked_for(setting) else None
    if lost is not None:
        why: str | None = f"its fresh run was lost {MAX_ATTEMPTS} times (r{lost.id}): {lost.reason}"
    else:
        why = _unfit(setting, own)
    if why is not None:
        return _revert(setting, head, parent, why)
    if gain is None and anchors.asked_for(setting):
        found = Verdict(
            head.id, parent.id, "inconclusive", "fresh runs: no machine tells them from those of the parent"
        )
    else:
        found = verdict.fresh(head, parent, own, old, sigma, gain)
    if found.decision == "worse":
        return _revert(setting, head, parent, found.words)
    with setting.store.write() as tx:
        budget.let_go(tx, head.id, "fresh runs are in")
        tx.add_event(campaign.id, "reported", found.words, proposal_id=head.id)
    return 1


def _unfit(setting: Setting, own: list[Scored]) -> str | None:
    """Why fresh runs give the head no figure, or none that could be submitted; None: they do."""
    if (broken := gates.no_figure(own)) is not None:
        return broken.words
    limit = setting.track.limits.artifact_bytes
    size = max(s.measurement.total_bytes or 0 for s in own)
    if limit is not None and size > limit:  # sizes differ by seed, and this one could not be submitted
        return f"a fresh run has {size:,} bytes, {size - limit:,} over the limit of {limit:,}"
    return None


def _revert(setting: Setting, head: Proposal, parent: Proposal, words: str) -> int:
    """A commit that restores the parent's files. What was compared with the reverted head will be replayed."""
    repo, campaign, paths = setting.repo, setting.campaign, setting.track.script.editable
    if _held(setting, head):
        with setting.store.write() as tx:
            if not tx.count_events(head.id, CONTRADICTED):
                tx.add_event(campaign.id, CONTRADICTED, words, proposal_id=head.id)
        return 0
    tip = _tip(setting)
    # Else an earlier try came this far. The tip may be a commit that reverted another head on top of this one.
    if repo.files(tip, paths) == repo.files(known(head.commit), paths):
        text = worktree.message(f"Revert: {head.title}", words, {"Reverts": f"p{head.id}"})
        repo.move_trunk(campaign.name, repo.revert_commit(tip, known(parent.commit), text), tip)
    with setting.store.write() as tx:
        tx.move(head.id, "reverted", words)
        tx.set_head(campaign.id, parent.id)
        budget.let_go(tx, head.id, "reverted")
    return 1
