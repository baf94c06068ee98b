"""Calibration: what was expected beside what was measured, by planner and kind, and how far that is believed."""

from pathlib import Path

import pytest

from agent import calibration, review
from agent.calibration import Forecast, rows, trust_of
from agent.records import Kind, Proposal, ProposalState, Verdict
from agent.report import planners
from agent.store import Store, Tx
from agent.store.promises import Promise, paid, promises
from agent.track import load
from tests.filling import add_base, add_campaign, add_measured, draft, view

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


def test_bytes_and_step_time_are_scored_where_both_are_known() -> None:
    ideas = [
        promise(-0.01)._replace(expected_bytes=150, measured_bytes=100),  # half as much again
        promise(-0.01, kind="data")._replace(expected_bytes=300, measured_bytes=400, expected_step=1.0),
        promise(None, state="crashed")._replace(expected_bytes=10**9),  # nothing to compare with
        promise(0.01)._replace(measured_bytes=70, expected_step=1.5, measured_step=1.2),
        promise(None, state="running")._replace(expected_bytes=1, measured_bytes=9),  # no verdict yet
        promise(-0.01, planner="silent"),
    ]
    overall, architecture, data, silent, _ = rows(ideas)
    assert overall.size == Forecast(2, 225.0, 250.0, pytest.approx(0.375))
    assert overall.step == architecture.step == Forecast(1, 1.5, 1.2, pytest.approx(0.25))
    assert (architecture.size.error, data.size.error) == pytest.approx((0.5, 0.25))
    assert data.step == silent.size == silent.step == Forecast()
    bare = [idea._replace(expected_bytes=None, expected_step=None) for idea in ideas]
    assert [row.trust for row in rows(bare)] == [row.trust for row in rows(ideas)]  # of gains alone


def add(
    tx: Tx,
    base: Proposal,
    gain: float | None,
    state: ProposalState,
    *,
    run: dict[str, object] | None = None,
    bpb: float | None = 2.2,
    **more: object,
) -> Proposal:
    one = tx.add_proposal(base.campaign_id, draft("idea", base.id, **more), baseline_id=base.id)
    for step in ("approved", "queued", "running", "measured"):
        tx.move(one.id, step)  # type: ignore[arg-type]
    add_measured(tx, one, 1, bpb, **(run or {}))  # type: ignore[arg-type]
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


def fill_forecasts(tx: Tx, base: Proposal) -> Proposal:
    """Three ideas that said something of bytes and steps; the base takes 0.1 CPU-seconds a step."""
    add_measured(tx, base, 1, 2.3, purpose="report", train_cpu_s=20.0, train_wall_s=99.0, steps=200)
    add_measured(tx, base, 2, 2.3, purpose="report", train_cpu_s=40.0, train_wall_s=99.0, steps=400)
    add_measured(tx, base, 3, 2.3, purpose="report", train_cpu_s=40.0, steps=None)
    add_measured(tx, base, 4, 2.3, purpose="trial", rung="short", train_cpu_s=99.0, steps=1)
    add_measured(tx, base, 5, 2.3, purpose="recheck", train_cpu_s=99.0, steps=1)
    slow = add(tx, base, -0.01, "worse", expected_bytes=120_000, expected_step=1.5, run={"train_cpu_s": 60.0})
    add_measured(tx, slow, 2, 2.3, train_cpu_s=45.0, steps=150, total_bytes=160_000)
    add_measured(tx, slow, 3, 2.3, rung="short", purpose="trial", train_cpu_s=99.0, steps=1, total_bytes=999_000)
    add_measured(tx, slow, 6, 2.3, train_cpu_s=99.0, steps=0)
    add_measured(tx, slow, 4, None, train_cpu_s=99.0, steps=1)  # crashed
    add_measured(tx, slow, 5, 2.3, purpose="report", train_cpu_s=99.0, steps=1)  # as a head: no part of its test
    add(tx, base, -0.01, "worse", expected_bytes=160_000, expected_step=1.0, run={"train_cpu_s": 30.0, "steps": None})
    add(tx, base, -0.01, "worse")
    add(tx, base, None, "crashed", expected_bytes=200_000, expected_step=1.25, bpb=None)
    add(tx, base, -0.01, "worse", kind="data")
    return slow


def test_predicted_bytes_and_step_time_meet_what_was_measured(store: Store, base: Proposal) -> None:
    with store.write() as tx:
        slow = fill_forecasts(tx, base)
    with store.read() as reads:
        overall, data, knob = calibration.table(reads, base.campaign_id)
        ideas = {idea.proposal_id: idea for idea in promises(reads, base.campaign_id)}
        said = planners.words(planners.planners(reads, base.campaign_id))
    assert ideas[slow.id].measured_bytes == 160_000  # its largest, at the rung that decides
    assert ideas[slow.id].measured_step == pytest.approx((0.2 + 0.3) / 2 / 0.1)
    # 160,000 expected and 149,000 measured; 1.5 times expected and 2.5 measured, of the other the steps are unknown.
    assert overall.size == knob.size == Forecast(2, 140_000, 154_500, pytest.approx((0.25 + 11 / 149) / 2))
    assert knob.step == Forecast(1, 1.5, pytest.approx(2.5), pytest.approx(0.4))
    assert (data.size, data.step) == (Forecast(), Forecast())
    shown = {row["kind"]: row for row in view(store, "calibration")}
    for row in (data, knob):
        names = ("sized", "expected_bytes", "measured_bytes", "bytes_error")
        for of, columns in ((row.size, names), (row.step, ("timed", "expected_step", "measured_step", "step_error"))):
            found = [shown[row.kind][name] for name in columns]
            assert found == [value and pytest.approx(value) for value in vars(of).values()], (row.kind, columns)
    lines = {line.split()[1]: line.split() for line in said.splitlines() if line.startswith("knobs")}
    assert lines["knob"][-2:] == ["0.1619", "0.4000"] and lines["data"][-2:] == ["-", "-"]
    assert "bytes off  step off" in said


def test_on_gpus_the_time_of_a_step_is_wall_time(store: Store, base: Proposal) -> None:
    gpu = {"hardware_class": "cuda/NVIDIA H100/8", "steps": 100}
    with store.write() as tx:
        add_measured(tx, base, 1, 2.3, purpose="report", train_wall_s=10.0, train_cpu_s=50.0, **gpu)  # type: ignore[arg-type]
        one = add(tx, base, -0.01, "worse", expected_step=1.2, run={**gpu, "train_wall_s": 15.0, "train_cpu_s": 40.0})
    with store.read() as reads:
        assert {idea.proposal_id: idea.measured_step for idea in promises(reads, 1)}[one.id] == pytest.approx(1.5)


def test_a_step_of_an_earlier_baseline_is_not_held_against_a_new_one(store: Store, base: Proposal) -> None:
    with store.write() as tx:
        add_measured(tx, base, 1, 2.3, purpose="report")
        one = add(tx, base, -0.01, "worse", expected_step=1.2)
        other = add_base(tx, add_campaign(tx, "another"))
        tx.update_proposal(one.id, baseline_id=other.id)
    with store.read() as reads:
        assert [idea.measured_step for idea in promises(reads, base.campaign_id)] == [None]


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
