"""Where a running job is, read from the end of its log.

Takes hostile text; gives numbers to show, never to decide by. `python -m agent.runners.progress FOLDER` prints it.
"""

import math
import re
import sys
from pathlib import Path

from agent.runners.job import JobPaths, PhaseName, Progress, strict_heartbeat
from agent.runners.reading import read_ends, read_small

TAIL = 8192

# step:120/300 train_loss:5.1 ...   step:1000/20000 val_loss:...   4000/20000 val_loss: 2.5
_STEP = re.compile(
    r"^(?:step[: ])?[ \t]{0,8}(\d{1,9})/(\d{1,9})\b[^\n]{0,200}?loss:?[ \t]{0,8}([0-9.]{1,12})", re.MULTILINE
)


def progress(folder: Path) -> Progress | None:
    """The last step that the log names; None before the job has started."""
    paths = JobPaths(folder)
    beat = strict_heartbeat(read_small(paths.heartbeat))
    if beat is None:
        return None
    phase: PhaseName = beat.phase
    found = last_step(tail(paths.train_log)) if phase == "train" else None
    if found is None:
        return Progress(None, None, None, beat.seconds, phase, beat.cpu_s)
    return Progress(*found, beat.seconds, phase, beat.cpu_s)


def tail(log: Path, size: int = TAIL) -> str:
    """The last bytes of a log as text."""
    return read_ends(log, 0, size)


def last_step(text: str) -> tuple[int, int, float | None] | None:
    found = None
    for found in _STEP.finditer(text):  # noqa: B007  the last one counts
        pass
    if found is None:
        return None
    step, steps = int(found[1]), int(found[2])
    if steps < 1:
        return None
    try:
        loss = float(found[3])
    except ValueError:
        return min(step, steps), steps, None
    return min(step, steps), steps, loss if math.isfinite(loss) else None


if __name__ == "__main__":
    print(progress(Path(sys.argv[1])))
