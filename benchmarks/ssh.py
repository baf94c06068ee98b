"""What a run costs on top of itself when it is on a machine over ssh: against the same run here.

    python -m benchmarks.ssh [RUNS]

Takes a number of runs, 5 where none is given; prints a table. The machine is this one, behind an sshd of its own on the
loopback interface: a real link adds its own time to every step. Trains and scores the toy script of the tests.
"""

import importlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.runners import Runner
from agent.runners.local import LocalRunner
from agent.runners.order import Order
from agent.runners.ssh import depot

# Their types are not checked, so they must not be looked into from here.
far, sshd = importlib.import_module("tests.far"), importlib.import_module("tests.sshd")
BIG = 256 << 20


def one(runner: Runner, world: Any, order: Order) -> tuple[float, float]:
    """Seconds from submit to done, and those of them that the slot was taken for."""
    paths = world.place(order)
    began = time.perf_counter()
    runner.submit(order, paths.folder, runner.slots[0])
    while runner.poll(paths.folder) not in ("done", "lost"):
        time.sleep(0.005)
    took = time.perf_counter() - began
    result = runner.collect(paths.folder)
    assert result.outcome == "ok", result.reason
    return took, result.slot_s


def line(name: str, runs: list[tuple[float, float]]) -> str:
    around = [took - slot_s for took, slot_s in runs]
    slots = [slot_s for _, slot_s in runs]
    return f"| {name} | {statistics.median(slots):.2f} | {statistics.median(around):.2f} | {max(around):.2f} |"


def timed(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def main(runs: int) -> int:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        server = sshd.start(root / "sshd")
        world = far.World(root / "world", server)
        there = world.runner()
        first = timed(lambda: there.slots)
        print(f"first look at a machine, our code sent ({there._machines['lab/box'].sent:,} bytes): {first:.1f} s")
        here = LocalRunner(1)
        print("\n| where | slot, s | around it, s: median | most |\n|---|---|---|---|")
        print(line("here", [one(here, world, world.order(n, seed=n)) for n in range(1, runs + 1)]))
        print(line("over ssh", [one(there, world, world.order(n + 100, seed=n)) for n in range(1, runs + 1)]))
        machine, thread = there._machines["lab/box"], there._opened()
        big = root / "big"
        big.write_bytes(os.urandom(1 << 20) * (BIG >> 20))
        tree = depot.tree_of({"big": big})
        sent = timed(lambda: thread.wait(machine.send(tree.blobs())))
        again = timed(lambda: thread.wait(machine.send(tree.blobs())))
        print(
            f"\n{BIG >> 20} MiB sent, checked there: {BIG / sent / 1e6:.0f} MB/s; the same again: {again * 1000:.0f} ms"
        )
        looks = [timed(lambda: thread.wait(machine.look("no.such.job", {}))) for _ in range(50)]
        print(f"one look at a job: {statistics.median(looks) * 1000:.1f} ms, of which 20 wait for others to join")
        world.close()
        server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
