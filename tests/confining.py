"""A folder to run candidates in, and what such a run left, for the tests of the sandbox."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from sandbox import Confined, Exit, Limits

PYTHON = (sys.executable, "-I", "-S", "-c")
# Every bomb is bounded by itself: 2**9 processes, each of which an alarm ends. A broken watchdog must not take
# the machine along.
BOMB = "import os, signal, time\nfor _ in range(9):\n  os.fork()\n  signal.alarm(6)\n  {}\ntime.sleep(30)"


class Ended(NamedTuple):
    exit: Exit
    log: bytes
    out: Path


class Lab(NamedTuple):
    """A folder to run candidates in."""

    folder: Path

    def limits(self, **changed: float | None) -> Limits:
        usual = {"wall_s": 10, "cpu_s": None, "memory_mb": 400, "disk_mb": 20, "log_mb": 2, "processes": 20}
        return Limits(**{**usual, **changed})  # type: ignore[arg-type]

    def start(self, code: str, env: Mapping[str, str] | None = None, **changed: float | None) -> Confined:
        out = self.folder / "out"
        out.mkdir(exist_ok=True)
        return Confined(
            (*PYTHON, code),
            cwd=out,
            env=env or {},
            limits=self.limits(**changed),
            log=self.folder / "log",
            folder=out,
            policy=None,
        )

    def run(self, code: str, **changed: float | None) -> Ended:
        exit = self.start(code, **changed).wait()
        return Ended(exit, (self.folder / "log").read_bytes(), self.folder / "out")
