"""A head's fresh runs: its figure, and what its children must beat.

Takes the store's rows. A fresh run that hit its limit on a core that others used too says nothing of the head: it gets
one more try at its seed, which then stands in its place, however that ends.
"""

from agent.judge import gates
from agent.records import Proposal, Run
from agent.setting import Setting
from agent.steps.classes import within
from agent.store import Reads, Scored


def fresh(
    setting: Setting, reads: Reads, head: Proposal, hardware_class: str, *, documents: bool = True
) -> list[Scored]:
    """Those that stand: of each seed the last, none that is to be tried again. Of one class, or all where none is
    named."""
    runs = reads.runs(head.campaign_id, proposal_id=head.id, purposes={"report"}, states={"done"})
    runs = [run for run in within(runs, hardware_class) if not run.set_aside]
    last = {run.seed: run.id for run in runs}
    again = disturbed(setting, reads, head, runs)
    found = reads.scored(head.campaign_id, proposal_id=head.id, documents=documents)
    return [one for one in found if one.run.id == last.get(one.run.seed) and one.run.seed not in again]


def disturbed(setting: Setting, reads: Reads, head: Proposal, runs: list[Run]) -> frozenset[int]:
    """Seeds of the head's `runs` whose only fresh run that came to an end was starved of its core."""
    done = [run.seed for run in runs if run.purpose == "report" and run.state == "done"]
    capped = {run.id for run in runs if run.outcome == "capped" and done.count(run.seed) == 1}
    if not capped:
        return frozenset()
    scored = [
        one
        for proposal_id in (head.id, head.baseline_id)
        if proposal_id is not None
        for one in reads.scored(head.campaign_id, proposal_id=proposal_id, documents=False)
    ]
    quiet = [one for one in scored if one.run.rung == setting.track.decision.rung and one.measurement.bpb is not None]
    return frozenset(
        one.run.seed for one in scored if one.run.id in capped and gates.starved(setting.track, one, quiet)
    )
