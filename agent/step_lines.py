"""The lines in which a script says at which step of how many it is, and its loss there.

Takes text of a log, which a candidate wrote; gives `StepLine`s. Pure; takes time by the length of the text alone, and
what it finds is bounded. What follows from a line is for its reader to say: most of them only show it.
"""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple, TypeVar

T = TypeVar("T")

# step:120/300 train_loss:5.1 ...   step:1000/20000 val_loss:nan ...   4000/20000 loss: 2.5
_LINE = re.compile(
    r"^(?:step[: ])?[ \t]{0,8}(\d{1,9})/(\d{1,9})\b([^\n]{0,200})", re.MULTILINE | re.IGNORECASE | re.ASCII
)
_FIGURE = r":?[ \t]{0,8}([-+]?[a-z0-9.]{1,24}(?:(?<=e)[-+]\d{1,3})?)"
_ANY_CASE = re.IGNORECASE | re.ASCII  # else a dotless i is an i, and float() does not think so
_LOSS = re.compile(rf"\b(\w{{0,20}}loss)\b{_FIGURE}", _ANY_CASE)
_BPB = re.compile(rf"\bval_bpb\b{_FIGURE}", _ANY_CASE)
_CLOCK = re.compile(r"\btrain_time:(\d{1,12})ms\b", re.ASCII)
# train_time:9876ms   train_time: 1.2m   t:9876ms
_AT = re.compile(r"\b(?:train_time|t):[ \t]{0,8}(\d{1,12}(?:\.\d{1,3})?)(ms|s|m)\b", re.ASCII)
_UNITS = {"ms": 1, "s": 1000, "m": 60_000}
# step 00123 (12.3%) | loss: 2.345678 | ...   one over the other, parted by carriage returns
_PART = re.compile(r"(?:^|[\r\n])step (\d{1,9}) \(([0-9.]{1,8})%\) {0,4}\|? {0,4}loss:? {0,4}([0-9.]{1,12})")
_OFFICIAL = re.compile(r"(?:step:)?(\d{1,12})/\d{1,12} .{0,200}loss")


class StepLine(NamedTuple):
    step: int
    steps: int
    said: str
    """Behind them, on the same line."""

    def loss(self, *names: str) -> str | None:
        """As it is printed; the first of these names (`train_loss`), or of any. It need not be a number."""
        found = ((one[1].lower(), one[2]) for one in _LOSS.finditer(self.said))
        return next((text for name, text in found if not names or name in names), None)

    def bpb(self) -> str | None:
        """Of the validation text, as it is printed; it need not be a number."""
        found = _BPB.search(self.said)
        return None if found is None else found[1]

    def clock_ms(self) -> int | None:
        """How long the script has trained by its own clock."""
        found = _AT.search(self.said)
        return None if found is None else round(float(found[1]) * _UNITS[found[2]])


def read(text: str) -> list[StepLine]:
    """In the order of the log."""
    return [StepLine(int(one[1]), int(one[2]), one[3]) for one in _LINE.finditer(text)]


def trained_s(text: str) -> float | None:
    """How long it has trained by its own clock, as far as the last line says."""
    said = _CLOCK.findall(text)
    return int(said[-1]) / 1000 if said else None


def part(text: str) -> tuple[float, float | None] | None:
    """How far a script is that counts percent of its time, from 0 to 1, and its loss there."""
    said = _PART.findall(text)
    percent = finite(said[-1][1]) if said else None
    return None if percent is None else (min(percent / 100, 1.0), finite(said[-1][2]))


def of_part(line: str) -> tuple[int, float | None] | None:
    """The step and the loss of a line of such a script."""
    found = _PART.match(line)
    return None if found is None else (int(found[1]), finite(found[3]))


def official(line: str) -> int | None:
    """The step, where a line has the form of an official script: the judge, whose word counts, goes by no other."""
    found = _OFFICIAL.match(line)
    return None if found is None else int(found[1])


def finite(loss: str) -> float | None:
    try:
        number = float(loss)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def same_start(one: Mapping[int, T], other: Mapping[int, T]) -> int:
    """How many of the first steps that both name have exactly the same loss."""
    common = sorted(one.keys() & other.keys())
    return next((n for n, step in enumerate(common) if one[step] != other[step]), len(common))
