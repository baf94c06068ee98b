"""Shepherds against hostile candidates, second shepherds, impatient controllers and kill -9."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from agent.runners import JobPaths, JobResult, JobSpec, Phase, create
from agent.runners.local import LocalRunner
from sandbox import Limits, tasks, tree

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
LIMITS = Limits(wall_s=8, cpu_s=None, memory_mb=300, disk_mb=20, log_mb=1, processes=20)
ARTIFACT = "open('a.bin', 'wb').write(b'x' * 100)\n"


def phase(paths: JobPaths, script: str, **changed: object) -> Phase:
    usual: dict[str, object] = {
        "name": "train",
        "argv": (sys.executable, "-I", "-S", str(paths.code / script)),
        "env": {"PATH": "/usr/bin:/bin"},
        "cwd": str(paths.out),
        "limits": LIMITS,
        "trusted": False,
        "log": f"{script}.log",
    }
    return Phase(**{**usual, **changed})  # type: ignore[arg-type]


class Job(NamedTuple):
    """A job folder, and how to run what is in it."""

    paths: JobPaths
    spec: JobSpec

    @classmethod
    def make(cls, folder: Path, train: str, judge: str | None = None, wall_s: float = 20, **changed: object) -> "Job":
        paths = JobPaths(folder)
        phases = [phase(paths, "train.py", **changed)]
        if judge is not None:
            phases.append(phase(paths, "judge.py", name="judge", trusted=True, cwd=str(folder)))
        spec = JobSpec(1, tuple(phases), "a.bin" if judge is not None else None, None, wall_s)

        def fill(code: Path) -> None:
            (code / "train.py").write_text(train)
            (code / "judge.py").write_text(judge or "")

        assert create(folder, spec, fill)
        return cls(paths, spec)

    def submit(self) -> LocalRunner:
        runner = LocalRunner(1)
        runner.submit(self.spec, self.paths.folder, "local/0")
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "jobs" / "r1"


def until(true: Callable[[], object], within_s: float = 15.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.005)


def alive(pid: int) -> bool:
    row = tree.look(pid)
    return row is not None and not row.zombie


def mentioning(word: str) -> list[int]:
    """Living processes with the word in their environment or their command line."""
    found = []
    for pid in tree.every_pid():
        for name in ("environ", "cmdline"):
            try:
                if word.encode() in Path(f"/proc/{pid}/{name}").read_bytes() and alive(pid):
                    found.append(pid)
            except OSError:
                continue
    return [pid for pid in found if pid != os.getpid()]


def gone(word: str) -> None:
    """Nothing of it is left; a shepherd may take a moment to go after its last word."""
    until(lambda: mentioning(word) == [], within_s=2)


# ---------------------------------------------------------------- phases

SCORE = "import json\nopen('measure.json', 'w').write(json.dumps({{'status': {!r}, 'reason': 'because'}}))\n"


def test_the_judge_follows_a_good_training_only(folder: Path) -> None:
    good = Job.make(folder, ARTIFACT, SCORE.format("ok")).result()
    assert (good.outcome, [p.name for p in good.phases]) == ("ok", ["train", "judge"])
    bad = Job.make(folder.with_name("r2"), "import sys; sys.exit(3)", SCORE.format("ok")).result()
    assert (bad.outcome, [p.name for p in bad.phases]) == ("crashed", ["train"])


@pytest.mark.parametrize(
    ("judge", "outcome"),
    [
        (SCORE.format("failed"), "score_failed"),
        (SCORE.format("capped"), "capped"),
        ("pass", "score_failed"),
        ("open('measure.json', 'w').write('[1')", "score_failed"),
        ("import sys; sys.exit(1)", "score_failed"),
    ],
)
def test_what_the_judge_says_is_the_outcome(folder: Path, judge: str, outcome: str) -> None:
    result = Job.make(folder, ARTIFACT, judge).result()
    assert result.outcome == outcome, result


def test_a_judge_that_could_not_work_is_a_lost_run_not_a_bad_idea(folder: Path) -> None:
    job = Job.make(folder, ARTIFACT, SCORE.format("broken"))
    runner = job.submit()
    assert job.end(runner) == "lost"
    loss = runner.loss(folder)
    assert loss.ran and "because" in loss.reason
    assert 0 < loss.slot_s <= job.spec.wall_s


def test_a_command_that_is_not_there_is_a_lost_run_in_which_nothing_ran(folder: Path) -> None:
    job = Job.make(folder, "", argv=("/no-such-python",))
    runner = job.submit()
    assert job.end(runner) == "lost"
    assert not runner.loss(folder).ran
    assert "no-such-python" in runner.loss(folder).reason


def test_it_is_on_disk_that_a_run_started_before_its_first_line_runs(folder: Path) -> None:
    job = Job.make(folder, "import os; print(os.path.exists('../started'))")
    assert job.result().ran
    assert (folder / "train.py.log").read_text() == "True\n"


def test_the_reserved_time_is_never_passed(folder: Path) -> None:
    """Ignores every signal, forks (boundedly), and would have more time by its phase than the job has."""
    bomb = (
        "import os, signal, time\n"
        "for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(s, signal.SIG_IGN)\n"
        "for _ in range(4):\n  if os.fork() == 0: os.setsid()\n  signal.alarm(20)\n"
        "while True: pass\n"
    )
    result = Job.make(folder, bomb, wall_s=4).result()
    assert result.outcome == "capped"
    assert 1 < result.slot_s <= 4 and result.phases[0].exit.wall_s < 4
    assert "took until" not in result.reason  # nothing was cut off the truth
    gone(str(folder))


# ---------------------------------------------------------------- hostile to its folder


@pytest.mark.parametrize(
    "deed",
    [
        "import os; os.chmod('..', 0); os.chmod('.', 0)",
        "import os; os.mkdir('../result.json'); open('../result.json/x', 'w')",
        "import os, time; time.sleep(0.3); os.unlink('../heartbeat.json'); os.mkdir('../heartbeat.json')",
        "import os; os.symlink('/dev/full', '../result.json')",
        "import os; os.mkfifo('../measure.json')",
    ],
    ids=["locks it", "folder as result", "folder as heartbeat", "link as result", "fifo as measure"],
)
def test_the_result_is_written_whatever_was_done_to_the_folder(folder: Path, deed: str) -> None:
    job = Job.make(folder, deed + "\nimport time; time.sleep(0.2)")
    result = job.result()
    # A folder that can't be read is over its disk limit, or taken away: whatever is seen first.
    outcomes = ("ok", "capped", "crashed") if "chmod" in deed else ("ok",)
    assert result.ran and result.outcome in outcomes
    gone(str(folder))


def test_a_candidate_that_takes_the_job_folder_away(folder: Path) -> None:
    job = Job.make(folder, "import os, shutil, time\nshutil.rmtree('..')\ntime.sleep(30)")
    runner = job.submit()
    until(lambda: not folder.exists() or not (folder / "code").exists())
    state = job.end(runner)
    ran = runner.collect(folder).ran if state == "done" else runner.loss(folder).ran
    assert ran
    gone(str(folder))


def test_a_forged_result_is_not_believed_while_the_run_goes_on(folder: Path) -> None:
    forged = JobResult(1, "ok", "forged", (), 0.1, (), True)
    job = Job.make(
        folder,
        f"import time\nopen('../result.json', 'w').write({forged.to_json()!r})\n"
        "open('forged', 'w')\ntime.sleep(0.8)\nraise SystemExit(4)",
    )
    runner = job.submit()
    until((job.paths.out / "forged").exists)
    assert runner.poll(folder) in ("starting", "running")
    assert job.end(runner) == "done"
    assert runner.collect(folder).outcome == "crashed"


# ---------------------------------------------------------------- who holds the job

WAIT = "import os, time\nopen(f'ran-{os.getpid()}', 'w')\ntime.sleep(30)"


def ran(job: Job) -> int:
    return len(list(job.paths.out.glob("ran-*")))


def test_a_second_shepherd_goes_away(folder: Path) -> None:
    job = Job.make(folder, WAIT)
    runner = job.submit()
    until(lambda: ran(job) == 1)
    second = [sys.executable, "-I", "-m", "agent.runners.shepherd", str(folder), "0"]
    done = subprocess.run(second, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0 and "already" in done.stdout
    assert runner.poll(folder) == "running" and ran(job) == 1
    runner.cancel(folder)
    job.end(runner)


def test_sigterm_cancels(folder: Path) -> None:
    job = Job.make(folder, WAIT)
    runner = job.submit()
    until(lambda: ran(job) == 1)
    os.kill(job.shepherd(), signal.SIGTERM)
    assert job.end(runner) == "done"
    assert runner.collect(folder).outcome == "cancelled"
    gone(str(folder))


def test_a_job_that_nobody_started_can_be_cancelled(folder: Path) -> None:
    job = Job.make(folder, WAIT)
    runner = LocalRunner(1)
    runner.cancel(folder)
    runner.submit(job.spec, folder, "local/0")
    assert job.end(runner) == "done"
    result = runner.collect(folder)
    assert (result.outcome, result.ran, ran(job)) == ("cancelled", False, 0)


def test_another_controller_does_not_give_up_a_shepherd_that_is_on_its_way(folder: Path) -> None:
    for n in range(5):
        job = Job.make(folder.with_name(f"r{n}"), "pass")
        job.submit()  # by a controller that is now killed
        other = LocalRunner(1)
        states = []
        while not states or states[-1] not in ("done", "lost"):
            states.append(other.poll(job.paths.folder))
        assert states[-1] == "done", states


def test_two_controllers_submit_at_once(folder: Path) -> None:
    job = Job.make(folder, "import os, time\nopen(f'ran-{os.getpid()}', 'w')\ntime.sleep(0.3)")
    runners = [job.submit() for _ in range(4)]
    for runner in runners:
        assert job.end(runner) == "done"
    assert ran(job) == 1


# ---------------------------------------------------------------- kill -9


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
        later.submit(job.spec, job.paths.folder, "local/0")  # as a controller does that starts again
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
@pytest.mark.parametrize("groups", [True, False], ids=["by its group", "by the last heartbeat"])
def test_a_daemon_without_our_mark_is_swept(folder: Path, monkeypatch: pytest.MonkeyPatch, groups: bool) -> None:
    """It left the session and wiped its environment; then its shepherd was killed."""
    if not groups:
        monkeypatch.setattr(tasks, "left_behind", list)
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


def test_a_folder_is_made_whole_or_not_at_all(tmp_path: Path) -> None:
    """Killed while it is filled, a folder has no name that anybody reads; the next one makes it."""
    code = (
        "import os, sys; from pathlib import Path; from agent.runners import JobSpec, create\n"
        "def fill(code): (code / 'a').write_text('half'); os.kill(os.getpid(), 9)\n"
        f"create(Path({str(tmp_path / 'r1')!r}), JobSpec(1, (), None, None, 5.0), fill)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert not (tmp_path / "r1").exists()
    spec = JobSpec(1, (), None, None, 5.0)
    assert create(tmp_path / "r1", spec, lambda code: (code / "a").write_text("whole") and None)
    assert not create(tmp_path / "r1", spec, lambda code: (code / "a").write_text("other") and None)
    assert (tmp_path / "r1/code/a").read_text() == "whole"


def test_a_spec_is_read_strictly() -> None:
    spec = JobSpec(1, (phase(JobPaths(Path("/x")), "a.py"),), None, None, 5.0)
    assert JobSpec.from_json(spec.to_json()) == spec
    for old, new in [
        ('"run_id": 1', '"run_id": "1"'),
        ('"core"', '"kore"'),
        ('"wall_s": 5.0', '"wall_s": NaN'),
    ]:
        with pytest.raises(ValueError):
            JobSpec.from_json(spec.to_json().replace(old, new))
