"""How the decision rule of each shipped track does, beside keep-if-lower (one run, lower is kept), by simulation.

    python -m benchmarks.verdict [--campaigns N] [--track NAME ...]

Tables: ideas one by one, each against a fresh head; what `agent start` says can be seen; campaigns of 200 ideas of
which 5 % are good and gain twice the noise, and of the tiny track with other gains and noises. Both rules have the same
ideas and the same noise.
"""

import argparse
import math
import statistics
from collections.abc import Iterable, Sequence

from agent.judge import verdict
from benchmarks.simulated_campaigns import SETTLED, TRACKS, alone, alone_if_lower, simulate, track

IDEAS, GOOD = 200, 0.05


def alone_table(names: Iterable[str], count: int) -> Iterable[str]:
    yield (
        "| track | noise | known from | nulls accepted | runs | gain of 2 noises accepted | runs "
        "| keep-if-lower: nulls accepted | gain of 2 noises |"
    )
    yield "|---" * 9 + "|"
    for name in names:
        rule = track(name).decision
        for settled, known in ((0.0, "the track's belief"), (SETTLED, f"{SETTLED:.0f} more degrees of freedom")):
            null = alone(rule, count, 0.0, rule.prior_sigma, settled)
            good = alone(rule, count, 2 * rule.prior_sigma, rule.prior_sigma, settled)
            lower = [alone_if_lower(count, effect, 1.0).accepted for effect in (0.0, 2.0)]
            yield (
                f"| {name} | {rule.prior_sigma} | {known} | {null.accepted:.1%} | {null.runs:.2f} "
                f"| {good.accepted:.1%} | {good.runs:.2f} | {lower[0]:.0%} | {lower[1]:.0%} |"
            )


COLUMNS = (
    *("track", "a good idea gains", "noise", "nulls among what is promoted", "after fresh runs", "good ideas found"),
    *("runs of an idea", "of a good one", "all runs for each idea", "head reported too good by, in noises"),
    *("its gain", "keep-if-lower: nulls", "found", "head too good by"),
)


def campaigns_table(cells: Iterable[tuple[str, float, float]], count: int) -> Iterable[str]:
    """Cells: a track, what a good idea gains, the noise."""
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|---" * len(COLUMNS) + "|"
    for name, size, sigma in cells:
        rule = track(name).decision
        ours, theirs = simulate(rule, count, IDEAS, GOOD, size, sigma)
        head, gain, other = (
            errors(values, sigma) for values in (ours.head_errors, ours.gain_errors, theirs.head_errors)
        )
        kept = ours.kept_nulls / max(1, ours.kept)
        yield (
            f"| {name} | {size:.4g} | {sigma:.4g} | {ours.null_share:.1%} | {kept:.1%} | {ours.power:.0%} "
            f"| {ours.candidate_runs / ours.tested:.2f} | {ours.good_runs / max(1, ours.good):.2f} "
            f"| {ours.runs / ours.tested:.2f} | {head} | {gain} "
            f"| {theirs.null_share:.0%} | {theirs.power:.0%} | {other} |"
        )


def errors(values: Sequence[float], sigma: float) -> str:
    """The mean and how sure it is, in noises; above 0 is too good."""
    mean, stderr = statistics.fmean(values) / sigma, statistics.stdev(values) / math.sqrt(len(values)) / sigma
    return f"{mean:+.2f} ± {stderr:.2f}"


def resolvable_table(names: Iterable[str], count: int) -> Iterable[str]:
    """What `agent start` says can be seen, and how often it is."""
    yield "| track | noise | said to be mostly seen | seen | said to be hardly seen | seen |"
    yield "|---|---|---|---|---|---|"
    for name in names:
        rule = track(name).decision
        bounds = verdict.resolution(rule)
        often, seldom = (alone(rule, count, gain, rule.prior_sigma, 0.0).accepted for gain in bounds)
        yield (
            f"| {name} | {rule.prior_sigma} | {bounds.mostly:.4f} | {often:.0%} | {bounds.hardly:.4f} | {seldom:.0%} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--campaigns", type=int, default=100)
    parser.add_argument("--ideas", type=int, default=1000, help="that are tested one by one")
    parser.add_argument("--track", action="append", choices=TRACKS)
    chosen = parser.parse_args()
    names = tuple(chosen.track or TRACKS)
    two = [(name, 2 * track(name).decision.prior_sigma, track(name).decision.prior_sigma) for name in names]
    other = [("tiny", size, sigma) for size in (0.02, 0.03, 0.05, 0.1) for sigma in (0.012, 0.018)]
    for table in (
        alone_table(names, chosen.ideas),
        resolvable_table(names, chosen.ideas),
        campaigns_table([*two, *(other if "tiny" in names else ())], chosen.campaigns),
    ):
        for row in table:
            print(row, flush=True)
        print()


if __name__ == "__main__":
    main()
