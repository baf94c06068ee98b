"""Whose turn it is: of ideas that wait for a slot, and of planners."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from agent.planner.knobs import Knobs
from agent.records import Proposal, Verdict
from agent.report.planners import planners as planners_of
from agent.setting import Setting, known
from agent.steps import plan, wanted
from agent.store import Tx
from tests.e2e import world
from tests.e2e.planning import approved, by_title, scripted, watched, worse


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = world.make_workspace(tmp_path / "work")
    world.write_ideas(root, [worse(1)])
    return root


def screens(setting: Setting) -> list[str]:
    with setting.store.read() as reads:
        return [item.proposal.title for item in wanted.wanted(setting, reads) if item.purpose == "screen"]


def ran(tx: Tx, setting: Setting, proposal: Proposal) -> None:
    tx.move(proposal.id, "queued")
    tx.add_run(
        setting.campaign.id, proposal.id, proposal.baseline_id, rung="decide", purpose="screen", seed=1, attempt=1,
        hardware_class="fake", script_sha="s",
    )  # fmt: skip
    tx.move(proposal.id, "running")
    tx.move(proposal.id, "measured")
    tx.move(proposal.id, "worse")


def test_what_promises_most_for_its_cost_starts_first_and_equals_by_age(root: Path) -> None:
    setting = world.open_campaign(root)
    with setting.store.write() as tx:
        for title, gain, confidence in (("a", 0.01, 0.5), ("b", 0.05, 0.5), ("c", 0.01, 0.5), ("sure", 0.02, 0.9)):
            approved(tx, setting, title, gain, confidence=confidence)
    assert screens(setting) == ["b", "sure", "a", "c"]


def test_what_a_planner_promises_counts_as_far_as_it_came_true(root: Path) -> None:
    setting = world.open_campaign(root)
    with setting.store.write() as tx:
        for n in range(8):
            one = approved(tx, setting, f"promise {n}", 0.05, planner="boaster")
            tx.move(one.id, "queued")
            tx.move(one.id, "running")
            tx.move(one.id, "measured")
            tx.add_verdict(Verdict(one.id, known(one.baseline_id), "worse", "not better", gain=-0.01, stderr=0.01))
            tx.move(one.id, "worse")
        approved(tx, setting, "boast", 0.03, planner="boaster")
        approved(tx, setting, "sober", 0.02, planner="sober")
    assert screens(setting) == ["sober", "boast"]


def test_a_planner_of_one_idea_at_a_time_keeps_its_own_order(root: Path) -> None:
    """`scripted` is the campaign's planner here; its turns beside another's go by what its ideas promise."""
    setting = world.open_campaign(root)
    with setting.store.write() as tx:
        for title, gain in (("a", 0.01), ("b", 0.05), ("c", 0.02)):
            approved(tx, setting, title, gain, planner="scripted")
    assert screens(setting) == ["a", "b", "c"]
    with setting.store.write() as tx:
        approved(tx, setting, "other", 0.03, planner="model")
        approved(tx, setting, "other's best", 0.09, planner="model")
    assert screens(setting) == ["other's best", "a", "other", "b", "c"]


def test_an_idea_under_way_comes_before_new_ones(root: Path) -> None:
    setting = world.open_campaign(root)
    with setting.store.write() as tx:
        started = approved(tx, setting, "started", 0.0)
        for state in ("queued", "running", "lost"):
            tx.move(started.id, state)
        approved(tx, setting, "better", 0.05)
    assert screens(setting) == ["started", "better"]


def test_no_idea_waits_for_ever(root: Path) -> None:
    setting = world.open_campaign(root)
    with setting.store.write() as tx:
        approved(tx, setting, "poor", 0.001)
    places = []
    for n in range(wanted.PATIENCE + 1):
        with setting.store.write() as tx:
            better = approved(tx, setting, f"better {n}", 0.05)
        places.append(screens(setting).index("poor"))
        with setting.store.write() as tx:
            ran(tx, setting, better)
    assert places == [1] * wanted.PATIENCE + [0]


def test_a_planner_whose_ideas_pay_is_asked_more(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "QUICK_S", 900.0)  # who is asked next depends on answers, not on how busy the machine is
    setting = world.open_campaign(root, budget_hours=1.0)
    planners = scripted("bad", [worse(n) for n in range(1, 90)]), Knobs(setting.track)
    setting = replace(setting, planners=planners)
    watched(setting, lambda tx: tx.count_proposals(setting.campaign.id) > 28)
    who = [one.planner for one in by_title(setting).values()][1:]
    assert who[:6] == ["bad", "knobs"] * 3
    assert who.count("knobs") > 1.5 * who.count("bad"), who
    with setting.store.read() as reads:
        report = planners_of(reads, setting.campaign.id)
    assert {row.planner: row.ideas for row in report if row.ideas} == Counter(who)
    bad, knobs = (next(row for row in report if row.planner == name) for name in ("bad", "knobs"))
    assert knobs.promoted > 0 == bad.promoted
    assert [row.kind for row in knobs.predictions] == ["", "knob"]
