"""Chunks follow the rule, and no question of the audit gives away the answer to another."""

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.judge.audit.lanes import LANE_CONTEXTS, Lanes, draw, draw_weighted, frames, split
from agent.judge.scoring import Stream, chunks


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 50))
def test_chunks_follow_the_rule(lengths: list[int], size: int) -> None:
    starts = np.cumsum([0, *lengths[:-1]]).tolist()
    stream = Stream(np.arange(sum(lengths), dtype=np.uint32), tuple(starts))
    found = list(chunks(stream, size))
    assert [chunk.begin for chunk in found] == [0, *(chunk.end for chunk in found[:-1])]
    assert found[-1].end == sum(lengths)
    for chunk in found:
        length = chunk.end - chunk.begin
        assert length <= 2 * size
        ends_with_document = chunk.end in starts or chunk is found[-1]
        assert ends_with_document or length == 2 * size
        inside = [start for start in starts if chunk.begin + size <= start < chunk.end]
        assert inside == []  # it would have ended there
        assert chunk.starts == [s - chunk.begin for s in starts if chunk.begin <= s < chunk.end]


@settings(max_examples=200)
@given(st.integers(1, 40), st.integers(1, 2000), st.integers(1, 100), st.integers(0, 2**32))
def test_no_question_is_answered_by_an_earlier_frame(context: int, count: int, peeks: int, seed: int) -> None:
    source = random.Random(seed)
    lanes = Lanes.draw(context, count, source)
    drawn = draw(lanes, count, peeks, source)
    asked = frames(lanes, drawn, 256)
    assert sorted(position for frame in asked for position in frame) == sorted(drawn)
    sent: set[int] = set()
    for frame in asked:
        for position in frame:
            sent.update(range(max(0, position - context), position))
        assert not sent.intersection(frame)
        left = [position for later in asked[asked.index(frame) + 1 :] for position in later]
        assert not sent.intersection(left)


def test_every_position_can_be_drawn() -> None:
    counts = np.zeros(100)
    for seed in range(4000):
        source = random.Random(seed)
        counts[draw(Lanes.draw(3, 100, source), 100, 4, source)] += 1
    assert counts.min() > 0.6 * counts.mean()
    assert LANE_CONTEXTS * 3 < 100


def test_long_answers_are_split() -> None:
    rows = frames(Lanes(1, 0), list(range(0, 4000, 5)), 1 << 20)
    assert max(map(len, rows)) * 4 * (1 << 20) <= 64 << 20
    assert sum(map(len, rows)) == 800


def test_a_long_context_leaves_enough_to_ask() -> None:
    """Contexts as long as the stream, where a cut near its start would close the rest."""
    for seed in range(300):
        source = random.Random(seed)
        lanes = Lanes.draw(1000, 1000, source)
        assert len(draw(lanes, 1000, 64, source)) == 64
        assert sum(map(lanes.open, range(1000))) > 400


@given(st.integers(1, 40), st.integers(1, 2000), st.integers(0, 2**32))
def test_open_positions_are_the_same_one_by_one_and_together(context: int, count: int, seed: int) -> None:
    lanes = Lanes.draw(context, count, random.Random(seed))
    assert lanes.opened(count).tolist() == [lanes.open(position) for position in range(count)]


def test_what_weighs_more_is_drawn_more_often() -> None:
    weights = np.zeros(400)
    weights[10:20], weights[300:320] = 1.0, 4.0
    counts = np.zeros(400)
    for seed in range(3000):
        source = random.Random(seed)
        lanes = Lanes.draw(3, 400, source)
        drawn = draw_weighted(lanes, weights, 5, source)
        assert len(set(drawn)) == 5 == sum(map(lanes.open, drawn))
        counts[drawn] += 1
    assert counts.sum() == counts[10:20].sum() + counts[300:320].sum()
    assert 3 < counts[300:320].mean() / counts[10:20].mean() < 5  # a little less than 4: none is drawn twice
    assert draw_weighted(lanes, np.zeros(400), 5, random.Random(1)) == []


def test_parts_are_of_whole_lanes() -> None:
    """So that the first part can be asked before anybody knows how much of the second there will be."""
    for seed in range(200):
        source = random.Random(seed)
        lanes = Lanes.draw(4, 2000, source)
        drawn = draw(lanes, 2000, 300, source)
        first, rest = split(lanes, drawn, 64, source)
        assert sorted(first + rest) == drawn and len(first) >= 64
        assert not {lanes.lane(p) for p in first} & {lanes.lane(p) for p in rest}
        assert len(first) < 64 + 16
