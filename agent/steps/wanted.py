"""Which runs the campaign wants next, in order of urgency.

Takes the store's rows; gives `Wanted` records. Reads only: what is wanted follows from what is there, so after a crash
the same question has the same answer.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from agent import calibration, review
from agent.judge.verdict import MOST_REPORTS, baseline_runs
from agent.records import Proposal, ProposalState, Purpose, Run, Verdict
from agent.setting import Setting, known
from agent.steps import classes, losses
from agent.steps.fresh import disturbed
from agent.steps.limits import affordable, worst_run
from agent.store import Reads, Scored
from agent.store.promises import overtaken
from agent.tables import Rung

PATIENCE = 6  # younger ideas that may run before one that waits
BEATEN: frozenset[ProposalState] = frozenset({"worse", "inconclusive", "oversize"})
LIVE: frozenset[ProposalState] = frozenset({"approved", "lost", "measured", "confirming"})
TEST: frozenset[Purpose] = frozenset({"trial", "screen", "confirm", "replay", "recheck"})
TRIAL = -1  # which of a head's seeds trials have: none of those that decide


@dataclass(frozen=True)
class Wanted:
    proposal: Proposal
    purpose: Purpose
    baseline_id: int | None
    seed: int
    attempt: int
    held: bool  # the proposal's hold set money aside for it
    rung: str
    classes: tuple[str, ...] = ()  # of machines that it may be on; empty: any, and the test's other runs go there too


class Yardstick(NamedTuple):
    """A baseline's own run at a cheaper rung, made once for all ideas that are tried there against it."""

    runs: tuple[Run, ...]
    scored: Scored | None
    useless: bool
    """It gave no score, and no further one is made: nothing can be compared with it."""


def begins(item: Wanted) -> bool:
    """Whether it is the first run of an idea: nothing was spent on it yet."""
    return item.proposal.state == "approved"


def sparing(items: Sequence[Wanted], *, idle: bool) -> list[Wanted]:
    """Those that start while an idea that passed waits for money: what is paid for, and what an idea on its way to
    become the head can't go on without. Where nothing else would happen (`idle`), all that is under way."""
    first = [item for item in items if item.held or item.purpose in ("report", "recheck")]
    return first or ([item for item in items if not begins(item)] if idle else [])


def seed_of(campaign_seed: int, head_id: int, index: int) -> int:
    """Seeds belong to a head: its own report runs draw them, and so do the runs that are compared with it."""
    digest = hashlib.sha256(f"{campaign_seed}/{head_id}/{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def wanted(setting: Setting, reads: Reads) -> list[Wanted]:
    """All runs that could start now, most urgent first: what others wait for, then the oldest idea under way.

    Of those that have not started, first what has waited too long, then what promises most for what it may cost.
    """
    campaign_id, head = setting.campaign.id, reads.head(setting.campaign.id)
    live = reads.proposals(campaign_id, LIVE)
    looks = [found for one in live if (found := look(setting, reads, head, one)) is not None]
    tests = {one.id: test(setting, reads, one) for one in live}

    def waited(proposal_id: int) -> bool:
        return overtaken(reads, campaign_id, proposal_id, PATIENCE) >= PATIENCE

    def trust() -> calibration.TrustOf:
        return calibration.trust_of(calibration.table(reads, campaign_id))

    return ordered(setting, live, report(setting, reads, head, looks), tests, waited, trust)


def ordered(
    setting: Setting,
    live: Sequence[Proposal],
    reports: Sequence[Wanted],
    tests: Mapping[int, Sequence[Wanted]],
    waited: Callable[[int], bool],
    trust: Callable[[], calibration.TrustOf],
) -> list[Wanted]:
    """`tests`: what each of the `live` proposals wants. `waited`: whether it has waited too long."""
    found = list(reports)
    place = _turns(setting, [one for one in live if one.state == "approved"], waited, trust)
    for proposal in sorted(live, key=lambda one: (place.get(one.id, 0), one.id)):
        found += tests[proposal.id]
    return _once(sorted(found, key=lambda item: _RANK[item.purpose]))


def _once(items: Sequence[Wanted]) -> list[Wanted]:
    """Several ideas may want the same run of their baseline."""
    found: dict[tuple[int, str, int, tuple[str, ...]], Wanted] = {}
    for item in items:
        found.setdefault((item.proposal.id, item.rung, item.seed, item.classes), item)
    return list(found.values())


def _turns(
    setting: Setting,
    new: Sequence[Proposal],
    waited: Callable[[int], bool],
    trust: Callable[[], calibration.TrustOf],
) -> dict[int, int]:
    """The place of each idea that has not started, from 1 on."""
    if len({one.planner for one in new}) < 2 and _in_order(setting, new):
        return {proposal.id: 1 for proposal in new}  # by age
    late = [one for one in new if waited(one.id)]
    best = [item.proposal for item in review.ranked(new, 1.0, setting.track, trust())]
    first = {one.id for one in late}
    order = [*late, *(one for one in best if one.id not in first)]
    return {proposal.id: place for place, proposal in enumerate(_by_planner(setting, order), 1)}


def _by_planner(setting: Setting, order: Sequence[Proposal]) -> list[Proposal]:
    """The same turns of each planner; but those that think one idea at a time keep the order of their own.

    Each of these ideas was the best that its planner had, by more than its expected gain: what a try would teach, too.
    """
    mine: dict[str, list[Proposal]] = {}
    for one in sorted(order, key=lambda one: one.id):
        mine.setdefault(one.planner, []).append(one)
    return [mine[one.planner].pop(0) if _in_order(setting, [one]) else one for one in order]


def _in_order(setting: Setting, ideas: Sequence[Proposal]) -> bool:
    """Whether all of these come from planners that are asked one question at a time."""
    quick = {planner.name for planner in setting.planners if planner.parallel == 1}
    return all(one.planner in quick for one in ideas)


_RANK: dict[Purpose, int] = {
    "anchor": 0,
    "rescore": 0,
    "report": 0,
    "recheck": 1,
    "replay": 2,
    "confirm": 3,
    "screen": 4,
    "trial": 4,
}


def in_flight(runs: list[Run]) -> bool:
    return any(run.state in ("queued", "running") for run in runs)


def of_test(runs: list[Run], proposal: Proposal) -> list[Run]:
    """The runs that compare the proposal with its present baseline."""
    return [run for run in runs if run.purpose in TEST and run.baseline_id == proposal.baseline_id]


def report(setting: Setting, reads: Reads, head: Proposal, looks: Sequence[int]) -> list[Wanted]:
    """The head's fresh runs, all at once: everything else is compared with them. The longer it stands, the more.

    In its home class first. On machines of another class nothing can be compared before it has fresh runs there too.
    `looks`: what `look` said of the ideas that are compared with it.
    """
    rule, home = setting.track.decision, classes.home(setting, reads, head)
    runs = [run for run in reads.runs(setting.campaign.id, proposal_id=head.id) if run.purpose == "report"]
    most, mine = _reports(setting, reads, head, looks), classes.within(runs, home)
    paid = rule.report_seeds if head.baseline_id is not None else 0  # the base has no hold
    found = _report_in(setting, reads, head, home, mine, most, paid)
    first = set(seeds_of(setting, head.id, rule.report_seeds + len(disturbed(setting, reads, head, mine).passed)))
    # Further ones make comparisons surer. Where they can't be paid, nothing waits for them.
    if not affordable(reads.balance(setting.campaign.id), worst_run(setting, reads).gpu_s):
        return [item for item in found if item.seed in first]
    for name in classes.others(setting, home):
        found += _report_in(setting, reads, head, name, classes.within(runs, name), most, 0)
    return found


def _report_in(
    setting: Setting, reads: Reads, head: Proposal, name: str, runs: list[Run], most: int, paid: int
) -> list[Wanted]:
    """Those of one class. `runs`: the ones there already; `paid`: how many the head's hold pays for, and what takes
    the place of one of them."""
    out = disturbed(setting, reads, head, runs)
    more = len(out.passed)  # seeds in the stead of those
    held, rung = paid + more if paid else 0, setting.track.decision.rung
    return [
        Wanted(head, "report", None, seed, attempt, index < held, rung, (name,) if name else ())
        for index, seed in enumerate(seeds_of(setting, head.id, most + more))
        if (attempt := _attempt(runs, seed, out.again)) is not None
        and not losses.hopeless(runs, seed, head)
        and not losses.rests([run for run in runs if run.seed == seed])
    ]


def given_up(setting: Setting, reads: Reads, runs: list[Run], head: Proposal) -> Run | None:
    """The last of the runs that were lost at one of the head's first seeds, if no further one is tried.

    `runs`: its fresh ones, of its home class.
    """
    out = disturbed(setting, reads, head, runs)
    for seed in seeds_of(setting, head.id, setting.track.decision.report_seeds + len(out.passed)):
        if _attempt(runs, seed, out.again) is not None and losses.hopeless(runs, seed, head):
            counted = ("", losses.NOT_BEGUN)
            return [run for run in runs if run.seed == seed and run.state == "lost" and run.set_aside in counted][-1]
    return None


def _reports(setting: Setting, reads: Reads, head: Proposal, looks: Sequence[int]) -> int:
    """How many fresh runs the head is worth. Its mean is in every comparison: if its runs were lucky, no idea passes,
    and if unlucky, chance does. So it grows with the ideas that it stood against, and with looks at one of them."""
    rule = setting.track.decision
    most = max(0, MOST_REPORTS - rule.report_seeds)
    beaten = 0
    if rule.report_every:
        beaten = reads.count_against(head.id, BEATEN, most=most * rule.report_every) // rule.report_every
    return max([rule.report_seeds + beaten, *(baseline_runs(rule, look) for look in looks)])


def look(setting: Setting, reads: Reads, head: Proposal, proposal: Proposal) -> int | None:
    """At how many seeds an idea that is compared with this head, and goes on, will be looked at next."""
    if proposal.baseline_id != head.id or proposal.state not in ("measured", "confirming"):
        return None
    runs = of_test(reads.runs(setting.campaign.id, proposal_id=proposal.id), proposal)
    done = [run for run in runs if run.state == "done"]
    if len(done) > sum(one.baseline_id == head.id for one in reads.verdicts(proposal.id)):
        return None
    return 1 + len({run.seed for run in done if run.rung == setting.track.decision.rung})


def test(setting: Setting, reads: Reads, proposal: Proposal) -> list[Wanted]:
    """The next run of an idea, one at a time: its verdict may be that no other is needed."""
    rule, baseline_id = setting.track.decision, known(proposal.baseline_id)
    all_runs = reads.runs(setting.campaign.id, proposal_id=proposal.id)
    runs = of_test(all_runs, proposal)
    if in_flight(runs) or losses.rests(runs):
        return []
    verdicts = reads.verdicts(proposal.id) if all_runs else []
    rung = trial_rung(setting, proposal, all_runs, verdicts)
    measure = None if rung is None else yardstick(setting, reads, proposal, rung)
    if rung is not None and measure is not None and (missing := _of_baseline(setting, reads, proposal, rung, measure)):
        return [missing]
    verdicts = [one for one in verdicts if one.baseline_id == baseline_id]
    done = [run for run in runs if run.state == "done"]
    if len(verdicts) < len(done):
        return []  # not decided yet
    if verdicts and verdicts[-1].decision == "recheck":
        last = done[-1]
        held = proposal.state == "confirming"
        may: tuple[str, ...] = (last.hardware_class,)
        return [Wanted(proposal, "recheck", baseline_id, last.seed, last.attempt + 1, held, last.rung, may)]
    if rung is not None and measure is not None and not measure.useless:
        seed = seed_of(setting.campaign.seed, baseline_id, TRIAL)
        bound = classes.of_runs(measure.runs)
        may = (bound,) if bound else ()
        return [Wanted(proposal, "trial", baseline_id, seed, len(runs) + 1, False, rung.name, may)]
    purpose: Purpose = "screen"
    if proposal.state == "confirming":
        purpose = "replay" if len(all_runs) > len(runs) else "confirm"
    for seed in seeds_of(setting, baseline_id, rule.max_seeds):
        attempt = _attempt(runs, seed)
        if attempt is not None:
            may = _may(setting, reads, runs, baseline_id)
            return [Wanted(proposal, purpose, baseline_id, seed, attempt, purpose != "screen", rule.rung, may)]
    return []


def _may(setting: Setting, reads: Reads, runs: Sequence[Run], baseline_id: int) -> tuple[str, ...]:
    """The class that the test is in, or those in which it may begin."""
    bound = classes.of_runs([run for run in runs if run.rung == setting.track.decision.rung])
    return (bound,) if bound else classes.standing(setting, reads, reads.proposal(baseline_id))


def trial_rung(setting: Setting, proposal: Proposal, runs: Sequence[Run], verdicts: Sequence[Verdict]) -> Rung | None:
    """Where the idea is to be tried before it is screened; None: nowhere, or that is behind it."""
    passed = any(one.decision == "screen" for one in verdicts)
    if passed or any(run.rung == setting.track.decision.rung for run in runs):
        return None
    return setting.track.cheaper(proposal.rung)


def yardstick(setting: Setting, reads: Reads, proposal: Proposal, rung: Rung) -> Yardstick:
    """What the idea's trial is compared with."""
    baseline_id = known(proposal.baseline_id)
    runs = reads.runs(setting.campaign.id, proposal_id=baseline_id, purposes={"trial"})
    # As an idea it may have been tried itself, with a seed of the head before.
    runs = [run for run in runs if run.baseline_id is None and run.rung == rung.name]
    done = {run.id for run in runs if run.state == "done"}
    scored = reads.scored(setting.campaign.id, proposal_id=baseline_id, documents=False) if done else []
    found = next((one for one in scored if one.run.id in done and one.measurement.bpb is not None), None)
    hopeless = (losses.hopeless(runs, run.seed, reads.proposal(baseline_id)) for run in runs)
    return Yardstick(tuple(runs), found, found is None and (bool(done) or any(hopeless)))


def _of_baseline(setting: Setting, reads: Reads, proposal: Proposal, rung: Rung, measure: Yardstick) -> Wanted | None:
    """The baseline's own trial, where it is still to be made: paid like any run."""
    baseline = reads.proposal(known(proposal.baseline_id))
    seed = seed_of(setting.campaign.seed, baseline.id, TRIAL)
    attempt = None if measure.useless else _attempt(list(measure.runs), seed)
    return None if attempt is None else Wanted(baseline, "trial", None, seed, attempt, False, rung.name)


def seeds_of(setting: Setting, head_id: int, most: int) -> list[int]:
    return [seed_of(setting.campaign.seed, head_id, index) for index in range(most)]


def _attempt(runs: list[Run], seed: int, again: Collection[int] = ()) -> int | None:
    """Which try at this seed is next: one that was lost or cancelled keeps its seed. None: it is done or under way.

    `again`: seeds at which what is done does not count.
    """
    tries = [run for run in runs if run.seed == seed]
    if in_flight(tries) or (seed not in again and any(run.state == "done" and not run.set_aside for run in tries)):
        return None
    return len(tries) + 1
