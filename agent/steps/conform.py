"""review -> worktree: an idea's scoring is tried against the contract before its first run is paid.

Whoever wrote it, and however it was put together: a script of a file, a merge of two, an edit of a reviewer, a change
moved to a new head. One that changes literals of knobs alone answers as its head does. Tested in the background, in the
order in which ideas will run, and as many ahead as there are slots; what is known dies with the process and is found
out again.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from agent import guard, rebase
from agent.clock import Clock
from agent.errors import EditError, InfraError
from agent.records import Proposal
from agent.setting import Setting, known
from agent.steps.launch import full_disk
from agent.steps.wanted import Wanted, begins
from agent.tools.check import breaches


@dataclass(frozen=True)
class Trying:
    proposal: Proposal
    answer: "Future[list[str]]"


class Conforming:
    """The tests of one controller, one at a time: each takes the machine's time from what is measured."""

    def __init__(self, setting: Setting, clock: Clock) -> None:
        self._setting, self._clock = setting, clock
        self._tests = bool(setting.track.script.score) and setting.track.check is not None
        self._trying: Trying | None = None
        self._hold: set[str] = set()
        """Commits of which nothing was found that breaks it."""

    def may_run(self, proposal: Proposal) -> bool:
        return not self._tests or guard.FREE_EDIT not in proposal.risk or proposal.commit in self._hold

    def answered(self) -> bool:
        return self._trying is not None and self._trying.answer.done()

    def ask(self, items: Callable[[], Sequence[Wanted]]) -> None:
        """Tests the next idea that will run, unless enough are ready. `items`: what is wanted, most urgent first."""
        if not self._tests or self._trying is not None:
            return
        setting = self._setting
        with setting.store.read() as reads:
            approved = reads.proposals(setting.campaign.id, {"approved"})
            if all(map(self.may_run, approved)):
                return
        ahead = [item.proposal for item in items() if begins(item)][: len(setting.runner.slots)]
        due = next((one for one in ahead if not self.may_run(one)), None)
        if due is not None and full_disk(setting) is None:
            answer = self._clock.background(f"conforming p{due.id}", partial(_breaches, setting, due))
            self._trying = Trying(due, answer)

    def collect(self) -> list[int]:
        """Writes down what came of it; gives the ideas that were tried."""
        if self._trying is None or not self._trying.answer.done():
            return []
        proposal, answer = self._trying.proposal, self._trying.answer
        self._trying = None
        try:
            words = answer.result()
        except (EditError, InfraError) as error:  # the machine's fault is not held against an idea
            words = []
            self._note(proposal, f"its scoring could not be tried before its run: {error}")
        if words:
            self._block(proposal, words)
        else:
            self._hold.add(known(proposal.commit))
        return [proposal.id]

    def _block(self, proposal: Proposal, words: list[str]) -> None:
        with self._setting.store.write() as tx:
            now = tx.proposal(proposal.id)
            if now.state == "approved" and now.commit == proposal.commit:
                tx.move(proposal.id, "blocked", f"contract: {'; '.join(words)}")

    def _note(self, proposal: Proposal, words: str) -> None:
        """In the log, and on the row, for whoever looks at the idea later."""
        with self._setting.store.write() as tx:
            tx.add_event(self._setting.campaign.id, "conform", words, proposal_id=proposal.id)
            now = tx.proposal(proposal.id)
            if words not in now.risk:
                tx.update_proposal(proposal.id, risk=(*now.risk, words))


def _breaches(setting: Setting, proposal: Proposal) -> list[str]:
    repo, paths = setting.repo, setting.track.script.editable
    with setting.store.read() as reads:
        baseline = reads.proposal(known(proposal.baseline_id))
        basis = rebase.basis(repo, reads, baseline, baseline, paths)
    return breaches(setting.desk, basis, repo.files(known(proposal.commit), paths))
