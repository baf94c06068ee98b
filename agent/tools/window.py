"""Cuts what a tool answers down to what a prompt can hold, and says what was cut.

Takes texts of any length; gives at most `MOST` characters. Lines are counted as edits count them: only a newline ends
one, so that what is shown can be quoted back.
"""

from agent.errors import UserError
from agent.words import plain

MOST = 20_000
_ROOM = 400  # for the line above and the note below


def bounded(text: str) -> str:
    """Clean, and not longer than `MOST`."""
    clean = plain(text, limit=4 * MOST)
    if len(clean) <= MOST:
        return clean
    return f"{clean[: MOST - _ROOM]}\n[cut here: the answer had more than {MOST:,} characters; ask for less]"


def lines_of(text: str) -> list[str]:
    rows = text.split("\n")
    return rows[:-1] if rows[-1] == "" else rows


def window(what: str, text: str, first: int, last: int) -> str:
    """Lines `first` to `last` (0: the end) of a text, whole ones, as many as there is room for."""
    rows = lines_of(text)
    if not rows:
        return f"{what} is empty"
    if first > len(rows):
        raise UserError(f"{what} has {len(rows)} lines; first_line={first} is behind its end")
    if last and last < first:
        raise UserError(f"last_line={last} is before first_line={first}")
    end = min(last or len(rows), len(rows))
    shown: list[str] = []
    room = MOST - _ROOM
    for row in rows[first - 1 : end]:
        if len(row) + 1 > room:
            break
        room -= len(row) + 1
        shown.append(row)
    if not shown:  # one endless line: its beginning is better than nothing
        shown = [rows[first - 1][:room] + " [the rest of this line was cut]"]
    at = first - 1 + len(shown)
    head = f"{what}, lines {first} to {at} of {len(rows)}:"
    more = [f"[cut: lines {at + 1} to {end} did not fit; first_line={at + 1} shows them]"] if at < end else []
    return "\n".join([head, *shown, *more])
