"""What a run's own clock leaves out of ours, beside what the campaign's base leaves out.

Takes the store's reads, a track, a run and its measurement, and where job folders lie; gives the measurement with what
was found. The clocks of scripts are in their logs, which are kept.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.job.folder import JobPaths
from agent.job.reading import read_ends
from agent.judge import allowed, logs, measure
from agent.records import Measurement, Run
from agent.track import Track

if TYPE_CHECKING:
    from agent.store import Reads

MOST = 8  # runs of the base, the newest ones


def clocked(
    reads: "Reads", track: Track, run: Run, measurement: Measurement, job: Callable[[int], Path]
) -> Measurement:
    """The same rung and class of machine only: others start and write at another pace. Not of a script that scores
    itself: how long that takes is in our clock too."""
    if not track.script.score:
        return measurement
    known = [one for one in measurement.findings if one.rule == "train_clock"]
    limit, took = track.limits.train_clock_s, measurement.train_wall_s
    if limit is None or took is None or took <= limit or any(one.severity != "note" for one in known):
        return measurement
    found = allowed.left_out(track.limits, took, _own_s(job(run.id)), _usual(reads, run, job))
    if not found:
        return measurement
    return replace(measurement, findings=(*measurement.findings, *found))


def _usual(reads: "Reads", run: Run, job: Callable[[int], Path]) -> list[float]:
    """Of the base, which nobody has tuned to this: each head may leave out a little more than the one before. Where it
    never ran like this, of the baseline. Of runs before this one, so that the answer stays the same."""
    baseline = run.baseline_id or reads.proposal(run.proposal_id).baseline_id
    if baseline is None:
        return []
    base = reads.lineage(baseline)[0].id
    return _of(reads, run, base, job) or _of(reads, run, baseline, job)


def _of(reads: "Reads", run: Run, proposal_id: int, job: Callable[[int], Path]) -> list[float]:
    runs = [
        (one.run.id, one.measurement.train_wall_s)
        for one in reads.scored(run.campaign_id, proposal_id=proposal_id, documents=False)
        if (one.run.rung, one.run.hardware_class) == (run.rung, run.hardware_class)
        and one.run.id < run.id
        and one.measurement.bpb is not None
    ]
    pairs = [(ours, _own_s(job(found))) for found, ours in sorted(runs)[-MOST:]]
    return [ours - own for ours, own in pairs if ours is not None and own is not None]


def _own_s(folder: Path) -> float | None:
    said = logs.reported(read_ends(JobPaths(folder).train_log, measure.HEAD, measure.TAIL))
    return None if said.train_ms is None else said.train_ms / 1000
