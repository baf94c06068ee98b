"""Two near misses put together without asking a planner, and what is said of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.planner import Request, Trial, edits, merging
from agent.planner.merging import MERGE
from agent.records import Draft
from agent.search import pairs_in
from agent.track import load
from tests.blank import ANY, CAMPAIGN

TRACK = load("tiny", Path())[0]
HEAD = {"train.py": "a = 1\nb = 2\nc = 3\n"}
ONE = replace(ANY, id=4, title="more a", kind="data", risk=("loud",), baseline_id=1)
TWO = replace(ANY, id=9, title="more c", kind="optimiser", risk=("loud", "slow"), baseline_id=1)


def request(one: str, two: str, gains: tuple[float, float] = (0.012, 0.02)) -> Request:
    trials = tuple(
        Trial(idea.id, "inconclusive", {}, gain, 2.2, 150_000, 1, 2)
        for idea, gain in zip((ONE, TWO), gains, strict=True)
    )
    return Request(
        TRACK, CAMPAIGN, "combine", replace(ANY, id=1), ONE, {"train.py": one}, HEAD, trials, 0, 12,
        partner=TWO, partner_files={"train.py": two},
    )  # fmt: skip


def test_what_merges_cleanly_is_an_idea_of_both() -> None:
    found = MERGE.propose(request("a = 5\nb = 2\nc = 3\n", "a = 1\nb = 2\nc = 7\n"))
    assert found is not None
    assert (found.planner, found.mode, found.kind, found.source_id) == ("merge", "combine", "optimiser", 4)
    assert edits.apply(found.edits, {"train.py": "a = 5\nb = 2\nc = 3\n"}, ["train.py"]) == {
        "train.py": "a = 5\nb = 2\nc = 7\n"
    }
    assert found.title == "more a + more c" and found.risk == ("loud", "slow")
    assert found.evidence[:2] == ("p4", "p9") and pairs_in(found.evidence) == {frozenset({4, 9})}
    assert "p4 (more a) +0.0120 and p9 (more c) +0.0200" in found.hypothesis
    assert 0.5 * 0.032 < found.expected_gain < 0.032  # shrunk: noise may have made a part of it
    assert 0.9 < found.confidence < 1.0


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("a = 5\nb = 2\nc = 3\n", "a = 6\nb = 2\nc = 3\n"),  # the same line, differently
        ("a = 5\nb = 2\nc = 7\n", "a = 1\nb = 2\nc = 7\n"),  # one holds the other
        ("a = 5\nb = 2\nc = 3\n", "a = 5\nb = 2\nc = 3\n"),
    ],
)
def test_what_conflicts_or_adds_nothing_is_for_a_planner(one: str, two: str) -> None:
    assert MERGE.propose(request(one, two)) is None
    assert MERGE.propose(request(two, one)) is None


def test_what_a_planner_makes_of_a_pair_names_the_pair() -> None:
    asked = request("a = 5\nb = 2\nc = 3\n", "a = 6\nb = 2\nc = 3\n")
    draft = Draft("t", "h", "e", "model", "combine", "data", 4, evidence=("p4", "as p1 with p2 did"))
    noted = merging.noted(draft, asked)
    assert noted is not None and pairs_in(noted.evidence) == {frozenset({4, 9})}
    assert merging.noted(draft, replace(asked, partner=None)) == draft and merging.noted(None, asked) is None
