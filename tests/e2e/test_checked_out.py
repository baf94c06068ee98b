"""A person who has the campaign's branch checked out is waited for; whatever else there is goes on."""

from pathlib import Path

import pytest

from agent import budget
from agent.report.status import status
from agent.runners.fake import Imagined
from agent.steps import agenda
from agent.steps.wanted import seed_of
from agent.store import Tx
from tests.e2e import world
from tests.e2e.planning import by_title, watched, worse

FEW = 5  # turns that the person stays


class Person:
    """Is on the branch until `leaves` is true for a few turns."""

    def __init__(self, root: Path) -> None:
        self.root, self.turns = root, 0
        world.git(root, "checkout", "-q", "-f", "caddie/toy-1")

    def stays(self, leaves: bool) -> None:
        self.turns += leaves
        if self.turns == FEW:
            world.git(self.root, "switch", "-q", "--detach")


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agenda, "EVERY_S", 0.0)


def test_what_passed_waits_for_the_branch_and_the_next_is_replayed_on_it(root: Path) -> None:
    ideas = [
        world.idea("wider", ('"width": 4', '"width": 8')),
        world.idea("rate", ('"rate": 0.10', '"rate": 0.20')),
        worse(1),
    ]
    world.write_ideas(root, ideas)
    setting = world.open_campaign(root)
    person, waited = Person(root), list[str]()

    def look(tx: Tx) -> bool:
        states = {one.title: one.state for one in tx.proposals(setting.campaign.id)}
        passed = states.get("wider") == "auditing" and states.get("worse 1") == "worse"
        if passed and not waited:
            waited.extend(event.text for event in tx.events(setting.campaign.id) if event.what == "waiting")
        person.stays(passed)
        return False

    assert watched(setting, look) == "the planner has no more ideas"
    found = by_title(setting)
    assert found["wider"].state == "promoted" and found["rate"].baseline_id == found["wider"].id
    assert waited[0].startswith("p2 waits: caddie/toy-1 is checked out in ") and "git switch --detach" in waited[0]
    assert len(waited) == len(set(waited)) <= 2
    with setting.store.read() as reads:
        assert budget.audit(reads, setting.campaign.id) == []
        assert status(reads, setting.campaign.id) is not None


def test_a_head_is_reverted_when_the_branch_is_free(root: Path) -> None:
    def lucky(knobs: object, seed: int) -> Imagined:
        good = knobs["width"] == 8 and seed in seeds  # type: ignore[index]
        return Imagined(bpb=2.0 - 0.2 * good + (seed % 97) / 97 * 0.01, artifact_bytes=100)

    seeds = {seed_of(7, 1, n) for n in range(4)}
    world.write_ideas(root, [world.idea("lucky", ('"width": 4', '"width": 8'))])
    setting = world.open_campaign(root, world_of=lucky)
    persons: list[Person] = []

    def look(tx: Tx) -> bool:
        head = tx.head(setting.campaign.id)
        if head.title == "lucky" and not persons:
            persons.append(Person(root))
        if persons:
            persons[0].stays(tx.count_events(head.id, "contradicted") == 1)
        return False

    assert watched(setting, look) == "the planner has no more ideas"
    assert persons[0].turns >= FEW and by_title(setting)["lucky"].state == "reverted"
    subjects = world.git(root, "log", "--format=%s", "caddie/toy-1").splitlines()
    assert subjects == ["Revert: lucky", "lucky", "Start"]
