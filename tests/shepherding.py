"""A job folder, and a shepherd for what is in it, for the tests of shepherds."""

import json
import sys
from pathlib import Path
from typing import NamedTuple

from agent.job.folder import JobPaths, JobResult, JobSpec, Phase, create
from agent.job.writing import write_aside
from agent.runners.local import LocalRunner
from sandbox import Level, Limits
from tests.processes import mentioning, until

LIMITS = Limits(wall_s=8, cpu_s=None, memory_mb=300, disk_mb=20, log_mb=1, processes=20)
WAIT = "import os, time\nopen(f'ran-{os.getpid()}', 'w')\ntime.sleep(30)"

# Counts, a second each, and goes on from what it kept where it was told to leave; a child of its own must not be told.
COUNTS = """
import os, pathlib, signal, subprocess, sys, time
kept, told = pathlib.Path(KEPT), []
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, lambda *_: told.append(1))
child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"])
done = int(kept.read_text()) if kept.exists() else 0
print("from", done, flush=True)
while done < MOST:
    until = time.monotonic() + 1
    while time.monotonic() < until:
        time.sleep(0.01)
        if told:
            assert child.poll() is None
            new = kept.with_suffix(".new")
            new.write_text(str(done))
            new.replace(kept)
            sys.exit(75)
    done += 1
    print("counted", done, flush=True)
child.kill()
"""

# What processes of ours are started with, so that their machine seems to have no more than this level.
NO_BUBBLEWRAP = "from sandbox import bubblewrap; bubblewrap.boxes = list; "
LACKING: dict[Level, str] = {
    "namespaces": "",
    "landlock": NO_BUBBLEWRAP,
    "pod": f"{NO_BUBBLEWRAP}from sandbox import landlock; landlock.abi = int; ",
}


def counts(most: int, kept: str) -> str:
    """`kept`: what gives the name of its file."""
    return COUNTS.replace("MOST", str(most)).replace("KEPT", kept)


def phase(paths: JobPaths, script: str, **changed: object) -> Phase:
    usual: dict[str, object] = {
        "name": "train",
        "argv": (sys.executable, "-I", "-S", str(paths.code / script)),
        "env": {"PATH": "/usr/bin:/bin"},
        "cwd": str(paths.out),
        "limits": LIMITS,
        "policy": None,
        "log": f"{script}.log",
    }
    return Phase(**{**usual, **changed})  # type: ignore[arg-type]


def begun(tmp_path: Path) -> JobPaths:
    """A job without a phase that somebody began, and nobody has in hand."""
    paths = JobPaths(tmp_path / "jobs" / "r1")
    create(paths.folder, JobSpec(1, (), None, None, 9.0), lambda code: None)
    write_aside(paths.pid, "{}")
    write_aside(paths.started, "now")
    return paths


class Job(NamedTuple):
    """A job folder, and how to run what is in it."""

    paths: JobPaths
    spec: JobSpec

    @classmethod
    def make(cls, folder: Path, train: str, judge: str | None = None, wall_s: float = 20, **changed: object) -> "Job":
        paths = JobPaths(folder)
        phases = [phase(paths, "train.py", **changed)]
        if judge is not None:
            phases.append(phase(paths, "judge.py", name="judge", cwd=str(folder)))
        spec = JobSpec(1, tuple(phases), "a.bin" if judge is not None else None, None, wall_s)

        def fill(code: Path) -> None:
            (code / "train.py").write_text(train)
            (code / "judge.py").write_text(judge or "")

        assert create(folder, spec, fill)
        return cls(paths, spec)

    def submit(self) -> LocalRunner:
        runner = LocalRunner(1)
        runner.hold(self.spec.run_id, self.paths.folder, "local/0")
        return runner

    def end(self, runner: LocalRunner | None = None) -> str:
        runner = runner or self.submit()
        until(lambda: runner.poll(self.paths.folder) in ("done", "lost"))
        return runner.poll(self.paths.folder)

    def result(self) -> JobResult:
        runner = self.submit()
        assert self.end(runner) == "done", self.log()
        return runner.collect(self.paths.folder)

    def log(self) -> str:
        return self.paths.shepherd_log.read_text()

    def shepherd(self) -> int:
        until(self.paths.pid.exists)
        return int(json.loads(self.paths.pid.read_text())["pid"])


def ran(job: Job) -> int:
    return len(list(job.paths.out.glob("ran-*")))


def gone(word: str) -> None:
    """Nothing of it is left; a shepherd may take a moment to go after its last word."""
    until(lambda: mentioning(word) == [], within_s=2)


def started_at(level: Level, code: str) -> str:
    """Code for `python -c` that is given where our code is, on a machine that has no more than this."""
    return f"import sys; sys.path.insert(0, sys.argv[1]); {LACKING[level]}{code}"
