"""The lines of a log that a script may have written about itself: cleaned, numbered, without printed source.

Takes the text of a log; gives `Row`s. Pure, and bounded: of a huge log the head and the tail are read.
"""

import re
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

HEAD_CHARS, TAIL_CHARS, LINE_CHARS = 1 << 18, 1 << 21, 2000
_ESCAPE = re.compile(r"\x1b(?:\[[0-9;?]{0,32}[ -/]{0,4}[@-~]|[@-Z\\-_])")
_BREAK = re.compile(r"\r\n|\r|\n")
_STAMP = re.compile(r"\d{9,20}\.\d{1,12}\s{1,8}")
# As launchers mark what each process prints: [rank0]: or [default0]: or, with `srun -l`, 0:
_RANK = re.compile(r"\[(?:rank|default|trainer|worker)?\s?(\d{1,4})\]:?\s?|(?:rank|worker)\s?(\d{1,4}):\s?|(\d{1,3}): ")
_SEPARATOR = re.compile(r"={20,}\s*")
# What stands at the beginning of a line in a Python file, and hardly ever in what one prints.
_CODE = re.compile(
    r"import [\w.]+(?: as \w+)?(?:, ?[\w.]+(?: as \w+)?)*\s*(?:#.*)?$|from [\w.]+ import |(?:async )?def \w+\(|"
    r"class \w+[(:]|if __name__ ==|@[\w.]+(?:\(.*)?$"
)
_DOCSTRING = re.compile(r"[rRbBfFuU]{0,2}(?:\"\"\"|''')|#!")
_CONTINUED = re.compile(
    r"\s|[)\]}#]|[A-Za-z_][\w.\[\]]{0,60}(?:, ?\w{1,60}){0,8}\s?[-+*/|&]?=[^=]|"
    r"(?:try|else|finally|elif|except|with|for|while)\b"
)
SHORTEST = len("seed:1")
MOST_APART = 300  # lines between two beginnings of one source
LEAST_ANCHORS = 3  # that make a source; a traceback shows fewer


@dataclass(frozen=True)
class Row:
    """One line worth reading."""

    text: str
    """Without terminal escapes, time stamp and mark of its process."""
    number: int
    """In the log, from 1."""
    rank: int | None = None
    """Which process printed it, where that is marked."""
    whole: bool = True
    """Whether its end is there: the last line of a log that was cut off may end inside a number."""


def rows(text: str) -> list[Row]:
    """Every line that could say something, in order."""
    lines = list(_lines(text))
    hidden = _printed_source([line for _, line, _ in lines])
    return [
        _row(number, line, whole)
        for at, (number, line, whole) in enumerate(lines)
        if len(line) >= SHORTEST and ":" in line and at not in hidden  # no format does without a colon
    ]


def printed_source(text: str) -> list[str]:
    """The source that the script printed, without empty lines; empty if it printed none."""
    lines = [line for _, line, _ in _lines(text)]
    return [lines[at].rstrip() for at in sorted(_printed_source(lines)) if lines[at].strip()]


def of_first_rank(found: Sequence[Row]) -> list[Row]:
    """What the process with the lowest rank says, and what nobody is named for."""
    first = min((row.rank for row in found if row.rank is not None), default=None)
    return [row for row in found if row.rank is None or row.rank == first]


def _lines(text: str) -> Iterator[tuple[int, str, bool]]:
    """Number, text, whether it is whole. Where a huge log is cut, the two halves of lines go too."""
    first = 1
    if len(text) > HEAD_CHARS + TAIL_CHARS:
        head = text[:HEAD_CHARS].replace("\r", "\n").split("\n")
        yield from ((number, line[:LINE_CHARS], True) for number, line in enumerate(head[:-1], 1))
        first += text.count("\n", 0, len(text) - TAIL_CHARS) + 1
        text = _BREAK.split(text[-TAIL_CHARS:], 1)[-1]
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    last = len(lines) - 1
    for at, line in enumerate(lines):
        if line:
            yield first + at, line[:LINE_CHARS], at < last and len(line) <= LINE_CHARS


def _row(number: int, line: str, whole: bool) -> Row:
    line = _ESCAPE.sub("", line)
    rank = None
    if marked := _RANK.match(line):
        rank = int(next(group for group in marked.groups() if group is not None))
        line = line[marked.end() :]
    stamp = _STAMP.match(line)
    return Row(line[stamp.end() :] if stamp else line, number, rank, whole)


# ------------------------------------------------------------ source that the script printed


def _printed_source(lines: Sequence[str]) -> set[int]:
    """Which lines are source: scripts print themselves, with every format in them, and examples in docstrings."""
    anchors = [at for at, line in enumerate(lines) if line[:1] in "ifadcf@" and _CODE.match(line)]
    if len(anchors) < LEAST_ANCHORS:
        return set()
    separators = [at for at, line in enumerate(lines) if line[0] == "=" and _SEPARATOR.fullmatch(line)]
    hidden: set[int] = set()
    for begin, end in zip([-1, *separators], [*separators, None], strict=True):
        inside = anchors[bisect(anchors, begin) : len(anchors) if end is None else bisect(anchors, end)]
        for group in _groups(inside):
            start = _docstring_above(lines, group[0], begin)
            stop = end if end is not None and group[-1] == inside[-1] else _end(lines, group[-1])
            hidden.update(range(start, stop))
    return hidden


def _groups(anchors: Sequence[int]) -> Iterator[list[int]]:
    """Beginnings that stand near one another."""
    group: list[int] = []
    for at in anchors:
        if group and at - group[-1] > MOST_APART:
            if len(group) >= LEAST_ANCHORS:
                yield group
            group = []
        group.append(at)
    if len(group) >= LEAST_ANCHORS:
        yield group


def _docstring_above(lines: Sequence[str], first: int, begin: int) -> int:
    """Where the source starts: perhaps with a docstring, before the first of its beginnings."""
    above = range(max(begin + 1, first - MOST_APART), first)
    return next((at for at in above if _DOCSTRING.match(lines[at])), first)


def _end(lines: Sequence[str], last: int) -> int:
    """Behind the last line that goes on with the source."""
    at = last + 1
    while at < len(lines) and _CONTINUED.match(lines[at]):
        at += 1
    return at
