"""A head's fresh runs: its figure, and what its children must beat.

Takes the store's rows. A fresh run that hit its limit on a core that others used too says nothing of the head: it is
tried again at its seed. A seed at which that helped nothing is passed over, for one more in its stead; but not more of
them than a head needs, for a script that waits for something looks the same.
"""

from collections import Counter
from typing import NamedTuple

from agent.judge import gates
from agent.records import Proposal, Run
from agent.setting import Setting
from agent.steps.classes import within
from agent.store import Reads, Scored


def fresh(
    setting: Setting, reads: Reads, head: Proposal, hardware_class: str, *, documents: bool = True
) -> list[Scored]:
    """Those that stand: of each seed the last, none that is to be tried again or is passed over. Of one class, or all
    where none is named."""
    runs = reads.runs(head.campaign_id, proposal_id=head.id, purposes={"report"}, states={"done"})
    runs = [run for run in within(runs, hardware_class) if not run.set_aside]
    last = {run.seed: run.id for run in runs}
    out = disturbed(setting, reads, head, runs)
    found = reads.scored(head.campaign_id, proposal_id=head.id, documents=documents)
    return [one for one in found if one.run.id == last.get(one.run.seed) and one.run.seed not in out.all]


class Disturbed(NamedTuple):
    """Seeds at which every fresh run that came to an end was starved of its core."""

    again: frozenset[int] = frozenset()
    """To be tried once more."""
    passed: frozenset[int] = frozenset()
    """Tried often enough."""

    @property
    def all(self) -> frozenset[int]:
        return self.again | self.passed


def disturbed(setting: Setting, reads: Reads, head: Proposal, runs: list[Run]) -> Disturbed:
    """Of the head's `runs`."""
    done = [run for run in runs if run.purpose == "report" and run.state == "done"]
    starved = _starved(setting, reads, head, done)
    tries = {run.seed: sum(other.seed == run.seed for other in done) for run in done}
    again = [seed for seed, n in tries.items() if starved[seed] == n < gates.MOST_STARVED]
    passed = [seed for seed, n in tries.items() if starved[seed] == n >= gates.MOST_STARVED]
    return Disturbed(frozenset(again), frozenset(passed[: setting.track.decision.report_seeds]))


def _starved(setting: Setting, reads: Reads, head: Proposal, done: list[Run]) -> Counter[int]:
    """How many of them were, by seed."""
    capped = {run.id for run in done if run.outcome == "capped"}
    if not capped:
        return Counter()
    scored = [
        one
        for proposal_id in (head.id, head.baseline_id)
        if proposal_id is not None
        for one in reads.scored(head.campaign_id, proposal_id=proposal_id, documents=False)
    ]
    quiet = [one for one in scored if one.run.rung == setting.track.decision.rung and one.measurement.bpb is not None]
    return Counter(one.run.seed for one in scored if one.run.id in capped and gates.starved(setting.track, one, quiet))
