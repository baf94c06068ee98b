"""Campaigns of many ideas whose truth is known, without training: the decision rule, and keep-if-lower beside it.

Takes a track's decision rule, what ideas gain and the noise; gives a `Tally`. It calls the functions of agent/judge
that a campaign calls. `benchmarks/verdict.py` prints tables of it.
"""

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from agent.judge import noise, verdict
from agent.tables import DecisionRule
from agent.track import Track, parse, shipped

BEFORE = 2.33
SETTLED = 40.0  # degrees of freedom that a campaign's own replicates are worth after some dozen ideas
TRACKS = ("tiny", "golf-1xh100", "golf-8xh100")


@cache
def track(name: str) -> Track:
    return parse(shipped()[name].read_text("utf-8"), name)


@dataclass
class Tally:
    """What became of the ideas of many campaigns."""

    tested: int = 0
    good: int = 0
    runs: int = 0
    candidate_runs: int = 0
    good_runs: int = 0  # candidate runs of good ideas
    promoted: int = 0
    promoted_nulls: int = 0
    found: int = 0  # good ideas that were promoted
    kept: int = 0  # of the promoted, those that fresh runs did not take back
    kept_nulls: int = 0
    head_errors: list[float] = field(default_factory=list)  # true less reported, above 0 is too good
    gain_errors: list[float] = field(default_factory=list)  # of the head over the base, above 0 is too good

    @property
    def null_share(self) -> float:
        return self.promoted_nulls / max(1, self.promoted)

    @property
    def power(self) -> float:
        return self.found / max(1, self.good)


@dataclass
class Head:
    number: int
    truth: float
    before: "Head | None"
    effect: float
    report: dict[int, float] = field(default_factory=dict)
    beaten: int = 0  # ideas that it stood against


class Campaign:
    """One simulated campaign; truth is known, so every commit can be called real or null."""

    def __init__(self, rule: DecisionRule, seed: int | str, sigma: float, tally: Tally) -> None:
        self.rule, self.sigma, self.tally = rule, sigma, tally
        self.draw = random.Random(seed)
        self.groups: dict[noise.Key, dict[int, float]] = {}
        self.believed: noise.Noise | None = None
        self.tested = self.standing = 0
        self.base = self.head = self.new_head(0, BEFORE, None, 0.0)

    def run(self, key: noise.Key, seed: int, truth: float) -> float:
        self.tally.runs += 1
        bpb = self.draw.gauss(truth, self.sigma)
        group = self.groups.setdefault(key, {})
        group[seed] = bpb
        if len(group) > 1:
            self.believed = None  # a single run tells nothing of the noise
        return bpb

    def noise(self) -> noise.Noise:
        if self.believed is None:
            newest = dict(list(self.groups.items())[-250:])  # about what noise.REMEMBERED runs are
            self.believed = noise.estimate(newest, prior_sigma=self.rule.prior_sigma, prior_df=self.rule.prior_df)
        return self.believed

    def new_head(self, number: int, truth: float, before: Head | None, effect: float) -> Head:
        head = Head(number, truth, before, effect)
        for _ in range(self.rule.report_seeds):
            self.another_report(head)
        return head

    def another_report(self, head: Head) -> None:
        seed = head.number * 1000 + len(head.report)
        head.report[seed] = self.run((head.number, None), seed, head.truth)

    def reports(self, least: int) -> None:
        """The head is asked again with each further run of it; one that shows no gain is taken back."""
        head = self.head
        while len(head.report) < least and self.head is head:
            self.another_report(head)
            self.look_again()

    def idea(self, number: int, effect: float) -> None:
        self.tally.tested += 1
        self.tally.good += effect > 0
        level = verdict.level(self.rule, self.tested, self.standing)
        head, accepted = self.head, self.test(number, self.head, effect, level, False)
        while accepted and head is not self.head:  # it was taken back meanwhile: a replay on the present one
            head, accepted = self.head, self.test(number, self.head, effect, level, True)
        self.tested += 1
        if accepted:
            self.promote(number, effect)
        else:
            head.beaten += 1
            self.reports(min(verdict.MOST_REPORTS, self.wanted(self.head)))

    def wanted(self, head: Head) -> int:
        more = head.beaten // self.rule.report_every if self.rule.report_every else 0
        return self.rule.report_seeds + more

    def test(self, number: int, head: Head, effect: float, level: float, confirming: bool) -> bool:
        truth, mine = head.truth - effect, dict[int, float]()
        while True:
            if len(mine) >= 2 and head is self.head:
                self.reports(verdict.baseline_runs(self.rule, len(mine) + 1))
            seed = head.number * 1000 + len(mine)
            mine[seed] = self.run((number, head.number), seed, truth)
            self.tally.candidate_runs += 1
            self.tally.good_runs += effect > 0
            now = self.noise()
            gain = verdict.compare(mine, head.report, now)
            decision = verdict._next(self.rule, level, gain, len(mine), len(head.report), now, confirming)
            if decision not in ("more", "confirm"):
                return decision == "accept"
            confirming = confirming or decision == "confirm"

    def promote(self, number: int, effect: float) -> None:
        self.tally.promoted += 1
        self.tally.promoted_nulls += effect <= 0
        self.tally.found += effect > 0
        self.keep(effect, 1)
        self.head = self.new_head(number, self.head.truth - effect, self.head, effect)
        self.look_again()

    def look_again(self) -> None:
        """A head whose own runs show no gain over the one before is taken back."""
        head = self.head
        while head.before and verdict.compare(head.report, head.before.report, self.noise()).mean <= 0:
            self.keep(head.effect, -1)
            self.head = head = head.before

    def keep(self, effect: float, by: int) -> None:
        self.standing += by
        self.tally.kept += by
        self.tally.kept_nulls += by * (effect <= 0)

    def end(self) -> None:
        reported = statistics.fmean(self.head.report.values())
        self.tally.head_errors.append(self.head.truth - reported)
        gain = statistics.fmean(self.base.report.values()) - reported
        self.tally.gain_errors.append(gain - (self.base.truth - self.head.truth))


def keep_if_lower(seed: int, sigma: float, effects: Sequence[float], tally: Tally) -> None:
    """As most loops do: one run an idea, and what is lower is the next baseline, its lucky run included."""
    draw = random.Random(seed)
    truth = BEFORE
    first = best = draw.gauss(truth, sigma)
    for effect in effects:
        tally.tested += 1
        tally.runs += 1
        tally.candidate_runs += 1
        tally.good += effect > 0
        seen = draw.gauss(truth - effect, sigma)
        if seen < best:
            best, truth = seen, truth - effect
            tally.promoted += 1
            tally.promoted_nulls += effect <= 0
            tally.found += effect > 0
    tally.kept, tally.kept_nulls = tally.promoted, tally.promoted_nulls
    tally.head_errors.append(truth - best)
    tally.gain_errors.append(first - best - (BEFORE - truth))


class Both(NamedTuple):
    ours: Tally
    theirs: Tally


def simulate(rule: DecisionRule, campaigns: int, ideas: int, good: float, size: float, sigma: float) -> Both:
    """Both rules on the same ideas: a share of `good` ones gains `size`, the rest nothing."""
    both = Both(Tally(), Tally())
    for seed in range(campaigns):
        draw = random.Random(f"ideas/{seed}")
        effects = [size if draw.random() < good else 0.0 for _ in range(ideas)]
        campaign = Campaign(rule, seed, sigma, both.ours)
        for at, effect in enumerate(effects):
            campaign.idea(at + 1, effect)
        campaign.end()
        keep_if_lower(seed, sigma, effects, both.theirs)
    return both


class Alone(NamedTuple):
    """Ideas that were each tested against a fresh head of its own."""

    accepted: float
    runs: float


def alone(rule: DecisionRule, count: int, effect: float, sigma: float, settled: float) -> Alone:
    """`settled`: degrees of freedom that the noise was measured with before, beside the track's belief."""
    tally, accepted = Tally(), 0
    for number in range(count):
        draw = random.Random(f"noise/{number}")
        df = rule.prior_df + settled
        squares = rule.prior_df * rule.prior_sigma**2
        squares += sigma**2 * draw.gammavariate(settled / 2, 2.0) if settled else 0.0
        believed = rule.model_copy(update={"prior_sigma": math.sqrt(squares / df), "prior_df": df})
        one = Campaign(believed, f"alone/{number}", sigma, tally)
        accepted += one.test(1, one.head, effect, rule.alpha, False)
    return Alone(accepted / count, tally.candidate_runs / count)


def alone_if_lower(count: int, effect: float, sigma: float) -> Alone:
    """The same ideas for keep-if-lower: one run of each, and one of its baseline."""
    draw = random.Random("lower")
    accepted = sum(draw.gauss(0.0, sigma) > draw.gauss(-effect, sigma) for _ in range(count))
    return Alone(accepted / count, 1.0)
