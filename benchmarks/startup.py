"""How long the command line takes to start: `python -m benchmarks.startup [--runs 20]`.

Runs each command in a process of its own, one after the other, and prints the median and worst wall time and
the median CPU time. The target is that of `agent --help`: below 0.3 s.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

COMMANDS = (("--help",), ("start", "--help"), ("tracks", "tiny"))
TARGET_S = 0.3
# What takes long to import, and belongs inside the commands that need it.
HEAVY = (
    "torch",
    "numpy",
    "sqlalchemy",
    "alembic",
    "optuna",
    "scipy",
    "matplotlib",
    "git",
    "pydantic",
    "psutil",
)


class Timed(NamedTuple):
    wall_s: float
    cpu_s: float


def once(*command: str, where: Path) -> Timed:
    """One start, by its wall clock and by the CPU time of its process."""
    before, start = os.times(), time.perf_counter()
    subprocess.run([sys.executable, "-m", "agent.cli", *command], cwd=where, check=True, capture_output=True)
    wall, after = time.perf_counter() - start, os.times()
    used = (after.children_user - before.children_user) + (after.children_system - before.children_system)
    return Timed(wall, used)


def heavy() -> list[str]:
    """Heavy modules that `agent --help` imports, though it should not."""
    code = (
        "import sys\nfrom agent.cli.app import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print('heavy:', *[name for name in {HEAVY!r} if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return said.splitlines()[-1].split()[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, {runs} starts")
    print(f"heavy imports of --help: {', '.join(heavy()) or 'none'}")
    with tempfile.TemporaryDirectory() as folder:
        for command in COMMANDS:
            once(*command, where=Path(folder))  # the first one fills the page cache
            timed = [once(*command, where=Path(folder)) for _ in range(runs)]
            wall = [one.wall_s for one in timed]
            cpu = statistics.median(one.cpu_s for one in timed)
            middle = statistics.median(wall)
            words = f"median {middle:.3f} s, worst {max(wall):.3f} s, CPU {cpu:.3f} s"
            print(f"agent {' '.join(command):<16} {words}")
    print(f"target: agent --help below {TARGET_S} s")


if __name__ == "__main__":
    main()
