"""One start of a confined command, measured in a process that has loaded what a shepherd has, and no more: what a fork
costs depends on how large a process is.

`benchmarks.walls` starts it with a `Start` as JSON; it prints a `Cost`.
"""

import json
import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import agent.runners.shepherd
from agent.strict import strict
from sandbox import Confined, Limits, Policy

assert agent.runners.shepherd  # what a shepherd has loaded


@dataclass(frozen=True)
class Start:
    argv: tuple[str, ...]
    env: dict[str, str]
    limits: Limits
    policy: Policy | None
    out: str
    log: str
    wanted: tuple[str, ...]
    """Walls that must stand."""
    count: int
    """How often it is started; the last time counts."""


@dataclass(frozen=True)
class Cost:
    """Of one start, from its order to its end; milliseconds."""

    wall: float
    processor: float
    """Of all its processes and of the one that started it: other work on the machine adds less to it."""


def main(text: str) -> int:
    start = strict(Start, text)
    for _ in range(start.count):
        cost = _once(start)
    print(json.dumps(asdict(cost)))
    return 0


def _once(start: Start) -> Cost:
    began, used = time.perf_counter(), _processor_s()
    confined = Confined(
        start.argv,
        cwd=Path(start.out),
        env=start.env,
        limits=start.limits,
        log=Path(start.log),
        folder=Path(start.out),
        policy=start.policy,
    )
    ended = confined.wait()
    cost = Cost(1e3 * (time.perf_counter() - began), 1e3 * (_processor_s() - used))
    if not ended.ok or not set(confined.walls) >= set(start.wanted):
        raise SystemExit(f"{ended} behind {', '.join(confined.walls)} instead of {', '.join(start.wanted)}")
    return cost


def _processor_s() -> float:
    both = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
