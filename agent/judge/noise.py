"""How much scores differ when nothing differs but the seed.

Takes the scored runs of a campaign; gives `Noise`: the standard deviation between seeds, shrunk towards what
the track's author believes, how many degrees of freedom that rests on, and how much of the noise two runs
with the same seed share.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

REMEMBERED = 400  # of the newest runs: enough for the noise, and a long campaign does not slow down
# How many pairs the belief "the same seed does not help" is worth.
RHO_PRIOR_PAIRS = 8.0
RHO_MOST = 0.9
# A group whose variance is this much larger than everyone else's is an unstable idea, not the noise.
WILD_RATIO = 9.0


@dataclass(frozen=True)
class Noise:
    sigma: float
    df: float
    rho: float


class Score(Protocol):
    """One scored run: which test it belongs to (None: a head's own report runs), its seed and its BPB."""

    @property
    def proposal_id(self) -> int: ...
    @property
    def baseline_id(self) -> int | None: ...
    @property
    def seed(self) -> int: ...
    @property
    def bpb(self) -> float: ...


Key = tuple[int, int | None]
Groups = Mapping[Key, Mapping[int, float]]


def groups(scores: Iterable[Score]) -> Groups:
    """Replicates: runs of the same commit that differ in nothing but the seed."""
    found: dict[Key, dict[int, float]] = defaultdict(dict)
    for score in scores:
        found[score.proposal_id, score.baseline_id][score.seed] = score.bpb
    return found


def estimate(found: Groups, *, prior_sigma: float, prior_df: float) -> Noise:
    """Pooled within groups, shrunk to the prior. One wild group does not blind the campaign."""
    sums = [_within(list(group.values())) for group in found.values() if len(group) > 1]
    sums = _without_wild(sums, prior_sigma, prior_df)
    df = prior_df + sum(n for _, n in sums)
    variance = (prior_df * prior_sigma**2 + sum(ss for ss, _ in sums)) / df
    return Noise(math.sqrt(variance), df, _rho(found))


def _within(values: Sequence[float]) -> tuple[float, int]:
    """Sum of squares around the mean, and its degrees of freedom."""
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values), len(values) - 1


def _without_wild(sums: list[tuple[float, int]], prior_sigma: float, prior_df: float) -> list[tuple[float, int]]:
    """Each group is held against all others and the prior."""
    all_df = prior_df + sum(n for _, n in sums)
    all_ss = prior_df * prior_sigma**2 + math.fsum(ss for ss, _ in sums)
    return [(ss, n) for ss, n in sums if ss / n <= WILD_RATIO * max(0.0, all_ss - ss) / (all_df - n)]


def _rho(found: Groups) -> float:
    """Correlation of a candidate's and its baseline's deviations at the same seeds, shrunk to none."""
    both = mine = theirs = 0.0
    pairs = 0
    for (_, baseline_id), group in found.items():
        head = found.get((baseline_id, None), {}) if baseline_id is not None else {}
        shared = sorted(group.keys() & head.keys())
        if len(shared) < 2:
            continue
        x, y = [group[seed] for seed in shared], [head[seed] for seed in shared]
        mean_x, mean_y = math.fsum(x) / len(x), math.fsum(y) / len(y)
        both += math.fsum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
        mine += _within(x)[0]
        theirs += _within(y)[0]
        pairs += len(shared) - 1
    if mine <= 0 or theirs <= 0:
        return 0.0
    seen = both / math.sqrt(mine * theirs)
    return min(RHO_MOST, max(0.0, seen * pairs / (pairs + RHO_PRIOR_PAIRS)))
