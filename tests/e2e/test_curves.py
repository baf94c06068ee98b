"""The points of a run's loss curve are in the store once it is collected, however it ended, and once only."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from agent.errors import InfraError
from agent.job.folder import JobPaths, JobResult, JobState, Loss
from agent.judge.curve import MOST
from agent.loop import Loop
from agent.records import Point, Run
from agent.report import tables
from agent.runners.fake import FakeRunner
from agent.runners.local import LocalRunner
from agent.runners.order import Order
from agent.setting import Setting
from agent.steps import collect as collecting
from agent.steps.collect import collect
from agent.store import curves, open_store
from tests.e2e import world
from tests.e2e.test_gone_slots import begun, opened
from tests.e2e.test_kill import REAL_SCRIPT, REAL_TRACK

LOG = "step:1/9 train_loss:6.5 train_time:10ms\nstep:5/9 train_loss:5.5 train_time:50ms\nstep:5/9 val_loss:5.6\nstep:9"
POINTS = (Point(1, 6.5, 10), Point(5, 5.5, 50, 5.6))


class Printing(FakeRunner):
    """Whose jobs print a log, and end as they are told."""

    log, end = LOG, "ok"

    def submit(self, order: Order, folder: Path, slot: str) -> None:
        super().submit(order, folder, slot)
        JobPaths(folder).train_log.write_text(self.log)

    def poll(self, folder: Path) -> JobState:
        return "lost" if self.end == "lost" else super().poll(folder)

    def loss(self, folder: Path) -> Loss:
        return Loss(True, 1.0, "its machine is gone", machine=True)

    def collect(self, folder: Path) -> JobResult:
        found = super().collect(folder)
        if self.end == "unreadable":
            raise InfraError("the result can't be read")
        if self.end in ("crashed", "cancelled"):
            return replace(found, outcome=self.end, reason="stopped", phases=found.phases[:1])
        return found


def ended(setting: Setting, run: Run) -> Run:
    (one,) = collect(setting, {setting.job(run.id): run})
    return one.run


def curve_of(setting: Setting, run: Run) -> tuple[Point, ...]:
    with setting.store.read() as reads:
        return curves.of_run(reads, run.id)


@pytest.mark.parametrize(
    ("end", "state"),
    [("ok", "done"), ("crashed", "done"), ("cancelled", "cancelled"), ("lost", "lost"), ("unreadable", "lost")],
)
def test_a_run_leaves_its_curve_however_it_ends(tmp_path: Path, end: str, state: str) -> None:
    runner = Printing(1)
    setting = opened(tmp_path / "w", runner)
    run = begun(setting)
    assert curve_of(setting, run) == ()
    runner.end = end
    ended(setting, run)
    with setting.store.read() as reads:
        assert reads.run(run.id).state == state
        shown = tables.run(reads, run.id)
    assert curve_of(setting, run) == POINTS
    assert shown["curve"] == [vars(point) for point in POINTS]
    assert "curve: 2 points, step 1 to 5; train loss 6.5 to 5.5; validation loss 5.6" in tables.run_words(shown)
    JobPaths(setting.job(run.id)).train_log.unlink()
    assert curve_of(setting, run) == POINTS  # which the log was needed for no longer


def test_a_controller_that_dies_while_it_collects_leaves_no_curve_and_the_next_one_leaves_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = opened(tmp_path / "w", Printing(1))
    run = begun(setting)

    def dies(*args: object) -> float:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(collecting, "_settle", dies)  # the last that is written of a run
        with pytest.raises(KeyboardInterrupt):
            ended(setting, run)
    assert curve_of(setting, run) == ()
    again = replace(setting, store=open_store(setting.repo.root / "runs.db"))
    with again.store.read() as reads:
        assert reads.run(run.id).state == "running" and reads.measurement(run.id) is None
    ended(again, run)
    assert curve_of(again, run) == POINTS
    Loop(again).run()
    with again.store.read() as reads:
        counts = reads.connection.execute(text("SELECT COUNT(*) FROM points GROUP BY run_id")).scalars().all()
        assert set(counts) == {len(POINTS)} and len(counts) == len(reads.runs(setting.campaign.id)) > 1
    again.store.close()


def test_a_run_that_prints_no_step_has_no_curve(tmp_path: Path) -> None:
    runner = Printing(1)
    runner.log = "hello\n"
    setting = opened(tmp_path / "w", runner)
    run = begun(setting)
    ended(setting, run)
    assert curve_of(setting, run) == ()
    with setting.store.read() as reads:
        shown = tables.run(reads, run.id)
    assert shown["curve"] == [] and "curve" not in tables.run_words(shown)


def test_a_hostile_log_fills_nothing(tmp_path: Path) -> None:
    """A million lines with what is no number, steps that go back and forth, and a good line at either end."""
    rng = random.Random(2)
    runner = Printing(1)
    middle = "".join(
        f"step:{rng.randrange(10**9)}/1 train_loss:{('nan', '1e999', '-inf', '3.5')[n % 4]}\n" for n in range(10**6)
    )
    runner.log = f"step:1/9 train_loss:6.5\n{middle}step:999999999/9 train_loss:1.5\n"
    setting = opened(tmp_path / "w", runner)
    run = begun(setting)
    ended(setting, run)
    found = curve_of(setting, run)
    assert len(found) == MOST and (found[0], found[-1]) == (Point(1, 6.5), Point(999_999_999, 1.5))
    assert {point.train_loss for point in found[1:-1]} == {3.5}
    with setting.store.read() as reads:
        shown = tables.run(reads, run.id)
    assert json.loads(json.dumps(shown["curve"], allow_nan=False))[-1]["step"] == 999_999_999


def test_real_processes_leave_their_curves(tmp_path: Path) -> None:
    """One that ends well, one that dies on its way and one that is stopped early."""
    mark = "    noise ="
    assert REAL_SCRIPT.count(mark) == 1
    script = REAL_SCRIPT.replace("sleep(0.1)", "sleep(0.02)").replace(mark, f"    # HERE\n{mark}")
    assert "train_wall_s = 20\n" in REAL_TRACK
    # However busy the machine is, the look at its log comes before the clock's end.
    track = REAL_TRACK.replace("train_wall_s = 20\n", "train_wall_s = 100\n")
    root = world.make_workspace(tmp_path / "w", script=script, track=track)
    diverges = "    print('step:8/9 train_loss:nan', flush=True)\n    time.sleep(90)\n"
    ideas = {"dies": "    raise ValueError\n", "diverges": diverges}
    world.write_ideas(root, [world.idea(name, ("    # HERE\n", code), script=script) for name, code in ideas.items()])
    setting = world.open_campaign(root, slots=2, make_runner=LocalRunner)
    Loop(setting).run()
    with setting.store.read() as reads:
        runs = reads.runs(setting.campaign.id)
        assert {(run.state, run.outcome) for run in runs} == {("done", "ok"), ("done", "crashed"), ("cancelled", None)}
        assert {curves.of_run(reads, run.id) for run in runs} == {tuple(Point(step, 3.0) for step in range(8))}
