"""Hidden documents of a fresh measurement, beside those of the run's baseline and of the campaign's base.

Takes the store's reads, a run and its measurement; gives the measurement with what was found.
"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING

from agent.judge import hidden
from agent.records import Measurement, Run

if TYPE_CHECKING:
    from agent.store import Reads


def watched(reads: "Reads", run: Run, measurement: Measurement, min_gain: float) -> Measurement:
    """The same rung and text only: others are never compared. A baseline may have smuggled in what nobody looks at,
    and then every generation may again; the base was there before any model wrote."""
    theirs, base = baseline(reads, run, measurement), since(reads, run, measurement)
    found = hidden.findings(measurement, theirs, base, worth(min_gain, theirs))
    return replace(measurement, findings=(*measurement.findings, *found)) if found else measurement


def baseline(reads: "Reads", run: Run, measurement: Measurement) -> list[Measurement]:
    """What its documents are compared with."""
    if not measurement.hidden_nats or run.baseline_id is None:
        return []
    return _of(reads, run, measurement, run.baseline_id)


def since(reads: "Reads", run: Run, measurement: Measurement) -> list[Measurement]:
    """The campaign's base, where that is not its baseline."""
    if not measurement.hidden_nats or run.baseline_id is None:
        return []
    base = reads.base(run.campaign_id).id
    return _of(reads, run, measurement, base) if base != run.baseline_id else []


def worth(min_gain: float, baseline: Sequence[Measurement]) -> float:
    """The smallest gain that matters, as a share of the nats, at most what a gap has to be anyway."""
    scores = [one.bpb for one in baseline if one.bpb]
    return min(hidden.LEAST, min_gain / fmean(scores)) if scores and min_gain > 0 else hidden.LEAST


def _of(reads: "Reads", run: Run, measurement: Measurement, proposal_id: int) -> list[Measurement]:
    return [
        one.measurement
        for one in reads.scored(run.campaign_id, proposal_id=proposal_id)
        if one.run.rung == run.rung and one.measurement.data_sha == measurement.data_sha
    ]
