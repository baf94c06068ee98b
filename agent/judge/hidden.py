"""Whether an idea gains on documents that no score is made of, too.

Takes the measurement of a run and those of its baseline; gives findings. Pure. What an artifact holds of the
validation text helps there and nowhere else; what makes a better model helps on both. Documents without a score cost
nothing to be bad at, so nothing that is made worse there may hide a gap: no error is measured by it, and ranks, which
have no error to widen, are asked too.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from agent.judge.task import HOLDOUT
from agent.records import Finding, Measurement, Severity

RULE, RUINED = HOLDOUT
FLAG, STRICT, INVALID = 3.0, 4.2, 5.0  # standard deviations; strict is what is asked beside the gap to the baseline
# Kinds of documents may differ in what helps them; nobody needs to smuggle text in for less than that.
LEAST = 0.01  # of the nats
HALF = 0.5  # of what it saves: less than that, and above the smallest gain that matters, may be a difference in kind
MISSED = 0.001  # chance that a larger gap is said to be excluded
WILD = 4.0  # spreads below the middle: what is worse there counts as no worse than that
TWICE = 1.0  # a document's nats above its baseline's, as a share of these: no idea that trains does that to one alone
ALONE = 10.0  # times what it does to any document that is scored

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


def findings(
    run: Measurement, baseline: Sequence[Measurement], base: Sequence[Measurement] = (), worth: float = LEAST
) -> tuple[Finding, ...]:
    """`base`: of what the campaign began with, which no model wrote, where that is not the baseline. `worth`: the
    smallest gain that matters, as a share of the nats."""
    found = []
    if (sides := _sides(run, baseline)) is not None:
        found += [_gap(sides, worth), _ruined(sides)]
    if (sides := _sides(run, base)) is not None and not any(one and one.rule == RULE for one in found):
        found.append(_since(sides))
    return tuple(one for one in found if one is not None)


def _since(sides: "Sides") -> Finding | None:
    """What was smuggled in a little at a time, each generation's less than anybody looks at. Which of them it was is
    not known, and honest differences in kind add up too: a flag, and only where it is plain."""
    found = _settled(sides)
    if found.size < LEAST or (sigmas := found.sigmas()) < STRICT:
        return None
    return Finding(RULE, "flag", _words(found, "the campaign's base", sigmas, "standard deviations"))


def _settled(sides: "Sides") -> Gap:
    return Gap(share(*sides.scored), share(settled(*sides.hidden), sides.hidden.baseline))


def _words(found: Gap, baseline: str, sigmas: float, told: str) -> str:
    return (
        f"it needs {100 * found.scored.value:.2f} % less than {baseline} for the documents that are scored, and "
        f"{100 * found.hidden.value:.2f} % less for others of their kind: {min(sigmas, 99.0):.1f} {told}"
    )


def _gap(sides: "Sides", worth: float) -> Finding | None:
    found = _settled(sides)
    if worth <= found.size < LEAST and found.size >= HALF * found.scored.value > 0 and found.sigmas() >= FLAG:
        return Finding(RULE, "flag", _words(found, "its baseline", found.sigmas(), "standard deviations"))
    sigmas, least, told = found.sigmas(), FLAG, "standard deviations"
    severity: Severity = "invalid" if sigmas >= INVALID else "flag"
    if sigmas < least:
        sigmas, least = found.sigmas_of_hidden(), INVALID
        told = "standard deviations by the spread of those others"
    if found.size < LEAST or sigmas < least:
        return _ranked(sides)
    return Finding(RULE, severity, _words(found, "its baseline", sigmas, told))


def _ranked(sides: "Sides") -> Finding | None:
    """By which documents it helps most, whatever it does to the others: 14 tell too little to accuse anybody by."""
    scored, hidden = (one.saved() for one in sides)
    apart = float(np.median(scored) - np.median(hidden))
    if apart < LEAST or (sigmas := ranks_apart(scored, hidden)) < STRICT:
        return None
    there, elsewhere = (100 * float(np.median(one)) for one in (scored, hidden))
    text = (
        f"it needs {there:.2f} % less than its baseline for the middle one of the documents that are scored, and "
        f"{elsewhere:.2f} % less for that of the others: {min(sigmas, 99.0):.1f} standard deviations by their ranks"
    )
    return Finding(RULE, "flag", text)


def _ruined(sides: "Sides") -> Finding | None:
    """Who is far worse at a few documents that cost nothing than at the others, and at any that costs a score, may want
    to hide a gap behind their spread."""
    lost, scored = -sides.hidden.saved(), -float(sides.scored.saved().min())
    worst = float(lost.max())
    if worst < TWICE or worst < ALONE * max(scored, float(np.median(lost))):
        return None
    text = (
        f"it needs {1 + worst:,.1f} times its baseline's nats for a document that no score is made of, and never more "
        f"than {1 + max(scored, 0.0):.2f} times for one that is scored"
    )
    return Finding(RUINED, "flag", text)


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
    sides = _sides(run, baseline)
    return None if sides is None else Gap(*(share(*one) for one in sides))


class Side(NamedTuple):
    """Nats of the same documents."""

    run: Floats
    baseline: Floats

    def saved(self) -> Floats:
        """Of each document, as a share of what the baseline needs; one that needs nothing has nothing to save."""
        there = self.baseline > 0
        return np.where(there, 1 - self.run / np.where(there, self.baseline, 1.0), 0.0)


class Sides(NamedTuple):
    scored: Side
    hidden: Side


def _sides(run: Measurement, baseline: Sequence[Measurement]) -> Sides | None:
    made = []
    for mine, theirs in (
        (run.doc_nats, [one.doc_nats for one in baseline]),
        (run.hidden_nats, [one.hidden_nats for one in baseline]),
    ):
        same = [one for one in theirs if len(one) == len(mine)]
        if len(mine) < 2 or not same:
            return None
        made.append(Side(np.asarray(mine), np.mean(same, axis=0)))
    return Sides(*made)


def settled(run: Floats, baseline: Floats) -> Floats:
    """Nats of which no document's are absurdly above the others': who ruins some of them gets no error by it."""
    saved = Side(run, baseline).saved()
    middle = float(np.median(saved))
    spread = 1.4826 * float(np.median(np.abs(saved - middle)))  # of a normal distribution, its standard deviation
    least = middle - max(WILD * spread, LEAST)
    return np.where(saved < least, baseline * (1 - least), run)


def ranks_apart(scored: Floats, hidden: Floats) -> float:
    """How far the first rank above the second, in standard deviations (Mann-Whitney, with ties)."""
    chance = stats.mannwhitneyu(scored, hidden, alternative="greater", method="asymptotic", use_continuity=False)
    return float(stats.norm.isf(chance.pvalue))


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
