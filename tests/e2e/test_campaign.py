"""Whole campaigns with imagined runs: how ideas end, the trunk, the ledger, the person's checkout."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from agent import budget
from agent.errors import BusyError
from agent.loop import Loop
from agent.planner import Request
from agent.records import Amount, Draft, Mode
from agent.runners.fake import Imagined, imagine
from agent.states import FINAL
from agent.steps import decide, launch
from agent.steps.limits import least_idea
from agent.steps.wanted import wanted
from agent.store import open_store
from tests.e2e import world
from tests.e2e.campaigning import IDEAS, WIDER, run, states
from tests.person import photograph


def test_every_idea_ends_where_it_should(root: Path) -> None:
    world.write_ideas(root, IDEAS)
    before = photograph(root)
    setting = world.open_campaign(root, slots=2)
    assert Loop(setting).run().state == "finished"
    assert photograph(root) == before
    found = states(setting)
    assert found == {
        "base": "promoted",
        "wider": "promoted",
        "a better rate": found["a better rate"],  # near the noise: whatever the seeds say
        "crashes": "crashed",
        "does nothing of use": found["does nothing of use"],
        "too big": "oversize",
        "worse": "worse",
        "only a comment": "duplicate",
        "does not parse": "blocked",
        "does not apply": "edit_failed",
        "another file": "edit_failed",
        "wider again": found["wider again"],
    }
    assert set(found.values()) <= FINAL
    assert found["does nothing of use"] in ("worse", "inconclusive")
    with setting.store.read() as reads:
        assert budget.audit(reads, setting.campaign.id) == []
        assert budget.open_entries(reads, setting.campaign.id) == []
        balance = reads.balance(setting.campaign.id)
        used = [s.measurement.slot_s for s in reads.scored(setting.campaign.id)]
    assert len(used) > 12
    assert balance.settled.gpu_s == pytest.approx(sum(used))
    assert balance.reserved.gpu_s == 0


def test_what_the_contest_forbids_never_runs_and_lesser_signs_are_findings_of_the_runs(root: Path) -> None:
    main = "def main() -> None:"
    ideas = [
        world.idea("fetches", (main, f"import requests\n\n\n{main}")),
        world.idea("wider, from a pickle", ('"width": 4', '"width": 8'), (main, f"import pickle\n\n\n{main}")),
    ]
    setting, ended = run(root, ideas)
    assert ended["fetches"] == "blocked" and ended["wider, from a pickle"] in FINAL
    with setting.store.read() as reads:
        by_title = {p.title: p for p in reads.proposals(setting.campaign.id)}
        assert "illegal: train.py: rule 22 of the contest" in by_title["fetches"].reason
        flagged = by_title["wider, from a pickle"]
        assert any(risk.startswith("train.py: rule 25, pickle: ") for risk in flagged.risk)
        runs = reads.runs(setting.campaign.id, proposal_id=flagged.id, states={"done"})
        found = [reads.measurement(one.id) for one in runs]
        assert not reads.runs(setting.campaign.id, proposal_id=by_title["fetches"].id)
    assert found and all(
        one is not None and ("pickle", "flag") in [(f.rule, f.severity) for f in one.findings] for one in found
    )


def test_the_trunk_holds_the_accepted_commits_with_their_trailers(root: Path) -> None:
    setting, _ = run(root, [world.idea("wider", ('"width": 4', '"width": 8'))])
    with setting.store.read() as reads:
        head = reads.head(setting.campaign.id)
        chain = reads.lineage(head.id)
        fresh = [s for s in reads.scored(setting.campaign.id, proposal_id=head.id) if s.run.purpose == "report"]
        deciding = [s for s in reads.scored(setting.campaign.id, proposal_id=head.id) if s.run.purpose != "report"]
    trunk = world.git(root, "rev-parse", "caddie/toy-1").strip()
    assert trunk == head.commit
    assert [p.title for p in chain] == ["base", "wider"]
    body = world.git(root, "log", "-1", "--format=%(trailers:unfold)", trunk)
    keys = [line.split(":")[0] for line in body.splitlines() if line]
    assert keys == ["Proposal", "Runs", "Val-Bpb", "Artifact-Bytes", "Planner", "Reviewed-by"]
    assert '"width": 8' in world.git(root, "show", f"{trunk}:train.py")
    # Runs that decide are never the runs that are reported.
    assert len(fresh) == 3 and len(deciding) >= 2
    assert not {s.run.seed for s in fresh} & {s.run.seed for s in deciding}
    assert world.git(root, "worktree", "list").count("\n") == 1


def test_ideas_without_a_score_are_no_end_while_one_that_was_begun_before_gets_its_own(root: Path) -> None:
    """Twelve in a row end a campaign; here the seventh is measured after all others have failed."""
    edits = "train.py\n<<<<<<< SEARCH\nnot there {n}\n=======\nx\n>>>>>>> REPLACE\n"
    bad: list[dict[str, object]] = [{"title": f"bad {n}", "edits": edits.format(n=n)} for n in range(12)]
    worse = world.idea("worse", ('"width": 4', '"width": 2'))
    _, found = run(root, [*bad[:6], worse, *bad[6:], *WIDER], seconds=0.5)
    assert (found["worse"], found["bad 11"], found["wider"]) == ("worse", "edit_failed", "promoted")


def test_losers_stay_readable(root: Path) -> None:
    setting, _ = run(root)
    with setting.store.read() as reads:
        for proposal in reads.proposals(setting.campaign.id):
            if proposal.state in ("worse", "crashed", "oversize"):
                ref = world.git(root, "rev-parse", f"refs/caddie/toy-1/p{proposal.id}").strip()
                assert ref == proposal.commit
                assert proposal.diff and proposal.reason


def test_two_ideas_measured_apart_are_replayed_together(root: Path) -> None:
    """Both start on the base at once; the second must show its gain on top of the first."""
    ideas = [
        world.idea("wider", ('"width": 4', '"width": 8')),
        world.idea("fewer bits, better rate", ('"rate": 0.10', '"rate": 0.20'), ('"bits": 8', '"bits": 7')),
        world.idea("much better rate", ('"rate": 0.10', '"rate": 0.21')),
    ]

    def world_with_rate(knobs: object, seed: int) -> object:
        from dataclasses import replace

        found = imagine(knobs, seed)  # type: ignore[arg-type]
        better = 0.15 if knobs["rate"] == 0.21 else 0.0  # type: ignore[index]
        return replace(found, bpb=found.bpb - better)

    setting, found = run(root, ideas, slots=3, seconds=0.4, world_of=world_with_rate)
    assert found["wider"] == found["much better rate"] == "promoted"
    with setting.store.read() as reads:
        chain = reads.lineage(reads.head(setting.campaign.id).id)
        second = chain[-1]
        tests = {run.baseline_id for run in reads.runs(setting.campaign.id, proposal_id=second.id)} - {None}
        replays = reads.runs(setting.campaign.id, proposal_id=second.id, purposes={"replay"})
    assert len(chain) == 3
    assert tests == {chain[0].id, chain[1].id}  # against the base, then against the first idea
    assert len(replays) >= 2
    text = world.git(root, "show", "caddie/toy-1:train.py")
    assert '"width": 8' in text and '"rate": 0.21' in text


def test_the_budget_is_a_promise(root: Path) -> None:
    """Whatever the number of slots, the sum of settled and reserved never passes the cap at any moment."""
    hours = 600 / 3600
    world.write_ideas(
        root, [world.idea(f"idea {n}", ('"crash": 0,', f'"crash": 0,\n    "k{n}": 1,')) for n in range(40)]
    )
    setting = world.open_campaign(root, slots=4, budget_hours=hours)
    seen = []

    def look() -> None:
        with setting.store.read() as reads:
            balance = reads.balance(setting.campaign.id)
            seen.append(balance.settled.gpu_s + balance.reserved.gpu_s)

    ending = Loop(setting, look).run()
    assert ending.reason in (  # further runs of the head may have taken the rest
        "what is left of the budget could not confirm another idea",
        "the budget does not cover another run",
    )
    assert max(seen) <= 600
    with setting.store.read() as reads:
        settled = reads.balance(setting.campaign.id).settled.gpu_s
        assert budget.audit(reads, setting.campaign.id) == []
        least = least_idea(setting, reads).gpu_s
    assert 600 - least < settled <= 600
    assert "unfunded" in states(setting).values()


def test_a_run_that_was_starved_is_repeated_though_another_idea_waits_for_its_money(root: Path) -> None:
    """Both passed, and what is left pays for the confirmation of one: it must not wait for the other in turn."""
    starved: set[int] = set()

    def busy(knobs: Mapping[str, Any], seed: int) -> Imagined:
        found = imagine(knobs, seed)
        mine = [seed for seed, width in seen if width == 8]
        seen.append((seed, knobs["width"]))
        if knobs["width"] == 8 and len(mine) == 1 and not starved:  # its second run, the first of its confirmation
            starved.add(seed)
            return replace(found, outcome="capped", share=0.3)
        return found

    seen: list[tuple[int, object]] = []
    ideas = [*WIDER, world.idea("a better rate", ('"rate": 0.10', '"rate": 0.20'))]
    world.write_ideas(root, ideas)
    setting = world.open_campaign(root, slots=2, seconds=0.1, world_of=busy, budget_hours=600 / 3600)
    waited, until = False, time.monotonic() + 120

    def look() -> None:
        nonlocal waited
        assert time.monotonic() < until, states(setting)
        with setting.store.read() as reads:
            waited = waited or (decide.undecided(setting, reads) and "confirming" in states(setting).values())

    assert Loop(setting, look).run().state == "finished"
    assert waited and starved
    assert states(setting) == {"base": "promoted", "wider": "promoted", "a better rate": "unfunded"}
    with setting.store.read() as reads:
        (last,) = reads.proposals(setting.campaign.id, {"unfunded"})
        assert "would pass the cap of 600" in last.reason  # its replay used up what was set aside for it
        again = reads.runs(setting.campaign.id, purposes={"recheck"})
        assert [run.seed for run in again] == list(starved)
        assert budget.audit(reads, setting.campaign.id) == []


def test_no_idea_is_begun_that_could_not_be_confirmed(root: Path) -> None:
    setting, found = run(root, WIDER, budget_hours=170 / 3600)  # three of 15 s; an idea needs 15, and 120 at worst
    assert found == {"base": "promoted", "wider": "unfunded"}
    with setting.store.read() as reads:
        assert reads.count_runs(setting.campaign.id) == 3


def test_a_target_ends_the_campaign_with_nothing_left_half_way(root: Path) -> None:
    setting, found = run(root, IDEAS, slots=3, seconds=0.2, target_bpb=1.95)
    assert found["wider"] == "promoted"
    assert set(found.values()) <= FINAL
    with setting.store.read() as reads:
        campaign = reads.campaign_by_id(setting.campaign.id)
        assert campaign.reason.startswith("target reached")
        assert budget.open_entries(reads, setting.campaign.id) == []


def test_at_the_target_nothing_more_is_started_whatever_is_left(root: Path) -> None:
    many = [world.idea(f"rate {n}", ('"rate": 0.10', f'"rate": 0.1{n:02}')) for n in range(40)]
    setting, _ = run(root, [*WIDER, *many], slots=2, seconds=0.15, target_bpb=1.95)
    with setting.store.read() as reads:
        assert reads.campaign_by_id(setting.campaign.id).reason.startswith("target reached")
        ideas = reads.proposals(setting.campaign.id)
        assert sum(bool(reads.runs(setting.campaign.id, proposal_id=idea.id)) for idea in ideas) < 25


def test_when_idea_after_idea_gives_no_score_nothing_more_is_started(root: Path) -> None:
    many = [world.idea(f"crash {n}", ('"crash": 0', f'"crash": {n}')) for n in range(1, 41)]
    world.write_ideas(root, many)
    setting = world.open_campaign(root, slots=2, seconds=0.15)
    ending = Loop(setting).run()
    assert ending.failed and ending.reason.startswith("12 ideas in a row ended without a score")
    with setting.store.read() as reads:
        assert len(reads.runs(setting.campaign.id, purposes={"screen"})) <= 14


@pytest.mark.parametrize("edits", ["no edits", str(WIDER[0]["edits"])], ids=["no place", "always the same"])
def test_a_planner_whose_ideas_no_check_lets_through_is_not_asked_for_ever(root: Path, edits: str) -> None:
    @dataclass(frozen=True)
    class Hopeless:
        name: str = "hopeless"
        modes: frozenset[Mode] = frozenset({"exploit"})
        parallel: int = 1

        def propose(self, request: Request) -> Draft:
            return Draft("an idea", "because", edits, self.name, request.mode, "knob", 1)

    world.write_ideas(root, WIDER)
    setting = replace(world.open_campaign(root), planners=(Hopeless(),))
    ending = Loop(setting).run()
    assert ending.failed and "12 ideas in a row ended without a score" in ending.reason
    with setting.store.read() as reads:
        assert reads.count_proposals(setting.campaign.id) < 20


def test_a_run_that_was_booked_and_never_started_does_not_hold_up_the_end(root: Path) -> None:
    """As after a kill in between, with a track that can't be used and is mended."""
    world.write_ideas(root, WIDER)
    setting = world.open_campaign(root)
    with setting.store.read() as reads:
        item = wanted(setting, reads)[0]
    with setting.store.write() as tx:
        launch._book(setting, tx, item, setting.runner.slots[0])
    setting.store.close()
    text = (root / "agent.toml").read_text()
    (root / "agent.toml").write_text(text.replace("alpha = 0.004", "alpha = 0.01"))
    assert world.open_campaign(root).campaign.name == "toy-2"
    with open_store(root / "runs.db", create=False).read() as reads:
        assert [run.state for run in reads.runs(1)] == ["cancelled"]
        assert budget.open_entries(reads, 1) == [] and reads.balance(1).settled == Amount()


def test_a_base_that_does_not_run_ends_the_campaign_and_the_next_start_opens_a_new_one(root: Path) -> None:
    world.write_ideas(root, WIDER)
    broken = world.SCRIPT.replace('"crash": 0', '"crash": 1')
    (root / "train.py").write_text(broken)
    world.git(root, "commit", "-qam", "Broken")
    ending = Loop(world.open_campaign(root)).run()
    assert ending.failed and "the base itself does not run" in ending.reason
    (root / "train.py").write_text(world.SCRIPT)
    world.git(root, "commit", "-qam", "Mended")
    setting = world.open_campaign(root)
    assert setting.campaign.name == "toy-2"
    assert not Loop(setting).run().failed


def test_a_second_controller_is_refused_by_name(root: Path) -> None:
    import os

    world.write_ideas(root, WIDER)
    setting = world.open_campaign(root)
    from agent.store.lease import hold

    with hold(setting.store, "campaign toy-1"), pytest.raises(BusyError, match=str(os.getpid())):
        Loop(setting).run()
