"""A campaign that waits for the ideas of clients, alone or beside planners that are asked."""

from pathlib import Path

import pytest

from agent.planner import clients
from agent.planner.idea import Idea
from agent.planner.making import make
from agent.records import Proposal
from agent.report import status as standing
from agent.setting import Setting
from agent.store import Tx
from agent.track import load
from tests.e2e import world
from tests.e2e.planning import watched

BETTER = world.idea("wider", ('"width": 4', '"width": 6'))


def hand_in(tx: Tx, setting: Setting, idea: dict[str, object]) -> Proposal:
    head = tx.head(setting.campaign.id)
    draft = Idea.model_validate(idea).draft(planner="mcp:test", mode="exploit", source_id=head.id)
    return tx.add_proposal(setting.campaign.id, draft, baseline_id=head.id)


def test_a_campaign_waits_for_ideas_and_runs_them_when_they_come(root: Path) -> None:
    setting = world.open_campaign(root, planner="mcp", slots=2)
    states: list[str] = []
    words: list[str] = []

    def look(tx: Tx) -> bool:
        mine = [one for one in tx.proposals(setting.campaign.id) if one.planner == "mcp:test"]
        states.extend(one.state for one in mine)
        now = standing.status(tx, setting.campaign.id)
        told = [event.text for event in tx.newest_events(setting.campaign.id, 1000) if event.what == "planner"]
        if not now.running and not mine and told:  # the base's own runs are over
            words[:] = [standing.words(now), *told]
            hand_in(tx, setting, BETTER)
        return "promoted" in states

    assert watched(setting, look) == "stopped by a person" and states[-1] == "promoted"
    assert words == [words[0], f"waits for ideas of clients; {clients.HOW}"]
    assert f"ideas    {standing.WAITS}" in words[0] and "agent connect claude" in standing.WAITS


def test_it_ends_when_its_budget_does(root: Path) -> None:
    """And not for want of ideas: there may be another one tomorrow."""
    setting = world.open_campaign(root, planner="mcp", budget_hours=0.08)
    given: list[int] = []

    def look(tx: Tx) -> bool:
        if not tx.proposals(setting.campaign.id, {"drafted", "approved", "queued", "running", "confirming"}):
            n = len(given)
            given.append(n)
            hand_in(tx, setting, world.idea(f"rate {n}", ('"rate": 0.10', f'"rate": {(n + 1) / 10000}')))
        return False

    assert watched(setting, look) == "what is left of the budget could not confirm another idea" and len(given) > 1


def test_beside_another_planner_it_waits_when_that_one_has_no_more(root: Path) -> None:
    world.write_ideas(root, [BETTER])
    setting = world.open_campaign(root, planner="mcp, scripted:.ideas.jsonl")
    told: list[str] = []

    def look(tx: Tx) -> bool:
        told[:] = [event.text for event in tx.newest_events(setting.campaign.id, 1000) if event.what == "planner"]
        return bool(told) and tx.count_proposals(setting.campaign.id, {"promoted"}) == 2

    assert watched(setting, look) == "stopped by a person"
    assert told == [f"waits for ideas of clients; {clients.HOW}"]


def test_it_is_never_asked() -> None:
    track = load("tiny", Path.cwd())[0]
    (planner,) = make("mcp", track, Path.cwd())
    assert (planner.name, planner.parallel) == ("mcp", 0)
    with pytest.raises(AssertionError):
        planner.propose(None)  # type: ignore[arg-type]
