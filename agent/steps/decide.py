"""judge -> verdict: says after each run what becomes of the idea, and writes verdict and state together.

Takes what was measured of an idea and of its baseline; gives the number of ideas that were decided.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from agent import budget
from agent.errors import BudgetExceeded
from agent.judge import gates, leases, noise, trial, verdict
from agent.records import Decision, Proposal, ProposalState, Verdict
from agent.setting import Setting, known
from agent.steps import anchors, classes, holds
from agent.steps.fresh import fresh
from agent.steps.wanted import in_flight, of_test, trial_rung, yardstick
from agent.store import Reads, Scored, Spent
from agent.tables import DecisionRule, Rung

NEXT_STATE: dict[Decision, ProposalState] = {
    "confirm": "confirming",
    "accept": "auditing",
    "worse": "worse",
    "inconclusive": "inconclusive",
    "invalid": "invalid",
    "oversize": "oversize",
    "crashed": "crashed",
    "inert": "duplicate",
    "starved": "unfunded",
}


@dataclass(frozen=True)
class Tried:
    """What becomes of an idea after its trial."""

    rung: Rung
    candidate: tuple[Scored, ...]
    baseline: Scored | None  # None: its run there has no score
    sizes: tuple[int, ...]  # bytes of the baseline's report runs
    spent: tuple[Spent, ...]


DUE: frozenset[ProposalState] = frozenset({"measured", "confirming"})
# Ideas that were compared with a head; those that their trial ended are among them, which errs to the careful side.
TESTED: frozenset[ProposalState] = frozenset({"worse", "inconclusive", "oversize", "promoted", "reverted"})
STANDING: frozenset[ProposalState] = frozenset({"promoted"})
MOST_SPENT = 32  # runs that tell what training takes


@dataclass(frozen=True)
class Evidence:
    """All that a verdict may rest on."""

    candidate: tuple[Scored, ...]  # runs of this test, by run id
    baseline: tuple[Scored, ...]  # the baseline's report runs
    noise: noise.Noise
    level: float  # at which this idea is tested
    spent: tuple[Spent, ...]  # by the campaign's base at the same rung
    gain: verdict.Gain | None = None  # where machines make a score


class Decided(NamedTuple):
    """What became of ideas that were looked at."""

    states: Mapping[int, ProposalState | None]
    """Of those that got a verdict; None: it stays what it was."""
    waiting: frozenset[int]
    """Of ideas that passed and can't be paid yet."""
    stalled: frozenset[int]
    """Of those that nothing can be said of yet."""


def decide(setting: Setting, only: Collection[int] | None = None) -> Decided:
    """Decides every idea whose last run has been measured; `only` these, where something happened to no other."""
    anchors.close(setting)
    if only is not None and not only:
        return Decided({}, frozenset(), frozenset())
    with setting.store.read() as reads:
        if only is None:
            proposals = reads.proposals(setting.campaign.id, DUE)
        else:
            proposals = [one for one in map(reads.proposal, sorted(only)) if one.state in DUE]
        due = [(p, seen) for p in proposals if (seen := evidence(setting, reads, p)) is not None]
    states: dict[int, ProposalState | None] = {}
    found = {proposal.id: judge(setting, proposal, seen) for proposal, seen in due}
    # First those that can be paid: what becomes free by their verdicts may be enough for the others.
    for last in (False, True):
        for proposal, _ in due:
            if proposal.id not in states and _write(setting, proposal, found[proposal.id], give_up=last):
                states[proposal.id] = _next_state(proposal, found[proposal.id])
    looked_at = frozenset(proposal.id for proposal, _ in due)
    stalled = frozenset(proposal.id for proposal in proposals) - looked_at
    return Decided(states, looked_at - states.keys(), stalled)


def undecided(setting: Setting, reads: Reads) -> bool:
    """Whether an idea that passed its screening waits for other reservations to shrink."""
    return any(
        evidence(setting, reads, proposal) is not None
        for proposal in reads.proposals(setting.campaign.id, {"measured", "confirming"})
    )


def evidence(setting: Setting, reads: Reads, proposal: Proposal) -> Evidence | Tried | None:
    """What is known of an idea that is due for a verdict; None while it or its baseline is still running.

    Runs of its trial and runs at the rung that decides are never looked at together.
    """
    campaign, rule = setting.campaign, setting.track.decision
    baseline_id = known(proposal.baseline_id)
    everything = reads.runs(campaign.id, proposal_id=proposal.id)
    runs = of_test(everything, proposal)
    done = [run for run in runs if run.state == "done"]
    verdicts = reads.verdicts(proposal.id)
    if in_flight(runs) or len(done) <= sum(v.baseline_id == baseline_id for v in verdicts):
        return None
    candidate = reads.scored(campaign.id, proposal_id=proposal.id)
    hardware_class = classes.of_runs([run for run in runs if run.rung == rule.rung])
    baseline = fresh(setting, reads, reads.proposal(baseline_id), hardware_class)
    if len(baseline) < rule.report_seeds:
        return None
    rung = trial_rung(setting, proposal, everything, verdicts)
    ids = {run.id for run in done if run.rung == (rule.rung if rung is None else rung.name)}
    if rung is not None:
        measure = yardstick(setting, reads, proposal, rung)
        if measure.scored is None and not measure.useless:
            return None
        spent = _spent(setting, reads, rung.name, classes.of_runs([run for run in runs if run.rung == rung.name]))
        sizes = tuple(s.measurement.total_bytes for s in baseline if s.measurement.total_bytes is not None)
        return Tried(rung, tuple(s for s in candidate if s.run.id in ids), measure.scored, sizes, spent)
    mine = tuple(s for s in candidate if s.run.id in ids and not s.run.set_aside)
    sigma = noise_of(setting, reads, hardware_class)
    gain = anchors.gain(setting, reads, mine, baseline, sigma) if anchors.asked_for(setting) else None
    if gain is None and anchors.asked_for(setting) and any(s.measurement.bpb is not None for s in mine):
        return None  # the head has not run on the idea's machine yet
    spent = _spent(setting, reads, rule.rung, hardware_class)
    return Evidence(mine, tuple(baseline), sigma, _level(reads, campaign.id, rule), spent, gain)


def _spent(setting: Setting, reads: Reads, rung: str, hardware_class: str) -> tuple[Spent, ...]:
    """What the budget is measured by, where there is one."""
    if setting.track.compute is None:
        return ()
    return tuple(reads.spent(setting.campaign.id, rung, hardware_class, most=MOST_SPENT))


def noise_of(setting: Setting, reads: Reads, hardware_class: str) -> noise.Noise:
    """Between seeds, on machines of one class; where machines make a score, within each of them."""
    rule = setting.track.decision
    found = reads.replicates(setting.campaign.id, hardware_class, newest=noise.REMEMBERED)
    groups = noise.groups(leases.apart(found) if anchors.asked_for(setting) else found)
    return noise.estimate(groups, prior_sigma=rule.prior_sigma, prior_df=rule.prior_df)


def _level(reads: Reads, campaign_id: int, rule: DecisionRule) -> float:
    """The base is promoted too, and was no idea."""
    tested, standing = (reads.count_proposals(campaign_id, states) - 1 for states in (TESTED, STANDING))
    return verdict.level(rule, tested, standing)


def judge(setting: Setting, proposal: Proposal, found: Evidence | Tried) -> Verdict:
    """Rules first, then statistics."""
    track = setting.track
    if isinstance(found, Tried):
        return trial.decide(track, found.rung, proposal, found.candidate, found.baseline, found.sizes, found.spent)
    broken = gates.check(track, found.candidate, found.baseline, found.spent)
    if broken is not None:
        return Verdict(proposal.id, known(proposal.baseline_id), broken.decision, broken.words)
    return verdict.decide(
        track,
        proposal,
        candidate=gates.effective(found.candidate),
        baseline=found.baseline,
        noise=found.noise,
        level=found.level,
        confirming=proposal.state == "confirming",
        gain=found.gain,
    )


def _write(setting: Setting, proposal: Proposal, found: Verdict, *, give_up: bool = True) -> bool:
    """Whether there is a verdict now. `give_up`: on what nobody will ever pay."""
    try:
        with setting.store.write() as tx:
            tx.add_verdict(found)
            state = _next_state(proposal, found)
            if found.decision == "screen":
                tx.add_event(setting.campaign.id, "tried", found.words, proposal_id=proposal.id)
            if proposal.state == "confirming" and found.decision in ("confirm", "more", "recheck"):
                holds.extend(setting, tx, proposal)
            if state is None:
                return True
            if state == "confirming":
                holds.begin(setting, tx, proposal, found.n_candidate)
            tx.move(proposal.id, state, found.words)
            if state not in ("confirming", "auditing"):
                budget.let_go(tx, proposal.id, state)
            return True
    except BudgetExceeded as error:
        return give_up and _unfunded(setting, proposal, found, str(error))


def _next_state(proposal: Proposal, found: Verdict) -> ProposalState | None:
    if found.decision in ("screen", "more", "recheck"):
        return None
    if found.decision == "confirm" and proposal.state == "confirming":
        return None
    return NEXT_STATE[found.decision]


def _unfunded(setting: Setting, proposal: Proposal, found: Verdict, why: str) -> bool:
    """Waits while other reservations may still shrink; if there are none, this idea is for the next campaign."""
    with setting.store.write() as tx:
        if not holds.hopeless(setting, tx, proposal):
            return False
        tx.add_verdict(found)
        tx.move(proposal.id, "unfunded", f"{found.words}; but {why}")
        budget.let_go(tx, proposal.id, "unfunded")
        return True
