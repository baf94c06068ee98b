"""Findings in campaigns with imagined runs: who can't write them ends nothing, and is asked no more."""

import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from agent import loop
from agent.clock import REAL
from agent.errors import PlannerError
from agent.loop import Loop
from agent.planner.scripted import Scripted
from agent.records import Proposal, Taught
from agent.steps import learn
from agent.steps.learn import Learning
from agent.store import lessons, talks
from benchmarks.simulated import SimulatedClock
from tests.e2e import world

IDEAS = [
    world.idea("worse", ('"width": 4', '"width": 2')),
    world.idea("broken", ('"crash": 0', '"crash": 1')),
    world.idea("wider", ('"width": 4', '"width": 8')),
]


@dataclass(frozen=True)
class Teaching(Scripted):
    """A file's ideas, and a say on each verdict."""

    name: str = "scripted"
    learns: bool = True
    says: Taught | Exception | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)

    def learn(self, proposal: Proposal) -> Taught | None:
        self.asked.append((proposal.title, proposal.state))
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


def test_a_failure_for_the_moment_is_a_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice as long after each further one; after four in a row it is not asked again."""
    monkeypatch.setattr(learn, "PAUSE_S", 0.1)
    root = world.make_workspace(tmp_path / "work")
    many = [world.idea(f"rate {n}", ('"rate": 0.10', f'"rate": {n / 1000}')) for n in range(1, 12)]
    world.write_ideas(root, many)
    setting = world.open_campaign(root, seconds=0.3)
    teacher = Teaching(Scripted.load(root / ".ideas.jsonl").entries, says=PlannerError("overloaded"))
    Loop(replace(setting, planners=(teacher,))).run()
    with setting.store.read() as reads:
        said = [event.text for event in reads.events(1, limit=10_000) if event.what == "planner"]
    assert 3 <= len(teacher.asked) <= 5
    assert said == ["scripted writes no more findings: PlannerError: overloaded"]


@pytest.mark.parametrize("error", [PlannerError("no credit", lasting=True), KeyError("a fault of its own")])
def test_who_fails_at_a_finding_is_asked_for_no_more(tmp_path: Path, error: Exception) -> None:
    root = world.make_workspace(tmp_path / "work")
    world.write_ideas(root, IDEAS)
    setting = world.open_campaign(root)
    teacher = Teaching(Scripted.load(root / ".ideas.jsonl").entries, says=error)
    ending = Loop(replace(setting, planners=(teacher,))).run()
    assert ending.reason == "the planner has no more ideas" and not ending.failed
    with setting.store.read() as reads:
        said = [event.text for event in reads.events(1, limit=10_000) if event.what == "planner"]
        assert [one.state for one in reads.proposals(1)[1:]] == ["worse", "crashed", "promoted"]
    assert len(teacher.asked) <= 2  # as many as are asked at once
    assert said[0] == f"scripted writes no more findings: {type(error).__name__}: {error}"


def test_a_finding_that_never_comes_ends_no_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for, but not for as long as a model may take."""
    monkeypatch.setattr(loop, "LESSONS_S", 1.0)
    root = world.make_workspace(tmp_path / "work")
    world.write_ideas(root, IDEAS[:1])
    setting = world.open_campaign(root)
    never = threading.Event()

    class Silent(Teaching):
        def learn(self, proposal: Proposal) -> Taught | None:
            never.wait(60.0)
            return None

    teacher = Silent(Scripted.load(root / ".ideas.jsonl").entries)
    started = time.monotonic()
    assert Loop(replace(setting, planners=(teacher,))).run().reason == "the planner has no more ideas"
    assert time.monotonic() - started < 40.0
    never.set()


class Late(Taught):
    """By a simulated clock, which waits for nothing."""

    think_s = 60.0


@pytest.mark.parametrize("patience_s", [30.0, 120.0])
def test_how_long_a_finding_is_waited_for_is_said_by_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience_s: float
) -> None:
    monkeypatch.setattr(loop, "LESSONS_S", patience_s)
    root = world.make_workspace(tmp_path / "work")
    world.write_ideas(root, IDEAS[:1])
    setting, clock = world.open_campaign(root), SimulatedClock()

    class Slow(Teaching):
        def learn(self, proposal: Proposal) -> Taught | None:
            with setting.store.write() as tx:
                talk = talks.add_conversation(tx, 1, "lesson", self.name, proposal.state, proposal.id)
            return Late("It is so.", 0.9, (), talk)

    teacher = Slow(Scripted.load(root / ".ideas.jsonl").entries)
    assert Loop(replace(setting, planners=(teacher,)), clock=clock).run().reason == "the planner has no more ideas"
    with setting.store.read() as reads:
        assert bool(lessons.lessons(reads, 1)) == (patience_s > Late.think_s)
    assert clock.now() == pytest.approx(min(patience_s, Late.think_s), abs=20.0)


def test_who_fails_at_two_findings_at_once_takes_nobody_along(tmp_path: Path) -> None:
    root = world.make_workspace(tmp_path / "work")
    world.write_ideas(root, IDEAS)
    setting = world.open_campaign(root)
    entries = Scripted.load(root / ".ideas.jsonl").entries
    first, second = Teaching(entries, says=PlannerError("no answer", lasting=True)), Teaching(entries, name="other")
    learning = Learning(replace(setting, planners=(first, second)), REAL)
    Loop(setting).run()
    learning.ask()
    while learning.busy():
        learning.collect()
    learning.ask()
    while learning.busy():
        learning.collect()
    assert len(first.asked) == 2 and second.asked


def test_each_idea_that_was_judged_is_asked_about_once(tmp_path: Path) -> None:
    """What no run says anything of teaches nothing; a finding without runs would be an opinion."""
    root = world.make_workspace(tmp_path / "work")
    again = [*IDEAS, world.idea("wider again", ('"width": 4', '"width": 8'))]
    world.write_ideas(root, again)
    setting = world.open_campaign(root)
    with setting.store.write() as tx:
        talk = talks.add_conversation(tx, 1, "lesson", "scripted")
    teacher = Teaching(Scripted.load(root / ".ideas.jsonl").entries, says=Taught("It is so.", 0.9, (), talk))

    def remember() -> None:
        """As a planner that asks a model would: the conversation stands in the store before its answer."""
        with setting.store.write() as tx:
            for proposal in tx.proposals(1):
                known = {(one.what, one.mode) for one in talks.conversations_of(tx, proposal.id)}
                if (proposal.title, proposal.state) in teacher.asked and ("lesson", proposal.state) not in known:
                    talks.add_conversation(tx, 1, "lesson", "scripted", proposal.state, proposal.id)

    Loop(replace(setting, planners=(teacher,)), remember).run()
    with setting.store.read() as reads:
        learnt = lessons.lessons(reads, 1)
        titles = {one.id: one.title for one in reads.proposals(1)}
    assert {title for title, _ in teacher.asked} == {"worse", "broken", "wider"}
    assert {titles[one.proposal_id] for one in learnt} == {"worse", "broken", "wider"}
    sure = {titles[one.proposal_id]: one.confidence for one in learnt}
    assert sure["broken"] == 0.5 and sure["wider"] == 0.9
