"""Two campaigns on one machine: a GPU has one run at a time, and is free when the shepherd of that is gone."""

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agent.hardware import Gpu
from agent.runners import local
from agent.runners.local import LocalRunner
from agent.runners.turns import TAKEN_S, Taken, Turns, who
from tests.processes import until
from tests.shepherding import Job, ran

SLEEPS = "import os, sys, time\nopen(f'ran-{os.getpid()}', 'w')\ntime.sleep(float(sys.argv[1]) if sys.argv[1:] else 30)"
GPUS = tuple(Gpu(minor, f"GPU-{minor}", "H100", 80_000) for minor in (0, 1))


@pytest.fixture(autouse=True)
def turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Turns:
    found = Turns(tmp_path / "gpus", everybody=True)
    monkeypatch.setattr(local, "GPUS", found, raising=False)
    return found


def job(root: Path, campaign: str, script: str = SLEEPS) -> Job:
    return Job.make(root / campaign / "jobs" / "r1", script)


def hold(runner: LocalRunner, one: Job, slot: str = "local/0") -> str:
    runner.hold(1, one.paths.folder, slot)
    return runner.poll(one.paths.folder)


def test_a_second_campaigns_run_waits_until_the_first_ones_is_over(tmp_path: Path) -> None:
    mine, other = LocalRunner(1, GPUS[:1], 1), LocalRunner(1, GPUS[:1], 1)
    first, second = job(tmp_path, "night"), job(tmp_path, "day", SLEEPS.replace("30", "0"))
    hold(mine, first)
    assert hold(other, second) == "starting"
    until(lambda: ran(first) == 1)
    assert other.poll(second.paths.folder) == "starting" and not second.paths.spawned.exists()
    assert other.waits(second.paths.folder).startswith("its slot is taken by campaign night of ")
    assert other.wait_s("local/0") == TAKEN_S and mine.waits(first.paths.folder) == ""
    mine.cancel(first.paths.folder)
    assert first.end(mine) == "done" and second.end(other) == "done"
    assert (ran(first), ran(second)) == (1, 1) and other.collect(second.paths.folder).outcome == "ok"
    assert other.collect(second.paths.folder).slot_s < 5 and other.wait_s("local/0") == 0
    assert other.waits(second.paths.folder) == ""


def test_other_gpus_are_free_and_slots_of_other_sizes_take_turns_too(tmp_path: Path) -> None:
    mine, other = LocalRunner(2, GPUS, 1), LocalRunner(1, GPUS, 2, (1,))
    first, beside, both = (job(tmp_path, name) for name in ("night", "day", "dusk"))
    hold(mine, first, "local/0")
    hold(other, beside, "local/gpu-1")
    until(lambda: ran(first) == ran(beside) == 1)
    assert hold(other, both, "local/0") == "starting" and other.waits(both.paths.folder)
    assert [bool(other.wait_s(slot)) for slot in other.slots] == [True, True, True]
    for runner, one in ((mine, first), (other, beside), (other, both)):
        runner.cancel(one.paths.folder)
        assert one.end(runner) == "done"
    assert ran(both) == 0 and other.collect(both.paths.folder).slot_s == 0
    assert [bool(other.wait_s(slot)) for slot in other.slots] == [False, False, False]


def test_a_shepherd_that_is_killed_leaves_its_gpu_free(tmp_path: Path) -> None:
    mine, other = LocalRunner(1, GPUS[:1], 1), LocalRunner(1, GPUS[:1], 1)
    first, second = job(tmp_path, "night"), job(tmp_path, "day", SLEEPS.replace("30", "0"))
    hold(mine, first)
    until(lambda: ran(first) == 1)
    assert hold(other, second) == "starting" and not second.paths.spawned.exists()
    os.kill(first.shepherd(), signal.SIGKILL)
    assert second.end(other) == "done" and first.end(mine) == "lost"
    mine.sweep(first.paths.folder.parent)


def test_a_later_controller_takes_up_a_run_that_waits_and_one_that_runs(tmp_path: Path) -> None:
    first, second = job(tmp_path, "night"), job(tmp_path, "day", SLEEPS.replace("30", "0"))
    hold(LocalRunner(1, GPUS[:1], 1), first)
    assert hold(LocalRunner(1, GPUS[:1], 1), second) == "starting"
    until(lambda: ran(first) == 1)
    mine, other = LocalRunner(1, GPUS[:1], 1), LocalRunner(1, GPUS[:1], 1)
    assert mine.poll(first.paths.folder) == "running" and other.poll(second.paths.folder) == "starting"
    assert hold(mine, first) == "running" and hold(other, second) == "starting"
    mine.cancel(first.paths.folder)
    assert first.end(mine) == "done" and second.end(other) == "done"
    assert (ran(first), ran(second)) == (1, 1)


def test_a_run_that_had_a_shepherd_waits_for_nothing_whatever_its_folder_says(tmp_path: Path) -> None:
    runner, one = LocalRunner(1, GPUS[:1], 1), job(tmp_path, "night")
    hold(runner, one)
    until(lambda: ran(one) == 1)
    one.paths.waits.write_text(json.dumps({"alone": [], "core": None, "by": "nobody"}))
    os.kill(one.shepherd(), signal.SIGKILL)
    assert one.end(runner) == "lost" and ran(one) == 1 and runner.waits(one.paths.folder) == ""
    runner.sweep(one.paths.folder.parent)


def test_a_candidate_does_not_have_the_lock_of_its_gpu(tmp_path: Path) -> None:
    script = "import os\nfor fd in os.listdir('/proc/self/fd'):\n  try: print(os.readlink(f'/proc/self/fd/{fd}'))\n"
    runner = LocalRunner(1, GPUS[:1], 1)
    one = job(tmp_path, "night", script + "  except OSError: pass\n")
    hold(runner, one)
    assert one.end(runner) == "done"
    log = one.paths.folder / "train.py.log"
    assert "train.py.log" in log.read_text() and str(tmp_path / "gpus") not in log.read_text()


def test_cores_of_this_machine_are_shared_and_those_of_others_are_not_where_turns_are_taken(tmp_path: Path) -> None:
    first, second, third = (job(tmp_path, name) for name in ("night", "day", "dusk"))
    shared = Turns(tmp_path / "turns")
    mine, other, third_one = LocalRunner(1, turns=shared), LocalRunner(1, turns=shared), LocalRunner(1)
    assert mine.alone("local/0") == other.alone("local/0") and third_one.alone("local/0") == ()
    hold(mine, first)
    assert hold(other, second) == "starting"
    hold(third_one, third)
    until(lambda: ran(first) == ran(third) == 1)
    assert ran(second) == 0 and other.waits(second.paths.folder)
    for runner, one in ((other, second), (mine, first), (third_one, third)):
        runner.cancel(one.paths.folder)
        assert one.end(runner) == "done"


def test_all_or_nothing_is_taken_and_what_a_file_says_is_words(tmp_path: Path, turns: Turns) -> None:
    held = turns.take(["b"], "campaign \x1b[2Jnight\n" + "x" * 500)
    with pytest.raises(Taken) as caught:
        turns.take(["a", "b"], "campaign day")
    assert str(caught.value).startswith("campaign [2Jnightxxx") and len(str(caught.value)) < 200
    os.close(turns.take(["a"], "campaign day")[0])
    os.close(held[0])
    assert turns.by(["a", "b", "never"]) == ""
    assert len(turns.take(["a", "b"], "campaign day")) == 2


def test_another_user_sees_the_lock_and_one_that_can_not_be_had_keeps_the_run_waiting(
    tmp_path: Path, turns: Turns
) -> None:
    held = turns.take(["GPU-0"], "campaign night")
    folder = tmp_path / "gpus"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o1777 and stat.S_IMODE((folder / "GPU-0").stat().st_mode) == 0o666
    if os.getuid() == 0:
        for parent in (tmp_path, *tmp_path.parents[:3]):
            if str(parent) != "/tmp":
                parent.chmod(parent.stat().st_mode | 0o011)
        code = (
            "import os, sys; sys.path.insert(0, sys.argv[1])\n"
            "from pathlib import Path; from agent.runners.turns import Taken, Turns\n"
            "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            "turns = Turns(Path(sys.argv[2]), everybody=True)\n"
            "assert turns.by(['GPU-0']) == 'campaign night', turns.by(['GPU-0'])\n"
            "try: turns.take(['GPU-0'], 'campaign day')\n"
            "except Taken as taken: print(taken)\n"
            "turns.take(['GPU-1'], 'campaign day')\n"
        )
        root = Path(local.__file__).parents[2]
        done = subprocess.run(
            [sys.executable, "-c", code, str(root), str(folder)], capture_output=True, text=True, check=False
        )
        assert (done.stdout, done.stderr) == ("campaign night\n", "")
        os.close(turns.take(["GPU-1"], "campaign night")[0])
    os.close(held[0])
    (folder / "GPU-0").unlink()
    (folder / "GPU-0").symlink_to("elsewhere")
    with pytest.raises(Taken, match="nobody knows whom"):
        turns.take(["GPU-0"], "campaign night")
    assert turns.by(["GPU-0"]).startswith("nobody knows whom")


def test_no_lock_is_taken_where_it_would_be_written_into_another_file(tmp_path: Path, turns: Turns) -> None:
    folder, precious = tmp_path / "gpus", tmp_path / "precious"
    precious.write_text("somebody else's")
    folder.mkdir()
    os.link(precious, folder / "GPU-0")
    with pytest.raises(Taken, match="no plain file of its own"):
        turns.take(["GPU-0"], "campaign night")
    assert precious.read_text() == "somebody else's"
    (tmp_path / "theirs").mkdir()
    (folder / "GPU-0").unlink()
    folder.rmdir()
    folder.symlink_to("theirs")
    with pytest.raises(Taken, match="no folder"):
        turns.take(["GPU-0"], "campaign night")
    assert not list((tmp_path / "theirs").iterdir())


def test_a_folder_whose_maker_was_killed_is_everybodys_at_the_next_turn(tmp_path: Path, turns: Turns) -> None:
    folder = tmp_path / "gpus"
    folder.mkdir(mode=0o700)
    os.close(os.open(folder / "GPU-0", os.O_CREAT | os.O_RDWR, 0o600))
    os.close(turns.take(["GPU-0"], "campaign night")[0])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o1777 and stat.S_IMODE((folder / "GPU-0").stat().st_mode) == 0o666


def test_a_run_that_could_not_begin_waits_on_and_harms_no_other_of_the_same_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = LocalRunner(1, GPUS[:1], 1), LocalRunner(1, GPUS[:1], 1)
    first, second = job(tmp_path, "night"), job(tmp_path, "day", SLEEPS.replace("30", "0"))
    hold(mine, first)
    assert hold(other, second) == "starting"
    mine.cancel(first.paths.folder)
    assert first.end(mine) == "done"
    with monkeypatch.context() as full:
        full.setattr(local.subprocess, "Popen", _no_process)
        assert other.poll(second.paths.folder) == "starting" and other.waits(second.paths.folder)
    assert second.end(other) == "done" and other.collect(second.paths.folder).outcome == "ok"


def _no_process(*_: object, **__: object) -> None:
    raise BlockingIOError(11, "no process may be made")


def test_who_a_job_is_of_here_and_on_a_far_machine(tmp_path: Path) -> None:
    assert who(tmp_path / ".caddie" / "night" / "jobs" / "r1").startswith("campaign night of ")
    assert who(tmp_path / "jobs" / "0123456789ab" / "a.night.jobs.r1.judge").startswith("campaign a.night of ")
