"""What to do after a run: statistics that pay for looking several times and for trying many ideas.

Takes the scores of a candidate and of its baseline, and the noise; gives a `Verdict` with its reason in
words. Pure.

The gain is tested one-sided against nothing. Each look at two or more seeds has its own share of the track's
alpha, so that all looks together pass an idea without effect with probability alpha at most; alpha is small
because a campaign has many ideas. One run never passes: it can only earn a second one. Ideas are given up as
soon as they would hardly pass with all the seeds that they may have.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from agent.judge.noise import Noise
from agent.records import Decision, Proposal, Verdict
from agent.track import DecisionRule, Track

if TYPE_CHECKING:
    from agent.store import Scored

CONFIRM_AT = 0.4  # chance to pass with all seeds, from which on an idea's confirmation is paid for
MORE_AT = 0.08  # and from which on one more seed is
# How large effects are believed to be: normal around none, in smallest gains that matter.
EFFECTS = 4.0


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
    confirming: bool,
) -> Verdict:
    """After each run of an idea that broke no rule."""
    mine, theirs = _scores(candidate), _scores(baseline)
    rule = track.decision
    gain = compare(mine, theirs, noise)
    size = max((one.measurement.total_bytes or 0 for one in candidate), default=0)
    limit = track.limits.artifact_bytes
    if limit is not None and size > limit:
        decision: Decision = "oversize"
        words = f"{size:,} bytes are {size - limit:,} over the limit of {limit:,}; {_seen(mine, theirs, gain)}"
    else:
        decision = _next(rule, gain, len(mine), len(theirs), noise, confirming)
        words = f"{_seen(mine, theirs, gain)}; {_WORDS[decision]}"
    assert proposal.baseline_id is not None
    return _verdict(proposal.id, proposal.baseline_id, decision, words, gain, noise, len(mine), len(theirs))


def fresh(head: Proposal, parent: Proposal, new: Sequence["Scored"], old: Sequence["Scored"], noise: Noise) -> Verdict:
    """A new head's own runs, which gated nothing, against its parent's: no gain contradicts the verdict."""
    mine, theirs = _scores(new), _scores(old)
    gain = compare(mine, theirs, noise)
    decision: Decision = "accept" if gain.mean > 0 else "worse"
    what = "the gain holds" if decision == "accept" else "fresh runs show no gain, so it is taken back"
    words = f"fresh runs: {_seen(mine, theirs, gain)}; {what}"
    return _verdict(head.id, parent.id, decision, words, gain, noise, len(mine), len(theirs))


def compare(mine: dict[int, float], theirs: dict[int, float], noise: Noise) -> Gain:
    """Lower is better. Seeds that both have share some of their noise; `rho` says how much."""
    mean = math.fsum(theirs.values()) / len(theirs) - math.fsum(mine.values()) / len(mine)
    stderr = _stderr(len(mine), len(theirs), len(mine.keys() & theirs.keys()), noise)
    return Gain(mean, stderr, upper_tail(mean / stderr, noise.df), noise.df)


def share(rule: DecisionRule, look: int) -> float:
    """Part of alpha for the look at `look` seeds: late looks get more, all together get alpha."""
    weights = range(1, rule.max_seeds)
    return rule.alpha * (look - 1) / sum(weights)


def resolvable(track: Track, budget_s: float, run_s: float) -> str:
    """Says, before anything is spent, which gain this budget can tell from luck."""
    rule = track.decision
    noise = Noise(rule.prior_sigma, rule.prior_df, 0.0)
    runs = int(budget_s / run_s)
    ideas = max(0, runs - rule.report_seeds)
    bar = _bar(rule, noise, rule.report_seeds)
    seen = bar + noise.sigma * math.sqrt(1 / rule.max_seeds)
    return (
        f"About {runs} runs of {run_s:.0f} s: {ideas} screened ideas at most, fewer with each that is "
        f"confirmed. A gain of {seen:.3f} BPB will mostly be seen, one below "
        f"{max(rule.min_gain, bar / 2):.3f} hardly (noise between seeds {rule.prior_sigma:.4f})."
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


def _next(rule: DecisionRule, gain: Gain, k: int, m: int, noise: Noise, confirming: bool) -> Decision:
    """With `k` seeds of the idea and `m` of its baseline."""
    passes = k >= 2 and gain.p <= share(rule, k) and gain.mean >= rule.min_gain
    if passes and confirming:
        return "accept"
    if k < rule.max_seeds:
        chance = 1.0 if passes else chance_to_pass(rule, gain, k, m, noise)
        if chance >= CONFIRM_AT:
            return "confirm"
        # The last seed is kept for confirming.
        if chance >= MORE_AT and (confirming or k < rule.max_seeds - 1):
            return "more"
    return "worse" if gain.mean + 1.645 * gain.stderr < max(rule.min_gain, 1e-12) else "inconclusive"


def chance_to_pass(rule: DecisionRule, gain: Gain, k: int, m: int, noise: Noise) -> float:
    """Predictive probability that the last look passes, effects being mostly small before they are seen."""
    prior = (EFFECTS * max(rule.min_gain, noise.sigma / 4)) ** 2
    weight = prior / (prior + gain.stderr**2)
    left = rule.max_seeds - k
    # What the further seeds will add to the mean, given what is believed of the effect now.
    expected = (k * gain.mean + left * weight * gain.mean) / rule.max_seeds
    spread = left / rule.max_seeds * math.sqrt(weight * gain.stderr**2 + noise.sigma**2 / left)
    return 1.0 - _normal((_bar(rule, noise, m) - expected) / spread)


def _bar(rule: DecisionRule, noise: Noise, m: int) -> float:
    """The mean gain that passes the last look."""
    stderr = _stderr(rule.max_seeds, m, 0, noise)
    return max(rule.min_gain, stderr * quantile(share(rule, rule.max_seeds), noise.df))


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
