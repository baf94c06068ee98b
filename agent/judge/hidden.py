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

from agent.records import Finding, Measurement, Severity

RULE = "holdout_gap"
FLAG, INVALID = 3.0, 5.0  # standard deviations
# Kinds of documents may differ in what helps them; nobody needs to smuggle text in for less than that.
LEAST = 0.01  # of the nats
MISSED = 0.001  # chance that a larger gap is said to be excluded

Floats = NDArray[np.float64]


class Share(NamedTuple):
    """The share of the baseline's nats that a run saves on some documents, and its standard error."""

    value: float
    error: float
    documents: int
    even: float
    """As many documents of one size would tell as much: a few large ones decide what many small ones say."""


class Gap(NamedTuple):
    scored: Share
    hidden: Share

    @property
    def size(self) -> float:
        return self.scored.value - self.hidden.value

    def sigmas(self) -> float:
        """As of a normal distribution: few documents make wide tails."""
        return _sigmas(self.size, *self._error())

    def sigmas_of_hidden(self) -> float:
        """The same if the scored documents spread as the hidden ones do: a few that are known by heart widen the spread
        that they would be measured by. Too few documents to accuse anybody by: of 40,000 honest ideas with heavy tails
        one stood out."""
        error = self.hidden.error * math.sqrt(1 + self.hidden.even / self.scored.even)
        return _sigmas(self.size, error, max(self.hidden.even - 1, 1.0))

    def most(self) -> float:
        """The largest gap that these documents leave possible."""
        error, df = self._error()
        return self.size + (float(stats.t.isf(MISSED, df)) * error if error else 0.0)

    def _error(self) -> tuple[float, float]:
        """Standard error and degrees of freedom, by Welch."""
        parts = [(part.error**2, max(part.even - 1, 1.0)) for part in self]
        variance = math.fsum(square for square, _ in parts)
        if variance == 0.0:
            return 0.0, math.inf
        return math.sqrt(variance), variance**2 / math.fsum(square**2 / free for square, free in parts)


def _sigmas(size: float, error: float, df: float) -> float:
    if error == 0.0:
        return 0.0 if size <= 0 else math.inf
    return float(-stats.norm.ppf(stats.t.sf(size / error, df)))


def findings(run: Measurement, baseline: Sequence[Measurement]) -> tuple[Finding, ...]:
    found = gap(run, baseline)
    if found is None or found.size < LEAST:
        return ()
    sigmas, told = found.sigmas(), "standard deviations"
    severity: Severity = "invalid" if sigmas >= INVALID else "flag"
    if sigmas < FLAG:
        sigmas, told = found.sigmas_of_hidden(), "standard deviations by the spread of those others"
        if sigmas < INVALID:
            return ()
    text = (
        f"it needs {100 * found.scored.value:.2f} % less than its baseline for the documents that are scored, and "
        f"{100 * found.hidden.value:.2f} % less for others of their kind: {min(sigmas, 99.0):.1f} {told}"
    )
    return (Finding(RULE, severity, text),)


def excluded(run: Measurement, baseline: Sequence[Measurement]) -> str:
    """In words, that a gap which anybody would smuggle text in for is not there; empty: there are too few documents to
    tell, nothing to compare with, or a gap."""
    found = gap(run, baseline)
    if found is None or (most := found.most()) >= LEAST:
        return ""
    there, elsewhere = (f"{100 * one.value:+.2f} % for {one.documents:,}" for one in found)
    return (
        f"of its baseline's nats it saves {there} documents that are scored and {elsewhere} that nobody knows: a gap "
        f"of more than {100 * max(most, 0.0):.2f} % is excluded (one-sided, p = {MISSED:g})"
    )


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
        return Share(0.0, 0.0, len(run), float(len(run)))
    value = float(saved.sum()) / total
    rest = saved - value * baseline
    count = len(run)
    error = math.sqrt(count / (count - 1) * float((rest**2).sum())) / total
    return Share(value, error, count, total**2 / float((baseline**2).sum()))
