"""Whether an idea that was first tried at a cheaper rung goes on to the rung that decides.

Takes its run there, and its baseline's with the same seed; gives a `Verdict`, in words that name the rung. Pure.

A trial spares the full price of what crashes, breaks a rule, is far too big or clearly worse. It accepts nothing, and
nothing of it goes into later statistics: rungs are never compared with one another, so its verdict has no gain. What a
rung does to a score is not known beforehand, so "clearly" is a matter of luck alone: an idea that is truly equal there
is dropped once in a hundred times, and once in twenty if the noise is 1.4 times what is believed of it.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agent.judge import comparable, gates
from agent.records import Decision, Proposal, Verdict
from agent.tables import Rung
from agent.track import Track

if TYPE_CHECKING:
    from agent.store import Scored, Spent

CLEARLY = 2.33  # standard deviations of the difference of two runs
# Bytes say something where the baseline's own are, to this part, those of its runs at the deciding rung: then both
# rungs make an artifact of one shape, and an idea ends whose size is over the limit by more than that part.
SAME_SIZE = 0.1


def decide(
    track: Track,
    rung: Rung,
    proposal: Proposal,
    candidate: Sequence["Scored"],
    baseline: "Scored | None",
    sizes: Sequence[int],
    spent: Sequence["Spent"] = (),
) -> Verdict:
    """`sizes`: bytes of the baseline's runs at the deciding rung. `spent`: by the campaign's base, at this one."""
    if baseline is None or baseline.measurement.bpb is None:
        on = f"p{proposal.baseline_id} has no score there, so there is nothing to compare with"
        return _verdict(rung, proposal, "screen", f"{on}; screened at {track.decision.rung}")
    if (refused := comparable.apart(candidate, [baseline])) is not None:
        return _verdict(rung, proposal, "screen", f"{refused}; screened at {track.decision.rung}")
    broken = gates.at_trial(track, candidate, [baseline], spent)
    if broken is not None:
        return _verdict(rung, proposal, broken.decision, broken.words)
    mine = gates.effective(candidate)[-1].measurement
    assert mine.bpb is not None
    before = baseline.measurement.bpb
    seen = f"{before:.4f} -> {mine.bpb:.4f} with one seed"
    if (over := _over(track, mine.total_bytes, baseline.measurement.total_bytes, sizes)) is not None:
        return _verdict(rung, proposal, "oversize", f"{over}; {seen}")
    apart = math.sqrt(2) * (rung.prior_sigma or track.decision.prior_sigma)
    loss = (mine.bpb - before) / apart
    if _other_machine(track, candidate[-1], baseline):
        words = f"{seen}, but on another machine, which makes a score of its own; screened at {track.decision.rung}"
        return _verdict(rung, proposal, "screen", words)
    if loss > CLEARLY:
        words = f"{seen}: clearly worse, {loss:.1f} standard deviations of a difference of two runs ({apart:.4f})"
        return _verdict(rung, proposal, "worse", words)
    return _verdict(rung, proposal, "screen", f"{seen}: not clearly worse, so it is screened at {track.decision.rung}")


def _other_machine(track: Track, one: "Scored", other: "Scored") -> bool:
    return track.hardware.anchor_every_s is not None and one.run.lease != other.run.lease


def _over(track: Track, size: int | None, baseline: int | None, sizes: Sequence[int]) -> str | None:
    """In words, how far a size is over the limit, where that can be seen at the rung."""
    limit = track.limits.artifact_bytes
    if limit is None or size is None or baseline is None or not sizes:
        return None
    usual = math.fsum(sizes) / len(sizes)
    if abs(baseline - usual) > SAME_SIZE * usual or size * (1 - SAME_SIZE) <= limit:
        return None
    return f"{size:,} bytes are {size - limit:,} over the limit of {limit:,}, and a longer run would hardly change that"


def _verdict(rung: Rung, proposal: Proposal, decision: Decision, words: str) -> Verdict:
    assert proposal.baseline_id is not None
    return Verdict(proposal.id, proposal.baseline_id, decision, f"trial at {rung.name}: {words}")
