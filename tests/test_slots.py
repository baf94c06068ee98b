"""Runs of different sizes on the GPUs of one machine: each rung on slots of its size, none on a GPU that is in use."""

from pathlib import Path

from agent.loop import Loop
from agent.runners.fake import FakeRunner
from agent.runners.fleet import Fleet
from agent.steps.slots import Slots
from agent.steps.wanted import Wanted
from tests.e2e import world
from tests.two_gpus import GPUS, TRACK, Box


def test_each_rung_is_on_slots_of_its_size_and_no_gpu_has_two_runs(tmp_path: Path) -> None:
    root = world.make_workspace(tmp_path / "work", track=TRACK)
    ideas = [world.idea(f"rate {n}", ('"rate": 0.10', f'"rate": 0.{n}'), rung="short") for n in (11, 12, 13)]
    world.write_ideas(root, ideas)
    setting = world.open_campaign(root, slots=1, runner="lab", make_runner=lambda slots: Box(), budget_hours=9.0)
    assert setting.campaign.hardware_class == "cuda/x/2"
    at_once = 0

    def show() -> None:
        nonlocal at_once
        with setting.store.read() as reads:
            busy = reads.runs(setting.campaign.id, states={"queued", "running"})
        gpus = [gpu for run in busy for gpu in GPUS[str(run.slot)]]
        assert len(gpus) == len(set(gpus))
        at_once = max(at_once, len(busy))

    Loop(setting, show).run()
    with setting.store.read() as reads:
        runs = reads.runs(setting.campaign.id, states={"done"})
    assert {(run.rung, len(GPUS[str(run.slot)]), run.hardware_class) for run in runs} == {
        ("decide", 2, "cuda/x/2"),
        ("short", 1, "cuda/x/1"),
    }
    assert at_once == 2  # small runs beside each other


class Queued(FakeRunner):
    """Whose jobs have to wait."""

    waits = 600.0

    def wait_s(self, slot: str) -> float:
        return self.waits


def test_of_slots_that_cost_the_same_the_one_with_the_shorter_queue_is_taken(tmp_path: Path) -> None:
    root = world.make_workspace(tmp_path / "work")
    world.write_ideas(root, [world.idea("wider", ('"width": 4', '"width": 6'))])
    lab = Queued(1, name="lab")
    fleet = Fleet({"lab": lab, "near": FakeRunner(1, name="near")})
    setting = world.open_campaign(root, slots=2, make_runner=lambda count: fleet)
    with setting.store.read() as reads:
        base = reads.base(setting.campaign.id)
    slots, item = Slots(setting), Wanted(base, "report", None, 1, 1, False, "decide")
    assert [one.slot for one in slots.place([item], (), ())] == ["near/0"]
    lab.waits = 0.0
    assert [one.slot for one in slots.place([item], (), ())] == ["lab/0"]
