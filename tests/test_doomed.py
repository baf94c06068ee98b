"""Runs that can come to nothing are stopped at once; what a log says can only ever end its own run."""

from pathlib import Path

import pytest

from agent.job.folder import JobPaths, JobResult, JobState, Progress
from agent.job.reading import read_small
from agent.job.writing import write_aside
from agent.loop import Loop
from agent.runners.fake import FakeRunner
from agent.runners.order import Order
from agent.setting import Setting
from agent.steps.doomed import Course, Seen, binding, forecast, no_number
from agent.track import parse
from tests.e2e import world

GOOD = "step:1/100 train_loss:6.9077 train_time:3ms\n"


@pytest.mark.parametrize(
    ("text", "step"),
    [
        (GOOD + "step:2/100 train_loss:nan train_time:6ms\n", 2),
        (GOOD + "3/100 loss: -inf dt: 1\n", 3),
        (GOOD + "step:4/100 val_loss:NaN val_bpb:nan\n", 4),
        (GOOD, None),
        ("", None),
        ("step:2/100 train_loss:nan\n" + GOOD, None),  # the last one counts
        (GOOD + "step:2/100 train_loss:nan", None),  # the line is still being written
        (GOOD + "nan is what a loss: nan looks like\n", None),
        (GOOD + "step:2/100 train_loss:nanosecond\n", None),
    ],
)
def test_a_loss_that_is_no_number(text: str, step: int | None) -> None:
    found = no_number(text)
    assert (found is None) == (step is None)
    assert step is None or f"at step {step}" in str(found)


def foretold(*at: tuple[int, float], steps: int = 100, unsure_s: float = 0.0) -> float:
    first, mark, now = (Seen(*one) for one in at)
    return forecast(steps, Course(first, mark), now, unsure_s)


def test_a_forecast_goes_by_all_steps_or_the_last_ones_whichever_were_faster() -> None:
    assert foretold((10, 60.0), (10, 60.0), (20, 70.0)) == 150.0
    assert foretold((1, 1.0), (10, 60.0), (20, 70.0)) == 150.0  # what compiling took at first does not count
    assert foretold((10, 10.0), (40, 40.0), (50, 90.0)) == 190.0  # nor does a stall, not as all to come


def test_a_forecast_allows_for_what_it_can_not_see() -> None:
    assert foretold((10, 60.0), (10, 60.0), (20, 70.0), unsure_s=2.0) == 134.0
    assert foretold((10, 60.0), (10, 60.0), (20, 61.0), unsure_s=2.0) == 0.0
    assert foretold((20, 60.0), (20, 60.0), (20, 90.0)) == 0.0
    assert foretold((20, 60.0), (20, 60.0), (3, 90.0)) == 0.0  # a candidate may print anything


def test_a_script_that_stops_by_the_clock_need_not_do_the_steps_that_it_names() -> None:
    track = parse(
        world.TRACK.replace('name = "decide"', 'name = "decide"\nenv = { MAX_WALLCLOCK_SECONDS = "60" }'), "t"
    )
    assert not binding(track, track.deciding()) and binding(parse(world.TRACK, "t"), parse(world.TRACK, "t").deciding())


class Training(FakeRunner):
    """Prints a step at each poll; the idea of width 8 loses its numbers, and hardly ends before it is asked to. Runs of
    the other idea are there for some looks at them, those of the base are not looked at."""

    looks = 12

    def submit(self, order: Order, folder: Path, slot: str) -> None:
        super().submit(order, folder, slot)
        (folder / "looks").write_text("")

    def poll(self, folder: Path) -> JobState:
        paths = JobPaths(folder)
        looked = len((folder / "looks").read_text()) + 1
        (folder / "looks").write_text("x" * looked)
        script = (paths.code / "train.py").read_text()
        wide = '"width": 8' in script
        most = 400 if wide else self.looks if '"rate": 0.20' in script else 1
        with paths.train_log.open("a") as log:
            log.write(f"step:{looked}/100 train_loss:{self.loss(wide, looked)}\n")
        return "done" if paths.cancel.exists() or looked > most else "running"

    def loss(self, wide: bool, looked: int) -> str:
        return "nan" if wide and looked > 3 else f"{7 - looked / 50:.4f}"

    def cancel(self, folder: Path) -> None:
        paths = JobPaths(folder)
        paths.cancel.touch()
        done = JobResult.from_json(read_small(paths.result) or "")
        stopped = JobResult(done.run_id, "cancelled", "cancelled", (), 5.0, ("fake",), ran=True)
        write_aside(paths.result, stopped.to_json(), durable=False)


def led(tmp_path: Path, make_runner: type[Training]) -> Setting:
    """A campaign with two ideas, to its end."""
    root = world.make_workspace(tmp_path / "work")
    world.write_ideas(
        root, [world.idea("wide", ('"width": 4', '"width": 8')), world.idea("rate", ('"rate": 0.10', '"rate": 0.20'))]
    )
    setting = world.open_campaign(root, make_runner=make_runner)
    Loop(setting).run()
    return setting


@pytest.mark.slow
def test_a_run_that_loses_its_numbers_ends_and_its_idea_with_it(tmp_path: Path) -> None:
    setting = led(tmp_path, Training)
    with setting.store.read() as reads:
        wide, rate = reads.proposals(setting.campaign.id)[1:3]
        assert wide.state == "crashed" and "its loss is nan" in wide.reason
        assert rate.state not in ("crashed", "lost")
        runs = reads.runs(setting.campaign.id, proposal_id=wide.id)
        assert [run.state for run in runs] == ["cancelled"]
        assert reads.balance(setting.campaign.id).reserved.gpu_s == 0


class Busy(Training):
    """A second of the clock at each look, in which width 8 computes all the time, and others hardly get their core."""

    looks = 40

    def loss(self, wide: bool, looked: int) -> str:
        return f"{7 - looked / 50:.4f}"

    def progress(self, folder: Path) -> Progress | None:
        looked = len((folder / "looks").read_text())
        wide = '"width": 8' in (JobPaths(folder).code / "train.py").read_text()
        return Progress(looked, 100, None, float(looked), "train", looked * (1.0 if wide else 0.1))


@pytest.mark.long
def test_a_run_that_can_not_reach_its_steps_ends_and_one_whose_core_is_busy_does_not(tmp_path: Path) -> None:
    setting = led(tmp_path, Busy)
    with setting.store.read() as reads:
        wide, rate = reads.proposals(setting.campaign.id)[1:3]
        assert wide.state == "crashed" and "at this pace it needs" in wide.reason
        assert rate.state not in ("crashed", "lost")
