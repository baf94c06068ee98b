"""Text that a model or a candidate wrote, made safe to show; numbers as people read them; where colours may be.

Takes any text; gives text that no terminal and no markup can be tricked with. Standard library only.
"""

import os
import re
import unicodedata
from collections.abc import Sequence
from typing import IO

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]P^_X][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
# Cc: escapes, bells, backspaces. Cf: marks that are not seen or turn the direction. Cs: halves of characters.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def colourful(stream: IO[str]) -> bool:
    """Whether colours can be read there, and nobody asked for none."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def without_escapes(text: str) -> str:
    """Without what a terminal would obey; lines end in one way."""
    return _ESCAPES.sub("", text.replace("\r\n", "\n"))


def plain(text: str, *, limit: int = 20_000) -> str:
    """Without terminal escapes, control and direction characters; line breaks and tabs stay."""
    kept = "".join(map(_seen, without_escapes(text[: 4 * limit])))
    return kept if len(kept) <= limit else kept[: limit - 1] + "…"


def line(text: str, limit: int = 100) -> str:
    """One line of at most `limit` characters."""
    one = " ".join(plain(text, limit=4 * limit).split())
    return one if len(one) <= limit else one[: limit - 1] + "…"


def markup(text: str, limit: int = 100) -> str:
    """One line that rich shows as it is: no bracket of it opens a style or a link."""
    from rich.markup import escape

    return escape(line(text, limit))


def markdown(text: str, limit: int = 200) -> str:
    """One line that fits into a cell of a Markdown table and stays text there."""
    return re.sub(r"([\\`*_\[\]<|~$&])", r"\\\1", line(text, limit))


def _seen(char: str) -> str:
    if char in "\n\t" or unicodedata.category(char) not in _UNSEEN:
        return char
    return " " if char in "\r\v\f\x85\u2028\u2029" else ""


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as they need to be; numbers to the right."""
    if not rows:
        return "(none)"
    names = [line(name, 40) for name in header]
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(name), *(len(row[at]) for row in cells)) for at, name in enumerate(names)]
    right = [
        all(value is None or isinstance(value, int | float) for value in column) for column in zip(*rows, strict=True)
    ]

    def put(values: Sequence[str]) -> str:
        parts = [v.rjust(w) if r else v.ljust(w) for v, w, r in zip(values, widths, right, strict=True)]
        return "  ".join(parts).rstrip()

    return "\n".join([put(names), put(["-" * width for width in widths]), *map(put, cells)])


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    return line(str(value), 80)


def duration(seconds: float) -> str:
    """4 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def size(n_bytes: float) -> str:
    """4 kB, 3.2 MB, 16.0 GB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:.1f} {unit}"
    return f"{n_bytes / 1e3:.0f} kB" if n_bytes >= 1000 else f"{n_bytes:.0f} bytes"
