"""Shepherds that die by kill -9: a job runs once or is lost, and nothing of it stays behind."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.runners.local import LocalRunner
from sandbox import groups
from tests.disks import fill, small_disk
from tests.e2e.terminal import needs_mounts
from tests.processes import alive, linux, mentioning, until
from tests.shepherding import WAIT, Job, gone, ran


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "jobs" / "r1"


@linux
def test_kill_9_of_the_shepherd_at_any_instant(tmp_path: Path) -> None:
    """From before its first line to deep in the run: a job runs once, or is lost and says what it knows."""
    draw = random.Random(11)
    states = []
    for n in range(12):
        root = tmp_path / f"jobs{n}"
        job = Job.make(root / "r1", WAIT)
        runner = job.submit()
        shepherd = runner._shepherds[job.paths.folder].pid
        # Milestones and not seconds, so that a busy machine is killed at the same places as an idle one.
        milestones = [job.paths.spec, job.paths.lock, job.paths.pid, job.paths.started, job.paths.heartbeat]
        until(milestones[n % len(milestones)].exists)
        time.sleep(draw.random() * 0.03)
        os.kill(shepherd, signal.SIGKILL)
        until(lambda pid=shepherd: not alive(pid))  # type: ignore[misc]
        runner.sweep(root)
        gone(str(root))
        later = LocalRunner(1)
        later.hold(job.spec.run_id, job.paths.folder, "local/0")  # as a controller does that starts again
        time.sleep(0.02)
        until(lambda j=job, r=later: ran(j) > 0 or r.poll(j.paths.folder) == "lost")  # type: ignore[misc]
        state = later.poll(job.paths.folder)
        states.append(state)
        if state == "lost":
            assert later.loss(job.paths.folder).ran >= ran(job)  # never said to be fresh when it is not
        later.cancel(job.paths.folder)
        job.end(later)
        assert ran(job) <= 1
        later.sweep(root)
        gone(str(root))
    assert len(set(states)) == 2, f"the instants were not spread: {states}"


def test_a_shepherd_never_starts_what_another_has_started(folder: Path) -> None:
    job = Job.make(folder, WAIT)
    job.submit()
    until(lambda: ran(job) == 1)
    os.kill(job.shepherd(), signal.SIGKILL)
    second = [sys.executable, "-I", "-m", "agent.runners.shepherd", str(folder), "0"]
    env = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(second, capture_output=True, text=True, timeout=20, env=env)
    assert done.returncode == 0 and "has had its run" in done.stdout
    assert ran(job) == 1
    assert LocalRunner(1).poll(folder) == "lost"
    assert LocalRunner(1).loss(folder).ran


@linux
def test_the_candidate_dies_with_its_shepherd_before_any_sweep(folder: Path) -> None:
    job = Job.make(folder, WAIT)
    job.submit()
    until(lambda: ran(job) == 1)
    pid = int(next(job.paths.out.glob("ran-*")).name.removeprefix("ran-"))
    os.kill(job.shepherd(), signal.SIGKILL)
    until(lambda: not alive(pid), within_s=2)


@linux
@pytest.mark.parametrize("grouped", [True, False], ids=["by its group", "by the last heartbeat"])
def test_a_daemon_without_our_mark_is_swept(folder: Path, monkeypatch: pytest.MonkeyPatch, grouped: bool) -> None:
    """It left the session and wiped its environment; then its shepherd was killed."""
    if not grouped:
        monkeypatch.setattr(groups, "left_behind", list)
    daemon = (
        "import os, sys, time\n"
        "if os.fork() == 0:\n"
        "  os.setsid()\n"
        f"  code = 'import time; time.sleep(60) # {folder.parent}'\n"
        "  os.execve(sys.executable, [sys.executable, '-c', code], {})\n"
        "time.sleep(60)"
    )
    job = Job.make(folder, daemon)
    runner = job.submit()
    until(lambda: any(b"sleep(60) #" in cmdline(pid) for pid in mentioning(str(folder.parent))))
    until(lambda: job.paths.heartbeat.exists() and len(json.loads(job.paths.heartbeat.read_text())) > 2)
    time.sleep(1.2)  # one more heartbeat
    os.kill(job.shepherd(), signal.SIGKILL)
    until(lambda: runner.poll(folder) == "lost")
    assert runner.sweep(folder.parent) != []
    gone(str(folder.parent))


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@linux
def test_a_sweep_leaves_living_jobs_and_strangers_alone(folder: Path) -> None:
    job = Job.make(folder, WAIT)
    runner = job.submit()
    until(lambda: ran(job) == 1)
    env = {"CADDIE_JOB": str(folder.parent.parent / "elsewhere" / "r1")}
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"], env=env) as stranger:
        assert LocalRunner(1).sweep(folder.parent) == []
        assert stranger.poll() is None and runner.poll(folder) in ("starting", "running")
        stranger.kill()
    runner.cancel(folder)
    job.end(runner)


@linux
@needs_mounts
@pytest.mark.parametrize("killed", [True, False], ids=["killed", "by the full disk"])
def test_what_was_used_while_the_disk_was_full_is_counted(tmp_path: Path, killed: bool) -> None:
    """Neither its heartbeats could be written nor its end; and nobody looked for a while."""
    with small_disk(tmp_path / "disk", 16) as disk:
        job = Job.make(disk / "jobs" / "r1", f"import time; time.sleep({30 if killed else 4})")
        before = time.monotonic()
        runner = job.submit()
        until(job.paths.heartbeat.exists)
        shepherd, began, filler = job.shepherd(), time.monotonic(), fill(disk)
        if killed:
            time.sleep(4)
            os.kill(shepherd, signal.SIGKILL)
        until(lambda: not alive(shepherd))
        died = time.monotonic()
        time.sleep(2.5)
        filler.unlink()
        assert job.end(runner) == "lost"
        assert died - began <= runner.loss(job.paths.folder).slot_s <= died - before + 1.5


@linux
def test_what_was_used_without_a_heartbeat_is_counted(folder: Path) -> None:
    """Whoever spoils it and ends its shepherd has not had its time for nothing."""
    spoiled = "import os, time\nos.unlink('../heartbeat.json'); os.mkdir('../heartbeat.json')\n"
    job = Job.make(folder, f"import time; time.sleep(0.3)\n{spoiled}time.sleep(30)")
    runner = job.submit()
    until(job.paths.heartbeat.is_dir)
    began = time.monotonic()
    time.sleep(2.5)
    os.kill(job.shepherd(), signal.SIGKILL)
    used = time.monotonic() - began
    assert job.end(runner) == "lost"
    time.sleep(1.5)
    assert used <= runner.loss(folder).slot_s <= used + 4
    later = LocalRunner(1)
    assert later.loss(folder).slot_s == runner.loss(folder).slot_s
