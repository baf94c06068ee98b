"""Shepherds: phases and their outcomes, hostile candidates, second shepherds, impatient controllers."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent.job import lock
from agent.job.folder import JobResult
from agent.judge.task import Auditing
from agent.runners.local import LocalRunner
from agent.runners.order import Order
from agent.runners.shepherd import Broken, Shepherd
from agent.runners.ssh.outcome import joined, untrained
from sandbox import Policy, walls
from tests.processes import until
from tests.shepherding import WAIT, Job, gone, ran

ARTIFACT = "open('a.bin', 'wb').write(b'x' * 100)\n"
SCORE = "import json\nopen('measure.json', 'w').write(json.dumps({{'status': {!r}, 'reason': 'because'}}))\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "jobs" / "r1"


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


STOOD = SCORE.replace("'because'", "'because', 'walls': {!r}")


def test_the_walls_of_a_job_that_only_scores_are_those_around_scoring(folder: Path) -> None:
    """A run that is trained and scored by two jobs has both jobs' walls; what one of them lacked it lacks."""
    around = ["env", "rlimits", "landlock", "may-outlive", "unsafe"]
    whole = Job.make(folder, ARTIFACT, STOOD.format("ok", around))
    assert whole.result().walls == ("env", "rlimits", "may-outlive", "unsafe")  # nothing but limits around training
    made = Job.make(folder.with_name("r2"), ARTIFACT, STOOD.format("ok", around))
    alone = replace(made.spec, phases=made.spec.phases[1:], artifact=None)
    made.paths.spec.write_text(alone.to_json())
    judged = Job(made.paths, alone).result()
    assert judged.walls == tuple(around)
    trained = replace(judged, walls=("env", "landlock", "twin"), phases=judged.phases)
    order = Order(1, "", "", "", 1, "base", Auditing(), 40.0)
    assert joined(order, trained, judged).walls == ("env", "landlock", "may-outlive", "unsafe")
    assert joined(order, untrained(order), judged).walls == judged.walls


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
    runner.hold(job.spec.run_id, folder, "local/0")
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


def test_a_machine_that_has_lost_its_walls_has_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "job" / "out"
    rules = Policy(str(out), (), minimum="namespaces")
    job = Job.make(tmp_path / "job", "print(1)", policy=rules)
    monkeypatch.setenv("PATH", "")  # no bubblewrap
    walls._box.cache_clear()
    walls.why_not.cache_clear()
    held = lock.hold(job.paths.lock)
    assert held is not None
    try:
        with pytest.raises(Broken, match="no walls"):
            Shepherd(job.paths, job.spec, held, None, time.monotonic()).run()
    finally:
        os.close(held)
        walls._box.cache_clear()
        walls.why_not.cache_clear()
    assert not job.paths.started.exists()
