"""What a controller remembers from turn to turn is what the store would say."""

import contextlib
from pathlib import Path

import pytest

from agent.clock import RealClock
from agent.loop import Loop
from agent.steps import wanted
from agent.steps.agenda import EVERY_S, Agenda
from agent.store import open_store
from tests.e2e import world
from tests.e2e.planning import worse


def test_at_every_turn_it_wants_what_the_store_wants(tmp_path: Path) -> None:
    root = world.make_workspace(tmp_path / "work")
    good = [world.idea(f"wider {n}", ('"width": 4', f'"width": {n}')) for n in (6, 8)]
    world.write_ideas(root, [worse(1), good[0], worse(2), worse(3), good[1], worse(4)])
    setting = world.open_campaign(root, slots=2)
    seen = 0

    def show() -> None:
        nonlocal seen
        mine = loop._agenda.wanted()
        with setting.store.read() as reads:
            theirs = wanted.wanted(setting, reads)
        assert mine == theirs
        seen += bool(theirs)

    loop = Loop(setting, show)
    loop.run()
    with setting.store.read() as reads:
        assert len(reads.lineage(reads.head(setting.campaign.id).id)) > 1  # the head moved meanwhile
    assert seen


def test_what_another_process_wrote_is_seen(tmp_path: Path) -> None:
    """Approved by a person in another terminal, while the campaign has nothing else to do."""
    root = world.make_workspace(tmp_path / "work")
    world.write_ideas(root, [worse(1)])
    setting = world.open_campaign(root, review="all")
    approved = False

    def show() -> None:
        nonlocal approved
        with setting.store.read() as reads:
            waiting = reads.proposals(setting.campaign.id, {"awaiting_review"})
            done = reads.count_runs(setting.campaign.id, {"done"})
        if waiting and done >= 3 and not approved:
            with setting.store.write() as tx:
                tx.move(waiting[0].id, "approved", "by a person")
            approved = True

    Loop(setting, show).run()
    with setting.store.read() as reads:
        assert reads.proposals(setting.campaign.id)[1].state in ("worse", "inconclusive")


class Later(RealClock):
    seconds = 0.0

    def now(self) -> float:
        return self.seconds


def begin(agenda: Agenda) -> None:
    agenda.hear()
    agenda.turn()


@pytest.mark.parametrize("reviews", [False, True])
def test_what_another_process_wrote_in_the_middle_of_a_turn_is_seen_at_the_next(tmp_path: Path, reviews: bool) -> None:
    """Events of its own that come after it hide nothing."""
    root = world.make_workspace(tmp_path / "work")
    world.write_ideas(root, [worse(1)])
    setting = world.open_campaign(root)
    clock = Later()
    agenda = Agenda(setting, clock)
    begin(agenda)
    agenda.wanted()
    agenda.turned(1)
    begin(agenda)
    assert not agenda.whole
    if reviews:
        with contextlib.closing(open_store(root / "runs.db", create=False)) as other, other.write() as tx:
            tx.add_event(setting.campaign.id, "approved", "by a person")
    with setting.store.write() as tx:
        tx.add_event(setting.campaign.id, "done", "its own")
    agenda.turned(1)
    clock.seconds += EVERY_S / 2  # not yet time to look at everything whatever happened
    begin(agenda)
    assert agenda.whole == reviews
