"""judge -> store: looks at a fresh measurement beside those of the run's baseline.

Takes the store's reads, a run and its measurement; gives the measurement with what was found.
"""

from dataclasses import replace

from agent.judge import hidden
from agent.records import Measurement, Run
from agent.store import Reads


def watched(reads: Reads, run: Run, measurement: Measurement) -> Measurement:
    """The same rung and text only: others are never compared."""
    found = hidden.findings(measurement, baseline(reads, run, measurement))
    return replace(measurement, findings=(*measurement.findings, *found)) if found else measurement


def baseline(reads: Reads, run: Run, measurement: Measurement) -> list[Measurement]:
    """What its documents are compared with."""
    if not measurement.hidden_nats or run.baseline_id is None:
        return []
    return [
        one.measurement
        for one in reads.scored(run.campaign_id, proposal_id=run.baseline_id)
        if one.run.rung == run.rung and one.measurement.data_sha == measurement.data_sha
    ]
