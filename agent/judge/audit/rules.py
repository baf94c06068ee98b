"""The rules of an audit: how far an honest candidate's answers may be from its scores, and what is too far.

Takes what a second process answered beside what was claimed; gives `Accusation`s. Pure: benchmarks/audit.py runs the
same functions on a million simulated audits.

Four rules ask whether claims and distribution agree: every sum is one; no position is far off; the mean over uniform
positions is not too good; and no surprising position is far off. Two ask whether a process answers as it did: a
replay of the chunks gives the scores that were claimed, and asking does not change what is answered later.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from agent.judge.protocol import Floats
from agent.judge.task import ACCUSATIONS, Numerics

SUM_TOLERANCE = 1e-3  # of the logarithm of the sum
DEVIATIONS = 4.5  # that the mean may be above its dead zone
LARGE = 0.25  # of the largest difference: so far off are few honest answers, if any
MOST_LARGE = 0.002  # of all positions
FEW = 3  # large ones are always allowed
ENOUGH = 1000  # positions for a scatter that can be believed
FEW_CHUNKS = 8  # below which the scatter between chunks says nothing

NOT_NORMALISED, NOT_REPEATED, MEAN, SURPRISE, REPLAY, CHANGES = RULES = ACCUSATIONS


class Tolerance(NamedTuple):
    """How far honest answers may be from honest scores, in nats."""

    largest: float  # at any position
    mean: float  # a bias of the arithmetic that is nobody's gain
    noise: float  # the least standard deviation that is believed of a sample
    most_noise: float  # and the most: noise must not be a place to hide
    uniform: int  # positions of a full audit that see through the noise
    why: str


# Measured on processors with the shipped trainer (benchmarks/audit.py) and with a prototype's; on GPUs only the
# published habit of bf16 is known, so the same margins are kept there.
TOLERANCES: dict[Numerics, Tolerance] = {
    "fp32": Tolerance(0.01, 1e-5, 1e-5, math.inf, 3000, "fp32: honest answers differ by 0.000005 at most"),
    "bf16": Tolerance(0.5, 5e-4, 1e-3, 0.02, 5000, "bf16: honest answers differ by 0.09 at most, in other batches"),
}


class Answer(NamedTuple):
    position: int
    log_sum: float  # of the probabilities; NaN if the answer holds a NaN
    difference: float  # nats by this distribution, minus nats claimed

    def normal(self) -> bool:
        return abs(self.log_sum) <= SUM_TOLERANCE  # false for NaN

    def far(self, tolerance: Tolerance) -> bool:
        return not abs(self.difference) <= tolerance.largest


class Accusation(NamedTuple):
    """A rule that does not hold, in words; and the positions where, if it is about some."""

    rule: str
    words: str
    positions: tuple[int, ...] = ()


class Mean(NamedTuple):
    """Mean difference over a sample: by how many nats a token was claimed better than it deserves."""

    value: float
    error: float  # standard error as it was seen
    limit: float  # from which on it is too good
    noise: float  # standard deviation of one difference
    large: int
    positions: int

    def noisy(self, tolerance: Tolerance) -> bool:
        """Of few positions the scatter is not known well enough: arithmetic errs rarely, but then by much."""
        loud = self.noise > tolerance.most_noise and self.positions >= ENOUGH
        return loud or self.large > max(FEW, MOST_LARGE * self.positions)


def sums(answers: Sequence[Answer]) -> list[Accusation]:
    bad = [one for one in answers if not one.normal()]
    if not bad:
        return []
    worst = max(bad, key=lambda one: math.inf if math.isnan(one.log_sum) else abs(one.log_sum))
    words = f"at position {worst.position} its probabilities sum to exp({worst.log_sum:.4g})"
    return [Accusation(NOT_NORMALISED, words, _first(bad, worst))]


def largest(answers: Sequence[Answer], tolerance: Tolerance, rule: str) -> list[Accusation]:
    bad = [one for one in answers if one.normal() and one.far(tolerance)]
    if not bad:
        return []
    worst = max(bad, key=lambda one: abs(one.difference))
    more = "less" if worst.difference > 0 else "more"
    words = (
        f"at position {worst.position} of the validation stream it claimed {abs(worst.difference):.4g} nats {more} "
        f"than before it has seen the token, as at {len(bad)} of {len(answers)} positions; {tolerance.largest:g} is "
        f"allowed ({tolerance.why})"
    )
    return [Accusation(rule, words, _first(bad, worst))]


def mean(differences: Floats, tolerance: Tolerance, chunks: Sequence[int] = ()) -> Mean:
    """Of differences that are finite. `chunks`: where parts begin that may err together."""
    count = len(differences)
    if not count:
        return Mean(0.0, 0.0, math.inf, 0.0, 0, 0)
    noise = float(differences.std(ddof=1)) if count > 1 else 0.0
    seen = noise / math.sqrt(count)
    if len(chunks) >= FEW_CHUNKS:
        each = np.add.reduceat(differences, np.asarray(chunks)) / np.diff([*chunks, count])
        seen = max(seen, float(each.std(ddof=1)) / math.sqrt(len(chunks)))
    large = int((np.abs(differences) > LARGE * tolerance.largest).sum())
    return Mean(float(differences.mean()), seen, limit(seen, count, tolerance), noise, large, count)


def limit(error: float, count: int, tolerance: Tolerance) -> float:
    """The mean from which on it is too good, for this standard error."""
    return tolerance.mean + DEVIATIONS * max(error, tolerance.noise / math.sqrt(count))


def too_good(found: Mean, tolerance: Tolerance) -> list[Accusation]:
    if found.value > found.limit:
        words = (
            f"over {found.positions:,} positions it claimed {found.value:.2g} nats a token less than before it has "
            f"seen them (standard error {found.error:.2g}); {found.limit:.2g} is allowed"
        )
    elif found.noisy(tolerance):
        words = (
            f"over {found.positions:,} positions its claims scatter by {found.noise:.2g} nats around its "
            f"distributions, and {found.large} are off by more than {LARGE * tolerance.largest:g}: more than such "
            "arithmetic explains"
        )
    else:
        return []
    return [Accusation(MEAN, words)]


def replayed(differences: Floats, tolerance: Tolerance, chunks: Sequence[int]) -> list[Accusation]:
    """Scores of the same chunks by a second process, minus those claimed."""
    worst = int(np.argmax(np.abs(differences)))
    if abs(differences[worst]) > tolerance.largest:
        words = (
            f"a second process that is shown the same chunks gives position {worst} {abs(differences[worst]):.4g} nats "
            f"{'more' if differences[worst] > 0 else 'less'}; {tolerance.largest:g} is allowed ({tolerance.why})"
        )
        return [Accusation(REPLAY, words)]
    found = mean(differences, tolerance, chunks)
    if found.value > found.limit:
        words = (
            f"a second process that is shown the same chunks needs {found.value:.2g} nats a token more than claimed; "
            f"{found.limit:.2g} is allowed"
        )
        return [Accusation(REPLAY, words)]
    return []


def changed(pairs: Sequence[tuple[Answer, Answer]], tolerance: Tolerance) -> list[Accusation]:
    """The same questions, asked twice."""
    bad = [two for one, two in pairs if one.normal() and not _apart(one, two) <= tolerance.largest]
    if not bad:
        return []
    first = {one.position: one for one, _ in pairs}
    worst = max(bad, key=lambda two: _apart(first[two.position], two))
    apart = _apart(first[worst.position], worst)
    words = (
        f"asked a second time at position {worst.position}, its answer is {apart:.4g} nats off the first one, as at "
        f"{len(bad)} of {len(pairs)}; {tolerance.largest:g} is allowed"
    )
    return [Accusation(CHANGES, words, _first(bad, worst))]


def _apart(one: Answer, two: Answer) -> float:
    return abs(two.difference - one.difference)


def _first(bad: Sequence[Answer], worst: Answer) -> tuple[int, ...]:
    """The worst one leads."""
    return (worst.position, *(one.position for one in bad if one is not worst))
