"""Where a running job is, read from the end of its log.

Takes hostile text; gives numbers to show, never to decide by. `python -m agent.runners.progress FOLDER` prints it.
"""

import sys
from pathlib import Path

from agent import step_lines
from agent.job.folder import JobPaths, PhaseName, Progress, strict_heartbeat
from agent.job.reading import read_ends, read_small

TAIL = 8192


def progress(folder: Path) -> Progress | None:
    """The last step that the log names; None before the job has started."""
    paths = JobPaths(folder)
    beat = strict_heartbeat(read_small(paths.heartbeat))
    if beat is None:
        return None
    phase: PhaseName = beat.phase
    text = tail(paths.train_log) if phase == "train" else ""
    if (found := last_step(text)) is not None:
        return Progress(*found, beat.seconds, phase, beat.cpu_s, step_lines.trained_s(text))
    share, loss = step_lines.part(text) or (None, None)
    return Progress(None, None, loss, beat.seconds, phase, beat.cpu_s, share=share)


def tail(log: Path, size: int = TAIL) -> str:
    """The last bytes of a log as text."""
    return read_ends(log, 0, size)


def last_step(text: str) -> tuple[int, int, float | None] | None:
    """Of the last line that names a loss, which is None where it is no number."""
    for line in reversed(step_lines.read(text)):
        if (loss := line.loss()) is not None:
            return (min(line.step, line.steps), line.steps, step_lines.finite(loss)) if line.steps else None
    return None


if __name__ == "__main__":
    print(progress(Path(sys.argv[1])))
