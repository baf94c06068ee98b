"""Gates that an idea must pass before its score counts: first findings, then time, then seeds.

Takes the measured runs of a candidate and of its baseline; gives what is broken, or None. Pure.
"""

import math
import re
from collections.abc import Collection, Sequence
from itertools import combinations
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from agent.judge.allowed import CLOCKS
from agent.judge.task import ACCUSATIONS, CORE_BUSY, CORE_FREE, HOLDOUT, NETWORK, STARVED, UNFINISHED
from agent.records import Decision
from agent.track import Track

if TYPE_CHECKING:
    from agent.store import Scored, Spent

# Two seeds of one script differ by a hundredth or two of a document's nats (docs/judging.md). A script whose
# runs differ ten times less than its baseline's do has fixed what the seed should draw.
SEED_SHARE = 0.1
SEED_LEAST = 1e-4  # where the baseline says nothing: far below any training, far above rounding
CHANCE = 1e-3  # that two honest scores are printed alike: the last digit against how far seeds differ
SAME = 1e-9
IDLE = 0.15  # of a core: six others at once would leave more, so who has less waits for something itself
MOST_STARVED = 4  # tries at one seed: before each further one a quiet core is waited for
_ROOM = re.compile(r"stopped at its (memory|disk|log|processes|gpu-memory) limit")  # more of a core gives no more of it
ENDED_BADLY = frozenset({"crashed", "capped", "no_artifact", "bad_artifact", "score_failed"})


class Broken(NamedTuple):
    """What becomes of the idea, and why."""

    decision: Decision
    words: str


def check(
    track: Track, candidate: Sequence["Scored"], baseline: Sequence["Scored"], spent: Sequence["Spent"] = ()
) -> Broken | None:
    """The first gate that it does not pass, in the order that says most. `spent`: by the campaign's base."""
    runs = effective(candidate)
    return (
        barred(runs, NETWORK)  # the run was ended for it, so it has no score either
        or without_score(track, candidate, baseline)
        or without_size(track, runs)
        or barred(runs)
        or accused(runs)
        or inert(runs, baseline)
        or over_budget(track, candidate, baseline, spent)
        or redrawn(track, candidate, baseline)
        or seed_ignored(runs, baseline)
    )


def at_trial(
    track: Track, candidate: Sequence["Scored"], baseline: Sequence["Scored"], spent: Sequence["Spent"] = ()
) -> Broken | None:
    """The same at a cheaper rung, but for those that say nothing there.

    What shows only late in a long run, or is what the rung sets itself, would look inert; and there is one seed.
    """
    runs = effective(candidate)
    return (
        barred(runs, NETWORK)
        or without_score(track, candidate, baseline)
        or without_size(track, runs)
        or barred(runs)
        or accused(runs)
        or over_budget(track, candidate, baseline, spent)
    )


def effective(scored: Sequence["Scored"]) -> tuple["Scored", ...]:
    """The runs that count: a recheck replaces what it repeats."""
    last = {_place(one): one.run.id for one in scored if one.run.purpose == "recheck"}
    return tuple(one for one in scored if last.get(_place(one), one.run.id) == one.run.id)


def _place(one: "Scored") -> tuple[int, int | None]:
    return one.run.seed, one.run.baseline_id


def without_score(track: Track, candidate: Sequence["Scored"], baseline: Sequence["Scored"]) -> Broken | None:
    """A machine's fault is no verdict: the run is repeated, and where that helps nothing the idea is let go untested.

    Then a core was never free, or the script often waits for something: from here that looks the same.
    """
    for one in effective(candidate):
        if one.measurement.bpb is None or one.run.outcome in ENDED_BADLY:
            words = f"r{one.run.id}: {why(track, one)}"
            if not starved(track, one, baseline):
                return Broken("crashed", words)
            tries = sum(_place(other) == _place(one) and starved(track, other, baseline) for other in candidate)
            if tries < MOST_STARVED:
                return Broken("recheck", f"{words}; its core was busy with other work, so once more")
            said = f"its core was busy with other work at each of {tries} tries, or it waits for something itself"
            return Broken("starved", f"{words}; {said}")
    return None


def starved(track: Track, one: "Scored", baseline: Sequence["Scored"]) -> bool:
    """Whether a run hit its limit on a core that others used too: that is the machine's fault, not the idea's.

    The kernel says for how long it was ready to run. Where it does not, the share of its core is compared with that of
    the baseline; where no run of the baseline tells what is usual, it is the whole core: a run has one thread, which
    does not wait.
    """
    if track.hardware.kind != "cpu" or one.run.outcome != "capped" or _ROOM.search(one.run.reason):
        return False
    if told := {finding.rule for finding in one.measurement.findings} & {CORE_BUSY, CORE_FREE}:
        return CORE_BUSY in told
    mine, usual = core_share(one), [share for other in baseline if (share := core_share(other)) is not None]
    return mine is not None and IDLE <= mine < STARVED * (median(usual) if usual else 1.0)


def core_share(one: "Scored") -> float | None:
    """CPU-seconds for each second of its processes."""
    found = one.measurement
    wall = (found.train_wall_s or 0.0) + (found.score_wall_s or 0.0)
    return ((found.train_cpu_s or 0.0) + (found.score_cpu_s or 0.0)) / wall if wall > 0 else None


def without_size(track: Track, runs: Sequence["Scored"]) -> Broken | None:
    """Where bytes are limited, a script that does not tell how many it made can't be accepted."""
    limit = track.limits.artifact_bytes
    for one in runs:
        if limit is not None and one.measurement.total_bytes is None:
            return Broken("invalid", f"r{one.run.id}: its size is unknown, and the track allows {limit:,} bytes")
    return None


def why(track: Track, one: "Scored") -> str:
    """The judge's own reason says more than how its process ended."""
    known = next((finding.text for finding in one.measurement.findings if finding.rule == "no_score"), "")
    train_s, limit_s = one.measurement.train_wall_s, track.limits.train_wall_s
    if one.run.outcome == "capped" and train_s is not None and train_s >= limit_s:
        return f"stopped by its wall limit of {limit_s:g} s: no score"
    words = known or one.run.reason or f"ended as {one.run.outcome or 'unknown'}"
    return words if words.endswith("no score") else f"{words}: no score"


def barred(runs: Sequence["Scored"], rule: str = "") -> Broken | None:
    """By any finding that is severe, or by one of this rule."""
    for one in runs:
        for finding in one.measurement.findings:
            if finding.severity == "invalid" and rule in ("", finding.rule):
                return Broken("invalid", f"r{one.run.id}: {finding.rule}: {finding.text}")
    return None


def accused(runs: Sequence["Scored"], more: Collection[str] = ()) -> Broken | None:
    """By an audit whose repeat did not come to an end, by bytes that left the machine while nobody saw whose they
    were, by a gain that may be of documents that are known, or by a clock that a slow machine may have run over: no
    rule is broken, and nothing is accepted. `more`: rules of which a flag counts as much."""
    for one in runs:
        for finding in one.measurement.findings:
            doubt = finding.rule in (NETWORK, *HOLDOUT, *CLOCKS, *more) and finding.severity == "flag"
            if finding.rule == UNFINISHED or doubt:
                return Broken("inconclusive", f"r{one.run.id}: {finding.rule}: {finding.text}")
    return None


def no_figure(runs: Sequence["Scored"]) -> Broken | None:
    """Of fresh runs, all of which make a head's figure: where one has no score, the others would be a choice. An
    accusation that a second process did not repeat counts here, for the head has no other runs to rest on."""
    if (broken := barred(runs)) is not None:
        return broken
    lacking = [one.run for one in runs if one.measurement.bpb is None]
    if lacking:
        why = lacking[-1].reason or f"it ended as {lacking[-1].outcome}"
        words = f"{len(lacking)} of its {len(runs)} fresh runs have no score (r{lacking[-1].id}: {why})"
        return Broken("crashed", words)
    return accused(runs, ACCUSATIONS)


def inert(runs: Sequence["Scored"], baseline: Sequence["Scored"]) -> Broken | None:
    """The same seed gave the same scores: whatever was changed, it changed nothing."""
    for one in runs:
        for other in baseline:
            if one.run.seed != other.run.seed:
                continue
            apart = difference(one.measurement.doc_nats, other.measurement.doc_nats)
            if apart is not None and apart < SAME:
                return Broken("inert", f"r{one.run.id} scores every document as r{other.run.id}, its baseline, does")
    return None


def over_budget(
    track: Track, runs: Sequence["Scored"], baseline: Sequence["Scored"], spent: Sequence["Spent"]
) -> Broken | None:
    """Training that took more processor time than the same declared cost took the campaign's base.

    A busy machine can do that to anyone: the first time the run is repeated, the second time it is the idea.
    """
    if track.compute is None:
        return None
    over = [one for one in runs if _over(track, one, baseline, spent)]
    for one in over:
        if one not in effective(runs):
            continue
        used, allowed = one.measurement.train_cpu_s, allowance(track, one, baseline, spent)
        words = f"r{one.run.id}: {used:.1f} CPU-seconds of training, {allowed:.1f} are allowed"
        if sum(_place(other) == _place(one) for other in over) > 1:
            return Broken("invalid", f"over_budget: {words}, and this was the second try")
        return Broken("recheck", f"{words}; once more, in case the machine was busy")
    return None


def _over(track: Track, one: "Scored", baseline: Sequence["Scored"], spent: Sequence["Spent"]) -> bool:
    used, allowed = one.measurement.train_cpu_s, allowance(track, one, baseline, spent)
    return used is not None and allowed is not None and used > allowed


def allowance(track: Track, one: "Scored", baseline: Sequence["Scored"], spent: Sequence["Spent"]) -> float | None:
    """The base's mean on the same slot, or over all slots, times the track's tolerance. The baseline's only where the
    base says nothing: each head may take a little more than the one before, or less, and the budget stays the same."""
    known = [(other.slot, other.train_cpu_s) for other in spent] or [
        (other.run.slot, cpu) for other in baseline if (cpu := other.measurement.train_cpu_s) is not None
    ]
    chosen = [cpu for slot, cpu in known if slot == one.run.slot] or [cpu for _, cpu in known]
    if not chosen or track.compute is None:
        return None
    return track.compute.tolerance * math.fsum(chosen) / len(chosen)


def redrawn(track: Track, runs: Sequence["Scored"], baseline: Sequence["Scored"]) -> Broken | None:
    """A second try at a seed is no second draw. On processors the same script with the same seed scores the same; one
    that does not draws from elsewhere, and could overspend where it was unlucky. It may go by the clock, so nothing is
    proven; but whichever try counted would be a choice."""
    least = _usual(baseline)
    for one, other in combinations(runs, 2):
        same = _place(one) == _place(other) and one.run.lease == other.run.lease and other.run.purpose == "recheck"
        if track.hardware.kind != "cpu" or not same:
            continue
        apart = difference(one.measurement.doc_nats, other.measurement.doc_nats)
        if apart is not None and apart >= least:
            pair = f"r{one.run.id} and r{other.run.id}"
            return Broken("inconclusive", f"{pair} had the same seed, and differ by {apart:.1e} per document")
    return None


def _usual(baseline: Sequence["Scored"]) -> float:
    """From which difference on two runs are two draws."""
    honest = [apart for _, _, apart in across_seeds(baseline)]
    return max(SEED_LEAST, SEED_SHARE * median(honest)) if honest else SEED_LEAST


def seed_ignored(runs: Sequence["Scored"], baseline: Sequence["Scored"]) -> Broken | None:
    """Seeds are how luck is told from gain; a script that fixes its own has no luck to tell."""
    least = _usual(baseline)
    for one, other, apart in across_seeds(runs):
        if apart < least:
            pair = f"r{one.run.id} and r{other.run.id}"
            words = f"seed_ignored: {pair} had different seeds and hardly differ: {apart:.1e} per document"
            return Broken("invalid", f"{words}, at least {least:.1e} is expected")
    return _reported_alike(runs, baseline)


def _reported_alike(runs: Sequence["Scored"], baseline: Sequence["Scored"]) -> Broken | None:
    """Where a script's log is all there is: scores that are equal to the last digit, and printed so finely that those
    of the baseline never would be."""
    honest = [abs(_bpb(one) - _bpb(other)) for one, other in _reported_pairs(baseline)]
    grain = min((_grain(_bpb(one)) for one in (*runs, *baseline) if one.measurement.bpb is not None), default=1.0)
    if not honest or grain > CHANCE * median(honest):
        return None
    for one, other in _reported_pairs(runs):
        if _bpb(one) == _bpb(other):
            pair = f"r{one.run.id} and r{other.run.id}"
            return Broken("invalid", f"seed_ignored: {pair} had different seeds and report the same {_bpb(one)} BPB")
    return None


def _reported_pairs(runs: Sequence["Scored"]) -> list[tuple["Scored", "Scored"]]:
    said = [one for one in runs if one.measurement.trust == "reported" and one.measurement.bpb is not None]
    return [(one, other) for one, other in combinations(said, 2) if one.run.seed != other.run.seed]


def _bpb(one: "Scored") -> float:
    assert one.measurement.bpb is not None
    return one.measurement.bpb


def _grain(bpb: float) -> float:
    """What its last digit stands for."""
    return float(f"1e-{len(repr(bpb).partition('.')[2])}")


class Pair(NamedTuple):
    """Two runs with different seeds, and how far apart their documents' nats are."""

    one: "Scored"
    other: "Scored"
    apart: float


def across_seeds(runs: Sequence["Scored"]) -> list[Pair]:
    pairs = [(one, other) for one, other in combinations(runs, 2) if one.run.seed != other.run.seed]
    found = [(a, b, difference(a.measurement.doc_nats, b.measurement.doc_nats)) for a, b in pairs]
    return [Pair(a, b, apart) for a, b, apart in found if apart is not None]


def difference(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Root mean square of the relative differences per document; None if they can't be compared."""
    if not one or len(one) != len(other):
        return None
    squares = (((a - b) / max(abs(a), abs(b), 1e-12)) ** 2 for a, b in zip(one, other, strict=True))
    return math.sqrt(math.fsum(squares) / len(one))
