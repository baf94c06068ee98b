"""Search: the same question has the same answer, urgent things come first, stagnation looks further."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agent.planner import Trial
from agent.records import Mode, ProposalState
from agent.search import (
    ALL_MODES,
    STAGNATION,
    Candidate,
    Choice,
    Snapshot,
    choose,
    frontier,
    pair_words,
    pairs_in,
    snapshot,
    stagnant,
)

BASE = Candidate(1, "promoted", None, None, None, "base", {})
KNOBS: frozenset[Mode] = frozenset({"exploit", "widen", "combine", "shrink"})


def idea(number: int, state: ProposalState, gain: float | None = None, **more: int) -> Candidate:
    return replace(Candidate(number, state, 1, gain, 170_000, "exploit", {}), **more)


def shot(*ideas: Candidate, head: int = 1, modes: frozenset[Mode] = KNOBS) -> Snapshot:
    return Snapshot(head, (BASE, *ideas), modes=modes, min_gain=0.01)


def modes_of(view: Snapshot, seed: int = 0) -> list[Mode]:
    return [choose(view, seed, n).mode for n in range(300)]


def test_an_oversize_winner_is_shrunk_at_once_and_three_times_at_most() -> None:
    ideas = [idea(2, "oversize", 0.05), idea(3, "oversize", 0.12), idea(4, "oversize", 0.005)]
    assert choose(shot(*ideas), 0, 9) == Choice("shrink", 3)
    ideas[1] = replace(ideas[1], children=3)
    assert choose(shot(*ideas), 0, 9) == Choice("shrink", 2)
    ideas[0] = replace(ideas[0], children=3)
    assert "shrink" not in modes_of(shot(*ideas))
    assert choose(shot(idea(2, "oversize", 0.05), modes=frozenset({"exploit"})), 0, 9).mode == "exploit"


def test_an_oversize_idea_of_an_older_head_is_not_urgent() -> None:
    stale = idea(2, "oversize", 0.1)
    view = shot(stale, idea(3, "promoted", 0.05), head=3)
    assert choose(view, 0, 0).mode != "shrink" or modes_of(view).count("shrink") < 150
    assert 0 < modes_of(view).count("shrink") < 100


def test_a_crash_is_repaired_once_by_planners_that_can() -> None:
    crashed = idea(2, "crashed")
    assert choose(shot(crashed, modes=ALL_MODES), 0, 1) == Choice("repair", 2)
    assert "repair" not in modes_of(shot(replace(crashed, children=1), modes=ALL_MODES))
    assert "repair" not in modes_of(shot(replace(crashed, mode="repair"), modes=ALL_MODES))
    assert "repair" not in modes_of(shot(crashed))
    assert "repair" not in modes_of(shot(replace(crashed, state="invalid"), modes=ALL_MODES))


def test_a_crash_is_repaired_if_it_was_worth_something() -> None:
    crashed = idea(2, "crashed")
    view = shot(replace(crashed, promised=0.002), modes=ALL_MODES)
    assert choose(view, 0, 1) == Choice("repair", 2)
    assert "repair" not in modes_of(shot(replace(crashed, promised=0.0005), modes=ALL_MODES))


def test_a_planner_that_crashes_with_all_of_a_kind_is_not_asked_to_repair_them() -> None:
    row = [replace(idea(n, "crashed"), children=n < 4) for n in (2, 3, 4)]
    assert "repair" not in modes_of(shot(*row, modes=ALL_MODES))
    assert choose(shot(*row[:1], idea(3, "worse"), row[2], modes=ALL_MODES), 0, 1) == Choice("repair", 4)
    other = replace(row[2], kind="data")
    assert choose(shot(*row[:2], other, modes=ALL_MODES), 0, 1) == Choice("repair", 4)
    assert choose(shot(*row[:2], replace(row[2], planner="x"), modes=ALL_MODES), 0, 1) == Choice("repair", 4)


def test_stagnation_switches_to_widen() -> None:
    losers = [idea(n, "worse", -0.02) for n in range(2, 2 + STAGNATION)]
    assert not stagnant(shot(*losers[:-1]))
    assert stagnant(shot(*losers))
    assert modes_of(shot(*losers)).count("widen") > 3 * modes_of(shot(*losers[:-1])).count("widen")
    assert not stagnant(shot(*losers, idea(99, "promoted", 0.05)))


def test_combine_needs_two_near_misses_of_the_present_head() -> None:
    near = [idea(2, "inconclusive", 0.02), idea(3, "worse", 0.015)]
    assert "combine" in modes_of(shot(*near))
    assert "combine" not in modes_of(shot(near[0], idea(3, "worse", 0.005)))
    assert "combine" not in modes_of(shot(*near, idea(4, "promoted", 0.1), head=4))


def pairs(view: Snapshot) -> set[tuple[int, int | None]]:
    choices = (choose(view, 0, n) for n in range(300))
    return {(one.source_id, one.with_id) for one in choices if one.mode == "combine"}


def test_pairs_come_best_first_and_none_twice() -> None:
    view = shot(idea(2, "inconclusive", 0.02), idea(3, "worse", 0.015), idea(4, "worse", 0.03))
    order = []
    for _ in range(3):
        found = pairs(view)
        assert len(found) == 1
        order += found
        view = replace(view, combined=view.combined | {frozenset(order[-1])})  # type: ignore[arg-type]
    assert order == [(4, 2), (4, 3), (2, 3)]
    assert pairs(view) == {(1, None)}  # a planner may find others


def test_gains_within_their_noise_are_not_put_together() -> None:
    near = [idea(2, "inconclusive", 0.02), idea(3, "worse", 0.015)]
    assert pairs(replace(shot(*near), sigma=0.014)) == {(2, 3)}
    assert pairs(replace(shot(*near), sigma=0.016)) == {(1, None)}
    assert pairs(replace(shot(near[0], replace(near[1], runs=2)), sigma=0.016)) == {(2, 3)}


def test_the_words_for_a_pair_are_found_again_and_no_others() -> None:
    words = ["p2", pair_words(12, 7), "as p1 with p2 did", "p3 with p4\n", "P5 with p6"]
    assert pairs_in(words) == {frozenset({7, 12})}


def test_near_misses_get_a_second_chance_but_the_head_gets_most() -> None:
    choices = [choose(shot(idea(2, "inconclusive", 0.02)), 0, n) for n in range(400)]
    sources = [choice.source_id for choice in choices if choice.mode == "exploit"]
    assert 0.1 * len(sources) < sources.count(2) < 0.35 * len(sources)
    spent = shot(idea(2, "inconclusive", 0.02, children=2))
    assert {choose(spent, 0, n).source_id for n in range(200)} == {1}


def test_a_snapshot_counts_children() -> None:
    trials = [
        Trial(1, "promoted", {}, None, 2.3, 150_000, None, 3, "base"),
        Trial(2, "oversize", {}, 0.1, 2.2, 200_000, 1, 1, "exploit", 1),
        Trial(3, "running", {}, None, None, None, 1, 0, "shrink", 2),
        Trial(4, "running", {}, None, None, None, 1, 0, "combine", 2, "m", "data", 0.02, 0.25),
    ]
    view = snapshot(1, trials, modes=KNOBS, min_gain=0.01)
    assert [one.children for one in view.candidates] == [0, 1, 0, 0]  # what was put together leaves both as they were
    assert [(one.planner, one.kind, one.promised) for one in view.candidates[2:]] == [
        ("", "knob", None),
        ("m", "data", 0.005),
    ]
    assert [one.id for one in frontier(view)] == [2]


STATES = st.sampled_from(["worse", "inconclusive", "oversize", "crashed", "promoted", "running", "invalid"])


@given(
    st.lists(st.tuples(STATES, st.none() | st.floats(-0.2, 0.2), st.integers(0, 4)), max_size=20),
    st.sets(st.sampled_from(sorted(ALL_MODES)), min_size=1),
    st.integers(0, 5),
)
def test_a_choice_is_repeatable_understood_and_of_something_there(
    rows: list[tuple[ProposalState, float | None, int]], modes: set[Mode], seed: int
) -> None:
    ideas = [idea(n, state, gain, children=c) for n, (state, gain, c) in enumerate(rows, 2)]
    view = shot(*ideas, modes=frozenset(modes))
    for n in range(5):
        choice = choose(view, seed, n)
        assert choice == choose(view, seed, n)
        assert choice.mode in modes or choice.mode == "exploit"
        assert choice.source_id in {1, *(one.id for one in ideas)}
        assert choice.with_id is None or choice.mode == "combine"
