"""How large a script says its artifact and its code are, in every format that is in use.

Takes the lines of a log; gives `Sizes`. Pure. The judge counts files itself: this is kept beside it.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

_BYTES = r"(\d{1,15}) bytes\b"
# Without a tag the sizes are those of the raw model, before it is compressed.
_MODEL = re.compile(rf"Serialized model (\S{{1,40}}): {_BYTES}")
_TOTAL = re.compile(rf"Total submission size (\S{{1,40}}): {_BYTES}")
_RAW_TOTAL = re.compile(rf"Total submission size: {_BYTES}")
_CODE = re.compile(rf"Code size( \((?:un)?compressed\))?: {_BYTES}")
_BUDGET = re.compile(r"budget:(\d{1,15})/\d{1,15} ")
_ARTIFACT = re.compile(r"artifact:[\d.]{1,12}MB .{0,200}\bcode:(\d{1,15})\s*")
_MB = r"(\d{1,9}(?:\.\d{0,9})?)"
_ROUNDED = re.compile(rf"\S{{1,40}}: {_MB}MB model \+ {_MB}MB code = {_MB}/[\d.]{{1,12}}MB .{{0,40}}")
_BAR = re.compile(r"\S{1,40} model: (\d{1,15}) bytes \| Total submission: (\d{1,15}) bytes\s*")
_TRAILER = re.compile(r"artifact_bytes:\s{1,40}(\d{1,15})\s*")


class Sizes(NamedTuple):
    artifact: int | None  # code not included
    code: int | None
    total: int | None
    notes: tuple[str, ...]


def read_sizes(rows: Sequence[str]) -> Sizes:
    """The last tagged total counts; then the other formats. What does not add up is noted."""
    model, total, raw_total = _last(_MODEL, rows), _last(_TOTAL, rows), _last(_RAW_TOTAL, rows)
    codes = {(found[1] or "").strip(" ()"): int(found[2]) for row in rows if (found := _CODE.match(row))}
    if model is None and total is None:
        other = _other_format(rows)
        if other is not None:
            return other
    code = _code(codes, model, total)
    notes = []
    if total is None and model is not None and code is not None:
        total = model + code
    elif total is None and raw_total is not None:
        total, notes = raw_total, ["the total is untagged: it may be the size before compression"]
    if model is None and total is not None and code is not None and not notes:
        model = total - code
    if None not in (model, code, total) and model + code != total:  # type: ignore[operator]
        notes.append(f"model {model:,} + code {code:,} bytes are not the total of {total:,}")
    return Sizes(model, code, total, tuple(notes))


def _code(codes: dict[str, int], model: int | None, total: int | None) -> int | None:
    """Of several code sizes one counts: the one that adds up, else the smallest form."""
    if model is not None and total is not None and total - model in codes.values():
        return total - model
    return next((codes[kind] for kind in ("compressed", "", "uncompressed") if kind in codes), None)


def _other_format(rows: Sequence[str]) -> Sizes | None:
    for row in reversed(rows):
        if found := _BUDGET.match(row):
            total = int(found[1])
            code = next((int(line[1]) for other in rows if (line := _ARTIFACT.fullmatch(other))), None)
            return Sizes(None if code is None else total - code, code, total, ())
        if found := _BAR.fullmatch(row):
            model, total = int(found[1]), int(found[2])
            return Sizes(model, total - model, total, ())
        if found := _TRAILER.fullmatch(row):
            return Sizes(int(found[1]), None, int(found[1]), ())
        if found := _ROUNDED.fullmatch(row):
            model, code, total = (round(float(part) * 1e6) for part in found.groups())
            return Sizes(model, code, total, ("sizes were printed in rounded megabytes",))
    return None


def _last(pattern: re.Pattern[str], rows: Sequence[str]) -> int | None:
    found = [match for row in rows if (match := pattern.match(row))]
    return int(found[-1].groups()[-1]) if found else None
