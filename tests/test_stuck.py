"""A campaign whose slots are gone says so, goes on by itself when they are back, and ends when it is told to."""

from contextlib import closing
from pathlib import Path

import pytest

from agent.loop import Loop
from agent.report import status
from agent.runners.fake import FakeRunner
from agent.states import FINAL
from agent.store import open_store
from tests.e2e import world


@pytest.mark.parametrize("back", [True, False])
def test_slots_that_are_gone_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, back: bool) -> None:
    monkeypatch.setattr("agent.steps.stuck.AFTER_S", 0.0)
    monkeypatch.setattr("agent.loop.TURN_S", 0.05)
    root = world.make_workspace(tmp_path / "work")
    world.write_ideas(root, [world.idea("rate 0.12", ('"rate": 0.10', '"rate": 0.12'))])
    runner = FakeRunner(1)
    setting = world.open_campaign(root, make_runner=lambda slots: runner)
    said: list[str] = []

    def show() -> None:
        """After its base has run the machine is gone; it comes back, or the person has waited long enough."""
        with setting.store.read() as reads:
            done = reads.count_runs(setting.campaign.id, {"done"})
            if done == 3 and not said:
                runner.slots = ()
            waits = status.status(reads, setting.campaign.id).waits
        if waits and not said:
            said.append(waits)
            if back:
                runner.slots = ("fake/0",)
            else:
                with setting.store.write() as tx:
                    tx.ask(setting.campaign.id, "drain")

    ending = Loop(setting, show).run()
    (words,) = said
    assert words.startswith("no slot of fake is there for p2") and "there are: none at all" in words
    assert ending.state == ("finished" if back else "stopped")
    with closing(open_store(root / "runs.db")) as store, store.read() as reads:
        now = status.status(reads, setting.campaign.id)
        (idea,) = [one for one in reads.proposals(setting.campaign.id) if one.baseline_id is not None]
    assert (idea.state in FINAL) is back  # a stopped campaign can be resumed, and goes on with it
    assert ("WAITS" in status.words(now)) is False  # it is over, or went on
