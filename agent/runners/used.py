"""How long a job held its slot that can't say so itself: it was paid for, and what is not booked is spent twice.

Takes a job folder without a shepherd; gives seconds, never more than were set aside for it.
"""

import time
from pathlib import Path

from agent.job.folder import JobPaths, JobSpec, strict_heartbeat
from agent.job.reading import read_small, there
from agent.runners.shepherd import BEAT_S


def seconds(paths: JobPaths, ran: bool) -> float:
    """Up to the last sign of life, and one heartbeat more. Without a heartbeat, until it was found dead."""
    beat = strict_heartbeat(read_small(paths.heartbeat))
    try:
        limit = JobSpec.from_json(read_small(paths.spec) or "").wall_s
    except ValueError:
        return 0.0 if beat is None else max(0.0, beat.seconds)
    if beat is not None:
        return min(max(0.0, beat.seconds) + _after_its_last(paths) + BEAT_S, limit)
    return min(_until_found(paths) + BEAT_S, limit) if ran or there(paths.pid) else 0.0


def _after_its_last(paths: JobPaths) -> float:
    """A shepherd that can't write a heartbeat touches its lock (`shepherd.show_life`). Both are its own files, so that
    one clock tells how far they are apart."""
    beat, life = _changed(paths.heartbeat), _changed(paths.lock)
    return 0.0 if beat is None or life is None else max(0.0, life - beat)


def _until_found(paths: JobPaths) -> float:
    began = next((at for path in (paths.started, paths.pid, paths.spec) if (at := _changed(path)) is not None), None)
    found = _changed(paths.lost) or time.time()
    return 0.0 if began is None else max(0.0, found - began)


def _changed(path: Path) -> float | None:
    try:
        return path.lstat().st_mtime
    except OSError:
        return None
