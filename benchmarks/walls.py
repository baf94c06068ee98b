"""What the walls around untrusted code cost: at the start of a run, and in each step of training.

    python -m benchmarks.walls                                   # all, some minutes
    python -m benchmarks.walls starts --starts 100
    python -m benchmarks.walls imports
    python -m benchmarks.walls steps --pairs 6 --corpus .caddie/data/docs

Starts: a command that does nothing, under the limits and the policy of the tiny track's training, each in a new process
as a shepherd is one (`walls_start`). The kinds take turns, so that a busy minute hits all alike. Imports: torch, by one
process after the other, none of its files in memory before the first; what leaves no trace waits for the disk again.
Steps: the track's own trainer, once with walls and once without at the same time on the same core, so that what else
goes on hits both alike.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

from agent import own_process, reach, track, training
from agent.job.folder import JobPaths
from agent.reach import Reach
from agent.strict import strict
from agent.tables import BUDGET
from benchmarks.folders import working_folder
from benchmarks.store import machine
from benchmarks.walls_start import Cost, Start
from sandbox import Confined, Exit, Limits, Policy
from trainer.data.prepare import prepare

TARGET_MS = 15.0
TOLERANCE = 0.02
LIMITS = Limits(wall_s=600, cpu_s=None, memory_mb=3000, disk_mb=100, log_mb=10, processes=64)
NOTHING = ("/bin/true",)
# The trainer as it is, with a clock around each of its steps.
TIMED = """
import importlib.util, os, sys, time
spec = importlib.util.spec_from_file_location("candidate", sys.argv[2])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
step, taken = module.Run.step, []
def timed(run, *rest):
    began = time.process_time()
    loss = step(run, *rest)
    taken.append(1e3 * (time.process_time() - began))
    return loss
module.Run.step = timed
module.main(dict(os.environ))
print("taken", *taken)
"""
HOLDOUT = "2000"  # bytes: what comes after the last step is not measured


# What must stand.
WANTED = {"none": (), "full": ("namespaces", "seccomp"), "fallback": ("landlock", "seccomp")}


class Kind(NamedTuple):
    """A way to start a run."""

    name: str
    walls: str
    first: bool = False
    """Whether its process has put up no walls before, and so tries out what works here."""
    traceless: bool = False
    """Whether what it reads leaves memory with it, as for a process of the judge."""

    def __str__(self) -> str:
        return f"{self.name}, first in its process" if self.first else self.name


KINDS = (
    Kind("no walls", "none"),
    Kind("no walls", "none", first=True),
    Kind("full stack", "full"),
    Kind("full stack", "full", first=True),
    Kind("full stack without a trace", "full", traceless=True),
    Kind("Landlock", "fallback"),
    Kind("Landlock", "fallback", first=True),
)


class Bench(NamedTuple):
    """A job folder and what its runs may touch."""

    paths: JobPaths
    env: dict[str, str]
    policy: Policy

    @classmethod
    def make(cls, folder: Path, corpus: Path, budget_ms: int) -> "Bench":
        tiny, _ = track.load("tiny", folder)
        paths = JobPaths(folder)
        paths.code.mkdir(parents=True)
        paths.out.mkdir()
        source = Path(sys.modules["trainer"].__path__[0]) / Path(tiny.script.path).name
        shutil.copy(source, paths.code)
        env = training.environment(tiny, tiny.rung[0], corpus, {}, run_id="r1", seed=1)
        env = {**env, BUDGET: str(budget_ms), "HOLDOUT": HOLDOUT, "TMPDIR": str(paths.out)}
        return cls(paths, env, reach.training(tiny, paths, corpus, Reach("landlock")))

    def start(self, argv: Sequence[str], policy: Policy | None, log: str, core: int | None = None) -> Confined:
        paths = self.paths
        return Confined(
            argv,
            cwd=paths.out,
            env=self.env,
            limits=LIMITS,
            log=paths.folder / log,
            folder=paths.out,
            policy=policy,
            core=core,
        )

    def train(self, policy: Policy | None, core: int) -> Confined:
        script = next(self.paths.code.iterdir())
        return self.start((sys.executable, "-c", TIMED, "train", str(script)), policy, self.paths.train_log.name, core)

    def taken(self, ended: Exit) -> list[float]:
        """Milliseconds of each step of a training that has ended."""
        last = self.paths.train_log.read_text("utf-8", errors="replace").splitlines()[-1:]
        if not ended.ok or not last or not last[0].startswith("taken "):
            raise SystemExit(f"the training failed: {ended}; {' '.join(last)}")
        return [float(word) for word in last[0].split()[1:]]


# ---------------------------------------------------------------- starts


def starts(bench: Bench, count: int) -> bool:
    taken: dict[Kind, list[Cost]] = {kind: [] for kind in KINDS}
    for _ in range(count):
        for kind, costs in taken.items():
            costs.append(in_new_process(bench, kind))
    print(f"{count} starts of each kind, in turns; milliseconds: median, and minimum\n")
    print(
        "| start | wall | more than without walls | processor time | more than without walls |\n|---|---|---|---|---|"
    )
    for kind, costs in taken.items():
        without = taken[Kind("no walls", "none", kind.first)]
        cells = []
        for what in ("wall", "processor"):
            own, bare = ([getattr(cost, what) for cost in some] for some in (costs, without))
            middle, least = statistics.median(own), min(own)
            cells += [f"{middle:.1f}, {least:.1f}", f"{middle - statistics.median(bare):.1f}, {least - min(bare):.1f}"]
        print(f"| {kind} | {' | '.join(cells)} |")
    full, none = taken[Kind("full stack", "full")], taken[Kind("no walls", "none")]
    added = statistics.median(cost.wall for cost in full) - statistics.median(cost.wall for cost in none)
    print(f"\nfull stack: {added:.1f} ms more (target: below {TARGET_MS:.0f} on a core with nothing else to do)")
    return added < TARGET_MS


def in_new_process(bench: Bench, kind: Kind) -> Cost:
    start = Start(
        argv=NOTHING,
        env=bench.env,
        limits=LIMITS,
        policy=None if kind.walls == "none" else replace(bench.policy, traceless=kind.traceless),
        out=str(bench.paths.out),
        log=str(bench.paths.folder / "log"),
        wanted=WANTED[kind.walls],
        count=1 if kind.first else 2,
    )
    env = dict(own_process.ENV)
    if kind.walls == "fallback":
        env["PATH"] = os.devnull  # bubblewrap is not found there
    command = own_process.command(own_process.code("benchmarks.walls_start"), json.dumps(asdict(start)))
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{kind}: {done.stderr}")
    return strict(Cost, done.stdout)


# ---------------------------------------------------------------- imports


def imports(bench: Bench, count: int) -> None:
    print("\nImports of torch one after the other, behind the full stack; seconds\n")
    print("| | first, from the disk | later: median |\n|---|---|---|")
    libraries = [path for path in (Path(sysconfig.get_path("purelib")) / "torch").rglob("*") if path.is_file()]
    for name, traceless in (("as in training", False), ("without a trace", True)):
        for path in libraries:
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        policy = replace(bench.policy, traceless=traceless)
        took = []
        for _ in range(count):
            began = time.perf_counter()
            ended = bench.start((sys.executable, "-c", "import torch"), policy, "log").wait()
            took.append(time.perf_counter() - began)
            if not ended.ok:
                raise SystemExit(f"torch can't be imported: {ended}")
        print(f"| {name} | {took[0]:.2f} | {statistics.median(took[1:]):.2f} |", flush=True)


# ---------------------------------------------------------------- steps


def steps(walled: Bench, bare: Bench, pairs: int, core: int) -> bool:
    print(f"\nProcessor time of a training step, both trainings at once on core {core}; milliseconds\n")
    print("| pair | without walls | full stack | ratio |\n|---|---|---|---|")
    ratios = []
    for pair in range(pairs):
        with_walls, without = side_by_side(walled, bare, core)
        ratios.append(with_walls / without)
        print(f"| {pair + 1} | {without:.2f} | {with_walls:.2f} | {ratios[-1]:.3f} |", flush=True)
    logs = [math.log(ratio) for ratio in ratios]
    mean = math.exp(statistics.mean(logs))
    error = statistics.stdev(logs) / math.sqrt(len(logs)) if pairs > 1 else math.inf
    print(f"\nratio {mean:.3f} ± {error:.3f} (target: 1.00 ± {TOLERANCE})")
    return abs(mean - 1) <= TOLERANCE


def side_by_side(walled: Bench, bare: Bench, core: int) -> tuple[float, float]:
    """Of a step with walls and of one without."""
    running = [walled.train(walled.policy, core), bare.train(None, core)]
    while None in [one.poll() for one in running]:
        time.sleep(0.05)
    taken = [bench.taken(one.wait()) for bench, one in zip((walled, bare), running, strict=True)]
    # Who is left alone on the core at the end is faster there.
    both = [times[: len(times) * 3 // 4] for times in taken]
    return statistics.median(both[0]), statistics.median(both[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("all", "starts", "imports", "steps"), default="all")
    parser.add_argument("--starts", type=int, default=100, help="of each kind")
    parser.add_argument("--imports", type=int, default=4, help="in a row")
    parser.add_argument("--pairs", type=int, default=6, help="of trainings")
    parser.add_argument("--budget-ms", type=int, default=4000, help="of a training, as the track counts")
    parser.add_argument("--core", type=int, default=min(os.sched_getaffinity(0)), help="where trainings run")
    parser.add_argument("--corpus", type=Path, help="a prepared `docs`; made anew unless given")
    chosen = parser.parse_args()
    with working_folder("walls") as root:
        root.chmod(0o755)  # so that a run can be a user of its own
        corpus = chosen.corpus or root / "docs"
        if chosen.corpus is None:
            prepare("docs", corpus, say=lambda text: None)
        first, second = (Bench.make(root / name, corpus.resolve(), chosen.budget_ms) for name in ("r1", "r2"))
        print(f"{machine()}; load {os.getloadavg()[0]:.1f}")
        met = []
        if chosen.what in ("all", "starts"):
            met.append(starts(first, chosen.starts))
        if chosen.what in ("all", "imports"):
            imports(first, chosen.imports)
        if chosen.what in ("all", "steps"):
            met.append(steps(first, second, chosen.pairs, chosen.core))
        print(f"load {os.getloadavg()[0]:.1f}")
    raise SystemExit(0 if all(met) else "too slow")


if __name__ == "__main__":
    main()
