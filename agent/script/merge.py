"""Three-way merge of two edits of one text, line by line.

Takes the common text and the two edited ones; gives the text with both edits, or None when they touch the same lines.
Unlike git's merge, edits of neighbouring lines don't conflict: two knobs of a script often stand next to each other,
and what comes out is checked, run and measured anyway.
"""

from difflib import SequenceMatcher
from itertools import pairwise
from typing import NamedTuple


class Change(NamedTuple):
    """Lines [start, end) of the common text, replaced."""

    start: int
    end: int
    lines: tuple[str, ...]


def merge(base: str, ours: str, theirs: str) -> str | None:
    old = base.splitlines(keepends=True)
    mine, other = changes(old, ours.splitlines(keepends=True)), changes(old, theirs.splitlines(keepends=True))
    both = sorted({*mine, *other})
    for first, second in pairwise(both):
        if first.end > second.start or (first.start == second.start and first.end == second.end):
            return None
    result: list[str] = []
    at = 0
    for change in both:
        result += old[at : change.start]
        result += change.lines
        at = change.end
    return "".join(result + old[at:])


def changes(old: list[str], new: list[str]) -> list[Change]:
    """What was replaced, one change a line where lines were replaced one by one."""
    found = []
    for tag, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        if b - a == d - c:
            found += [Change(a + n, a + n + 1, (new[c + n],)) for n in range(b - a)]
        else:
            found.append(Change(a, b, tuple(new[c:d])))
    return found
