"""Comparing scores of several machines of one class: within each lease, and across leases by what ran on both.

Takes scores with their lease; gives a `Gain`, or None where nothing ties the two sides together. Pure. A lease is a
machine from its renting to its return. Where training is ended by a clock, a faster machine makes a better score, so
each lease has an effect of its own on all that runs on it. Those effects are fitted, not assumed to be small or to be
drawn from anything: the estimate is unbiased whatever they are, and what they cost is in its variance. Anchors, runs of
the head on a registered seed, are what leases have in common.
"""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from agent.judge.noise import Noise
from agent.judge.verdict import Gain, upper_tail

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from agent.store.rows import Replicate

    Floats = NDArray[np.float64]

# What two runs of one commit and one seed share of their noise, on two machines or twice on one. Nobody has measured it
# well; the weights are best where it is this much, and the variance is the largest that it can be.
SAME_RUN = 0.5
MOST_SAME = 0.95
DRIFT = 0.01  # of the time of a step: more between anchors of one lease, and it is another machine
SAME = 1e-9


class Reading(NamedTuple):
    """One score: of which commit, on which lease, with which seed."""

    commit: int
    lease: str
    seed: int
    bpb: float


class Contrast(NamedTuple):
    """How the gain is made of the readings, and its standard error in standard deviations between seeds."""

    weights: tuple[float, ...]
    stderr: float


def apart(scores: Iterable["Replicate"]) -> "list[Replicate]":
    """As if a commit on another lease were another commit: how leases differ is no noise between seeds."""
    numbers: dict[tuple[int, str], int] = {}

    def number(commit: int, lease: str) -> int:
        return numbers.setdefault((commit, lease), len(numbers) + 1)

    return [
        one._replace(
            proposal_id=number(one.proposal_id, one.lease),
            baseline_id=None if one.baseline_id is None else number(one.baseline_id, one.lease),
        )
        for one in scores
    ]


def compare(readings: Sequence[Reading], mine: int, theirs: int, noise: Noise) -> Gain | None:
    """What `mine` gains over `theirs`. Readings of other commits help where they ran on several of the leases."""
    found = contrast(readings, mine, theirs, noise.rho)
    if found is None:
        return None
    mean = math.fsum(weight * one.bpb for weight, one in zip(found.weights, readings, strict=True))
    stderr = noise.sigma * found.stderr
    return Gain(mean, stderr, upper_tail(mean / stderr, noise.df), noise.df)


def contrast(readings: Sequence[Reading], mine: int, theirs: int, rho: float) -> Contrast | None:
    """Generalised least squares, with an effect of each commit and of each lease. None: no chain of leases and commits
    leads from one side to the other."""
    import numpy as np

    commits = sorted({one.commit for one in readings})
    leases = sorted({one.lease for one in readings})
    if mine not in commits or theirs not in commits:
        return None
    design = np.zeros((len(readings), len(commits) + len(leases)))
    for row, one in enumerate(readings):
        design[row, commits.index(one.commit)] = 1.0
        design[row, len(commits) + leases.index(one.lease)] = 1.0
    wanted = np.zeros(design.shape[1])
    wanted[commits.index(theirs)], wanted[commits.index(mine)] = 1.0, -1.0
    solved = np.linalg.solve(_covariance(readings, rho, max(rho, SAME_RUN)), design)
    weights = solved @ np.linalg.pinv(design.T @ solved, hermitian=True) @ wanted
    if not np.allclose(design.T @ weights, wanted, atol=1e-6):
        return None
    # Linear in what runs of one commit and seed share, so that the largest is at one of the ends.
    ends = (_covariance(readings, rho, same) for same in (rho, max(rho, MOST_SAME)))
    variance = max(float(weights @ one @ weights) for one in ends)
    return Contrast(tuple(map(float, weights)), math.sqrt(variance))


def _covariance(readings: Sequence[Reading], rho: float, same: float) -> "Floats":
    """In variances between seeds: `rho` for one seed of two commits, `same` for one seed of one commit."""
    import numpy as np

    seeds = np.array([one.seed for one in readings])
    commits = np.array([one.commit for one in readings])
    one_seed = seeds[:, None] == seeds[None, :]
    one_commit = commits[:, None] == commits[None, :]
    shared = np.where(one_seed, np.where(one_commit, same, rho), 0.0)
    np.fill_diagonal(shared, 1.0)
    return shared


def good_until(steps: Sequence[float | None]) -> int:
    """How many of a lease's anchors, in their order, are one machine; all of them where nothing drifts.

    `steps`: the time of a step of each; None: it gave none. Each is held against the first that did, so that a drift
    that comes slowly is seen too.
    """
    first = next((step for step in steps if step is not None), None)
    for at, step in enumerate(steps):
        if first is not None and step is not None and abs(step / first - 1.0) > DRIFT + SAME:
            return at
    return len(steps)
