"""Two campaigns whose hosts files name one machine: their runs take turns on its slot, whoever began first."""

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.runners.ssh import mirror
from agent.runners.ssh.errand import SURELY_OVER_S
from agent.runners.ssh.runner import SshRunner
from agent.runners.turns import TAKEN_S
from agent.tables import GRACE_S
from tests import far, sshd
from tests.processes import until
from tests.zoo_runs import SCRIPTS

pytestmark = pytest.mark.slow


@pytest.fixture
def worlds(tmp_path: Path, server: sshd.Sshd, toy_corpus: Path) -> Iterator[tuple[far.World, far.World]]:
    """Two campaigns of two workspaces and one machine, which has one core."""
    assert server._process is not None
    os.sched_setaffinity(server._process.pid, {min(os.sched_getaffinity(0))})
    night = far.World(tmp_path / "night", server, corpus=toy_corpus)
    day = far.World(tmp_path / "day", server, corpus=toy_corpus)
    day.far = night.far
    yield night, day
    night.close()
    day.close()


def there(world: far.World, runner: SshRunner, job: str) -> Path:
    """Both campaigns are called night: the folder there tells them apart."""
    return world.far / runner.machines.all()[0]._jobs / f"night.jobs.{job}"


def begun(world: far.World) -> tuple[SshRunner, far.JobPaths]:
    """A run that trains for long."""
    runner = world.runner()
    limits = world.order().limited.limits.model_copy(update={"train_wall_s": 100})
    order = world.order(limits=limits.model_dump_json(), wall_s=limits.worst_s())
    paths = world.place(order, {**SCRIPTS, "trained.py": b"import time\ntime.sleep(100)\n"})
    runner.submit(order, paths.folder, runner.slots[0])
    until(lambda: runner.poll(paths.folder) == "running", 60, "the first run")
    return runner, paths


def placed(world: far.World, run_id: int = 1) -> tuple[SshRunner, far.JobPaths]:
    runner, order = world.runner(), world.order(run_id, seed=3)
    paths = world.place(order)
    runner.submit(order, paths.folder, runner.slots[0])
    return runner, paths


def waiting(runner: SshRunner, paths: far.JobPaths) -> None:
    until(lambda: runner.waits(paths.folder), 60, "the word that it waits")
    assert "taken by campaign " in runner.waits(paths.folder) and runner.poll(paths.folder) == "starting"


def left_waiting(night: far.World, day: far.World) -> far.JobPaths:
    """A run that waits there and whose controller is gone; its slot is free again."""
    first, mine = begun(night)
    second, other = placed(day)
    waiting(second, other)
    second.close()
    first.cancel(mine.folder)
    assert far.ended(first, mine) == "done"
    return other


def test_a_second_campaigns_run_begins_when_the_first_ones_is_over(worlds: tuple[far.World, far.World]) -> None:
    night, day = worlds
    first, mine = begun(night)
    second, other = placed(day)
    waiting(second, other)
    assert second.wait_s("lab/box/0") == TAKEN_S and first.waits(mine.folder) == ""
    assert not (there(day, second, "r1") / "spawned").exists()
    second.close()
    later = day.runner()  # which takes it up as it waits
    waiting(later, other)
    first.cancel(mine.folder)
    assert far.ended(first, mine) == "done" and first.collect(mine.folder).outcome == "cancelled"
    assert far.ended(later, other) == "done", later.loss(other.folder)
    result = later.collect(other.folder)
    assert (result.outcome, [phase.name for phase in result.phases]) == ("ok", ["train", "judge"])
    assert later.waits(other.folder) == ""


def test_a_shepherd_that_is_killed_there_leaves_the_slot_to_the_other(worlds: tuple[far.World, far.World]) -> None:
    night, day = worlds
    first, mine = begun(night)
    second, other = placed(day)
    waiting(second, other)
    os.kill(json.loads((there(night, first, "r1") / "pid.json").read_text())["pid"], signal.SIGKILL)
    assert far.ended(second, other) == "done", second.loss(other.folder)
    assert second.collect(other.folder).outcome == "ok", second.collect(other.folder).reason
    assert far.ended(first, mine) == "lost"


def test_a_run_that_waits_on_a_machine_that_is_gone_is_lost_when_its_time_is_over(
    worlds: tuple[far.World, far.World], server: sshd.Sshd
) -> None:
    night, day = worlds
    other = left_waiting(night, day)
    server.stop()
    known = mirror.read(other.folder)
    assert known is not None and known.waits
    asked = time.time() - day.order().wall_s - SURELY_OVER_S - 1
    mirror.write(other.folder, replace(known, asked=asked))
    later = day.runner()
    assert far.ended(later, other) == "lost"
    later.close()


def test_a_run_of_which_nobody_knew_here_that_it_waits_has_its_whole_time(worlds: tuple[far.World, far.World]) -> None:
    """The link broke, or the controller was killed, under the answer that it waits."""
    night, day = worlds
    other = left_waiting(night, day)
    known = mirror.read(other.folder)
    assert known is not None
    asked = time.time() - day.order().wall_s - SURELY_OVER_S - 1
    mirror.write(other.folder, mirror.Placed(known.slot, known.host, asked, environment=known.environment))
    later = day.runner()
    assert far.ended(later, other) == "done", later.loss(other.folder)
    assert later.collect(other.folder).outcome == "ok"


def test_a_run_that_waits_there_can_be_cancelled_and_has_cost_nothing(worlds: tuple[far.World, far.World]) -> None:
    night, day = worlds
    first, mine = begun(night)
    second, other = placed(day)
    waiting(second, other)
    second.cancel(other.folder)
    assert far.ended(second, other, 20) == "done"
    result = second.collect(other.folder)
    assert (result.outcome, result.ran, result.slot_s) == ("cancelled", False, 0.0)
    assert first.poll(mine.folder) == "running"
    first.cancel(mine.folder)
    assert far.ended(first, mine) == "done"


def test_a_scoring_waits_while_another_campaigns_run_has_the_slot(worlds: tuple[far.World, far.World]) -> None:
    """Between the two jobs of a run its slot is nobody's, and who waits for it may be first."""
    night, day = worlds
    second, trained = placed(day)
    assert far.ended(second, trained) == "done" and second.collect(trained.folder).outcome == "ok"
    first, mine = begun(night)
    limits = day.order().limited.limits
    order = day.order(2, seed=3, phases=("judge",), wall_s=limits.judge_wall_s() + GRACE_S)
    paths = day.place(order)
    (paths.out / "final_model.bin").write_bytes((trained.out / "final_model.bin").read_bytes())
    second.submit(order, paths.folder, "lab/box/0")
    waiting(second, paths)
    assert not there(day, second, "r2.judge").exists()
    known = mirror.read(paths.folder)
    assert known is not None and known.judged is None
    first.cancel(mine.folder)
    assert far.ended(first, mine) == "done"
    assert far.ended(second, paths) == "done" and second.collect(paths.folder).outcome == "ok"
    assert second.waits(paths.folder) == ""
