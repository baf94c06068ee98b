"""Whole campaigns with imagined runs: how many ideas are asked for, of whom, and what becomes of them."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent import budget, review
from agent.job.folder import JobPaths, JobState
from agent.loop import Loop
from agent.planner import Request
from agent.records import Draft
from agent.runners.fake import FakeRunner, Imagined
from agent.steps import plan
from agent.store import Tx
from tests.e2e import world
from tests.e2e.planning import HARMLESS, Thinking, by_title, scripted, watched, worse

REPOSITORY = Path(__file__).parents[2]


def test_eight_ideas_wait_for_a_person_and_then_planning_pauses(root: Path) -> None:
    """Whatever the number of slots; each answer makes room for another."""
    world.write_ideas(root, [worse(n) for n in range(1, 30)])
    setting = world.open_campaign(root, review="all")
    seen: list[int] = []

    def look(tx: Tx) -> bool:
        waiting = tx.proposals(setting.campaign.id, {"awaiting_review"})
        seen.append(len(waiting))
        if len(waiting) == 8 and seen.count(8) == 3:
            review.approve(tx, waiting[:3], "ann")
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


def test_a_quick_planner_waits_for_no_slow_one(root: Path) -> None:
    world.write_ideas(root, [worse(1)])
    setting = world.open_campaign(root, slots=3)
    setting = replace(setting, planners=(Thinking(600.0), scripted("quick", [worse(n) for n in (1, 2, 3)])))
    watched(setting, lambda tx: tx.count_proposals(setting.campaign.id, {"worse"}) == 3)
    assert [one.state for one in by_title(setting).values()][1:] == ["worse"] * 3


class Uneven(Thinking):
    """Answers all questions at once but the first."""

    def propose(self, request: Request) -> Draft | None:
        n = request.made
        if n == 0:
            time.sleep(600.0)
        return scripted(self.name, [worse(n)]).propose(replace(request, made=0)) if n < 4 else None


def test_an_answer_waits_for_no_slower_one_of_the_same_planner(root: Path) -> None:
    world.write_ideas(root, [worse(1)])
    setting = world.open_campaign(root, slots=3)
    setting = replace(setting, planners=(Uneven(0.0, parallel=4),))
    watched(setting, lambda tx: tx.count_proposals(setting.campaign.id, {"worse"}) == 3)
    assert sorted(by_title(setting))[1:] == ["worse 1", "worse 2", "worse 3"]
    assert {one.state for one in by_title(setting).values()} == {"promoted", "worse"}


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
from tests.e2e import planning, world

class Interrupting(planning.Thinking):
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


def test_a_campaign_goes_on_until_its_space_is_used_up(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is tried twice, although the planner is told of the newest ideas alone."""
    monkeypatch.setattr(plan, "REMEMBERED", 6)
    track = (root / "agent.toml").read_text().replace("artifact_bytes = 1250\n", "")
    track = track.replace("[2, 4, 6, 8, 10, 12]", "[3, 4]").replace("0.20, 0.40]", "0.20]")
    (root / "agent.toml").write_text(track)
    setting = world.open_campaign(root, planner="knobs", budget_hours=20.0)
    ending = Loop(setting).run()
    assert ending.reason == "the planner has no more ideas"
    with setting.store.read() as reads:
        proposals = reads.proposals(setting.campaign.id)
    assert "duplicate" not in {one.state for one in proposals}
    assert len(proposals) == len({one.config_hash for one in proposals}) == 2 * 4 * 3


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
