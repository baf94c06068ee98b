"""What refuses a submission, and in which words."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.records import Finding
from tests.filling import add_measured
from tests.packaging import ME, SCORES, Make, making, refused

CHEAT = (Finding("not_normalised", "invalid", "sums to 3"),)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    yield from making(tmp_path)


@pytest.mark.parametrize(
    ("changes", "gate", "words"),
    [
        ({"scores": SCORES[:2]}, "seeds", "2 fresh runs, 3 are needed"),
        ({"scores": ()}, "seeds", "only a promoted commit is run with fresh seeds"),
        ({"scores": (1.07, None, 1.071, 1.072)}, "scores", "ended as crashed"),
        ({"findings": CHEAT}, "rules", "not_normalised: sums to 3"),
        ({"trust": "measured"}, "trust", "blind is needed"),
        ({"odd": {"walls": ("env", "unsafe")}}, "walls", "ran without walls"),
        ({"total_bytes": 16_000_001}, "size", "16,000,001 bytes at most, code included; 16,000,000 are allowed"),
        ({"findings": (Finding("train_clock", "flag", "700 s"),)}, "clocks", "train_clock: 700 s"),
        ({"findings": (Finding("score_clock", "flag", "617 s"),)}, "clocks", "score_clock: 617 s"),
        ({"answers_s": 617.0, "wall_s": 650.0}, "clocks", "scoring took 617.0 s"),
        ({"wall_s": 650.0}, "clocks", "r3: all of scoring took 650.0 s (what its answers took is not known)"),
        ({"odd": {"script_sha": "other"}}, "one configuration", "script: "),
        ({"odd": {"hardware_class": "a100"}}, "one configuration", "hardware: a100, h100"),
        ({"odd": {"data_sha": "d2"}}, "one configuration", "text: d1, d2"),
        ({"scores": (1.0812, 1.0809, 1.0805)}, "claim", "not below 0.01"),
    ],
)
def test_a_gate_that_fails_refuses_it_and_says_so(
    make: Make, changes: dict[str, object], gate: str, words: str
) -> None:
    found = make(**changes).package()
    assert gate in refused(found)
    assert words in next(one.words for one in found.gates if one.name == gate)
    if gate != "claim":  # which is all that --non-record waives
        assert gate in refused(make(**changes).package(replace(ME, non_record=True)))


def test_what_a_clock_leaves_out_is_told_to_who_submits_it(make: Make) -> None:
    found = make(findings=(Finding("clock_left_out", "flag", "leaves out 250 s"),)).package()
    (clocks,) = [one for one in found.gates if one.name == "clocks"]
    assert clocks.ok and "you answer for what these leave out: r" in clocks.words
    assert "leaves out 250 s" in clocks.words and "kept to their clocks" not in clocks.words


def test_what_stands_on_a_broken_rule_is_refused(make: Make) -> None:
    """Its own runs break none."""
    made = make()
    with made.store.write() as tx:
        base = tx.base(made.head.campaign_id)
        run = add_measured(tx, base, 7, 1.1, purpose="anchor", findings=CHEAT)
    found = made.package()
    assert refused(found) == ["lineage"]
    words = next(one.words for one in found.gates if one.name == "lineage")
    assert words == f"p{base.id}, on which it was built, broke a rule: r{run.id}: not_normalised: sums to 3"


def test_of_no_runs_nothing_is_said_to_hold(make: Make) -> None:
    found = make(scores=()).package()
    assert [gate.name for gate in found.gates if gate.ok] == ["lineage", "text", "author"]


def test_a_claim_needs_a_record_and_an_author_a_name(make: Make) -> None:
    made = make()
    assert refused(made.package(replace(ME, against=()))) == ["claim"]
    assert refused(made.package(replace(ME, against=(1.08,)))) == ["claim"]
    assert refused(made.package(replace(ME, github_id=""))) == ["author"]
