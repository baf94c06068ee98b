"""Runs on this machine: one pinned core a slot, each run held by a shepherd process of its own.

Takes job folders; every controller that comes later finds them as they are.
"""

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from agent.errors import InfraError, UserError
from agent.runners.job import (
    JobPaths,
    JobResult,
    JobSpec,
    JobState,
    Loss,
    Progress,
    read_small,
    same_work,
    strict_heartbeat,
    write_aside,
)
from agent.runners.progress import progress
from agent.runners.shepherd import take
from sandbox import tree

SHEPHERD_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
SWEEP_WITHIN_S = 5.0


class LocalRunner:
    def __init__(self, slots: int) -> None:
        self._cores = cores()
        if slots > len(self._cores):
            raise UserError(f"--slots {slots}: this machine has {len(self._cores)} cores, one for each slot")
        self._shepherds: dict[Path, subprocess.Popen[bytes]] = {}
        self.slots = tuple(f"local/{n}" for n in range(slots))
        self.hardware_class = f"cpu/{cpu_name()}/1-thread"

    def submit(self, spec: JobSpec, folder: Path, slot: str) -> None:
        paths = JobPaths(folder)
        text = read_small(paths.spec)
        try:
            same = text is not None and same_work(JobSpec.from_json(text), spec)
        except ValueError:
            same = False
        if not same:
            raise InfraError(f"{folder} does not hold the job of r{spec.run_id}")
        if paths.result.exists() or paths.lost.exists() or self._held(paths):
            return
        core = self._cores[self.slots.index(slot)]
        with paths.shepherd_log.open("ab") as log:
            self._shepherds[folder] = subprocess.Popen(
                [sys.executable, "-I", "-m", "agent.runners.shepherd", str(folder), str(core)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=SHEPHERD_ENV,
                cwd=folder,
                start_new_session=True,
            )

    def poll(self, folder: Path) -> JobState:
        paths = JobPaths(folder)
        if paths.result.exists():
            self._forget(folder)
            return "done"
        if paths.lost.exists():
            return "lost"
        shepherd = self._shepherds.get(folder)
        alive = shepherd is not None and shepherd.poll() is None
        lock = take(paths) if folder.is_dir() else None
        if lock is None and folder.is_dir():
            return "running"
        try:
            if alive:
                return "starting"
            return self._bury(paths)
        finally:
            if lock is not None:
                os.close(lock)

    def progress(self, folder: Path) -> Progress | None:
        return progress(folder)

    def cancel(self, folder: Path) -> None:
        if folder.is_dir():
            JobPaths(folder).cancel.touch()

    def collect(self, folder: Path) -> JobResult:
        text = read_small(JobPaths(folder).result)
        if text is None:
            raise InfraError(f"{folder} has no result that can be read")
        try:
            return JobResult.from_json(text)
        except ValueError as error:
            raise InfraError(f"the result in {folder} is damaged: {error}") from error

    def loss(self, folder: Path) -> Loss:
        paths = JobPaths(folder)
        beat = strict_heartbeat(read_small(paths.heartbeat))
        seconds = beat.seconds if beat is not None else 0.0
        return Loss(paths.started.exists(), seconds, "its shepherd died")

    def sweep(self, jobs_root: Path) -> list[int]:
        """Ends what is left of jobs whose shepherd is dead; living shepherds and their runs go on."""
        ours = f"CADDIE_JOB={jobs_root}/".encode()
        ended: list[int] = []

        def find() -> dict[int, tree.Proc]:
            rows = {}
            for pid in tree.every_pid():
                mark = _mark(pid, ours)
                if mark is None or self._held(JobPaths(Path(mark))):
                    continue
                row = tree.look(pid)
                if row is not None and not row.zombie:
                    rows[pid] = row
            ended.extend(pid for pid in rows if pid not in ended)
            return rows

        tree.end_all(find, SWEEP_WITHIN_S)
        return ended

    def _held(self, paths: JobPaths) -> bool:
        """Whether a shepherd lives: only it can hold the lock for longer than a moment."""
        if not paths.folder.is_dir():
            return False
        lock = take(paths)
        if lock is None:
            return True
        os.close(lock)
        return False

    def _bury(self, paths: JobPaths) -> JobState:
        """With the lock in hand: no shepherd has it, so there is a result by now, or there never will be one."""
        if paths.result.exists():
            return "done"
        if paths.folder.is_dir():
            write_aside(paths.lost, f'{{"at": {time.time():.0f}}}')
        self._forget(paths.folder)
        return "lost"

    def _forget(self, folder: Path) -> None:
        shepherd = self._shepherds.get(folder)
        if shepherd is not None and shepherd.poll() is not None:
            del self._shepherds[folder]


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def cpu_name() -> str:
    """As the kernel calls it: what makes two machines' clocks comparable."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _mark(pid: int, ours: bytes) -> str | None:
    """The job folder that a process was started for, read from its environment."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    found = next((entry for entry in entries if entry.startswith(ours)), None)
    return None if found is None else os.fsdecode(found.removeprefix(b"CADDIE_JOB="))
