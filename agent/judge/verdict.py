"""What to do after a run: statistics that pay for looking several times and for trying many ideas.

Takes the scores of a candidate and of its baseline, and the noise; gives a `Verdict` with its reason in
words. Pure.

The gain is tested one-sided against nothing. A campaign has many ideas, so each is tested at a `level` that falls
with the ideas that were tested before and rises with those that were kept: at most the track's alpha. The looks of one
idea, at two or more seeds, share its level, so that all together pass an idea without effect with that probability at
most. One run never passes: it can only earn a second one. Ideas are given up as soon as they would hardly pass with
all the seeds that they may have; while one is not, its baseline is run more often too (`baseline_runs`).
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from agent.judge import comparable
from agent.judge.noise import Noise
from agent.records import Decision, Proposal, Verdict
from agent.tables import DecisionRule
from agent.track import Track

if TYPE_CHECKING:
    from agent.store import Scored

MOST_REPORTS = 16  # runs of one baseline: further ones would tell hardly anything new
BASELINE_STEP = 3  # further runs of a baseline for each further look at one idea
CONFIRM_AT = 0.4  # chance to pass with all seeds, from which on an idea's confirmation is paid for
MORE_AT = 0.15  # and from which on one more seed is
PASSING = 0.5  # of the level: what ideas without effect really pass at, looks being alike and hopeless ones given up


class Gain(NamedTuple):
    """A difference of means, and how sure it is."""

    mean: float
    stderr: float
    p: float  # one-sided, against no gain
    df: float


def decide(
    track: Track,
    proposal: Proposal,
    *,
    candidate: Sequence["Scored"],
    baseline: Sequence["Scored"],
    noise: Noise,
    level: float,
    confirming: bool,
    gain: Gain | None = None,
) -> Verdict:
    """After each run of an idea that broke no rule; `level` as the function of that name gives it.

    `gain`: where machines make a score, as agent/judge/leases.py compares them.
    """
    assert proposal.baseline_id is not None
    if (refused := comparable.apart(candidate, baseline)) is not None:
        return Verdict(proposal.id, proposal.baseline_id, "inconclusive", refused)
    mine, theirs = _scores(candidate), _scores(baseline)
    rule = track.decision
    gain = gain or compare(mine, theirs, noise)
    size = max((one.measurement.total_bytes or 0 for one in candidate), default=0)
    limit = track.limits.artifact_bytes
    if limit is not None and size > limit:
        decision: Decision = "oversize"
        words = f"{size:,} bytes are {size - limit:,} over the limit of {limit:,}; {_seen(mine, theirs, gain)}"
    else:
        decision = _next(rule, level, gain, len(mine), len(theirs), noise, confirming)
        words = f"{_seen(mine, theirs, gain)}; {_WORDS[decision]}"
    return _verdict(proposal.id, proposal.baseline_id, decision, words, gain, noise, len(mine), len(theirs))


def fresh(
    head: Proposal,
    parent: Proposal,
    new: Sequence["Scored"],
    old: Sequence["Scored"],
    noise: Noise,
    gain: Gain | None = None,
) -> Verdict:
    """A new head's own runs, which gated nothing, against its parent's: no gain contradicts the verdict."""
    if (refused := comparable.apart(new, old)) is not None:
        return Verdict(head.id, parent.id, "inconclusive", f"fresh runs: {refused}")
    mine, theirs = _scores(new), _scores(old)
    gain = gain or compare(mine, theirs, noise)
    decision: Decision = "accept" if gain.mean > 0 else "worse"
    what = "the gain holds" if decision == "accept" else "fresh runs show no gain, so it is taken back"
    words = f"fresh runs: {_seen(mine, theirs, gain)}; {what}"
    return _verdict(head.id, parent.id, decision, words, gain, noise, len(mine), len(theirs))


def compare(mine: dict[int, float], theirs: dict[int, float], noise: Noise) -> Gain:
    """Lower is better. Seeds that both have share some of their noise; `rho` says how much."""
    mean = math.fsum(theirs.values()) / len(theirs) - math.fsum(mine.values()) / len(mine)
    stderr = _stderr(len(mine), len(theirs), len(mine.keys() & theirs.keys()), noise)
    return Gain(mean, stderr, upper_tail(mean / stderr, noise.df), noise.df)


def level(rule: DecisionRule, tested: int, promoted: int) -> float:
    """Chance that the next idea passes if it has no effect, after so many ideas of which so many commits stand.

    If all ideas so far had been without effect and tested at this level, a part `fdr` of the commits, with one to come,
    would be luck. So a campaign in which much is good stays bold, and one in which nothing is gets careful.
    """
    return min(rule.alpha, rule.fdr * (promoted + 1) / (PASSING * tested + rule.fdr / rule.alpha))


def share(rule: DecisionRule, level: float) -> float:
    """Part of the level for each look; all looks of an idea together get the level at most."""
    return level / (rule.max_seeds - 1)


def baseline_runs(rule: DecisionRule, seeds: int) -> int:
    """How many runs of its baseline an idea's look at so many seeds is worth: most ideas never get beyond two."""
    return min(max(MOST_REPORTS, rule.report_seeds), rule.report_seeds + BASELINE_STEP * max(0, seeds - 2))


class Resolution(NamedTuple):
    """Gains in BPB that an idea must have to be told from luck."""

    mostly: float
    hardly: float


def resolution(rule: DecisionRule) -> Resolution:
    """At the noise that the track believes in, by the last look at an idea, with all its seeds."""
    last = _last(rule, 1, rule.report_seeds, Noise(rule.prior_sigma, rule.prior_df, 0.0))
    bar = _bar(rule, rule.alpha, last)
    return Resolution(bar + last.stderr, bar / 2)


def resolvable(track: Track, budget_s: float, run_s: float) -> str:
    """Says, before anything is spent, which gain this budget can tell from luck."""
    rule = track.decision
    runs = int(budget_s / run_s)
    ideas = max(0, runs - rule.report_seeds)
    gains = resolution(rule)
    return (
        f"About {runs} runs of {run_s:.0f} s: {ideas} screened ideas at most, fewer with each that is "
        f"confirmed. A gain of {gains.mostly:.4f} BPB will mostly be seen, one below {gains.hardly:.4f} hardly "
        f"(noise between seeds {rule.prior_sigma:.4f})."
    )


def _verdict(
    proposal_id: int, baseline_id: int, decision: Decision, words: str, gain: Gain, noise: Noise, k: int, m: int
) -> Verdict:
    return Verdict(
        proposal_id,
        baseline_id,
        decision,
        words,
        gain=gain.mean,
        stderr=gain.stderr,
        p=gain.p,
        sigma=noise.sigma,
        rho=noise.rho,
        df=noise.df,
        n_candidate=k,
        n_baseline=m,
    )


def _next(rule: DecisionRule, level: float, gain: Gain, k: int, m: int, noise: Noise, confirming: bool) -> Decision:
    """With `k` seeds of the idea and `m` of its baseline."""
    passes = k >= 2 and gain.p <= share(rule, level) and gain.mean >= rule.min_gain
    if passes and confirming:
        return "accept"
    if k < rule.max_seeds:
        chance = 1.0 if passes else chance_to_pass(rule, level, gain, k, m, noise)
        if chance >= CONFIRM_AT:
            return "confirm"
        # The last seed is kept for confirming.
        if chance >= MORE_AT and (confirming or k < rule.max_seeds - 1):
            return "more"
    return "worse" if gain.mean + 1.645 * gain.stderr < max(rule.min_gain, 1e-12) else "inconclusive"


def chance_to_pass(rule: DecisionRule, level: float, gain: Gain, k: int, m: int, noise: Noise) -> float:
    """Predictive probability that the last look passes, effects being mostly small before they are seen."""
    last = _last(rule, k, m, noise)
    prior = rule.prior_variance(noise.sigma)
    weight = prior / (prior + gain.stderr**2)
    # The part of what the last look will know that is known now; what comes is drawn around what is believed.
    seen = min(0.99, (last.stderr / gain.stderr) ** 2)
    expected = gain.mean * (seen + (1 - seen) * weight)
    spread = math.sqrt(weight * ((1 - seen) * gain.stderr) ** 2 + (1 - seen) * last.stderr**2)
    return 1.0 - _normal((_bar(rule, level, last) - expected) / spread)


class Last(NamedTuple):
    """How sure the last look at an idea will be."""

    stderr: float
    df: float


def _last(rule: DecisionRule, k: int, m: int, noise: Noise) -> Last:
    """From `k` seeds and `m` of the baseline on."""
    most = max(m, baseline_runs(rule, rule.max_seeds))
    return Last(_stderr(rule.max_seeds, most, 0, noise), noise.df + rule.max_seeds - k + most - m)


def _bar(rule: DecisionRule, level: float, last: Last) -> float:
    """The mean gain that passes the last look."""
    return max(rule.min_gain, last.stderr * quantile(share(rule, level), last.df))


def _stderr(k: int, m: int, shared: int, noise: Noise) -> float:
    return noise.sigma * math.sqrt(1 / k + 1 / m - 2 * noise.rho * shared / (k * m))


def _scores(scored: Sequence["Scored"]) -> dict[int, float]:
    return {one.run.seed: one.measurement.bpb for one in scored if one.measurement.bpb is not None}


def _seen(mine: dict[int, float], theirs: dict[int, float], gain: Gain) -> str:
    old, new = math.fsum(theirs.values()) / len(theirs), math.fsum(mine.values()) / len(mine)
    seeds = "1 seed" if len(mine) == 1 else f"{len(mine)} seeds"
    return f"{old:.4f} -> {new:.4f} over {seeds}: gain {gain.mean:+.4f} ± {gain.stderr:.4f}, p = {gain.p:.2g}"


_WORDS: dict[Decision, str] = {
    "accept": "passes",
    "confirm": "promising, so its confirmation is paid for",
    "more": "not clear, one more seed",
    "worse": "not better",
    "inconclusive": "too little to tell from luck",
}


def upper_tail(t: float, df: float) -> float:
    """Of Student's distribution. SciPy is imported late: a command that only prints must start fast."""
    from scipy.special import stdtr

    return float(stdtr(df, -t))


def quantile(p: float, df: float) -> float:
    from scipy.special import stdtrit

    return -float(stdtrit(df, p))


def _normal(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))
