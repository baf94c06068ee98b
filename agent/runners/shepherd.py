"""Holds one run: starts its phases, keeps its limits with nobody watching, and leaves a result.

`python -I -m agent.runners.shepherd FOLDER CORE` (CORE: a number, or - for none). Takes a job folder; leaves
result.json in it. One shepherd at a time: it holds a lock for its life. A job whose candidate code has started once is
never started again.
"""

import fcntl
import json
import os
import signal
import stat
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from agent.records import Outcome
from agent.runners.job import (
    Heartbeat,
    JobPaths,
    JobResult,
    JobSpec,
    Phase,
    PhaseResult,
    read_small,
    write_aside,
)
from sandbox import CAPS, Confined, Exit, StartError, walls
from sandbox.limits import MB

BEAT_S = 1.0
KILL_S = 3.5  # kept of the job's time for ending its tree and writing the result


def take(paths: JobPaths) -> int | None:
    """The job's lock, or None when another process holds it."""
    fd = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def take_patiently(paths: JobPaths) -> int | None:
    """A controller that looks whether anybody holds the lock holds it itself for a moment."""
    for _ in range(200):
        lock = take(paths)
        if lock is not None:
            return lock
        time.sleep(0.01)
    return None


class Shepherd:
    def __init__(self, paths: JobPaths, spec: JobSpec, core: int | None, since: float) -> None:
        self._paths = paths
        self._spec = spec
        self._core = core
        self._since = since
        self._deadline = since + spec.wall_s - KILL_S
        self._cancelled = False
        self._beat_at = 0.0
        self._done: list[PhaseResult] = []

    def run(self) -> JobResult:
        """All phases in their order, up to the first that does not end well."""
        signal.signal(signal.SIGTERM, self._cancel)
        outcome: Outcome = "ok"
        reason = ""
        for phase in self._spec.phases:
            outcome, reason = self._phase(phase)
            if outcome == "ok" and phase.name == "train" and self._spec.artifact is not None:
                outcome, reason = check_artifact(
                    self._paths.out / self._spec.artifact, phase.limits.disk_mb * MB
                )
            if outcome != "ok":
                break
        return JobResult(
            run_id=self._spec.run_id,
            outcome=outcome,
            reason=reason,
            phases=tuple(self._done),
            slot_s=round(time.monotonic() - self._since, 3),
            walls=walls(),
            ran=self._paths.started.exists(),
        )

    def _phase(self, phase: Phase) -> tuple[Outcome, str]:
        if not phase.trusted and not self._paths.started.exists():
            write_aside(self._paths.started, phase.name)
        try:
            confined = Confined(
                phase.argv,
                cwd=Path(phase.cwd),
                env={**phase.env, "CADDIE_JOB": str(self._paths.folder)},
                limits=phase.limits,
                log=self._paths.folder / phase.log,
                folder=self._paths.out,
                core=self._core,
            )
        except StartError as error:
            return "crashed", str(error)
        ended = self._watch(phase, confined)
        self._done.append(PhaseResult(phase.name, ended))
        return judge_exit(phase, ended, cancelled=self._cancelled, late=time.monotonic() >= self._deadline)

    def _watch(self, phase: Phase, confined: Confined) -> Exit:
        while (ended := confined.poll()) is None:
            if self._cancelled or self._paths.cancel.exists():
                self._cancelled = True
                return confined.kill()
            if time.monotonic() >= self._deadline:
                return confined.kill()
            self._beat(phase, confined)
            confined.rest(0.25)
        return ended

    def _beat(self, phase: Phase, confined: Confined) -> None:
        now = time.monotonic()
        if now < self._beat_at:
            return
        self._beat_at = now + BEAT_S
        beat = Heartbeat(phase.name, round(now - self._since, 3), tuple(confined.processes()))
        write_aside(self._paths.heartbeat, json.dumps(asdict(beat)), durable=False)

    def _cancel(self, number: int, frame: FrameType | None) -> None:
        self._cancelled = True


def judge_exit(phase: Phase, ended: Exit, *, cancelled: bool, late: bool) -> tuple[Outcome, str]:
    """What an exit means, in words."""
    if ended.ok:
        return "ok", ""
    if cancelled:
        return "cancelled", "cancelled"
    if late and ended.cause == "killed":
        return "capped", "stopped at the end of the time that was reserved for the whole job"
    if ended.cause in CAPS:
        return "capped", f"{phase.name}: stopped at its {ended.cause} limit ({_limit(phase, ended)})"
    if phase.trusted:
        return "score_failed", f"the judge session ended with {_how(ended)}; see {phase.log}"
    return "crashed", f"{phase.name}: ended with {_how(ended)}; see {phase.log}"


def _limit(phase: Phase, ended: Exit) -> str:
    limits = phase.limits
    words = {
        "wall": f"{limits.wall_s:g} s",
        "cpu": f"{limits.cpu_s or 0:g} CPU-seconds",
        "memory": f"{limits.memory_mb} MB, it used {ended.peak_mb:.0f}",
        "disk": f"{limits.disk_mb} MB",
        "log": f"{limits.log_mb} MB",
        "processes": f"{limits.processes}",
    }
    return words[ended.cause]


def _how(ended: Exit) -> str:
    return f"exit code {ended.rc}" if ended.signal is None else signal.Signals(ended.signal).name


def check_artifact(path: Path, most: int) -> tuple[Outcome, str]:
    """A plain file with one name, not empty, not huge; anything else may be a trap for whoever opens it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return "no_artifact", f"no artifact {path.name} was written"
    except OSError as error:
        return "bad_artifact", f"artifact {path.name} can't be opened: {error.strerror}"
    try:
        info = os.fstat(fd)
    finally:
        os.close(fd)
    if not stat.S_ISREG(info.st_mode):
        return "bad_artifact", f"artifact {path.name} is not a plain file"
    if info.st_nlink != 1:
        return (
            "bad_artifact",
            f"artifact {path.name} has {info.st_nlink} names: it may be somebody else's file",
        )
    if info.st_size == 0:
        return "bad_artifact", f"artifact {path.name} is empty"
    if info.st_size > most:
        return "bad_artifact", f"artifact {path.name} has {info.st_size:,} bytes, more than the disk limit"
    return "ok", ""


def main(folder: Path, core: int | None, clock: Callable[[], float] = time.monotonic) -> int:
    since = clock()
    paths = JobPaths(folder)
    lock = take_patiently(paths)
    if lock is None:
        print("already: another shepherd holds this job")
        return 0
    if paths.result.exists() or paths.lost.exists() or paths.started.exists():
        print("already: this job has been run")
        return 0
    write_aside(paths.pid, json.dumps({"pid": os.getpid(), "started": time.time()}))
    text = read_small(paths.spec)
    if text is None:
        print("no spec.json")
        return 1
    result = Shepherd(paths, JobSpec.from_json(text), core, since).run()
    write_aside(paths.result, result.to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), None if sys.argv[2] == "-" else int(sys.argv[2])))
