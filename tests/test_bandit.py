"""Which planner is asked: turns at first, then by what ideas earned for what they cost; nobody is given up."""

from collections import Counter
from dataclasses import replace

import pytest

from agent.planner import bandit
from agent.planner.bandit import FLOOR, Record, choose, records, shares, slot_s_per_usd
from agent.records import Caps, ProposalState
from agent.store.promises import Promise

RATE = 1800.0


def record(planner: str, **more: float) -> Record:
    return replace(Record(planner, 50, 50, 2, 2, 0.05, 1500.0, 0.0), **more)


def asked(*known: Record, seed: int = 1, rate: float = RATE) -> Counter[str]:
    return Counter(choose(known, rate, seed, n) for n in range(2000))


def test_one_planner_is_asked_always_and_several_take_turns_at_first() -> None:
    assert {choose([record("only")], RATE, 1, n) for n in range(20)} == {"only"}
    made = dict.fromkeys("abc", 0)
    order = []
    for n in range(9):
        known = [replace(record(name), ideas=ideas, decided=0, paid=0, gain=0.0) for name, ideas in made.items()]
        order.append(choose(known, RATE, 1, n))
        made[order[-1]] += 1
    assert "".join(order) == "abcabcabc"


def test_the_same_question_has_the_same_answer_and_seeds_differ() -> None:
    known = record("a"), record("b", paid=3)
    runs = [[choose(known, RATE, seed, n) for n in range(50)] for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_who_earns_more_for_its_cost_is_asked_more_and_the_worst_keeps_its_floor() -> None:
    found = asked(record("good", paid=10, promoted=10, gain=0.25), record("poor", paid=0, gain=0.0))
    assert found["good"] > 4 * found["poor"] and found["poor"] >= 0.8 * FLOOR * 2000
    hopeless = record("hopeless", ideas=2000, decided=2000, paid=0, gain=0.0, slot_s=60_000.0)
    assert 150 < asked(record("good", paid=10, gain=0.25), hopeless)["hopeless"] < 350
    dear = asked(record("cheap"), record("dear", llm_usd=50.0))  # the same gains, 60 times the cost
    assert dear["cheap"] > 4 * dear["dear"]
    assert asked(record("cheap"), record("dear", llm_usd=50.0), rate=1e-3)["dear"] > 700
    even = asked(record("a"), record("b"))
    assert 0.4 < even["a"] / 2000 < 0.6
    many = asked(*(record(f"p{n}", paid=0, gain=0.0) for n in range(9)), record("good", paid=20, gain=0.5))
    assert many["good"] > 800 and min(many.values()) >= 0.02 * 2000


def test_who_has_hardly_been_tried_is_not_given_up_for_bad_luck() -> None:
    good = record("good", ideas=200, decided=200, paid=10, gain=0.25, slot_s=6000.0)
    new, old = (record("other", ideas=n, decided=n, paid=0, gain=0.0, slot_s=30.0 * n) for n in (4, 200))
    assert asked(good, new)["other"] > 1.5 * asked(good, old)["other"]


def test_a_planner_recovers() -> None:
    """Its first ideas were worthless, its later ones are the better ones."""
    poor, good = record("late", paid=0, gain=0.0), record("early", paid=2, gain=0.02)
    before = asked(poor, good)["late"]
    after = asked(replace(poor, ideas=70, decided=70, paid=10, gain=0.3, slot_s=2100.0), good)["late"]
    assert before < 600 < 1400 < after


def test_the_shares_are_those_of_the_draw() -> None:
    known = [record("a"), record("b", paid=5, gain=0.1), record("c", llm_usd=3.0)]
    found = shares(known, RATE)
    assert sum(found.values()) == pytest.approx(1.0)
    seen = asked(*known)
    assert all(found[name] == pytest.approx(seen[name] / 2000, abs=0.04) for name in found)
    assert shares(known[:1], RATE) == {"a": 1.0}


def promise(planner: str, state: ProposalState, gain: float | None = None, slot_s: float = 30.0) -> Promise:
    return Promise(1, planner, "knob", state, 0.02, 0.5, gain, None if gain is None else 0.01, slot_s, 0.25)


def test_records_count_what_says_something() -> None:
    ideas = [
        promise("a", "promoted", 0.04, 120.0),
        promise("a", "inconclusive", 0.02),
        promise("a", "worse", 0.005),  # within its error of nothing
        promise("a", "reverted", 0.05),
        promise("a", "duplicate", slot_s=0.0),
        promise("a", "running"),
        promise("a", "cancelled"),
        promise("merge", "promoted", 0.9),
    ]
    a, b = records(["a", "b"], ideas, {"b": 2.0})
    assert (a.ideas, a.decided, a.promoted, a.paid) == (7, 5, 1, 2)
    assert a.gain == pytest.approx(0.04 + bandit.NEAR_MISS * 0.02)
    usual = (120.0 + 30.0 * 6) / 7  # what an idea that no check let through is charged
    assert a.slot_s == pytest.approx(120.0 + 3 * 30.0 + usual)
    assert (a.llm_usd, b.llm_usd, b.ideas) == (7 * 0.25, 2.0, 0)


def test_a_planner_of_duplicates_is_not_cheap() -> None:
    """They cost no slot, but a question that another could have had."""
    ideas = [promise("copies", "duplicate", slot_s=0.0)] * 60 + [promise("honest", "worse", -0.01)] * 54
    ideas += [promise("honest", "promoted", 0.03, 150.0)] * 6
    known = [replace(one, llm_usd=0.0) for one in records(["copies", "honest"], ideas, {})]
    assert asked(*known)["honest"] > 3 * asked(*known)["copies"]


def test_the_caps_say_what_a_dollar_is_worth() -> None:
    assert slot_s_per_usd(Caps(gpu_s=36_000.0, llm_usd=10.0)) == 3600.0
    assert slot_s_per_usd(Caps(gpu_s=36_000.0)) == slot_s_per_usd(Caps(None, llm_usd=5.0)) == 1800.0
