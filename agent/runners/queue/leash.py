"""What ends a worker's runs when the worker itself was killed: a child that waits for its end, and nothing else.

A run has a shepherd of its own and would go on, paid for by nobody: its lease is over. For the length of a lease a
worker that comes again may take its runs up; then they are asked to end.
"""

import os
import signal
import time
from pathlib import Path

from agent.job import lock
from agent.job.folder import JobPaths
from agent.job.reading import there

LOOK_S = 0.2
LETS_GO_S = 1.0  # a process that dies closes its files one after the other, and the lock may be the last


def attach(folder: Path, held: int, grace_s: float) -> int:
    """Starts it; gives the end of a pipe that must stay open as long as this process works. `held`: the worker's lock,
    which must not outlive it."""
    reading, writing = os.pipe()
    if os.fork():
        os.close(reading)
        return writing
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for fd in (writing, held):
            os.close(fd)
        while os.read(reading, 1):
            pass
        _end(folder, grace_s)
    finally:
        os._exit(0)


def _end(folder: Path, grace_s: float) -> None:
    until = time.monotonic() + grace_s
    time.sleep(LETS_GO_S)
    while jobs := [JobPaths(job) for job in folder.glob("jobs/r*")]:
        if lock.held(folder / "lock"):
            return
        if time.monotonic() >= until:
            for job in jobs:
                if not there(job.cancel):
                    job.cancel.touch()
            return
        time.sleep(LOOK_S)
