"""A training that is interrupted because its machine is taken away: what it used counts, and it goes on elsewhere."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent.job.folder import JobResult
from agent.job.reading import there
from agent.job.writing import write_aside
from agent.runners import paused
from sandbox import Limits, tree
from tests.processes import until
from tests.shepherding import LIMITS, Job, counts, gone

KEPT = "kept.bin"
COUNTS = f"{counts(3, repr(KEPT))}pathlib.Path('a.bin').write_text('x')\n"
DEAF = "import time\ntime.sleep(30)"
STUBBORN = "import signal, time\nsignal.signal(signal.SIGUSR1, lambda *_: None)\ntime.sleep(30)"


def made(folder: Path, train: str = COUNTS, **changed: object) -> Job:
    job = Job.make(folder, train, wall_s=30, **changed)
    write_aside(job.paths.spec, replace(job.spec, checkpoint=KEPT).to_json())
    return job


def shepherd(job: Job, before: str = "") -> subprocess.Popen[bytes]:
    code = f"import os, signal\nfrom agent.runners import paused, shepherd\n{before}\n"
    code += f"raise SystemExit(shepherd.main({str(job.paths.folder)!r}))"
    return subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[1])


def log(job: Job) -> str:
    path = job.paths.folder / "train.py.log"
    return path.read_text() if path.exists() else ""


def taken(job: Job, after: str) -> None:
    """A shepherd that is told to end once the training has said something."""
    process = shepherd(job)
    until(lambda: after in log(job), 20, after)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0


def result(job: Job) -> JobResult:
    return JobResult.from_json(job.paths.result.read_text())


def test_it_goes_on_from_what_it_kept_and_its_times_add_up(tmp_path: Path) -> None:
    job = made(tmp_path / "jobs" / "r1")
    began = time.monotonic()
    taken(job, "counted 1")
    first = paused.read(job.paths)
    assert first is not None and not there(job.paths.result) and 1 < first.wall_s < first.slot_s
    taken(job, "counted 2")
    second = paused.read(job.paths)
    assert second is not None and second.wall_s > first.wall_s + 0.9 and second.slot_s > first.slot_s + 0.9
    assert shepherd(job).wait(timeout=30) == 0
    found = result(job)
    (train,) = found.phases
    assert (found.outcome, found.ran) == ("ok", True) and not there(job.paths.paused)
    assert second.wall_s + 0.9 < train.exit.wall_s < found.slot_s < time.monotonic() - began
    assert train.exit.cpu_s > second.cpu_s > first.cpu_s > 0
    words = log(job).split("\n")
    assert [line for line in words if line.startswith("from")] == ["from 0", "from 1", "from 2"]
    assert [line for line in words if line.startswith("counted")] == ["counted 1", "counted 2", "counted 3"]
    gone(str(tmp_path))


def test_limits_are_for_all_its_machines_together(tmp_path: Path) -> None:
    job = made(tmp_path / "jobs" / "r1", COUNTS.replace("done < 3", "done < 60"), limits=replace(LIMITS, wall_s=6))
    taken(job, "counted 1")
    used = paused.read(job.paths)
    assert used is not None and used.left(Limits(6, 9.0, 1, 1, 1, 1)).wall_s < 5
    assert shepherd(job).wait(timeout=30) == 0
    found = result(job)
    assert found.outcome == "capped" and found.phases[0].exit.cause == "wall"
    assert 5.9 < found.phases[0].exit.wall_s < 8


@pytest.mark.parametrize("train", [DEAF, STUBBORN], ids=["deaf", "stubborn"])
def test_one_that_leaves_nothing_new_is_ended(tmp_path: Path, train: str) -> None:
    job = made(tmp_path / "jobs" / "r1", f"print('up', flush=True)\n{train}")
    (job.paths.out / KEPT).write_text("of another machine")
    process = shepherd(job, "paused.SAVE_S = 1.5")
    until(lambda: "up" in log(job), 20)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0
    assert result(job).outcome == "cancelled" and not there(job.paths.paused)
    assert 1.5 < time.monotonic() - began < 15


def test_who_is_cancelled_keeps_nothing(tmp_path: Path) -> None:
    job = made(tmp_path / "jobs" / "r1")
    process = shepherd(job)
    until(lambda: "from 0" in log(job), 20)
    job.paths.cancel.touch()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0
    assert result(job).outcome == "cancelled" and not there(job.paths.paused)
    assert not (job.paths.out / KEPT).exists()


def test_one_that_is_taken_again_before_it_went_on_waits_as_before(tmp_path: Path) -> None:
    job = made(tmp_path / "jobs" / "r1")
    taken(job, "counted 1")
    before = paused.read(job.paths)
    # The signal is there before the training is.
    run = "def told(self): os.kill(os.getpid(), signal.SIGTERM); return run(self)"
    early = shepherd(job, f"run = shepherd.Shepherd.run\n{run}\nshepherd.Shepherd.run = told")
    assert early.wait(timeout=30) == 0
    after = paused.read(job.paths)
    assert before is not None and after is not None and not there(job.paths.result)
    assert (after.wall_s, after.cpu_s) == (before.wall_s, before.cpu_s) and after.slot_s > before.slot_s


def test_a_machine_that_dies_meanwhile_loses_it(tmp_path: Path) -> None:
    """What it used there, nobody knows."""
    job = made(tmp_path / "jobs" / "r1")
    taken(job, "counted 1")
    process = shepherd(job)
    until(lambda: "from 1" in log(job), 20)
    for pid in (process.pid, *tree.descendants({process.pid})):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    gone(str(tmp_path))
    assert not there(job.paths.paused)
    assert shepherd(job).wait(timeout=20) == 0  # as if it had had its run
    assert not there(job.paths.result)


@pytest.mark.parametrize("what", ["link", "second name", "folder", "pipe", "empty"])
def test_what_is_no_plain_file_of_its_own_is_not_gone_on_from(tmp_path: Path, what: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "other").write_text("x")
    make = {
        "link": lambda: (out / KEPT).symlink_to(tmp_path / "other"),
        "second name": lambda: (out / KEPT).hardlink_to(tmp_path / "other"),
        "folder": lambda: (out / KEPT).mkdir(),
        "pipe": lambda: os.mkfifo(out / KEPT),
        "empty": lambda: (out / KEPT).touch(),
    }
    make[what]()
    assert paused.mark(out, KEPT) is None
    (tmp_path / "other").chmod(0o600)
    paused.open_to_all(out)
    assert (tmp_path / "other").stat().st_mode & 0o777 == 0o600
