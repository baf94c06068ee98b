"""Real processes of this machine: waiting for something, and who is alive. For the tests of what starts them."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox import tree

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")


def until(true: Callable[[], object], within_s: float = 60.0, what: str = "") -> None:
    """Waits until something is so; fails after a deadline."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"did not come about in {within_s} s: {what}"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    row = tree.look(pid)
    return row is not None and not row.zombie


def mentioning(word: str) -> list[int]:
    """Living processes with the word in their environment or their command line, this one aside."""
    found = []
    for pid in tree.every_pid():
        for name in ("environ", "cmdline"):
            try:
                if word.encode() in Path(f"/proc/{pid}/{name}").read_bytes() and alive(pid):
                    found.append(pid)
            except OSError:
                continue
    return [pid for pid in found if pid != os.getpid()]


def left_over(root: Path) -> list[int]:
    """Processes that still carry a job's mark."""
    return mentioning(f"CADDIE_JOB={root}")
