"""Several runners of which one rents: what becomes of the others, and of the campaign, when its money is gone."""

from pathlib import Path

import pytest

from agent.errors import BudgetExceeded
from agent.job.folder import JobState
from agent.loop import Loop
from agent.runners.fake import FakeRunner
from agent.runners.fleet import Fleet
from agent.runners.order import Order
from agent.states import FINAL
from tests.e2e import world
from tests.fleets import IDEAS


class Penniless(FakeRunner):
    """Rents, and has no money left once there is work."""

    rents = True
    broke = False

    def __init__(self, slots: int, name: str) -> None:
        super().__init__(slots, name=name)
        self._names = self.slots

    @property
    def slots(self) -> tuple[str, ...]:  # type: ignore[override]
        if self.broke:
            raise BudgetExceeded("the cap of 5.00 $ a day")
        return self._names

    @slots.setter
    def slots(self, names: tuple[str, ...]) -> None:
        self._names = names

    def poll(self, folder: Path) -> JobState:
        self.broke = True
        return super().poll(folder)


def test_where_one_has_no_money_left_the_others_go_on(tmp_path: Path) -> None:
    rented, lab = Penniless(1, "rented"), FakeRunner(1, name="lab")
    both = Fleet({"rented": rented, "lab": lab})
    assert both.slots == ("rented/0", "lab/0")
    rented.broke = True
    assert both.slots == ("lab/0",)
    with pytest.raises(BudgetExceeded, match="a day"):
        _ = Fleet({"rented": rented}).slots


def test_a_campaign_whose_machines_can_not_be_paid_any_more_is_over(tmp_path: Path) -> None:
    root = world.make_workspace(tmp_path / "work")
    world.write_ideas(root, IDEAS[:2])
    setting = world.open_campaign(root, slots=1, usd=5.0, make_runner=lambda slots: Penniless(1, "rented"))
    ending = Loop(setting).run()
    assert ending.state == "finished" and "no machine can be rented any more: the cap of 5.00 $" in ending.reason
    with setting.store.read() as reads:
        assert all(one.state in FINAL for one in reads.proposals(setting.campaign.id))
        assert reads.runs(setting.campaign.id, states={"queued", "running"}) == []


def test_no_money_for_machines_is_no_end_while_another_backend_has_a_run(tmp_path: Path) -> None:
    """The other one has no slot to offer for a moment: its link is broken."""

    class Away(FakeRunner):
        away = False

        def submit(self, order: Order, folder: Path, slot: str) -> None:
            super().submit(order, folder, slot)
            self.away = True

        @property
        def slots(self) -> tuple[str, ...]:  # type: ignore[override]
            return () if self.away else self._names

        @slots.setter
        def slots(self, names: tuple[str, ...]) -> None:
            self._names = names

    root = world.make_workspace(tmp_path / "work")
    world.write_ideas(root, IDEAS[:2])
    rented, lab = Penniless(1, "rented"), Away(1, 1.0, name="lab")
    rented.broke = True
    setting = world.open_campaign(
        root, slots=2, usd=5.0, make_runner=lambda slots: Fleet({"rented": rented, "lab": lab})
    )
    ending = Loop(setting).run()
    assert "no machine can be rented any more" in ending.reason
    with setting.store.read() as reads:
        runs = reads.runs(setting.campaign.id)
    assert runs and all((run.state, run.outcome) == ("done", "ok") for run in runs), "what ran came home first"
