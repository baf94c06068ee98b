"""Runs whose losses are their baseline's to the last digit are ended early, and only where that proves something."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from agent import budget
from agent.job.folder import JobPaths, JobResult, JobState
from agent.job.reading import read_small
from agent.job.writing import write_aside
from agent.loop import Loop
from agent.runners.fake import FakeRunner
from agent.runners.local import LocalRunner
from agent.runners.order import Order
from agent.setting import Setting
from agent.steps.inert import Losses, losses, same_until
from agent.store import Reads
from agent.store.schema import ledger
from tests.e2e import world
from tests.e2e.real import REAL_TRACK
from tests.e2e.terminal import nothing_runs

STEPS = 50


def written(tmp_path: Path, text: str) -> Losses:
    (tmp_path / "train.log").write_text(text)
    return losses(tmp_path / "train.log")


def test_losses_are_read_as_they_are_printed(tmp_path: Path) -> None:
    text = (
        "step:0/300 val_loss:6.9100 val_bpb:4.1\nstep:1/300 train_loss:6.9077 train_time:3ms\n"
        "step:2/300 train_loss:6.1000 train_time:6ms\n 3/300 loss: 5.250000 dt: 1\n4/300 loss: 5.2\n"
        "loss 7.123 at step:5/300\nstep:6/300 train_loss:nan\nstep:7/300 train_loss:4.11"
    )
    found = written(tmp_path, text)
    assert found == Losses({1: "6.9077", 2: "6.1000", 3: "5.250000"}, 300)
    assert written(tmp_path, "") == losses(tmp_path / "nothing here") == Losses({}, 0)
    long = "".join(f"step:{n}/99999 train_loss:{n}.0001 {'x' * 90}\n" for n in range(1, 3000))
    assert 400 < len(written(tmp_path, long).by_step) < 700  # of the head alone


def curve(until: int, *, every: int = 1, steps: int = 100, change: tuple[int, str] | None = None) -> Losses:
    found = {step: f"{7.0 - step / 50:.4f}" for step in range(1, until + 1, every)}
    return Losses(found | dict([change] if change else []), steps)


@pytest.mark.parametrize(
    ("mine", "step"),
    [
        (curve(10), 10),
        (curve(9), None),  # a branch that starts as nothing may still hide in the digits
        (curve(90, every=30), 61),
        (curve(60, every=40), None),  # two losses only
        (curve(50, change=(7, "6.8601")), None),
        (curve(50, steps=101), None),
        (Losses(dict.fromkeys(range(1, 60), "6.9315"), 100), None),
        (Losses({}, 0), None),
    ],
)
def test_what_says_something(mine: Losses, step: int | None) -> None:
    assert same_until(mine, curve(100)) == step


def test_a_baseline_whose_log_ends_before_proves_nothing() -> None:
    assert same_until(curve(20), curve(15)) is None
    same = Losses(dict.fromkeys(range(1, 60), "6.9315"), 100)
    assert same_until(same, same) is None


class Training(FakeRunner):
    """Prints losses that follow from width and seed; runs until it is asked to end or has been looked at often."""

    looks = 6

    def submit(self, order: Order, folder: Path, slot: str) -> None:
        super().submit(order, folder, slot)
        script = JobPaths(folder).code / "train.py"
        wide = '"width": 4' in script.read_text()
        draw = random.Random(f"{order.seed}/{wide}")
        lines = [f"step:{n}/{STEPS} train_loss:{7 - n / 20 + draw.random() / 100:.4f}\n" for n in range(1, 30)]
        JobPaths(folder).train_log.write_text("".join(lines))

    def poll(self, folder: Path) -> JobState:
        looked = folder / "looked"
        count = len(looked.read_text()) + 1 if looked.exists() else 1
        looked.write_text("x" * count)
        return "running" if count < self.looks and not JobPaths(folder).cancel.exists() else super().poll(folder)

    def cancel(self, folder: Path) -> None:
        paths = JobPaths(folder)
        text = read_small(paths.result)
        assert text is not None
        paths.cancel.touch()
        ended = replace(JobResult.from_json(text), outcome="cancelled", reason="stopped", slot_s=4.0)
        write_aside(paths.result, ended.to_json(), durable=False)


IDLE = ('"crash": 0,', '"crash": 0,\n    "idle": 1,')


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return world.make_workspace(tmp_path / "work")


def ends(setting: Setting) -> dict[str, tuple[str, str]]:
    with setting.store.read() as reads:
        assert budget.audit(reads, setting.campaign.id) == [] == budget.open_entries(reads, setting.campaign.id)
        return {one.title: (one.state, one.reason) for one in reads.proposals(setting.campaign.id)}


def used_s(reads: Reads, run_id: int) -> float:
    query = select(ledger.c.settled_gpu_s).where(ledger.c.run_id == run_id)
    return float(reads.connection.execute(query).scalar_one())


def test_an_inert_idea_of_a_kind_that_acts_at_once_is_stopped(root: Path) -> None:
    other = ('"crash": 0,', '"crash": 0,\n    "idle": 2,')
    ideas = [
        world.idea("nothing", IDLE, kind="architecture"),
        world.idea("later", other, kind="optimiser"),
        world.idea("wider", ('"width": 4', '"width": 3'), kind="architecture"),
    ]
    world.write_ideas(root, ideas)
    setting = world.open_campaign(root, make_runner=Training)
    Loop(setting).run()
    found = ends(setting)
    assert found["nothing"] == (
        "duplicate",
        "inert: up to step 29 of 50 the losses of r4 are those of r1, its baseline, to the last digit, "
        "and architecture acts from the first step; what acts later is of another kind",
    )
    assert found["later"][0] not in ("duplicate", "cancelled") and found["wider"][0] in ("worse", "inconclusive")
    with setting.store.read() as reads:
        run = reads.run(4)
        assert (run.state, reads.measurement(4)) == ("cancelled", None)
        assert used_s(reads, 4) == 4.0  # what it used, and no more


def test_a_controller_killed_before_it_could_stop_the_run_is_followed_by_one_that_does(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write_ideas(root, [world.idea("nothing", IDLE, kind="tokenizer")])
    setting = world.open_campaign(root, make_runner=Training)

    class Killed(BaseException):
        pass

    def killed(self: Training, folder: Path) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Training, "cancel", killed)
        with pytest.raises(Killed):
            Loop(setting).run()
    with setting.store.read() as reads:
        assert (reads.proposal(2).state, reads.run(4).state) == ("duplicate", "running")
    setting.store.close()
    monkeypatch.setattr(Training, "looks", 10_000)
    setting = world.open_campaign(root, make_runner=Training)
    Loop(setting).run()
    assert ends(setting)["nothing"][0] == "duplicate"
    with setting.store.read() as reads:
        assert reads.run(4).state == "cancelled" and reads.count_runs(setting.campaign.id) == 4


REAL = world.SCRIPT.replace(
    "    print(KNOBS)\n",
    """    import os, random, time
    draw = random.Random(os.environ["SEED"] + str(KNOBS["width"]))
    for step in range(1, 41):
        print(f"step:{step}/40 train_loss:{5 - step / 20 + draw.random() / 10:.4f}", flush=True)
        time.sleep(0.05 if "idle" not in KNOBS else 0.2)
    print(f"val_bpb: {2.0 + draw.gauss(0, 0.01):.6f}")
    print("Total submission size int8+zlib: 900 bytes")
""",
)


@pytest.mark.slow
def test_a_real_process_is_stopped_and_nothing_of_it_is_left(tmp_path: Path) -> None:
    root = world.make_workspace(tmp_path / "work", script=REAL, track=REAL_TRACK)
    world.write_ideas(root, [world.idea("nothing", IDLE, script=REAL, kind="architecture")])
    setting = world.open_campaign(root, make_runner=LocalRunner)
    Loop(setting).run()
    state, reason = ends(setting)["nothing"]
    assert state == "duplicate" and reason.startswith("inert: up to step ")
    nothing_runs(root)
    with setting.store.read() as reads:
        assert 0.5 < used_s(reads, 4) < 6.0  # eight seconds, had it gone on
