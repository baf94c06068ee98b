"""What dead shepherds left behind: found by three marks, and ended.

Takes the folder of all jobs; gives the processes that were ended. A process belongs to a job if its
environment says so, if the job's last heartbeat lists it or its session, or if it is in a control group whose
maker is dead. It is left over if nobody holds the job's lock.
"""

import os
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from agent.job import lock
from agent.job.folder import Heartbeat, JobPaths, strict_heartbeat
from agent.job.reading import read_small, there
from agent.runners.shepherd import BEAT_S, MARKER, boot
from sandbox import groups, tree
from sandbox.libc import LINUX
from sandbox.tree import Proc

END_WITHIN_S = 3.0


def end(jobs_root: Path) -> list[int]:
    """End what is left over under `jobs_root`; gives the ids."""
    ended: set[int] = set()

    def find() -> dict[int, Proc]:
        found = tree.descendants(_roots(jobs_root.resolve()))
        found.pop(os.getpid(), None)
        ended.update(found)
        return found

    tree.end_all(find, END_WITHIN_S)
    groups.left_behind()  # empty now: this removes the groups
    return sorted(ended)


def _roots(jobs_root: Path) -> set[int]:
    roots = {pid for pid in groups.left_behind() if pid > 0}
    rows = [row for pid in tree.every_pid() if (row := tree.look(pid)) is not None]
    roots |= {row.pid for row in rows if _marked(row.pid, jobs_root)}
    for beat in _last_beats(jobs_root):
        roots |= {
            row.pid for row in rows if beat.processes.get(str(row.pid)) == row.start or _in_session(row, beat, rows)
        }
    return roots


def _marked(pid: int, jobs_root: Path) -> bool:
    """Whether its environment names a job under the root that no shepherd holds."""
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    name = MARKER.encode() + b"="
    for word in words:
        if word.startswith(name):
            folder = Path(os.fsdecode(word.removeprefix(name)))
            return folder.is_relative_to(jobs_root) and not lock.held(JobPaths(folder).lock)
    return False


def _last_beats(jobs_root: Path) -> list[Heartbeat]:
    """Of jobs that nobody holds, in this life of the machine."""
    beats: list[Heartbeat] = []
    if not jobs_root.is_dir():
        return beats
    for folder in jobs_root.iterdir():
        paths = JobPaths(folder)
        text = None if there(paths.result) or lock.held(paths.lock) else read_small(paths.heartbeat)
        beat = strict_heartbeat(text)
        if beat is None or beat.boot != boot():
            continue
        with suppress(ValueError, OverflowError):  # a candidate may have written the time
            _ticks(beat.at)
            beats.append(beat)
    return beats


def _in_session(row: Proc, beat: Heartbeat, rows: list[Proc]) -> bool:
    """In the command's session, and surely in that one: process ids come again, and then name strangers."""
    start = beat.processes.get(str(beat.root))
    if row.sid != beat.root or start is None or row.start < start:
        return False
    if any(other.pid == beat.root and other.start != start for other in rows):
        return False
    return row.start <= _ticks(beat.at) + (BEAT_S + 1.0) * tree.TICKS


def _ticks(at: str) -> float:
    """A moment as ticks since the machine started, as in a process' start."""
    ago = time.time() - datetime.fromisoformat(at).timestamp()
    clock = time.CLOCK_BOOTTIME if LINUX else time.CLOCK_MONOTONIC
    return (time.clock_gettime(clock) - ago) * tree.TICKS
