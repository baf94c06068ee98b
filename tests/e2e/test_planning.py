"""Whole campaigns with imagined runs: how many ideas are asked for, of whom, and what a person's answer does."""

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from agent import budget, review
from agent.errors import PlannerError, SpentError
from agent.loop import Loop
from agent.planner import Request
from agent.planner.idea import Idea
from agent.planner.scripted import Scripted
from agent.records import FINAL, Draft, Mode, Proposal
from agent.runners.fake import FakeRunner, Imagined, imagine
from agent.runners.job import JobPaths, JobState
from agent.search import ALL_MODES
from agent.setting import Setting
from agent.steps import plan
from agent.store import Tx
from tests.e2e import world

REPOSITORY = Path(__file__).parents[2]
WITHIN_S = 30.0  # after which a campaign that does not get there is stopped


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return world.make_workspace(tmp_path / "work")


def worse(n: int) -> dict[str, object]:
    """An idea that a careful policy asks about: the knob may not have this value."""
    return world.idea(f"worse {n}", ('"rate": 0.10', f'"rate": {n / 10000}'))


# Changes of declared knobs alone, none of them better.
HARMLESS = [
    world.idea(
        f"knobs {n}",
        ('"width": 4', f'"width": {width}'),
        ('"rate": 0.10', f'"rate": {rate}'),
        ('"bits": 8', f'"bits": {bits}'),
    )
    for n, (width, rate, bits) in enumerate(itertools.product((2, 4), (0.02, 0.05), (4, 6, 8)))
]


def scripted(name: str, ideas: list[dict[str, object]]) -> Scripted:
    return Scripted(tuple(Idea.model_validate(one) for one in ideas), name=name)


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


def test_ideas_that_wait_for_a_person_leave_no_slot_idle(root: Path) -> None:
    world.write_ideas(root, [worse(1)])
    setting = world.open_campaign(root, slots=2, seconds=0.2, review="risky")
    risky = scripted("risky", [worse(n) for n in (1, 2)])
    setting = replace(setting, planners=(risky, scripted("harmless", HARMLESS)))
    running: list[int] = []

    def look(tx: Tx) -> bool:
        if tx.count_proposals(setting.campaign.id, {"awaiting_review"}) == 2:
            running.append(tx.count_runs(setting.campaign.id, {"queued", "running"}))
        return tx.count_proposals(setting.campaign.id, {"worse"}) >= 6

    watched(setting, look)
    found = by_title(setting)
    assert [found[f"worse {n}"].state for n in (1, 2)] == ["awaiting_review"] * 2
    assert sum(one.planner == "harmless" and one.state == "worse" for one in found.values()) >= 6
    assert running.count(2) > 0.5 * len(running), running


def test_planners_take_turns_and_the_campaign_goes_on_until_none_has_an_idea(root: Path) -> None:
    world.write_ideas(root, [worse(1)])
    setting = world.open_campaign(root)
    planners = scripted("short", [worse(1), worse(2)]), scripted("long", [worse(n) for n in range(3, 8)])
    setting = replace(setting, planners=planners)
    assert Loop(setting).run().reason == "the planner has no more ideas"
    who = [one.planner for one in by_title(setting).values()][1:]
    assert who == ["short", "long", "short", "long", "long", "long", "long"]


def test_a_file_that_is_used_up_does_not_end_the_planner_beside_it(root: Path) -> None:
    world.write_ideas(root, [worse(1)])
    setting = world.open_campaign(root, planner="scripted:.ideas.jsonl,knobs", budget_hours=0.15)
    assert Loop(setting).run().reason == "what is left of the budget could not confirm another idea"
    who = [one.planner for one in by_title(setting).values()][1:]
    assert who.count("scripted") == 1 and who.count("knobs") >= 3


@dataclass(frozen=True)
class Thinking:
    """A planner whose only idea takes long, as a language model's may."""

    seconds: float
    parallel: int = 2
    name: str = "thinking"
    modes: frozenset[Mode] = ALL_MODES
    asked: threading.Event = field(default_factory=threading.Event)

    def propose(self, request: Request) -> Draft | None:
        self.asked.set()
        time.sleep(self.seconds)
        return scripted(self.name, [worse(99)]).propose(request)


def test_a_quick_planner_waits_for_no_slow_one(root: Path) -> None:
    world.write_ideas(root, [worse(1)])
    setting = world.open_campaign(root, slots=3)
    setting = replace(setting, planners=(Thinking(600.0), scripted("quick", [worse(n) for n in (1, 2, 3)])))
    watched(setting, lambda tx: tx.count_proposals(setting.campaign.id, {"worse"}) == 3)
    assert [one.state for one in by_title(setting).values()][1:] == ["worse"] * 3


def test_what_a_planner_says_while_the_last_runs_end_is_not_lost(root: Path) -> None:
    world.write_ideas(root, [worse(1)])
    setting = world.open_campaign(root, seconds=1.5)
    thinking = Thinking(0.3)
    setting = replace(setting, planners=(thinking,))
    assert watched(setting, lambda tx: thinking.asked.is_set()) == "stopped by a person"
    assert [one.state for one in by_title(setting).values()][1:] == ["drafted"]
    assert Loop(world.resume_campaign(root)).run().reason == "the planner has no more ideas"
    assert by_title(setting)["worse 99"].state == "worse"


class Unequal(FakeRunner):
    """The base's three runs are over at once, all others take long."""

    def poll(self, folder: Path) -> JobState:
        path = JobPaths(folder).result
        long = folder.name not in ("r1", "r2", "r3") and time.time() < path.stat().st_mtime + 2.0
        return "running" if long else super().poll(folder)


def test_what_a_planner_says_after_the_target_was_reached_is_not_lost(root: Path) -> None:
    world.write_ideas(root, [worse(1)])
    setting = world.open_campaign(root, slots=4, target_bpb=9.0, make_runner=Unequal)
    setting = replace(setting, planners=(Thinking(0.5), scripted("quick", [worse(1)])))
    assert Loop(setting).run().reason.startswith("target reached")
    assert by_title(setting)["worse 99"].state == "cancelled"


INTERRUPTED = """
import os, signal, sys, time
from dataclasses import replace
from pathlib import Path
from agent.loop import Loop
from tests.e2e import test_planning, world

class Interrupting(test_planning.Thinking):
    def propose(self, request):
        if not self.asked.is_set():
            self.asked.set()
            print(time.monotonic(), flush=True)
            os.kill(os.getpid(), signal.SIGINT)
        return super().propose(request)

setting = world.open_campaign(Path(sys.argv[1]))
print(Loop(replace(setting, planners=(Interrupting(600.0, int(sys.argv[2])),))).run().reason)
"""


@pytest.mark.parametrize("parallel", [1, 4])
def test_an_interrupt_does_not_wait_for_a_planner(root: Path, parallel: int) -> None:
    """Neither the loop nor the exit of its process does."""
    world.write_ideas(root, [worse(1)])
    command = [sys.executable, "-c", INTERRUPTED, str(root), str(parallel)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    interrupted, reason = done.stdout.splitlines()
    assert reason == "stopped by a person" and done.stderr == ""
    assert time.monotonic() - float(interrupted) < 10.0
    setting = world.resume_campaign(root)
    assert Loop(setting).run().reason == "the planner has no more ideas"
    assert by_title(setting)["worse 1"].state == "worse"
    with setting.store.read() as reads:
        assert budget.audit(reads, setting.campaign.id) == []
        assert budget.open_entries(reads, setting.campaign.id) == []
        assert {run.state for run in reads.runs(setting.campaign.id)} == {"done"}


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
        "planner broken is broken: KeyError: 'no such key' (" in ending.reason and "test_planning.py" in ending.reason
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


def test_what_a_person_edited_is_approved_and_checked(root: Path) -> None:
    world.write_ideas(root, [worse(1), worse(2)])
    setting = world.open_campaign(root, review="all")
    paths = setting.track.script.editable

    def look(tx: Tx) -> bool:
        waiting = tx.proposals(setting.campaign.id, {"awaiting_review"})
        if len(waiting) == 2:
            for idea, value in zip(waiting, ("0.05", "0.05 +"), strict=True):
                edited = idea.diff.replace(f"0.000{idea.title[-1]}", value)
                files = setting.repo.files(setting.campaign.base_commit, paths)
                review.edit(tx, idea.id, "ann", edited, files, setting.track)
        return not waiting and tx.count_proposals(setting.campaign.id, {"worse", "blocked"}) == 2

    watched(setting, look)
    found = by_title(setting)
    lower, broken = found["rate 0.1 -> 0.05"], found["worse 2 (edited)"]
    assert (lower.state, broken.state) == ("worse", "blocked")
    assert lower.reviewed_by == "ann" and '"rate": 0.05,' in lower.diff
    message = world.git(root, "log", "-1", "--format=%B", lower.commit or "")
    assert message.startswith("rate 0.1 -> 0.05\n") and "The original's (p2): worse 1 helps" in message
    with setting.store.read() as reads:
        waited = [event.proposal_id for event in reads.events(setting.campaign.id) if event.what == "awaiting_review"]
    assert waited == [2, 3]  # the planner's own versions


@pytest.mark.parametrize("policy", ["all", "risky"])
def test_an_approval_follows_an_idea_to_a_new_head_while_its_hunks_stay(root: Path, policy: str) -> None:
    """Next to the line that the new head has changed, what was approved is not what would run."""
    near, far = ('"rate": 0.10', '"rate": 0.05'), ("print(KNOBS)", "print(dict(KNOBS))")
    world.write_ideas(
        root,
        [
            world.idea("wider", ('"width": 4', '"width": 8'), kind="optimiser"),
            world.idea("near", near, kind="optimiser"),
            world.idea("far", far, kind="optimiser"),
        ],
    )
    setting = world.open_campaign(root, review=policy)

    def look(tx: Tx) -> bool:
        waiting = tx.proposals(setting.campaign.id, {"awaiting_review"})
        if len(waiting) == 3:
            review.approve(tx, [one.id for one in waiting], "ann")
        return [one.title for one in waiting] == ["near"] and tx.proposal(4).state in FINAL

    watched(setting, look)
    found = by_title(setting)
    assert found["wider"].state == "promoted" and found["wider"].reviewed_by == "ann"
    assert found["near"].baseline_id == found["far"].baseline_id == found["wider"].id
    assert found["far"].reviewed_by == "ann" and found["far"].state in FINAL
    assert (found["near"].state, found["near"].reviewed_by) == ("awaiting_review", "")
    assert found["near"].reason == "changed by the new head p2"
    with setting.store.read() as reads:
        assert reads.runs(setting.campaign.id, proposal_id=found["far"].id)
        assert not reads.runs(setting.campaign.id, proposal_id=found["near"].id)


def test_what_a_new_head_changed_and_a_policy_approves_is_not_said_to_be_a_persons(root: Path) -> None:
    """Here what she made of it was harmless before and is harmless after, but she has not seen the latter."""
    bits = '"bits": 8'
    wider = world.idea("wider", ('"width": 4', '"width": 8'), kind="optimiser")
    world.write_ideas(root, [wider, world.idea("bits", (bits, '"bits": 7'))])
    setting = world.open_campaign(root, review="risky")
    paths = setting.track.script.editable

    def look(tx: Tx) -> bool:
        waiting = tx.proposals(setting.campaign.id, {"awaiting_review"})
        if [one.title for one in waiting] == ["wider", "bits"]:
            files = setting.repo.files(setting.campaign.base_commit, paths)
            review.approve(tx, [waiting[0].id], "ann")
            edited = waiting[1].diff.replace('"bits": 7', '"bits": 6')
            new = review.edit(tx, waiting[1].id, "ann", edited, files, setting.track)
            assert new.reviewed_by == "ann"
        return False

    assert watched(setting, look) == "the planner has no more ideas"
    found = by_title(setting)
    assert (found["wider"].state, found["wider"].reviewed_by) == ("promoted", "ann")
    fewer = found["bits 8 -> 6"]
    assert fewer.baseline_id == found["wider"].id and '"bits": 6' in fewer.diff
    assert fewer.reviewed_by == "policy:risky" and fewer.state in FINAL


@pytest.mark.parametrize("policy", ["all", "risky"])
def test_an_approval_does_not_outlive_a_replay_that_changes_the_hunks(root: Path, policy: str) -> None:
    """Measured beside the idea that became the head, it is put on that head; its line now has another neighbour."""

    def world_of(knobs: Mapping[str, Any], seed: int) -> Imagined:
        found = imagine(knobs, seed)
        return replace(found, bpb=found.bpb - 0.15 * (knobs["rate"] == 0.21) - 0.1 * (knobs["width"] == 8))

    ideas = [("wider", ('"width": 4', '"width": 8')), ("rate", ('"rate": 0.10', '"rate": 0.21'))]
    world.write_ideas(root, [world.idea(title, change, kind="optimiser") for title, change in ideas])
    setting = world.open_campaign(root, slots=3, seconds=0.4, world_of=world_of, review=policy)
    asked_again: list[tuple[str, str, list[budget.Entry]]] = []

    def look(tx: Tx) -> bool:
        waiting = tx.proposals(setting.campaign.id, {"awaiting_review"})
        if len(waiting) == 2:
            review.approve(tx, [one.id for one in waiting], "ann")
        elif waiting and "replay" in waiting[0].reason:
            asked_again.append((waiting[0].reason, waiting[0].reviewed_by, budget.holds(tx, waiting[0].id)))
            review.approve(tx, [waiting[0].id], "bob")
        return tx.count_proposals(setting.campaign.id, {"promoted"}) == 3

    watched(setting, look)
    found = by_title(setting)
    assert found["wider"].state == found["rate"].state == "promoted"
    late = max(found["wider"], found["rate"], key=lambda one: one.baseline_id or 0)
    early = found["wider"] if late.title == "rate" else found["rate"]
    assert late.baseline_id == early.id
    assert asked_again == [(f"changed by the replay on p{early.id}", "", [])]
    assert (early.reviewed_by, late.reviewed_by) == ("ann", "bob")
    with setting.store.read() as reads:
        assert budget.audit(reads, setting.campaign.id) == [] == budget.open_entries(reads, setting.campaign.id)


def test_a_campaign_goes_on_until_its_space_is_used_up(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tried twice, although the planner is told of the newest ideas alone."""
    monkeypatch.setattr(plan, "REMEMBERED", 8)
    track = (root / "agent.toml").read_text().replace("artifact_bytes = 1250\n", "")
    track = track.replace("[2, 4, 6, 8, 10, 12]", "[2, 3, 4]").replace("0.20, 0.40]", "0.20]")
    (root / "agent.toml").write_text(track)
    setting = world.open_campaign(root, planner="knobs", budget_hours=20.0)
    ending = Loop(setting).run()
    assert ending.reason == "the planner has no more ideas"
    with setting.store.read() as reads:
        proposals = reads.proposals(setting.campaign.id)
    assert "duplicate" not in {one.state for one in proposals}
    assert len(proposals) == len({one.config_hash for one in proposals}) == 3 * 4 * 3


def test_the_size_of_an_idea_whose_author_did_not_say_is_estimated(tmp_path: Path) -> None:
    """From the base's, so the guard and a reviewer know before anything runs."""
    shape = '"vocab_size": 1024,\n    "model_dim": 64,\n    "num_layers": 3,'
    script = world.SCRIPT.replace('"width": 4,', shape)
    track = world.TRACK.replace('"width"', '"model_dim"').replace("KNOBS.width", "KNOBS.model_dim")
    root = world.make_workspace(tmp_path / "work", script=script, track=track.replace("1250", "3000"))
    changes = {
        "first": ("0.10", "0.05"),
        "wide": (": 64", ": 128"),
        "huge": (": 64", ": 640"),
        "told": (": 64", ": 96"),
    }
    ideas = [world.idea(title, change, script=script) for title, change in changes.items()]
    world.write_ideas(root, [*ideas[:-1], {**ideas[-1], "expected_bytes": 1234}])
    setting = world.open_campaign(root, world_of=lambda knobs, seed: Imagined(2.0 + seed % 7 / 100, 1800))
    Loop(setting).run()
    with setting.store.read() as reads:
        found = {one.title: one for one in reads.proposals(setting.campaign.id)}
    wide, huge = found["wide"], found["huge"]
    assert wide.sized_bytes is not None and 3000 < wide.sized_bytes < 7500
    assert (wide.expected_bytes, huge.expected_bytes) == (None, None)  # its planner did not say so
    assert any("is over the limit of 3,000 bytes" in risk for risk in wide.risk)
    assert huge.state == "blocked" and "more than 2.5 times the limit" in huge.reason
    assert (found["told"].expected_bytes, found["told"].sized_bytes) == (1234, None)
    assert not any("limit" in risk for risk in found["told"].risk)


def test_an_idea_that_no_longer_parses_on_a_new_head_says_so(tmp_path: Path) -> None:
    """Each of the two is a script; together they are none, and no line of theirs is the same."""
    script = world.SCRIPT + "\nONE = 1\nTWO = 2\nTHREE = 3\nFOUR = 4\nFIVE = 5\n"
    quoted = (("\nONE = 1\n", "\n'''\nONE = 1\n"), ("FIVE = 5\n", "FIVE = 5\n'''\n"))
    root = world.make_workspace(tmp_path / "work", script=script)
    wider = world.idea("wider", ('"width": 4', '"width": 8'), *quoted, script=script)
    odd = world.idea("odd", ("THREE = 3\n", "THREE = '''z'''\n"), script=script)
    world.write_ideas(root, [world.idea("no script", ("FOUR = 4", "FOUR = ("), script=script), wider, odd])
    setting = world.open_campaign(root)
    Loop(setting).run()
    found = by_title(setting)
    assert (found["wider"].state, found["odd"].state) == ("promoted", "cancelled")
    assert found["odd"].reason.startswith("can't be put on the new head p3: syntax: train.py")
    assert (found["no script"].state, found["no script"].reason[:8]) == ("blocked", "syntax: ")
