"""Whole campaigns with imagined runs: how many ideas are asked for, of whom, and what a person's answer does."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import review
from agent.loop import Loop
from agent.planner.scripted import Entry, Scripted
from agent.records import Proposal
from agent.setting import Setting
from agent.store import Tx
from tests.e2e import world

WITHIN_S = 30.0  # after which a campaign that does not get there is stopped


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return world.make_workspace(tmp_path / "work")


def worse(n: int, **more: object) -> dict[str, object]:
    """Ideas without a promotion: none of them meets another head."""
    return world.idea(f"worse {n}", ('"rate": 0.10', f'"rate": {n / 10000}'), **more)


def scripted(name: str, ideas: list[dict[str, object]]) -> Scripted:
    return Scripted(tuple(Entry.model_validate(one) for one in ideas), name=name)


def watched(setting: Setting, look: Callable[[Tx], bool]) -> str:
    """Runs the campaign until `look` says that it has seen enough; gives how it ended."""
    started = time.monotonic()

    def show() -> None:
        with setting.store.write() as tx:
            if look(tx) or time.monotonic() > started + WITHIN_S:
                tx.ask(setting.campaign.id, "drain")

    return Loop(setting, show).run().reason


def by_title(setting: Setting) -> dict[str, Proposal]:
    with setting.store.read() as reads:
        return {one.title: one for one in reads.proposals(setting.campaign.id)}


def test_eight_ideas_wait_for_a_person_and_then_planning_pauses(root: Path) -> None:
    """Whatever the number of slots; each answer makes room for another."""
    world.write_ideas(root, [worse(n) for n in range(1, 30)])
    setting = world.open_campaign(root, review="all")
    seen: list[int] = []

    def look(tx: Tx) -> bool:
        waiting = tx.proposals(setting.campaign.id, {"awaiting_review"})
        seen.append(len(waiting))
        if len(waiting) == 8 and seen.count(8) == 3:
            review.approve(tx, [one.id for one in waiting[:3]], "ann")
        return tx.count_proposals(setting.campaign.id, {"worse"}) == 3 and len(waiting) == 8

    assert watched(setting, look) == "stopped by a person"
    assert max(seen) == 8 and seen[-1] == 8
    with setting.store.read() as reads:
        assert reads.count_proposals(setting.campaign.id) == 1 + 8 + 3
