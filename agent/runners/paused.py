"""A training that is interrupted because its machine is taken away, and goes on on the next one.

Takes a job folder; gives `Paused`, what the training has used so far, and adds it to what it uses after that. The
candidate is asked by a signal to leave the file that its track names; nobody else reads that file.
"""

import contextlib
import json
import os
import signal
import stat
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from agent.job.folder import JobPaths
from agent.job.reading import open_below, read_small
from agent.job.writing import write_aside
from agent.strict import strict
from sandbox import Exit
from sandbox.limits import Limits
from sandbox.names import both

SIGNAL = signal.SIGUSR1
SAVE_S = 20.0  # for leaving the file; a cluster kills half a minute after it asked
AGAIN_S = 1.0
NOTICE_S = 1.0  # a signal for all processes comes to one a little before it comes to another
LEAST_S = 1.0  # of a limit that is used up: a process must be able to say so

Mark = tuple[int, int, int] | None  # tells one file from a later one of its name


@dataclass(frozen=True)
class Paused:
    """What a training used before its machine was taken away, all its machines together."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    slot_s: float
    """The whole job's."""
    walls: tuple[str, ...]
    """Those that stood on each."""

    def left(self, limits: Limits) -> Limits:
        """What it may still use: a limit is for all its machines together."""
        cpu_s = None if limits.cpu_s is None else max(LEAST_S, limits.cpu_s - self.cpu_s)
        return replace(limits, wall_s=max(LEAST_S, limits.wall_s - self.wall_s), cpu_s=cpu_s)

    def stood(self, walls: tuple[str, ...]) -> tuple[str, ...]:
        """What did not stand on every machine did not stand."""
        return walls if self is NOT_BEFORE else both(walls, self.walls)

    def whole(self, ended: Exit) -> Exit:
        """How its training ended, with what it used before."""
        if self is NOT_BEFORE:
            return ended
        return replace(
            ended,
            wall_s=round(self.wall_s + ended.wall_s, 3),
            cpu_s=round(self.cpu_s + ended.cpu_s, 3),
            peak_mb=max(self.peak_mb, ended.peak_mb),
            ready_s=None,  # of the last machine alone
        )


NOT_BEFORE = Paused(0.0, 0.0, 0.0, 0.0, ())


def read(paths: JobPaths) -> Paused | None:
    """None: it was not interrupted, or it was taken up again. Raises ValueError: that can't be read."""
    text = read_small(paths.paused)
    return None if text is None else strict(Paused, text)


def write(paths: JobPaths, used: Paused) -> None:
    """The last word on a job for now, whatever the candidate did to its folder."""
    open_to_all(paths.out)
    write_aside(paths.paused, json.dumps(asdict(used)))


class Saving:
    """What a training leaves to be gone on from, from its start on."""

    def __init__(self, out: Path, name: str) -> None:
        self._out, self._name, self._before = out, name, mark(out, name)
        self._until: float | None = None
        self._asked_at = 0.0

    def wait(self, ask: Callable[[int], None]) -> bool:
        """Asks for it, again and again, since it may not listen yet; whether there is time left."""
        now = time.monotonic()
        if self._until is None:
            self._until = now + SAVE_S
        if now - self._asked_at >= AGAIN_S:
            self._asked_at = now
            ask(SIGNAL)
        return now < self._until

    @property
    def left(self) -> bool:
        """Whether there is one of this machine's."""
        now = mark(self._out, self._name)
        return now is not None and now != self._before


def mark(out: Path, name: str) -> Mark:
    """Of the file as it is now; None: there is none that could be gone on from."""
    try:
        fd = open_below(out, name)
    except OSError:
        return None
    try:
        info = os.fstat(fd)
    finally:
        os.close(fd)
    plain = stat.S_ISREG(info.st_mode) and info.st_nlink == 1 and info.st_size > 0
    return (info.st_ino, info.st_mtime_ns, info.st_size) if plain else None


def open_to_all(out: Path) -> None:
    """The next machine may run it as another user, who must be able to read what this one left."""
    for entry in os.scandir(out):
        if entry.is_file(follow_symlinks=False):
            with contextlib.suppress(OSError):
                fd = open_below(out, entry.name)
                try:
                    if os.fstat(fd).st_nlink == 1:
                        os.fchmod(fd, 0o644)
                finally:
                    os.close(fd)
