"""Anchors on machines with several slots: on one of their size, alone on its GPUs, and timed again on the same ones."""

from pathlib import Path

from agent.loop import Loop
from agent.steps import anchors
from agent.steps.slots import Slots
from agent.steps.wanted import Wanted
from tests.e2e import world
from tests.e2e.leased import Machines, later, opened
from tests.two_gpus import GPUS, TRACK, Box


class Leased(Box):
    """The box is one machine."""

    def lease(self, slot: str) -> str:
        return "box"

    def refuse(self, lease: str, reason: str) -> None: ...


def test_an_anchor_has_the_gpus_of_a_deciding_run_and_nothing_small_starts_on_them(tmp_path: Path) -> None:
    track = TRACK.replace('kind = "cuda"', 'kind = "cuda"\nanchor_every_s = 14400')
    root = world.make_workspace(tmp_path / "w", track=track)
    world.write_ideas(root, [world.idea("rate 0.11", ('"rate": 0.10', '"rate": 0.11'), rung="short")])
    setting = world.open_campaign(root, slots=1, runner="lab", make_runner=lambda slots: Leased(), budget_hours=9.0)
    assert [one.slot for one in anchors.due(setting, tuple(GPUS)[::-1])] == ["lab/box/0"]
    assert anchors.due(setting, ["lab/box/gpu-0", "lab/box/gpu-1"]) == []
    with setting.store.read() as reads:
        base = reads.base(setting.campaign.id)
    small = Wanted(base, "trial", None, 1, 1, False, "short")
    (anchor,) = anchors.due(setting, tuple(GPUS))
    slots = Slots(setting)
    assert slots.place([small], (), {anchor.slot}) != []
    assert slots.place([small], (), {anchor.slot}, [anchor]) == []


def test_what_is_timed_again_is_timed_on_the_same_gpus(tmp_path: Path) -> None:
    setting = opened(tmp_path / "w", ("a", "a"), Machines())
    Loop(setting).run()
    later(setting, 5)
    assert [one.slot for one in anchors.due(setting, ["fake/1", "fake/0"])] == ["fake/0"]
    assert anchors.due(setting, ["fake/1"]) == []  # it waits for it
    setting.runner.slots = ("fake/1",)  # type: ignore[misc]
    assert [one.slot for one in anchors.due(setting, ["fake/1"])] == ["fake/1"]
