"""A folder to run candidates in, and what such a run left, for the tests of the sandbox."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from sandbox import Confined, Exit, Limits, Policy, bubblewrap
from sandbox.seen import seen
from sandbox.walls import Stack

boxed = pytest.mark.skipif(not bubblewrap.boxes(), reason="bubblewrap is not installed")
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


def policy(folder: Path, *packages: str, **changes: object) -> Policy:
    common = seen(packages)
    usual = Policy(str(folder), (), common.programs, common.hidden, common.packages)
    return replace(usual, **changes)  # type: ignore[arg-type]


def run(lab: Lab, code: str, rules: Policy, put_up: Stack | None = None) -> str:
    """What the code printed behind the walls."""
    out = lab.folder / "out"
    out.mkdir(exist_ok=True)
    log = lab.folder / "log"
    log.unlink(missing_ok=True)
    command = (sys.executable, "-c", code)
    limits = lab.limits(wall_s=60, memory_mb=2000)
    ended = Confined(command, cwd=out, env={}, limits=limits, log=log, folder=out, policy=rules, walls=put_up).wait()
    said = log.read_text()
    assert ended.ok, said
    return said
