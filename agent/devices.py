"""Whether a run sees the GPUs that its slot has: counted behind the walls and in the environment of a run.

Takes a track and a runner of this machine; refuses before anything is paid for. The count is made by a process of its
own, which a runner of another machine can start there: python -m agent.devices ASKED
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from agent import own_process, reach, training
from agent.errors import InfraError, MissingError
from agent.job.reading import read_small
from agent.runners import Runner
from agent.strict import strict
from agent.track import Track
from sandbox import Confined, Limits, NoWalls, Policy, stack

# The driver's own library, which torch asks too; it takes a tenth of the time that torch needs to start.
COUNT = """
import ctypes
try:
    driver = ctypes.CDLL("libcuda.so.1")
except OSError as error:
    print(0, error)
else:
    number = ctypes.c_int()
    failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(number))
    print(0 if failed else number.value, f"CUDA's error {failed}" if failed else "")
"""
WALL_S = 60.0  # a driver that is not kept loaded takes seconds for each GPU
OWN_S = 30.0  # of the process that has them counted


@dataclass(frozen=True)
class View:
    """How a run in one slot would see the machine."""

    policy: Policy
    env: dict[str, str]
    memory_mb: int


@dataclass(frozen=True)
class Asked:
    views: tuple[View, ...]


@dataclass(frozen=True)
class Seen:
    count: int
    words: str
    """What the driver said, where it gave none."""
    walls: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    seen: tuple[Seen, ...]


def require(track: Track, runner: Runner) -> None:
    """Every slot of a runner of this machine has its GPUs.

    Raises:
        MissingError: a run would see more or fewer.
    """
    answer = count(Asked(tuple(view(track, runner.gpus(slot), runner.env(slot)) for slot in runner.slots)))
    for slot, seen in zip(runner.slots, answer.seen, strict=True):
        needed = len(runner.gpus(slot))
        if seen.count != needed:
            nodes = ", ".join(f"/dev/nvidia{number}" for number in runner.gpus(slot))
            raise MissingError(
                f"{slot}: a run would see {seen.count} CUDA devices where it needs {needed} ({nodes})"
                f"{': ' if seen.words else ''}{seen.words}. torch would train on the CPU without a word, and the "
                f"time would be paid for. Walls: {', '.join(seen.walls)}. Does nvidia-smi list them, is libcuda.so.1 "
                "under /usr/lib, and do these device nodes exist?"
            )


def view(track: Track, gpus: tuple[int, ...], machine: Mapping[str, str]) -> View:
    policy = reach.scoring(track, reach.Reach(track.sandbox.minimum, gpus))
    env = training.environment(track, track.deciding(), Path("none"), machine, run_id="devices", seed=0)
    return View(policy, env, track.limits.memory_mb)


def count(asked: Asked) -> Answer:
    """By a process of its own: whoever confines another has one thread, and adopts its orphans.

    Raises:
        InfraError: it could not be counted.
    """
    command = own_process.command(own_process.code("agent.devices"), json.dumps(asdict(asked)))
    within_s = OWN_S + WALL_S * len(asked.views)
    try:
        done = subprocess.run(
            command, env=own_process.ENV, capture_output=True, text=True, timeout=within_s, check=False, cwd="/"
        )
        return strict(Answer, done.stdout)
    except subprocess.TimeoutExpired as error:
        raise InfraError(f"the GPUs can't be counted within {within_s:g} s") from error
    except ValueError as error:
        last = done.stderr.strip().splitlines()[-1:]
        raise InfraError(f"the GPUs can't be counted: {(last or [str(error)])[0][:500]}") from error


def main(text: str) -> int:
    seen = tuple(map(_count, strict(Asked, text).views))
    print(json.dumps(asdict(Answer(seen))))
    return 0


def _count(view: View) -> Seen:
    with tempfile.TemporaryDirectory(prefix="caddie-devices-") as folder:
        out, log = Path(folder) / "out", Path(folder) / "log"
        out.mkdir()
        confined = Confined(
            (sys.executable, "-I", "-S", "-c", COUNT),
            cwd=out,
            env=view.env,
            limits=Limits(WALL_S, None, view.memory_mb, 50, 1, 64),
            log=log,
            folder=out,
            policy=_weakest(replace(view.policy, writable=str(out))),
        )
        ended = confined.wait()
        said = (read_small(log) or "").strip()
    number, _, words = said.partition(" ")
    if not ended.ok or not number.isdecimal():
        return Seen(0, f"the count ended by {ended.cause}: {said[-500:]}", confined.walls)
    return Seen(int(number), words.strip(), confined.walls)


def _weakest(policy: Policy) -> Policy:
    """Where this machine has no walls for what nobody has read, the runs that may be there have none either."""
    try:
        stack(policy)
    except NoWalls:
        return replace(policy, minimum="base")
    return policy


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
