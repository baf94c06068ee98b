"""A shepherd that was stopped, and is past its job's time: it seems to live for ever, and does nothing any more.

Takes a job folder; ends such a shepherd, so that the job is lost. What it held has ended before, by a clock that does
not need it (`sandbox/child.py`, `sandbox/doorman.py`). One that is stopped within its time may go on.
"""

import contextlib
import os
import signal
import time
from pathlib import Path

from agent.job.folder import JobPaths, JobSpec
from agent.job.reading import read_small
from agent.strict import from_json
from sandbox import tree
from sandbox.child import LATE_S

SILENT_S = 10.0  # without a heartbeat, before anybody looks why
STOPPED = ([b"T"], [b"t"])


def end(paths: JobPaths) -> bool:
    """Whether one was ended."""
    if not _silent(paths):
        return False
    pid = _shepherd(paths)
    if pid is None or not _is_stopped(pid) or not _is_over(paths):
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def _silent(paths: JobPaths) -> bool:
    """A look at one file, since this is asked again and again of every job that runs."""
    try:
        beat = paths.heartbeat.lstat().st_mtime
    except OSError:
        return False
    return time.time() - beat > SILENT_S


def _shepherd(paths: JobPaths) -> int | None:
    """Its process, if it is still the one that wrote this, and a shepherd of this folder: a file may say anything."""
    try:
        said = from_json(read_small(paths.pid) or "")
        pid, start = int(said["pid"]), int(said["start"])  # type: ignore[index]
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (ValueError, KeyError, TypeError, OSError):
        return None
    row = tree.look(pid)
    ours = row is not None and row.start == start and os.fsencode(paths.folder.resolve()) in words
    return pid if ours and tree.owner(pid) == os.getuid() else None


def _is_stopped(pid: int) -> bool:
    try:
        text = tree.read(f"/proc/{pid}/stat")
    except OSError:
        return False
    return tree.after_name(text)[:1] in STOPPED


def _is_over(paths: JobPaths) -> bool:
    try:
        limit = JobSpec.from_json(read_small(paths.spec) or "").wall_s
        began = paths.pid.lstat().st_mtime
    except (ValueError, OSError):
        return False
    return time.time() - began > limit + 2 * LATE_S
