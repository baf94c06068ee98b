"""Planners that fail, whose provider is down, that only a person can mend, or that have a fault of their own."""

import itertools
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from agent.errors import PlannerError, SpentError
from agent.job.folder import JobState
from agent.loop import Loop
from agent.planner import Request
from agent.records import Draft, Mode
from agent.runners.fake import FakeRunner
from agent.search import ALL_MODES
from agent.steps import plan
from agent.store import Tx
from tests.e2e import world
from tests.e2e.planning import by_title, scripted, watched, worse


@dataclass(frozen=True)
class Failing:
    """A planner that never has an answer."""

    name: str = "failing"
    modes: frozenset[Mode] = ALL_MODES
    parallel: int = 1

    def propose(self, request: Request) -> Draft | None:
        raise PlannerError("no credit")


def test_a_planner_that_fails_does_not_stop_the_one_beside_it(root: Path) -> None:
    world.write_ideas(root, [worse(1)])
    setting = world.open_campaign(root)
    setting = replace(setting, planners=(Failing(), scripted("other", [worse(n) for n in (1, 2, 3)])))
    watched(setting, lambda tx: tx.count_proposals(setting.campaign.id, {"worse"}) == 3)
    assert [one.state for one in by_title(setting).values()][1:] == ["worse"] * 3
    with setting.store.read() as reads:
        said = [event.text for event in reads.events(setting.campaign.id) if event.what == "planner"]
    assert said == ["failing: no credit; asking again in 30 s"]


@dataclass(frozen=True)
class Refused(Failing):
    """A planner that fails with the same error each time, and counts how often."""

    name: str = "refused"
    error: PlannerError = field(default_factory=lambda: PlannerError("no answer"))
    asked: list[float] = field(default_factory=list)

    def propose(self, request: Request) -> Draft | None:
        self.asked.append(time.monotonic())
        raise self.error


@pytest.mark.parametrize(("retry_after", "pauses"), [(None, (0.2, 0.4, 0.8)), (0.5, (0.5, 0.5, 0.8))])
def test_a_provider_that_is_down_is_left_alone_for_longer_each_time(
    root: Path, monkeypatch: pytest.MonkeyPatch, retry_after: float | None, pauses: tuple[float, ...]
) -> None:
    """And for as long as it says; what runs goes on, and the loop does not spin."""
    monkeypatch.setattr(plan, "PAUSE_S", 0.2)
    monkeypatch.setattr(plan, "MOST_PAUSE_S", 0.8)
    planner = Refused(error=PlannerError("overloaded", retry_after=retry_after))
    setting = replace(world.open_campaign(root, planner="knobs", seconds=0.5), planners=(planner,))
    looks: list[float] = []

    def look(tx: Tx) -> bool:
        looks.append(time.monotonic())
        return len(planner.asked) >= 5

    watched(setting, look)
    with setting.store.read() as reads:
        said = [event.text for event in reads.events(setting.campaign.id) if event.what == "planner"]
        assert reads.count_runs(setting.campaign.id, {"done"}) == 3  # the base's own
    gaps = [b - a for a, b in itertools.pairwise(planner.asked)]
    for gap, pause in zip(gaps, (*pauses, 0.8), strict=False):
        assert pause <= gap < pause + 1.5
    assert said[:2] == [f"refused: overloaded; asking again in {pause:.0f} s" for pause in pauses[:2]]
    assert len(looks) < 40 * (looks[-1] - looks[0]) + 40


@pytest.mark.parametrize(
    ("error", "state", "failed"),
    [
        (PlannerError("no such key: set ANTHROPIC_API_KEY", lasting=True), "stopped", True),
        (SpentError("the budget for language models does not cover another call"), "finished", False),
    ],
)
def test_what_only_a_person_can_mend_is_asked_once(root: Path, error: PlannerError, state: str, failed: bool) -> None:
    planner = Refused(error=error)
    setting = replace(world.open_campaign(root, planner="knobs"), planners=(planner,))
    ending = Loop(setting).run()
    assert (ending.state, ending.reason, ending.failed) == (state, f"refused: {error}", failed)
    assert len(planner.asked) == 1
    with setting.store.read() as reads:
        assert reads.count_runs(setting.campaign.id, {"done"}) == 3


@dataclass(frozen=True)
class Broken(Failing):
    """A planner with a fault of its own."""

    name: str = "broken"

    def propose(self, request: Request) -> Draft | None:
        return {}["no such key"]


def test_a_planner_with_a_fault_ends_nothing_that_runs_and_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "PAUSE_S", 0.05)
    world.write_ideas(root, [worse(1)])
    setting = world.open_campaign(root)
    setting = replace(setting, planners=(Broken(), scripted("other", [worse(n) for n in (1, 2, 3)])))
    ending = Loop(setting).run()
    assert (ending.state, ending.failed) == ("stopped", True)
    assert (
        "planner broken is broken: KeyError: 'no such key' (" in ending.reason and Path(__file__).name in ending.reason
    )
    assert [one.state for one in by_title(setting).values()][1:] == ["worse"] * 3
    with setting.store.read() as reads:
        assert sum(event.what == "planner" for event in reads.events(setting.campaign.id)) == plan.MOST_FAULTS


def test_a_fault_that_quotes_a_key_does_not_tell_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "PAUSE_S", 0.05)
    monkeypatch.setenv("SOME_API_KEY", "correct-horse-battery")

    class Telling(Failing):
        def propose(self, request: Request) -> Draft | None:
            raise ZeroDivisionError("authorization: correct-horse-battery")

    setting = replace(world.open_campaign(root, planner="knobs"), planners=(Telling(),))
    ending = Loop(setting).run()
    assert "ZeroDivisionError: authorization: [redacted]" in ending.reason
    setting.store.close()
    assert not any(b"horse" in path.read_bytes() for path in root.glob("runs.db*"))


class Rented(FakeRunner):
    """Can't be asked how its jobs fare."""

    closed = False

    def poll(self, folder: Path) -> JobState:
        raise RuntimeError("a fault of ours")

    def close(self) -> None:
        self.closed = True


def test_what_costs_money_is_given_back_whatever_ends_the_loop(root: Path) -> None:
    world.write_ideas(root, [worse(1)])
    runner = Rented(1)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        Loop(world.open_campaign(root, make_runner=lambda slots: runner)).run()
    assert runner.closed
