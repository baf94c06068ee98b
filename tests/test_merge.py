"""Merging two edits of one text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.script.merge import merge

BASE = "a\nb\nc\nd\n"


@pytest.mark.parametrize(
    ("ours", "theirs", "merged"),
    [
        ("A\nb\nc\nd\n", "a\nb\nc\nD\n", "A\nb\nc\nD\n"),
        ("a\nB\nc\nd\n", "a\nb\nC\nd\n", "a\nB\nC\nd\n"),  # neighbours
        ("a\nB\nC\nd\n", "a\nB\nc\nd\n", "a\nB\nC\nd\n"),  # one did part of the other
        ("a\nB\nc\nd\n", "a\nX\nc\nd\n", None),  # the same line, differently
        ("a\nb\nx\nc\nd\n", "a\nb\ny\nc\nd\n", None),  # inserted at the same place
        ("a\nb\nx\nc\nd\n", "a\nb\nc\nd\ny\n", "a\nb\nx\nc\nd\ny\n"),
        ("a\nd\n", "a\nb\nC\nd\n", None),  # one removed what the other changed
        ("", BASE, ""),
    ],
)
def test_merge(ours: str, theirs: str, merged: str | None) -> None:
    assert merge(BASE, ours, theirs) == merged
    assert merge(BASE, theirs, ours) == merged


lines = st.lists(st.sampled_from("abcxyz"), max_size=8).map(lambda parts: "".join(f"{part}\n" for part in parts))


@given(lines, lines)
def test_merging_with_nothing_or_with_itself_is_the_edit(base: str, edited: str) -> None:
    assert merge(base, edited, base) == edited
    assert merge(base, base, edited) == edited
    assert merge(base, edited, edited) == edited
