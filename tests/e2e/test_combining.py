"""Two ideas that each were too little are put together: merged where that goes, else by a planner, each pair once."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from agent.loop import Loop
from agent.planner import Request
from agent.planner.scripted import Scripted
from agent.records import Draft, Mode
from agent.runners.fake import Imagined
from agent.search import pairs_in
from tests.e2e import world
from tests.e2e.planning import by_title, scripted, worse


def small(title: str, old: str, new: str) -> dict[str, object]:
    return world.idea(title, (old, new), kind="optimiser", expected_gain=0.01)


def world_of(knobs: Mapping[str, Any], seed: int) -> Imagined:
    """Two settings that each gain two noises of one run: too little alone, enough together."""
    noise = random.Random(f"{seed}/{sorted(knobs.items())}").gauss(0.0, 0.004)
    gain = 0.016 * (knobs["rate"] == 0.11) + 0.016 * (knobs["bits"] == 7) + 0.015 * (knobs["rate"] == 0.12)
    return Imagined(2.0 - gain + 0.1 * (knobs["rate"] < 0.1) + noise, 500)


@dataclass(frozen=True)
class Combining:
    """Ideas of a file, by a planner that can be asked to combine."""

    ideas: Scripted
    name: str = "file"
    modes: frozenset[Mode] = frozenset({"exploit", "combine"})
    parallel: int = 1
    asked: list[Request] = field(default_factory=list)

    def propose(self, request: Request) -> Draft | None:
        self.asked.append(request)
        return self.ideas.propose(request)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    # With two runs an idea at most, such gains can't be told from luck one by one.
    root = world.make_workspace(tmp_path / "work", track=world.TRACK.replace("max_seeds = 4", "max_seeds = 2"))
    world.write_ideas(root, [worse(1)])
    return root


def test_two_near_misses_that_merge_become_an_idea_of_their_own(root: Path) -> None:
    setting = world.open_campaign(root, world_of=world_of)
    near = [small("rate", '"rate": 0.10', '"rate": 0.11'), small("bits", '"bits": 8', '"bits": 7')]
    planner = Combining(scripted("file", near + [worse(n) for n in range(1, 20)]))
    Loop(replace(setting, planners=(planner,))).run()
    found = by_title(setting)
    both = [one for one in found.values() if one.planner == "merge"]
    assert {found["rate"].state, found["bits"].state} <= {"inconclusive", "worse"}
    assert [one.title for one in both] in (["rate + bits"], ["bits + rate"])
    assert both[0].state == "promoted" and '"rate": 0.11' in both[0].diff and '"bits": 7' in both[0].diff
    assert pairs_in(both[0].evidence) == {frozenset({found["rate"].id, found["bits"].id})}
    assert not any(request.partner is not None for request in planner.asked)
    # No entry of the file was passed over for it.
    titles = [one.title for one in found.values() if one.planner == "file"]
    assert titles == ["rate", "bits", *(f"worse {n}" for n in range(1, len(titles) - 1))]


def test_a_pair_that_conflicts_is_asked_of_the_planner_once(root: Path) -> None:
    setting = world.open_campaign(root, world_of=world_of)
    near = [small("one", '"rate": 0.10', '"rate": 0.11'), small("other", '"rate": 0.10', '"rate": 0.12')]
    planner = Combining(scripted("file", near + [worse(n) for n in range(1, 30)]))
    Loop(replace(setting, planners=(planner,))).run()
    found = by_title(setting)
    asked = [request for request in planner.asked if request.partner is not None]
    assert len(asked) == 1 and asked[0].mode == "combine" and asked[0].partner is not None
    assert {asked[0].source.title, asked[0].partner.title} == {"one", "other"}
    assert not any(one.planner == "merge" for one in found.values())
    pair = frozenset({found["one"].id, found["other"].id})
    assert [pairs_in(one.evidence) for one in found.values() if pairs_in(one.evidence)] == [{pair}]


def test_a_file_of_ideas_is_not_added_to(root: Path) -> None:
    setting = world.open_campaign(root, world_of=world_of)
    near = [small("rate", '"rate": 0.10', '"rate": 0.11'), small("bits", '"bits": 8', '"bits": 7')]
    setting = replace(setting, planners=(scripted("file", near + [worse(n) for n in range(1, 20)]),))
    Loop(setting).run()
    assert len(by_title(setting)) == 1 + 21
