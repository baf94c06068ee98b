"""Nothing of a candidate outlives its shepherd's death by a second, behind any walls that are said to hold that; and
nobody has to watch for a run to meet its limits."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent import own_process, reach
from agent.job.folder import JobPaths, JobSpec, Phase
from agent.judge.phase import SESSION, SESSION_ENV, session_command
from agent.reach import Reach
from agent.runners import local as runners
from agent.runners import stopped as stopped_shepherd
from agent.runners.local import LocalRunner
from sandbox import Level, Limits, tree
from sandbox.walls import why_not
from tests.judging import make_job, toy
from tests.processes import alive, linux, mentioning, until
from tests.shepherding import LACKING, Job, gone, started_at

pytestmark = [linux, pytest.mark.skipif(bool(why_not()), reason="not every level of walls can be put up here")]
LIMITS = Limits(wall_s=30, cpu_s=None, memory_mb=400, disk_mb=20, log_mb=1, processes=40)
GUARANTEES = {"namespaces", "twin"}
BEGIN = """
import ctypes, os, signal, sys, time
prctl = ctypes.CDLL(None).prctl
def clear(): prctl(1, 0, 0, 0, 0)  # the signal that comes when a parent dies
def deaf():
    for number in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
        try: signal.signal(number, signal.SIG_IGN)
        except OSError: pass
def sleep():
    while True: time.sleep(0.2)
"""
SCATTER = """
def scatter():
    for number in range(3):
        if os.fork() == 0:
            clear()
            os.setsid()
            if os.fork() == 0:
                clear()
                if number == 1: deaf()
                for fd in range(3): os.close(fd)
                open(f'there-{os.getpid()}', 'w')
                if number == 2: os.kill(os.getpid(), signal.SIGSTOP)
                sleep()
            os._exit(0)
    if os.fork() == 0:
        clear()
        try: os.setpgid(0, 0)
        except OSError: pass
        open(f'there-{os.getpid()}', 'w')
        os.execve(sys.executable, [sys.executable, '-I', '-S', '-c', f'import time; time.sleep(60) # {MARK}'], {})
    clear()
    deaf()
    while len([name for name in os.listdir() if name.startswith('there-')]) < 4: time.sleep(0.01)
"""
# Six places, each with a process that is replaced by its child all the time.
HOP = """
for _ in range(6):
    if os.fork() == 0:
        clear()
        os.setsid()
        while True:
            try:
                if os.fork(): os._exit(0)
                clear()
            except OSError: time.sleep(0.01)  # so many have ended that nobody has waited for yet
            time.sleep(0.05)  # long enough to be seen by who looks for it
clear()
open('ready', 'w')
sleep()
"""
# Told from outside, so that walls which fail do no harm to anybody else.
KILL = """
if os.fork() == 0: clear(); os.setsid()
clear()
open('ready', 'w')
while not os.path.exists('targets'): time.sleep(0.01)
for target in map(int, open('targets').read().split()):
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for kill in (os.kill, os.killpg):
            try: kill(target, number)
            except OSError: pass
open(f'done-{os.getpid()}', 'w')
sleep()
"""


@pytest.fixture(params=LACKING)
def at_level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Level:
    """Shepherds of this test find no stronger walls than these."""
    level: Level = request.param
    monkeypatch.setattr(runners, "SHEPHERD", started_at(level, runners.SHEPHERD))
    return level


def held(job: Job, code: str, level: Level) -> Job:
    """The same job behind walls, and with this code."""
    policy = reach.training(toy(), job.paths, job.paths.folder, Reach(level))
    policy = replace(policy, read=(str(job.paths.code),), minimum="pod" if level == "pod" else level)
    spec = replace(job.spec, phases=(replace(job.spec.phases[0], policy=policy, limits=LIMITS),))
    job.paths.spec.write_text(spec.to_json())
    (job.paths.code / "train.py").write_text(f"MARK = {str(job.paths.folder)!r}\n{BEGIN}{code}")
    return Job(job.paths, spec)


@contextlib.contextmanager
def running(job: Job, ready: Callable[[], bool]) -> Iterator[int]:
    """Its shepherd, when the candidate has done what it wanted to do before."""
    runner, folder = job.submit(), job.paths.folder
    try:
        until(lambda: ready() or runner.poll(folder) in ("done", "lost"))
        assert ready(), [path.read_text() for path in sorted(folder.glob("*.log"))]
        yield job.shepherd()
    finally:
        runner.cancel(folder)
        runner.sweep(folder.parent)


def of_candidate(job: Job, shepherd: int) -> set[int]:
    """All that lives below its shepherd, or still has the mark of the job; not our own processes."""
    found = set(tree.descendants([shepherd])) | set(mentioning(str(job.paths.folder)))
    return {pid for pid in found if alive(pid) and pid != shepherd and name(pid) != "doorman"}


def twins(shepherd: int) -> list[int]:
    return [pid for pid in tree.children(shepherd) if name(pid) == "doorman"]


def name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def dies_with_its_shepherd(job: Job, shepherd: int) -> None:
    family = of_candidate(job, shepherd)
    assert family
    os.kill(shepherd, signal.SIGKILL)
    until(lambda: not of_candidate(job, shepherd) and not any(map(alive, family)), within_s=1)
    time.sleep(0.1)
    assert not of_candidate(job, shepherd)


# ---------------------------------------------------------------- in training


def test_who_scattered_itself(tmp_path: Path, at_level: Level) -> None:
    """Daemons, a stopped one, one that is deaf, one without our mark; none is told that its parent died."""
    job = held(Job.make(tmp_path / "jobs" / "r1", ""), SCATTER + "scatter()\nopen('ready', 'w')\nsleep()", at_level)
    with running(job, (job.paths.out / "ready").exists) as shepherd:
        assert len(of_candidate(job, shepherd)) >= 5
        dies_with_its_shepherd(job, shepherd)


def test_who_is_never_in_one_process_for_long(tmp_path: Path, at_level: Level) -> None:
    job = held(Job.make(tmp_path / "jobs" / "r1", ""), HOP, at_level)
    with running(job, (job.paths.out / "ready").exists) as shepherd:
        before = of_candidate(job, shepherd)
        until(lambda: len(of_candidate(job, shepherd) - before) >= 4)
        dies_with_its_shepherd(job, shepherd)


def test_who_kills_whoever_watches_over_it(tmp_path: Path, at_level: Level) -> None:
    job = held(Job.make(tmp_path / "jobs" / "r1", ""), KILL, at_level)
    with running(job, (job.paths.out / "ready").exists) as shepherd:
        watching = [*twins(shepherd), shepherd]
        assert len(watching) == (1 if at_level == "namespaces" else 2)
        aside = tmp_path / "targets"
        aside.write_text(" ".join(map(str, watching)))
        aside.chmod(0o644)
        aside.rename(job.paths.out / "targets")
        if at_level == "pod":  # nothing keeps it from that there, and the row does not say otherwise
            until(lambda: not alive(shepherd))
            return
        until(lambda: len(list(job.paths.out.glob("done-*"))) == 2)
        assert all(map(alive, watching))
        assert all(row is not None and row.ppid for row in map(tree.look, watching))
        assert stopped(watching) == []
        dies_with_its_shepherd(job, shepherd)


# ---------------------------------------------------------------- in scoring

LASTING = """
import honest
class Lasting(honest.Answerer):
    def answer(self, kind, payload):
        if kind == honest.SCORE:
            scatter()
            print('scattered', flush=True)
            sleep()
        return super().answer(kind, payload)
if sys.argv[1] == 'score': honest.serve(Lasting({'counts': {}}))
honest.serve(honest.Answerer({'counts': {}}))
"""


def test_who_scattered_itself_while_it_is_scored(tmp_path: Path, at_level: Level) -> None:
    """The session is not told either: it dies with its shepherd, and the candidate's process with the session."""
    task = make_job(tmp_path / "jobs" / "r1", script="lasting.py")
    paths = JobPaths(Path(task.folder))
    task = replace(task, policy=reach.scoring(toy(), Reach(at_level)), processes=LIMITS.processes)
    (paths.code / "lasting.py").write_text(f"MARK = {task.folder!r}\n{BEGIN}{SCATTER}{LASTING}")
    argv = tuple(started_at(at_level, word) if word == SESSION else word for word in session_command(task))
    phase = Phase("judge", argv, SESSION_ENV, task.folder, replace(LIMITS, memory_mb=900), None, "judge.log")
    job = Job(paths, JobSpec(1, (phase,), None, None, 40))
    paths.spec.write_text(job.spec.to_json())
    with running(
        job, lambda: any("scattered" in log.read_text() for log in paths.folder.glob(".score-*/log"))
    ) as shepherd:
        family = of_candidate(job, shepherd)
        assert len(family) >= 6  # the session itself is among them
        dies_with_its_shepherd(job, shepherd)
        assert not paths.measure.exists() and not paths.result.exists()


# ---------------------------------------------------------------- what the row says


def test_the_row_says_whether_it_holds(tmp_path: Path, at_level: Level) -> None:
    job = held(Job.make(tmp_path / "jobs" / "r1", ""), "", at_level)
    walls = job.result().walls
    expected = {"namespaces": {"namespaces"}, "landlock": {"twin"}, "pod": set()}[at_level]
    assert at_level in walls
    assert GUARANTEES & set(walls) == expected
    assert ("may-outlive" in walls) is not bool(expected)


def test_where_it_does_not_hold_the_row_does_not_say_so_and_the_next_sweep_ends_it(tmp_path: Path) -> None:
    job = Job.make(
        tmp_path / "jobs" / "r1", f"{BEGIN}{SCATTER}scatter()\nopen('ready', 'w')\nsleep()".replace("{MARK}", "")
    )
    with running(job, (job.paths.out / "ready").exists) as shepherd:
        os.kill(shepherd, signal.SIGKILL)
        until(lambda: not alive(shepherd))
        time.sleep(1)
        assert of_candidate(job, shepherd)
        LocalRunner(1).sweep(job.paths.folder.parent)
        until(lambda: not of_candidate(job, shepherd), within_s=2)
    assert not GUARANTEES & set(Job.make(tmp_path / "jobs" / "r2", "").result().walls)


# ---------------------------------------------------------------- nobody watches

CONTROLLER = """
import sys, time
from pathlib import Path
from agent.runners import local
folder, local.SHEPHERD = Path(sys.argv[1]), sys.argv[2]
local.LocalRunner(1).hold(1, folder, "local/0")
print("sent", flush=True)
time.sleep(60)
"""


def test_a_run_whose_controller_is_killed_meets_its_limits_and_can_be_adopted(tmp_path: Path, at_level: Level) -> None:
    job = held(Job.make(tmp_path / "jobs" / "r1", ""), SCATTER + "scatter()\nopen('ready', 'w')\nsleep()", at_level)
    limits = replace(LIMITS, wall_s=3.0)
    spec = replace(job.spec, phases=(replace(job.spec.phases[0], limits=limits),))
    job.paths.spec.write_text(spec.to_json())
    with subprocess.Popen(
        [sys.executable, "-c", CONTROLLER, str(job.paths.folder), runners.SHEPHERD], stdout=subprocess.PIPE
    ) as controller:
        assert controller.stdout is not None and controller.stdout.readline() == b"sent\n"
        until((job.paths.out / "ready").exists)
        controller.kill()
    shepherd = job.shepherd()
    later = LocalRunner(1)
    assert later.poll(job.paths.folder) == "running" and alive(shepherd)
    family = of_candidate(job, shepherd)
    assert len(family) >= 5
    until(lambda: not any(map(alive, family)), within_s=6)  # nobody asked meanwhile
    until(job.paths.result.exists)
    until(lambda: later.poll(job.paths.folder) == "done")
    result = later.collect(job.paths.folder)
    assert (result.outcome, result.phases[0].exit.cause) == ("capped", "wall")
    assert at_level in result.walls
    gone(str(job.paths.folder))


def hasty(level: Level) -> str:
    """A shepherd whose runs are ended half a second after their time, should it not do so itself."""
    return started_at(
        level, f"from sandbox import child; child.LATE_S = 0.5; {own_process.code('agent.runners.shepherd')}"
    )


def test_a_run_whose_shepherd_is_stopped_meets_its_time(
    tmp_path: Path, at_level: Level, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runners, "SHEPHERD", hasty(at_level))
    job = held(Job.make(tmp_path / "jobs" / "r1", ""), SCATTER + "scatter()\nopen('ready', 'w')\nsleep()", at_level)
    limits = replace(LIMITS, wall_s=3.0)
    spec = replace(job.spec, phases=(replace(job.spec.phases[0], limits=limits),))
    job.paths.spec.write_text(spec.to_json())
    with running(job, (job.paths.out / "ready").exists) as shepherd:
        family = of_candidate(job, shepherd)
        assert len(family) >= 5
        os.kill(shepherd, signal.SIGSTOP)
        until(lambda: not any(map(alive, family)), within_s=6)  # nobody looks meanwhile
        assert stopped([shepherd]) == [shepherd]
        os.kill(shepherd, signal.SIGCONT)
        until(job.paths.result.exists)
    result = LocalRunner(1).collect(job.paths.folder)
    assert (result.outcome, result.phases[0].exit.cause) == ("capped", "wall")


@pytest.mark.slow
def test_a_shepherd_that_stays_stopped_is_no_reason_to_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopped_shepherd, "SILENT_S", 0.2)
    monkeypatch.setattr(stopped_shepherd, "LATE_S", 0.2)
    job = held(Job.make(tmp_path / "jobs" / "r1", "", wall_s=12), "open('ready', 'w')\nsleep()", "namespaces")
    runner = job.submit()
    until((job.paths.out / "ready").exists)
    shepherd = job.shepherd()
    os.kill(shepherd, signal.SIGSTOP)
    assert runner.poll(job.paths.folder) == "running" and alive(shepherd)  # it has time still
    until(lambda: runner.poll(job.paths.folder) == "lost", within_s=40)
    assert runner.loss(job.paths.folder).ran
    gone(str(job.paths.folder))


def test_only_the_shepherd_of_the_folder_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the folder says of it may be forged, where nothing keeps a run from that."""
    monkeypatch.setattr(stopped_shepherd, "SILENT_S", -1.0)
    paths = Job.make(tmp_path / "jobs" / "r1", "", wall_s=1).paths
    paths.heartbeat.touch()
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            row = tree.look(other.pid)
            assert row is not None
            paths.pid.write_text(json.dumps({"pid": other.pid, "start": row.start}))
            os.utime(paths.pid, (1, 1))
            other.send_signal(signal.SIGSTOP)
            until(lambda: stopped([other.pid]))
            assert not stopped_shepherd.end(paths) and alive(other.pid)
            for forged in ("", "[]", '{"pid": "x"}', json.dumps({"pid": 1, "start": 0}), '{"pid": -1, "start": 1}'):
                paths.pid.write_text(forged)
                assert not stopped_shepherd.end(paths)
        finally:
            other.kill()


def stopped(pids: list[int]) -> list[int]:
    return [pid for pid in pids if "State:\tT" in Path(f"/proc/{pid}/status").read_text()]
