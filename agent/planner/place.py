"""Finds the one place in a file where a change belongs, or says why there is none.

Takes a file's lines and a `Change`; gives a `Place`. Exact text first; then text that differs in trailing
blanks or in one uniform indentation, if that is found once. The errors are written for a model to act on.
"""

import difflib
from collections.abc import Sequence
from typing import NamedTuple

from agent.errors import EditError
from agent.planner.blocks import Change

SHOWN_LINES = 12
SHOWN_WIDTH = 160


class Line(NamedTuple):
    text: str
    end: str
    """The newline as it is in the file, or nothing at the end of a file without one."""


class Place(NamedTuple):
    name: str
    start: int
    end: int
    new: tuple[str, ...]
    """What shall stand there, indented as the file is."""
    open_end: bool | None
    """Whether the file shall end without a newline; None: as it does now."""


def split(text: str) -> list[Line]:
    """Lines of a text; only \\n and \\r\\n end one."""
    parts = text.split("\n")
    lines = [Line(p[:-1], "\r\n") if p.endswith("\r") else Line(p, "\n") for p in parts[:-1]]
    return [*lines, Line(parts[-1], "")] if parts[-1] else lines


def join(lines: Sequence[Line]) -> str:
    return "".join(line.text + line.end for line in lines)


def locate(path: str, lines: Sequence[Line], change: Change, others: Sequence[Change]) -> Place:
    """Where the change belongs. Raises EditError."""
    texts = [line.text for line in lines]
    if not any(line.strip() for line in change.old):
        what = "empty" if not change.old else "only blank lines"
        raise EditError(
            f"{change.name}: its SEARCH part is {what}, so there is no place for it in {path}. "
            "Quote the lines next to the place and repeat them in what replaces them."
        )
    if change.old == change.new and change.old_open == change.new_open:
        raise EditError(f"{change.name}: changes nothing: both parts are the same")
    found = _matches(texts, change.old)
    new = change.new
    if not found:
        found = _matches([text.rstrip() for text in texts], [line.rstrip() for line in change.old])
    if not found:
        found, new = _indented(texts, change)
    if len(found) > 1 and change.line is not None and change.line - 1 in found:
        found = [change.line - 1]
    if not found:
        raise EditError(_not_found(path, texts, change, others))
    if len(found) > 1:
        where = ", ".join(str(at + 1) for at in found[:6])
        raise EditError(
            f"{change.name}: matches {len(found)} times in {path}: at lines {where}. "
            "Add the lines before or after the right one to the SEARCH part."
        )
    start, end = found[0], found[0] + len(change.old)
    return Place(change.name, start, end, new, _end_of_file(path, lines, change, end))


def _matches(texts: Sequence[str], wanted: Sequence[str]) -> list[int]:
    size = len(wanted)
    return [
        at
        for at in range(len(texts) - size + 1)
        if texts[at] == wanted[0] and all(texts[at + i] == wanted[i] for i in range(1, size))
    ]


def _indented(texts: Sequence[str], change: Change) -> tuple[list[int], tuple[str, ...]]:
    """Matches that differ from the SEARCH part by one indentation, and the new lines moved by the same."""
    bare = [text.strip() for text in texts]
    wanted = [line.strip() for line in change.old]
    found: list[int] = []
    moved = change.new
    for at in _matches(bare, wanted):
        shift = _shift(texts[at : at + len(wanted)], change.old)
        if shift is None:
            continue
        try:
            moved = tuple(_move(line, *shift) for line in change.new)
        except ValueError:
            continue
        found.append(at)
    # Indentation inside a string is text: there, only the exact lines will do.
    if any(quote in line for line in change.new for quote in ('"""', "'''")):
        return [], change.new
    return found, moved


def _shift(there: Sequence[str], written: Sequence[str]) -> tuple[str, str] | None:
    """What to take off every written line and what to put before it; None if it isn't the same for all."""
    shifts = set()
    for text, line in zip(there, written, strict=True):
        if line.strip():
            mine, real = line[: len(line) - len(line.lstrip())], text[: len(text) - len(text.lstrip())]
            if real.endswith(mine):
                shifts.add(("", real[: len(real) - len(mine)]))
            elif mine.endswith(real):
                shifts.add((mine[: len(mine) - len(real)], ""))
            else:
                return None
    return shifts.pop() if len(shifts) == 1 else None


def _move(line: str, off: str, on: str) -> str:
    if not line.strip():
        return line
    if not line.startswith(off):
        raise ValueError("less indented than what is taken off")
    return on + line[len(off) :]


def _end_of_file(path: str, lines: Sequence[Line], change: Change, end: int) -> bool | None:
    if change.old_open is None or change.new_open is None:
        return None
    if end != len(lines) or (lines[-1].end == "") != change.old_open:
        raise EditError(f"{change.name}: says that {path} ends there, which it doesn't, or with another last newline")
    return change.new_open


def _not_found(path: str, texts: Sequence[str], change: Change, others: Sequence[Change]) -> str:
    if any(line.strip() for line in change.new):
        there = _matches(texts, change.new)
        if there and len(change.new) >= len(change.old):
            last = there[0] + len(change.new)
            return (
                f"{change.name}: is already applied: lines {there[0] + 1} to {last} of {path} are what it "
                "would write. Leave it out."
            )
    for other in others:
        if other is not change and _matches(other.new, change.old):
            return (
                f"{change.name}: its lines are not in {path}, only in what {other.name} writes. All edits "
                "apply to the file as it is now: make one of the two."
            )
    said = f"{change.name}: its SEARCH lines are not in {path}."
    near = _nearest(texts, change.old)
    if near is None:
        return f"{said} Nothing in the file is like them: look at the file again."
    start, end = near
    wanted = {line.strip() for line in change.old}
    shown = [
        f"{' ' if texts[at].strip() in wanted else '!'}{at + 1:6d} | {texts[at][:SHOWN_WIDTH]}"
        for at in range(start, min(end, start + SHOWN_LINES))
    ]
    if end - start > SHOWN_LINES:
        shown.append(f"        ({end - start - SHOWN_LINES} more lines)")
    return f"{said} Did you mean these lines (! marks those that differ)?\n" + "\n".join(shown)


def _nearest(texts: Sequence[str], wanted: Sequence[str]) -> tuple[int, int] | None:
    """The stretch of the file that is most like the wanted lines."""
    size = len(wanted)
    bare, lines = [text.strip() for text in texts], {line.strip() for line in wanted if line.strip()}
    hits = [bool(text) and text in lines for text in bare]
    if any(hits):
        running = best = sum(hits[:size])
        start = 0
        for at in range(1, max(1, len(texts) - size + 1)):
            running += hits[min(at + size - 1, len(hits) - 1)] - hits[at - 1]
            if running > best:
                best, start = running, at
        return start, min(len(texts), start + size)
    longest = max(lines, key=len)
    close = difflib.get_close_matches(longest[:SHOWN_WIDTH], {text[:SHOWN_WIDTH] for text in bare if text}, n=1)
    if not close:
        return None
    at = next(i for i, text in enumerate(bare) if text[:SHOWN_WIDTH] == close[0])
    offset = next(i for i, line in enumerate(wanted) if line.strip() == longest)
    start = max(0, at - offset)
    return start, min(len(texts), start + size)
