"""Whether an idea gains on documents that no score is made of, too.

Takes the measurement of a run and those of its baseline; gives findings. Pure. What an artifact holds of the
validation text helps there and nowhere else; what makes a better model helps on both.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from agent.records import Finding, Measurement

RULE = "holdout_gap"
FLAG, INVALID = 3.0, 5.0  # standard deviations
# Kinds of documents may differ in what helps them; nobody needs to smuggle text in for less than that.
LEAST = 0.01  # of the nats

Floats = NDArray[np.float64]


class Share(NamedTuple):
    """The share of the baseline's nats that a run saves on some documents, and its standard error."""

    value: float
    error: float
    documents: int


class Gap(NamedTuple):
    scored: Share
    hidden: Share

    @property
    def size(self) -> float:
        return self.scored.value - self.hidden.value

    def sigmas(self) -> float:
        """As of a normal distribution: few documents make wide tails."""
        parts = [(part.error**2, part.documents - 1) for part in self]
        variance = math.fsum(square for square, _ in parts)
        if variance == 0.0:
            return 0.0 if self.size <= 0 else math.inf
        df = variance**2 / math.fsum(square**2 / free for square, free in parts)
        return float(-stats.norm.ppf(stats.t.sf(self.size / math.sqrt(variance), df)))


def findings(run: Measurement, baseline: Sequence[Measurement]) -> tuple[Finding, ...]:
    found = gap(run, baseline)
    if found is None or found.size < LEAST or (sigmas := found.sigmas()) < FLAG:
        return ()
    text = (
        f"it needs {100 * found.scored.value:.2f} % less than its baseline for the documents that are scored, and "
        f"{100 * found.hidden.value:.2f} % less for others of their kind: {min(sigmas, 99.0):.1f} standard deviations"
    )
    return (Finding(RULE, "invalid" if sigmas >= INVALID else "flag", text),)


def gap(run: Measurement, baseline: Sequence[Measurement]) -> Gap | None:
    """None where there is nothing to compare with."""
    shares = []
    for mine, theirs in (
        (run.doc_nats, [one.doc_nats for one in baseline]),
        (run.hidden_nats, [one.hidden_nats for one in baseline]),
    ):
        same = [one for one in theirs if len(one) == len(mine)]
        if len(mine) < 2 or not same:
            return None
        shares.append(share(np.asarray(mine), np.mean(same, axis=0)))
    return Gap(*shares)


def share(run: Floats, baseline: Floats) -> Share:
    """A ratio of sums over documents, with the error of a ratio."""
    saved, total = baseline - run, float(baseline.sum())
    if total <= 0:
        return Share(0.0, 0.0, len(run))
    value = float(saved.sum()) / total
    rest = saved - value * baseline
    count = len(run)
    return Share(value, math.sqrt(count / (count - 1) * float((rest**2).sum())) / total, count)
