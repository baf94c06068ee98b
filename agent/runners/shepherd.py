"""The process that holds one job: keeps its limits with nobody watching, and writes the result.

Takes a job folder and a core; gives result.json. Several may be sent for one folder: the lock lets one in,
and none starts candidate code where another has. By hand: python -I -m agent.runners.shepherd FOLDER [CORE]
"""

import contextlib
import json
import os
import signal
import sys
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from agent.job import lock
from agent.job.folder import Heartbeat, JobPaths, JobResult, JobSpec, Phase, PhaseResult
from agent.job.reading import read_small, there
from agent.job.removal import remove
from agent.job.writing import write_aside
from agent.records import Outcome
from agent.runners import paused
from agent.runners.artifact import fault
from agent.runners.paused import NOT_BEFORE, Paused, Saving
from agent.strict import from_json
from sandbox import CAPS, Cause, Confined, Exit, NoWalls, StartError, in_force, tree
from sandbox.libc import LINUX
from sandbox.limits import MB
from sandbox.names import both

MARKER = "CADDIE_JOB"  # in the environment of all that a job starts
BEAT_S = 1.0
# Kept back of the job's time: the last process must end, and the result be written, inside it.
RESERVE_S = 2.0
WRITE_TRIES = 20
TALKED = "it talked to the network"
ENDS: frozenset[Cause] = frozenset({"exited", "killed"})  # of a training that can go on: no limit was met
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Broken(Exception):
    """The machine failed, not the candidate: the job is lost."""


class Shepherd:
    """One job, from the lock to the result."""

    def __init__(
        self, paths: JobPaths, spec: JobSpec, held: int, core: int | None, began: float, before: Paused = NOT_BEFORE
    ) -> None:
        self._paths = paths
        self._spec = spec
        self._held = held
        self._core = spec.core if spec.core is not None else core
        self._before = before
        self._began = began - before.slot_s
        self._work_until = self._began + spec.wall_s - min(RESERVE_S, spec.wall_s / 4)
        self._beat_due = 0.0
        self._phases: list[PhaseResult] = []
        self._asked_to_end = False
        self._saving: Saving | None = None
        self._ran = before is not NOT_BEFORE
        self._walls = in_force()

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        self._asked_to_end = True

    def run(self) -> JobResult | None:
        """Every phase in order, until one fails. None: the training was interrupted, and left what it goes on from."""
        for phase in self._spec.phases:
            ended = self._run(phase)
            if self._goes_on(ended):
                return None
            if ended is None:
                return self._result("cancelled", "cancelled before it began")
            self._phases.append(PhaseResult(phase.name, ended))
            outcome, reason = self._judge(phase, ended)
            if outcome != "ok":
                return self._result(outcome, reason)
        return self._result("ok", "")

    def _run(self, phase: Phase) -> Exit | None:
        if self._cancelled():
            return None
        left = self._work_until - time.monotonic()
        if left <= 0.01:
            return Exit(None, None, "wall", 0.0, 0.0, 0.0)
        self._mark_started()
        Path(phase.cwd).mkdir(exist_ok=True)
        limits, self._saving = phase.limits, None
        if phase.name == "train":
            limits = self._before.left(limits)
            self._saving = Saving(self._paths.out, self._spec.checkpoint) if self._spec.checkpoint else None
        try:
            confined = Confined(
                phase.argv,
                cwd=Path(phase.cwd),
                env={**phase.env, MARKER: str(self._paths.folder)},
                limits=replace(limits, wall_s=min(limits.wall_s, left)),
                log=self._paths.folder / phase.log,
                folder=Path(phase.cwd),
                core=self._core,
                policy=phase.policy,
            )
            if phase.policy is not None:
                self._walls = self._before.stood(confined.walls)
        except (StartError, NoWalls) as error:
            if not self._phases and self._before is NOT_BEFORE:
                self._paths.started.unlink()
            raise Broken(str(error)) from error
        self._beat_due = 0.0
        while (ended := confined.poll()) is None:
            self._beat(phase, confined)
            if self._disturbed() or (self._cancelled() and not self._saves(confined)):
                ended = confined.kill()
                break
            confined.rest()
        if confined.left:
            _say(f"can't end {sorted(confined.left)}: stuck in the kernel")
        return self._before.whole(ended) if phase.name == "train" else ended

    def _saves(self, confined: Confined) -> bool:
        """Whether it may leave what it can go on from: where its machine is taken away, not where nobody wants it."""
        return self._saving is not None and not there(self._paths.cancel) and self._saving.wait(confined.ask)

    def _goes_on(self, ended: Exit | None) -> bool:
        """Whether another machine can go on with the training: it left a new file, or had not begun again."""
        if there(self._paths.cancel) or self._phases:
            return False
        if ended is None:
            used = self._before
        elif ended.cause in ENDS and self._saving is not None and self._saving.left and self._taken(ended):
            used = Paused(ended.wall_s, ended.cpu_s, ended.peak_mb, 0.0, self._walls)
        else:
            return False
        if used is NOT_BEFORE:
            return False
        paused.write(self._paths, replace(used, slot_s=round(self._elapsed(), 3)))
        return True

    def _taken(self, ended: Exit) -> bool:
        """Whether we are told to end, too."""
        if not self._asked_to_end and not ended.ok:
            time.sleep(paused.NOTICE_S)
        return self._asked_to_end

    def _mark_started(self) -> None:
        """On disk before the first byte of candidate code runs, whatever happens to us or the machine."""
        if not self._ran:
            write_aside(self._paths.started, _now())
            self._ran = True
        elif not self._phases:  # the judge counts from there: not the time in a queue
            at = time.time() - self._before.slot_s
            os.utime(self._paths.started, (at, at))

    def _beat(self, phase: Phase, confined: Confined) -> None:
        if time.monotonic() < self._beat_due:
            return
        self._beat_due = time.monotonic() + BEAT_S
        members = sorted(confined.processes().items())[:1000]
        beat = Heartbeat(
            at=_now(),
            boot=boot(),
            phase=phase.name,
            seconds=round(self._elapsed(), 3),
            root=confined.pid,
            processes={str(pid): start for pid, start in members},
            cpu_s=round(confined.cpu_s, 3),
        )
        try:
            write_aside(self._paths.heartbeat, json.dumps(asdict(beat)), durable=False)
        except OSError:  # a full disk is not a reason to stop a run
            show_life(self._paths)

    def _cancelled(self) -> bool:
        return self._asked_to_end or there(self._paths.cancel)

    def _disturbed(self) -> bool:
        """Whether somebody took the job folder away, or gave the job up, while it runs."""
        return there(self._paths.lost) or not lock.still_ours(self._held, self._paths.lock)

    def _judge(self, phase: Phase, ended: Exit) -> tuple[Outcome, str]:
        if ended.cause == "killed":
            if self._cancelled():
                return "cancelled", f"cancelled in phase {phase.name}"
            return "crashed", "it took its job folder away, or ended a process that watches over it"
        if ended.cause == "network" and ended.network is not None:
            return "capped", f"{phase.name}: {TALKED}: {ended.network.own:,} bytes"
        if ended.cause in CAPS:
            return "capped", f"{phase.name}: stopped at its {ended.cause} limit ({_limit(phase, ended)})"
        if not ended.ok:
            outcome: Outcome = "score_failed" if phase.name == "judge" else "crashed"
            return outcome, f"{phase.name}: ended with {_how(ended)}; see {phase.log}"
        if phase.name == "train" and self._spec.artifact is not None:
            wrong = fault(self._paths.out, self._spec.artifact, phase.limits.disk_mb * MB)
            return ("ok", "") if wrong is None else (wrong.outcome, wrong.words)
        return self._scored() if phase.name == "judge" else ("ok", "")

    def _scored(self) -> tuple[Outcome, str]:
        """What the judge session says of its own work."""
        try:
            answer = from_json(read_small(self._paths.measure) or "")
            status, reason = str(answer["status"]), str(answer["reason"])  # type: ignore[index]
            standing = answer.get("walls")  # type: ignore[attr-defined]
        except (ValueError, KeyError, TypeError) as error:
            return "score_failed", f"no readable answer of the judge: {error}"
        if status == "broken":
            raise Broken(f"the judge could not work: {reason}")
        if isinstance(standing, list) and standing:
            names = tuple(str(name) for name in standing)
            self._walls = both(self._walls, names) if len(self._phases) > 1 else names
        outcomes: dict[str, Outcome] = {"ok": "ok", "capped": "capped"}
        return outcomes.get(status, "score_failed"), reason

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _result(self, outcome: Outcome, reason: str) -> JobResult:
        slot_s = self._elapsed()
        if slot_s > self._spec.wall_s:
            reason = f"{reason} (the end took until {slot_s:.1f} s)".strip()
        return JobResult(
            run_id=self._spec.run_id,
            outcome=outcome,
            reason=reason[:2000],
            phases=tuple(self._phases),
            slot_s=round(min(slot_s, self._spec.wall_s), 3),
            walls=self._walls,
            ran=self._ran,
        )


def main(folder: str, pinned_to: str = "", turns: str = "", *, before_s: float = 0.0) -> int:
    """`turns`: open files whose locks keep others from its share of the machine as long as this process lives;
    `before_s`: what it has done before, and the run is not charged for."""
    began = time.monotonic() - _age_s() + before_s
    for file in turns.split(","):
        if file:
            os.set_inheritable(int(file), False)  # a candidate could unlock them
    paths = JobPaths(Path(folder).resolve())
    core = int(pinned_to) if pinned_to else None
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Looked at before, too: a job that is done must not seem to be held again, not for a moment.
    held = None if had_its_run(paths) else lock.hold(paths.lock)
    if held is None or had_its_run(paths):
        print("already: this job has a shepherd, or has had its run")
        return 0
    try:
        spec = JobSpec.from_json(read_small(paths.spec) or "")
        me = {"pid": os.getpid(), "start": _start(), "boot": boot()}
        write_aside(paths.pid, json.dumps(me))
        before = paused.read(paths)
        shepherd = Shepherd(paths, spec, held, core, began, before or NOT_BEFORE)
        signal.signal(signal.SIGTERM, shepherd.on_signal)
        if before is not None:
            paths.paused.unlink()  # a machine that dies now has used nobody knows how much
        if (result := shepherd.run()) is not None:
            write_last(paths, paths.result, result.to_json())
    except (Broken, ValueError, OSError) as error:
        _say(f"lost: {error}")
        write_last(paths, paths.lost, json.dumps({"reason": str(error)[:2000]}))
        return 1
    return 0


def had_its_run(paths: JobPaths) -> bool:
    """Or is having it. One that waits for another machine is not over."""
    return there(paths.result) or there(paths.lost) or (there(paths.started) and not there(paths.paused))


def write_last(paths: JobPaths, path: Path, text: str) -> None:
    """Write the last word on a job, whatever the candidate did to its folder meanwhile."""
    for attempt in range(WRITE_TRIES):
        try:
            paths.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            paths.folder.chmod(0o700)
            if path.is_dir() and not path.is_symlink():
                remove(path)
            write_aside(path, text)
            return
        except OSError as error:
            show_life(paths)
            if attempt == WRITE_TRIES - 1:
                raise
            _say(f"can't write {path}: {error}")
            time.sleep(0.05)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # its own log lies on the same disk
        print(text, flush=True)


def show_life(paths: JobPaths) -> None:
    """Where nothing can be written, the time of a file says until when it lived: that takes no room on a disk."""
    with contextlib.suppress(OSError):
        os.utime(paths.lock, follow_symlinks=False)


def boot() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _limit(phase: Phase, ended: Exit) -> str:
    limits = phase.limits
    words = {
        "wall": f"{limits.wall_s:g} s, or what was left of the job's time",
        "cpu": f"{limits.cpu_s or 0:g} s of processor time",
        "memory": f"{limits.memory_mb} MB, it used {ended.peak_mb:.0f}",
        "disk": f"{limits.disk_mb} MB",
        "log": f"{limits.log_mb} MB",
        "processes": f"{limits.processes}",
        "gpu-memory": f"{limits.gpu_memory_mb} MB",
    }
    return words[ended.cause]


def _how(ended: Exit) -> str:
    if ended.signal is None:
        return f"exit code {ended.rc}"
    known = ended.signal in set(signal.Signals)
    return f"{signal.Signals(ended.signal).name if known else ended.signal}, which was not ours"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _start() -> int:
    me = tree.look(os.getpid())
    return 0 if me is None else me.start


def _age_s() -> float:
    """How long this process has lived: the slot was taken when it began, not when Python was ready."""
    if not LINUX:
        return 0.0
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - _start() / tree.TICKS)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
