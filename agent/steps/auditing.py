"""Says how closely the judge looks at a run's score, before the run starts; and whether that was close enough.

Takes a run, or an idea that passed; gives `Auditing`, or what is lacking. Reads only. Runs that an acceptance may rest
on are audited in full: those that confirm or report, and a first one whose score comes out good enough to count for
its idea. What screens badly is not worth it.
"""

from agent.job.folder import JobPaths
from agent.judge import gates
from agent.judge.measure import DIM, kept_reference
from agent.judge.task import ACCUSATIONS, UNFINISHED, Auditing, Reference
from agent.records import Proposal, Purpose, Run
from agent.setting import Setting, known
from agent.steps.fresh import fresh
from agent.store import Reads, Scored

RESTED_ON: frozenset[Purpose] = frozenset({"confirm", "replay", "report", "recheck", "anchor", "rescore"})


def auditing(setting: Setting, reads: Reads, run: Run) -> Auditing:
    rule = setting.track.decision
    if setting.track.trust != "blind" or run.rung != rule.rung:
        return Auditing()
    proposal = reads.proposal(run.proposal_id)
    baseline = (
        [] if proposal.baseline_id is None else fresh_of(setting, reads, proposal.baseline_id, run.hardware_class)
    )
    kept = next((found for one in reversed(baseline) if (found := reference(setting, one)) is not None), None)
    full = run.purpose in RESTED_ON or not baseline
    return Auditing(
        strength="full" if full else "quick",
        full_below=None if full else mean_bpb(baseline) - rule.min_gain,
        min_gain=rule.min_gain,
        reference=kept,
    )


def unaudited(setting: Setting, reads: Reads, proposal: Proposal) -> str | None:
    """Why a track that demands `blind` can't have the idea yet, in words: what was not audited in full must not make
    it look better than what was."""
    if setting.track.trust != "blind":
        return None
    rung = setting.track.decision.rung
    scored = reads.scored(setting.campaign.id, proposal_id=proposal.id, documents=False)
    mine = [
        one
        for one in scored
        if one.run.baseline_id == proposal.baseline_id and one.run.rung == rung and not one.run.set_aside
    ]
    runs = [one for one in gates.effective(mine) if one.measurement.bpb is not None]
    blind = [one for one in runs if one.measurement.trust == "blind" or _waived(setting, reads, one)]
    others = [one for one in runs if one not in blind]
    if not blind:
        return "none of its runs has a blind score"
    if others and mean_bpb(others) < mean_bpb(blind):
        names = ", ".join(f"r{one.run.id}" for one in others)
        return f"its gain rests on {names}, whose scores are not blind"
    return None


def _waived(setting: Setting, reads: Reads, one: Scored) -> bool:
    """Whether all but walls makes its score blind: where a person does without them, no score is, and none leads."""
    if not setting.campaign.unsafe or "unsafe" not in one.run.walls:
        return False
    audit = known(reads.measurement(one.run.id)).audit
    against = {finding.rule for finding in one.measurement.findings} & {DIM, UNFINISHED, *ACCUSATIONS}
    return audit is not None and audit.strength == "full" and not against


def fresh_of(setting: Setting, reads: Reads, proposal_id: int, hardware_class: str) -> list[Scored]:
    """The fresh runs of what an idea is compared with, those that have a score."""
    found = fresh(setting, reads, reads.proposal(proposal_id), hardware_class, documents=False)
    return [one for one in found if one.measurement.bpb is not None]


def mean_bpb(runs: list[Scored]) -> float:
    return sum(known(one.measurement.bpb) for one in runs) / len(runs)


def reference(setting: Setting, one: Scored) -> Reference | None:
    """The scores that the judge kept of a run, if they are still there; by their path from the folder of all jobs."""
    paths = JobPaths(setting.job(one.run.id))
    sha = kept_reference(paths)
    if sha is None or not paths.reference.is_file():
        return None
    return Reference(f"{paths.folder.name}/{paths.reference.name}", sha)
