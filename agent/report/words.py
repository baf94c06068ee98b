"""Text that a model or a candidate wrote, made safe to show; and numbers as people read them."""

import re
import unicodedata
from collections.abc import Sequence

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")


def plain(text: str, *, limit: int = 20_000) -> str:
    """Without terminal escapes, control and direction characters; line breaks and tabs stay."""
    text = _ESCAPES.sub("", text[: 4 * limit])
    kept = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co"))
    return kept if len(kept) <= limit else kept[: limit - 1] + "…"


def line(text: str, limit: int = 100) -> str:
    """One line of at most `limit` characters."""
    one = " ".join(plain(text, limit=4 * limit).split())
    return one if len(one) <= limit else one[: limit - 1] + "…"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as they need to be; numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = (
        [max(len(name), *(len(row[at]) for row in cells), 0) for at, name in enumerate(header)]
        if cells
        else []
    )
    if not cells:
        return "(none)"
    right = [
        all(isinstance(row[at], int | float) or row[at] is None for row in rows) for at in range(len(header))
    ]

    def put(values: Sequence[str]) -> str:
        parts = [v.rjust(w) if r else v.ljust(w) for v, w, r in zip(values, widths, right, strict=True)]
        return "  ".join(parts).rstrip()

    return "\n".join([put(list(header)), put(["-" * width for width in widths]), *map(put, cells)])


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
