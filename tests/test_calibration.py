"""Calibration: what was expected beside what was measured, by planner and kind, and how far that is believed."""

from pathlib import Path

import pytest

from agent import calibration, review
from agent.calibration import rows, trust_of
from agent.records import Kind, Proposal, ProposalState, Verdict
from agent.store import Store, Tx
from agent.store.promises import Promise, paid, promises
from agent.track import load
from tests.filling import add_measured, draft, view

TINY = load("tiny", Path())[0]


def promise(
    gain: float | None,
    *,
    expected: float = 0.02,
    confidence: float = 0.5,
    planner: str = "model",
    kind: Kind = "architecture",
    state: ProposalState = "worse",
    stderr: float | None = 0.005,
) -> Promise:
    return Promise(1, planner, kind, state, expected, confidence, gain, stderr, 30.0, 0.0)


def test_what_was_said_stands_beside_what_was_seen() -> None:
    ideas = [
        promise(0.03, confidence=0.8, state="promoted"),
        promise(-0.01, confidence=0.6),
        promise(None, confidence=0.1, state="crashed"),
        promise(0.02, kind="data", planner="other"),
        promise(None, state="worse", kind="optimiser", planner="third"),  # failed its trial
        promise(None, state="running"),
        promise(None, state="edit_failed"),
    ]
    overall, kind, other, _, third, _ = rows(ideas)
    assert (overall.planner, overall.kind, overall.n) == ("model", "", 3)
    assert overall.measured_gain == pytest.approx(0.01) and overall.expected_gain == pytest.approx(0.02)
    assert overall.better == pytest.approx(1 / 3) and overall.confidence == pytest.approx(0.5)
    assert overall.brier == pytest.approx((0.2**2 + 0.6**2 + 0.1**2) / 3)
    assert (kind.kind, kind.n, other.planner) == ("architecture", 3, "other")
    assert (third.n, third.measured_gain, third.better, third.trust) == (1, None, 0.0, 4 / 5)


def test_trust_is_earned_slowly_and_bounded_both_ways() -> None:
    honest = rows([promise(0.02, confidence=1.0)] * 50)[0].trust
    assert honest == pytest.approx(1.0)
    boaster = [rows([promise(-0.01)] * n)[0].trust for n in (1, 4, 40, 4000)]
    assert boaster == sorted(boaster, reverse=True) and boaster[0] == pytest.approx(4 / 5)
    assert boaster[-1] == calibration.LEAST
    assert rows([promise(0.5)] * 100)[0].trust == calibration.MOST
    # What is within its own error of nothing does not count: chance would look like a gain.
    assert rows([promise(0.004)] * 40)[0].trust == rows([promise(-0.004)] * 40)[0].trust
    assert rows([promise(0.1, expected=0.0)] * 40)[0].trust == 1.0  # promised nothing
    assert rows([promise(0.1, state="invalid")] * 4)[0].trust == pytest.approx(0.5)


def test_a_kind_without_a_record_is_believed_as_its_planner_is() -> None:
    trust = trust_of(rows([promise(-0.01)] * 20 + [promise(0.02, kind="data", confidence=1.0)] * 20))
    assert trust("model", "architecture") < 0.2 < trust("model", "optimiser") < trust("model", "data")
    assert trust("somebody new", "data") == 1.0
    overall, _, once = rows([promise(-0.01)] * 40 + [promise(-0.01, kind="data")])
    assert once.trust == pytest.approx(overall.trust * 4 / 5)


def add(tx: Tx, base: Proposal, gain: float | None, state: ProposalState, **more: object) -> Proposal:
    one = tx.add_proposal(base.campaign_id, draft("idea", base.id, **more), baseline_id=base.id)
    for step in ("approved", "queued", "running", "measured"):
        tx.move(one.id, step)  # type: ignore[arg-type]
    add_measured(tx, one, 1, 2.2)
    if gain is not None:
        tx.add_verdict(Verdict(one.id, base.id, "more", "a first look", gain=9.0, stderr=9.0))
        tx.add_verdict(Verdict(one.id, base.id, "worse", "not better", gain=gain, stderr=0.004))
        tx.add_verdict(Verdict(one.id, base.id, "crashed", "no score"))
    return tx.move(one.id, state)


def test_the_view_says_what_the_rows_do(store: Store, base: Proposal) -> None:
    with store.write() as tx:
        add(tx, base, 0.03, "worse", expected_gain=0.02, confidence=0.9)
        add(tx, base, -0.01, "worse", expected_gain=0.04, confidence=0.5)
        add(tx, base, None, "crashed", confidence=0.2)
        add(tx, base, None, "worse", confidence=0.3)  # failed its trial
        add(tx, base, 0.01, "worse", planner="model", kind="data", confidence=1.0)
        tx.add_proposal(base.campaign_id, draft("waits", base.id), baseline_id=base.id)
    with store.read() as reads:
        found = {(row.planner, row.kind): row for row in calibration.table(reads, base.campaign_id)}
        ideas = promises(reads, base.campaign_id)
        assert paid(reads, base.campaign_id) == {}
    assert [(idea.gain, idea.stderr) for idea in ideas[:3]] == [(0.03, 0.004), (-0.01, 0.004), (None, None)]
    shown = view(store, "calibration")
    assert {(row["planner"], row["kind"]) for row in shown} == {("knobs", "knob"), ("model", "data")}
    for row in shown:
        mine = found[str(row["planner"]), str(row["kind"])]
        assert (row["campaign"], row["ideas"]) == ("night", mine.n)
        for name in ("expected_gain", "measured_gain", "confidence", "better", "brier"):
            assert row[name] == pytest.approx(getattr(mine, name)), name


def test_the_review_queue_believes_a_planner_as_far_as_it_came_true(store: Store, base: Proposal) -> None:
    with store.write() as tx:
        waiting = [
            tx.add_proposal(base.campaign_id, draft(who, base.id, planner=who, expected_gain=gain), baseline_id=base.id)
            for who, gain in (("boaster", 0.05), ("sober", 0.02))
        ]
        for one in waiting:
            tx.move(one.id, "awaiting_review")
    with store.read() as reads:
        before = review.pending(reads, base.campaign_id, 30.0, TINY)
    with store.write() as tx:
        for _ in range(20):
            add(tx, base, -0.01, "worse", planner="boaster", expected_gain=0.05)
            add(tx, base, 0.02, "worse", planner="sober", expected_gain=0.02, confidence=1.0)
    with store.read() as reads:
        after = review.pending(reads, base.campaign_id, 30.0, TINY)
    assert [item.proposal.title for item in before] == ["boaster", "sober"]
    assert [item.proposal.title for item in after] == ["sober", "boaster"]
