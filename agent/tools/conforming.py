"""The test of its scoring in a script's dry run: the phase that makes it, and what came of it.

Takes a track and a job folder; gives a `Phase`, and from its result a `Conformance`.
"""

from collections.abc import Mapping
from dataclasses import replace

from agent import reach, training
from agent.job.folder import JobPaths, JobResult, Phase
from agent.job.reading import read_small
from agent.judge import conform
from agent.judge.conform import How
from agent.judge.contract import BUSY, Conformance, up_to
from agent.judge.phase import scoring_task, session_phase
from agent.reach import Reach
from agent.track import Track

LEAST_S = 20.0  # however short the training is: starting three processes may take that where others work too


def phase(
    track: Track, machine: Mapping[str, str], allowed: Reach, paths: JobPaths, wall_s: float, seed: int, how: How
) -> Phase:
    """Behind the walls that its scoring would have. `machine`: how it finds its share of it; `wall_s`: what the dry run
    of its training has."""
    policy = reach.scoring(track, allowed)
    task = scoring_task(
        track, paths, script=training.script_file(track, paths.code), seed=seed, held=None, policy=policy
    )
    wall_s = max(wall_s, LEAST_S)
    task = replace(task, wall_s=wall_s, env={**machine, **task.env})
    made = session_phase(track, task, conform.command(task, how))
    return replace(made, limits=replace(made.limits, wall_s=wall_s))


def found(paths: JobPaths, result: JobResult) -> Conformance | None:
    """None: training was as far as it came.

    A candidate may have written the file; where our own phase did not end well, it is not looked at.
    """
    judged = result.phase("judge")
    if judged is None:
        return None
    try:
        if judged.ok:
            return Conformance.from_json(read_small(paths.measure) or "")
    except ValueError:
        pass
    words = result.reason.removeprefix("judge: ").removesuffix("; see judge.log")
    capped = judged.cause == "wall"
    words = f"{words or 'the test of its scoring left no answer'}{BUSY if capped else ''}"
    return Conformance("ok", "", 0, 0, up_to("answers", words), capped=capped)
