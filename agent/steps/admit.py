"""planner -> guard -> review -> worktree: from a draft to a commit that may run.

Takes a draft as the planner wrote it; ends in a commit on the head and one of the states edit_failed, duplicate,
blocked, awaiting_review, approved.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from sqlalchemy.exc import StatementError

from agent import guard, reach, rebase, review, training, worktree
from agent.errors import EditError, InfraError
from agent.planner import edits
from agent.records import Draft, Proposal, ProposalState
from agent.setting import Setting, known
from agent.steps.sizing import sized_bytes
from agent.store import Tx
from sandbox.policy import reaches

MOST_TRIES = 3
MOST_WORDS = 1000  # of an error that nobody expected
# Ideas that have not run yet, and go along with the head.
MOVES = frozenset[ProposalState]({"awaiting_review", "approved"})


def record(setting: Setting, draft: Draft) -> Proposal:
    """The draft is in the store before anything is done with it."""
    with setting.store.write() as tx:
        head = tx.head(setting.campaign.id)
        proposal = tx.add_proposal(setting.campaign.id, draft, baseline_id=head.id)
        return tx.move(proposal.id, "blocked", draft.refused) if draft.refused else proposal


def admit(setting: Setting, proposal: Proposal) -> Proposal:
    """Checks a drafted proposal. Called again after a crash it comes to the same result.

    A text that has a number or a character in it for which some check was not made costs its own idea alone.
    """
    try:
        return _admitted(setting, proposal)
    except InfraError as error:
        return _postponed(setting, proposal, str(error))
    except (ArithmeticError, ValueError, StatementError) as error:
        if isinstance(error, StatementError) and not isinstance(error.orig, ArithmeticError | ValueError):
            raise
        with setting.store.write() as tx:
            return tx.move(proposal.id, "blocked", f"no check was made for what it holds: {error}"[:MOST_WORDS])


def _postponed(setting: Setting, proposal: Proposal, why: str) -> Proposal:
    """The machine's fault is not held against an idea. It is checked again when all is looked at anew; in the end it is
    given up, for what kills the packer every time may be the idea."""
    with setting.store.write() as tx:
        if tx.count_events(proposal.id, "postponed") + 1 >= MOST_TRIES:
            return tx.move(proposal.id, "cancelled", f"could not be checked {MOST_TRIES} times: {why}")
        tx.add_event(setting.campaign.id, "postponed", why, proposal_id=proposal.id)
        return tx.proposal(proposal.id)


def _admitted(setting: Setting, proposal: Proposal) -> Proposal:
    try:
        before, after = rebased(setting, proposal)
    except EditError as error:
        with setting.store.write() as tx:
            return tx.move(proposal.id, "edit_failed", str(error))
    proposal = _sized(setting, proposal, after)
    report = _examine(setting, proposal, before, after)
    if report.failures:
        state: ProposalState = "duplicate" if any(f.name == "duplicate" for f in report.failures) else "blocked"
        with setting.store.write() as tx:
            tx.update_proposal(proposal.id, ast_hash=report.ast_hash, config_hash=report.config_hash)
            return tx.move(proposal.id, state, "; ".join(map(str, report.failures)))
    with setting.store.read() as reads:
        head = reads.proposal(known(proposal.baseline_id))
    kept = not proposal.reviewed_by or _as_written(setting, proposal, before, after)
    try:
        committed = commit(setting, proposal, head, after, report)
    except EditError as error:
        with setting.store.write() as tx:
            return tx.move(proposal.id, "edit_failed", str(error))
    with setting.store.write() as tx:
        proposal = committed.write(tx, proposal)
        if writer := proposal.reviewed_by:  # a person wrote it
            if still_approved(setting, tx, proposal, proposal.patch_id if kept else ""):
                return tx.move(proposal.id, "approved", f"written by {writer}")
            return tx.move(proposal.id, "awaiting_review", f"written by {writer}, changed by the new head p{head.id}")
        if review.policy(setting.campaign.review, proposal) == "approve":
            tx.update_proposal(proposal.id, reviewed_by=f"{review.POLICY}{setting.campaign.review}")
            return tx.move(proposal.id, "approved")
        return tx.move(proposal.id, "awaiting_review", ", ".join(proposal.risk))


def _as_written(setting: Setting, proposal: Proposal, before: Mapping[str, str], after: Mapping[str, str]) -> bool:
    """Whether a person's edit has the same hunks on the head as on what it was written against."""
    if proposal.source_id == proposal.baseline_id:
        return True
    paths = setting.track.script.editable
    with setting.store.read() as reads:
        source = reads.proposal(known(proposal.source_id))
    files = setting.repo.files(known(source.commit), paths)
    return rebase.hunks(files, edits.apply(proposal.edits, files, paths)) == rebase.hunks(before, after)


def _sized(setting: Setting, proposal: Proposal, after: Mapping[str, str]) -> Proposal:
    """With a computed size where its author said none and it can be known: for the guard and a reviewer."""
    if proposal.expected_bytes is not None:
        return proposal
    with setting.store.read() as reads:
        size = sized_bytes(setting, reads, after)
    if size is None:
        return proposal
    with setting.store.write() as tx:
        return tx.update_proposal(proposal.id, sized_bytes=size)


def rebased(setting: Setting, proposal: Proposal) -> tuple[Mapping[str, str], dict[str, str]]:
    """The head's files, and those with the proposal's idea on them: its edits are written against its source."""
    paths = setting.track.script.editable
    with setting.store.read() as reads:
        source, head = reads.proposal(known(proposal.source_id)), reads.proposal(known(proposal.baseline_id))
        basis = rebase.basis(setting.repo, reads, source, head, paths)
    return basis.head_files, rebase.rebased(basis, proposal.edits, paths)


class Committed(NamedTuple):
    """A commit on the head, and what a reviewer and the store need to know of it."""

    sha: str
    diff: str
    patch_id: str
    head: Proposal
    report: guard.Report

    def write(self, tx: Tx, proposal: Proposal) -> Proposal:
        return tx.update_proposal(
            proposal.id,
            baseline_id=self.head.id,
            commit=self.sha,
            diff=self.diff,
            patch_id=self.patch_id,
            ast_hash=self.report.ast_hash,
            config_hash=self.report.config_hash,
            knobs=self.report.knobs,
            risk=self.report.risks,
        )


def commit(
    setting: Setting, proposal: Proposal, head: Proposal, after: Mapping[str, str], report: guard.Report
) -> Committed:
    """Makes the commit; the caller writes it down together with the state that follows.

    What will run is packed here, and not when a slot waits for it. Raises EditError if it can't be, InfraError if it
    can't be here and now.
    """
    repo, script = setting.repo, setting.track.script
    if script.pack:
        training.pack(setting.packed, after[script.path])
    trailers = {"Proposal": f"p{proposal.id}", "Planner": proposal.planner}
    text = worktree.message(proposal.title, proposal.hypothesis, trailers)
    sha = repo.commit_candidate(setting.campaign.name, proposal.id, known(head.commit), after, text)
    diff = repo.diff(known(head.commit), sha)
    return Committed(sha, diff, worktree.patch_id(diff), head, report)


def _examine(setting: Setting, proposal: Proposal, before: Mapping[str, str], after: Mapping[str, str]) -> guard.Report:
    with setting.store.read() as reads:

        def seen(ast_hash: str) -> str | None:
            return _other(reads.find_ast(setting.campaign.id, ast_hash), proposal)

        def seen_config(config_hash: str) -> str | None:
            return _other(reads.find_config(setting.campaign.id, config_hash), proposal)

        report = guard.check(setting.track, proposal, before, after, seen, seen_config)
    return report if report.failures else _walled(setting, report, after)


def _walled(setting: Setting, report: guard.Report, after: Mapping[str, str]) -> guard.Report:
    """Where there are no walls for what a model wrote, it goes no further."""
    least = reach.minimum(setting.track, setting.repo, setting.campaign, after)
    level = setting.runner.level(reach.asked(setting.track, setting.repo.root))
    if reaches(level, least):
        return report
    words = reach.lacking(setting.track, level, unsafe=setting.campaign.unsafe)
    return replace(report, failures=(guard.Failure("no_walls", words),))


def _other(twin: Proposal | None, proposal: Proposal) -> str | None:
    return f"p{twin.id}" if twin is not None and twin.id != proposal.id else None


def refresh(setting: Setting) -> int:
    """Puts ideas that have not run yet on the present head, so that none is compared with an old one."""
    with setting.store.read() as reads:
        head = reads.head(setting.campaign.id)
        waiting = reads.proposals(setting.campaign.id, MOVES)
    stale = [proposal for proposal in waiting if proposal.baseline_id != head.id]
    for proposal in stale:
        _refresh(setting, proposal, head)
    return len(stale)


def moved(setting: Setting, proposal: Proposal, head: Proposal) -> Committed:
    """The proposal's change as a commit on another head. Raises EditError when there is no such commit."""
    repo, paths = setting.repo, setting.track.script.editable
    with setting.store.read() as reads:
        old = reads.proposal(known(proposal.baseline_id))
    head_files = repo.files(known(head.commit), paths)
    mine = repo.files(known(proposal.commit), paths)
    after = rebase.merged(repo.files(known(old.commit), paths), head_files, mine)
    report = guard.check(setting.track, proposal, head_files, after, lambda _: None)
    if report.failures:
        raise EditError("; ".join(_moved_words(failure, head) for failure in report.failures))
    return commit(setting, proposal, head, after, report)


def _moved_words(failure: guard.Failure, head: Proposal) -> str:
    return f"p{head.id} already has it" if failure.name == "duplicate" else str(failure)


def _refresh(setting: Setting, proposal: Proposal, head: Proposal) -> None:
    committed, why = None, ""
    try:
        committed = moved(setting, proposal, head)
    except EditError as error:
        why = str(error)
    except InfraError:
        return  # it is put there when all is looked at anew
    with setting.store.write() as tx:
        if tx.proposal(proposal.id).state not in MOVES:
            return  # a person has said no in the meantime
        if committed is None:
            tx.move(proposal.id, "cancelled", f"can't be put on the new head p{head.id}: {why}")
            return
        fresh = committed.write(tx, proposal)
        if fresh.state == "approved" and not still_approved(setting, tx, fresh, proposal.patch_id):
            tx.move(fresh.id, "awaiting_review", f"changed by the new head p{head.id}")


def still_approved(setting: Setting, tx: Tx, moved: Proposal, patch_id: str) -> bool:
    """Whether an approval of `patch_id` holds for what the proposal is now: it does while the hunks are the same.

    If they are not, the policy is asked anew; what it does not approve is approved by nobody.
    """
    if moved.patch_id == patch_id:
        return True
    policy = setting.campaign.review
    approves = review.policy(policy, moved) == "approve"
    tx.update_proposal(moved.id, reviewed_by=f"{review.POLICY}{policy}" if approves else "")
    return approves
