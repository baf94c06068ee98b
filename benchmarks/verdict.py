"""Simulates campaigns of many ideas of which few are good, and counts which commits are real.

`python -m benchmarks.verdict [--campaigns N]`: the tiny track's decision rule beside keep-if-lower (one run,
lower is kept), on the same ideas and the same noise. Prints the share of kept commits that are nulls, the
power, the runs per idea, and the error of the figure that is reported for the head. It calls the functions of
agent/judge that a campaign calls.
"""

import argparse
import random
import statistics
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.judge import noise, verdict
from agent.steps.wanted import MOST_REPORTS
from agent.track import parse, shipped

RULE = parse(shipped()["tiny"].read_text("utf-8"), "tiny").decision  # what a campaign decides by


@dataclass
class Tally:
    kept: int = 0
    nulls: int = 0
    found: int = 0
    good: int = 0
    runs: int = 0
    ideas: int = 0
    head_errors: list[float] = field(default_factory=list)

    def row(self, name: str) -> str:
        kept = max(1, self.kept)
        error = statistics.mean(self.head_errors)
        return (
            f"{name:16} kept {self.kept:6} nulls {100 * self.nulls / kept:5.1f} %  good ideas found "
            f"{100 * self.found / max(1, self.good):5.1f} %  runs per idea {self.runs / self.ideas:4.2f}  "
            f"head reported too good by {error:+.4f} BPB"
        )


@dataclass
class Score:
    proposal_id: int
    baseline_id: int | None
    seed: int
    bpb: float


class Head(NamedTuple):
    """A head that was left for a better one, and what the better one is truly worth."""

    truth: float
    proposal: int
    report: dict[int, float]
    beaten: int
    effect: float


class Campaign:
    """One simulated campaign; truth is known, so every commit can be called real or null."""

    def __init__(self, seed: int, sigma: float, tally: Tally) -> None:
        self.draw = random.Random(seed)
        self.sigma = sigma
        self.tally = tally
        self.scores: list[Score] = []
        self.truth = 2.33
        self.head = 0
        self.report: dict[int, float] = {}
        self.beaten = 0  # ideas that the head stood against
        self.left: list[Head] = []
        self.new_head(0)

    def run(self, truth: float) -> float:
        self.tally.runs += 1
        return self.draw.gauss(truth, self.sigma)

    def new_head(self, proposal: int) -> None:
        self.head = proposal
        self.report, self.beaten = {}, 0
        for _ in range(RULE.report_seeds):
            self.another_report()

    def another_report(self) -> None:
        seed = self.head * 1000 + len(self.report)
        self.report[seed] = self.run(self.truth)
        self.scores.append(Score(self.head, None, seed, self.report[seed]))

    def noise(self) -> noise.Noise:
        return noise.estimate(noise.groups(self.scores[-400:]), prior_sigma=RULE.prior_sigma, prior_df=RULE.prior_df)

    def idea(self, proposal: int, effect: float) -> None:
        self.tally.ideas += 1
        self.tally.good += effect > 0
        truth, confirming = self.truth - effect, False
        mine: dict[int, float] = {}
        while True:
            seed = self.head * 1000 + len(mine)
            mine[seed] = self.run(truth)
            self.scores.append(Score(proposal, self.head, seed, mine[seed]))
            now = self.noise()
            gain = verdict.compare(mine, self.report, now)
            decision = verdict._next(RULE, gain, len(mine), len(self.report), now, confirming)
            if decision == "accept":
                return self.accept(proposal, effect)
            if decision not in ("more", "confirm"):
                return self.stands()
            confirming = confirming or decision == "confirm"

    def stands(self) -> None:
        self.beaten += 1
        if RULE.report_every and self.beaten % RULE.report_every == 0 and len(self.report) < MOST_REPORTS:
            self.another_report()
            self.look_again()

    def accept(self, proposal: int, effect: float) -> None:
        self.left.append(Head(self.truth, self.head, self.report, self.beaten, effect))
        self.truth -= effect
        self.new_head(proposal)
        self.count(effect, 1)
        self.look_again()

    def look_again(self) -> None:
        """A head whose own runs show no gain over the one before is taken back."""
        if self.left and verdict.compare(self.report, self.left[-1].report, self.noise()).mean <= 0:
            self.truth, self.head, self.report, self.beaten, effect = self.left.pop()
            self.count(effect, -1)

    def count(self, effect: float, by: int) -> None:
        self.tally.kept += by
        self.tally.nulls += by * (effect <= 0)
        self.tally.found += by * (effect > 0)

    def error(self) -> float:
        return self.truth - statistics.mean(self.report.values())


def keep_if_lower(seed: int, sigma: float, effects: list[float], tally: Tally) -> None:
    draw = random.Random(seed)
    truth = 2.33
    best = draw.gauss(truth, sigma)
    for effect in effects:
        tally.ideas += 1
        tally.runs += 1
        tally.good += effect > 0
        seen = draw.gauss(truth - effect, sigma)
        if seen < best:
            best, truth = seen, truth - effect
            tally.kept += 1
            tally.nulls += effect <= 0
            tally.found += effect > 0
    tally.head_errors.append(truth - best)


def simulate(campaigns: int, ideas: int, good: float, size: float, sigma: float) -> tuple[Tally, Tally]:
    """Both rules on the same ideas: a share of `good` ones gains `size`, the rest nothing or they hurt."""
    ours, theirs = Tally(), Tally()
    for seed in range(campaigns):
        draw = random.Random(f"ideas/{seed}")
        effects = [size if draw.random() < good else 0.0 for _ in range(ideas)]
        campaign = Campaign(seed, sigma, ours)
        for at, effect in enumerate(effects):
            campaign.idea(at + 1, effect)
        ours.head_errors.append(campaign.error())
        keep_if_lower(seed, sigma, effects, theirs)
    return ours, theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--campaigns", type=int, default=200)
    count = parser.parse_args().campaigns
    for size in (0.02, 0.03, 0.05, 0.10):
        for sigma in (0.012, 0.018):
            ours, theirs = simulate(count, 200, 0.05, size, sigma)
            print(
                f"gain of a good idea {size:.3f} BPB, noise {sigma:.3f} (believed {RULE.prior_sigma}), "
                "5 % of the ideas good"
            )
            print("  " + ours.row("this rule"))
            print("  " + theirs.row("keep-if-lower"))


if __name__ == "__main__":
    main()
