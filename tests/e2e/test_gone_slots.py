"""Slots that can't be asked while a run of theirs is under way: their host is down, or the settings are other ones."""

from pathlib import Path
from typing import Any

import pytest

from agent import track as tracks
from agent.errors import InfraError
from agent.records import Proposal, Run
from agent.runners import LATER, NEW
from agent.runners.fake import FakeRunner
from agent.runners.ssh.hosts import SshHost
from agent.runners.ssh.runner import SshRunner
from agent.setting import Setting
from agent.steps.collect import collect
from agent.steps.launch import start
from agent.steps.slots import Slots
from agent.steps.wanted import Wanted
from tests.e2e import world
from tests.two_gpus import TRACK, Box
from tests.zoo_runs import TOML


class Down(FakeRunner):
    """One slot; whether its machine can be asked for its lease, or its price is known."""

    said, down, usd = "a", False, 0.0

    def lease(self, slot: str) -> str:
        if self.down:
            raise InfraError(f"slot {slot}: it has not answered yet")
        return self.said

    def refuse(self, lease: str, reason: str) -> None: ...

    def price(self, slot: str) -> float:
        return self.usd


def opened(root: Path, fake: FakeRunner, track: str = world.TRACK, **changes: Any) -> Setting:
    world.make_workspace(root, track=track)
    world.write_ideas(root, [world.idea("wider", ('"width": 4', '"width": 6'))])
    return world.open_campaign(root, slots=1, make_runner=lambda count: fake, **changes)


def base(setting: Setting) -> Proposal:
    with setting.store.read() as reads:
        return reads.base(setting.campaign.id)


def begun(setting: Setting) -> Run:
    run = start(setting, Wanted(base(setting), "report", None, 1, 1, False, "decide"), setting.runner.slots[0])
    assert run is not None
    return run


@pytest.mark.parametrize(("said", "lease"), [("a", "a"), (NEW, "new/r1"), (LATER, "new/r1"), ("", "")])
def test_a_run_is_collected_though_its_slot_can_t_be_asked(tmp_path: Path, said: str, lease: str) -> None:
    runner = Down(1)
    runner.said = said
    setting = opened(tmp_path / "w", runner)
    run = begun(setting)
    runner.down = lease != ""
    (one,) = collect(setting, {setting.job(run.id): run})
    assert (one.run.state, one.run.lease) == ("done", lease)


class Gone(Box):
    """Whose first slot is not there any more after a while."""

    gone = False

    def price(self, slot: str) -> float:
        if self.gone and slot == "lab/box/0":
            raise InfraError(f"slot {slot}: no machine lab/box")
        return 0.0


def test_a_run_in_a_slot_that_is_gone_keeps_no_other_from_starting(tmp_path: Path) -> None:
    runner = Gone()
    setting = opened(tmp_path / "w", runner, TRACK, runner="lab", budget_hours=9.0)
    run = begun(setting)
    assert Slots(setting).free([run]) == []
    runner.gone, runner.slots = True, ("lab/box/gpu-0",)
    slots = Slots(setting)
    assert [slot.name for slot in slots.free([run])] == ["lab/box/gpu-0"]
    item = Wanted(base(setting), "screen", None, 1, 1, False, "short")
    assert [one.slot for one in slots.place([item], [run], ())] == ["lab/box/gpu-0"]


def test_a_slot_costs_what_it_costs_now(tmp_path: Path) -> None:
    runner = Down(1)
    setting = opened(tmp_path / "w", runner)
    slots = Slots(setting)
    assert slots.slot("fake/0").price == 0.0
    runner.usd = 3.5
    assert slots.slot("fake/0").price == 3.5


def test_a_machine_that_has_not_answered_yet_is_no_fault_of_ours(tmp_path: Path) -> None:
    """Nothing listens there."""
    runner = SshRunner(
        (SshHost("lab/one", "127.0.0.1", port=1, connect_s=2.0),), tmp_path, tracks.parse(TOML, "toy.toml")
    )
    try:
        for ask in (runner.lease, runner.price, runner.hardware_class):
            with pytest.raises(InfraError, match="lab/one has not answered yet"):
                ask("lab/one/0")
    finally:
        runner.close()
