"""The frontier, drawn with characters: every run a dot, the accepted envelope a line.

Takes a `Picture` and a size; gives lines of text. Unicode, or plain ASCII where the terminal can't show it.
"""

import sys
from typing import NamedTuple

from agent.report.points import Dot, Picture, Standing


class Marks(NamedTuple):
    run: str
    head: str
    oversize: str
    invalid: str
    level: str
    drop: str
    axis: str
    corner: str
    floor: str
    above: str
    blank: str


UNICODE = Marks("·", "●", "□", "✗", "━", "┃", "│", "└", "─", "▴", "╷")
ASCII = Marks(".", "o", "#", "x", "=", "|", "|", "+", "-", "^", "'")
COLOURS = {"head": "\x1b[32m", "envelope": "\x1b[32m", "oversize": "\x1b[33m", "invalid": "\x1b[31m"}
RANK: dict[Standing, int] = {"valid": 1, "oversize": 2, "invalid": 3, "head": 5}
ENVELOPE = 4  # over everything but the heads it is made of


class Cell(NamedTuple):
    rank: int
    mark: str
    style: str


class Scale(NamedTuple):
    """Where a run and a score are on the grid."""

    runs: int
    low: float
    high: float
    width: int
    height: int

    def column(self, n: int) -> int:
        return min(self.width - 1, max(0, round((n - 1) / max(1, self.runs - 1) * (self.width - 1))))

    def row(self, bpb: float) -> int:
        share = (self.high - bpb) / (self.high - self.low or 1.0)
        return min(self.height - 1, max(0, round(share * (self.height - 1))))


def frontier(picture: Picture, *, width: int = 78, height: int = 16, colour: bool, unicode: bool) -> str:
    """The whole drawing, its legend included; every line at most `width` wide."""
    marks = UNICODE if unicode else ASCII
    fair = [dot.bpb for dot in picture.dots if dot.standing != "invalid"]
    if not fair:
        return "No run has a score yet."
    base = picture.steps[0].bpb if picture.steps else max(fair)
    heads = [dot.bpb for dot in picture.dots if dot.standing == "head"]
    high = max(base, *heads, min(max(fair), base + 0.5 * (base - min(fair)) + 0.001))
    scale = Scale(picture.runs, min(fair), high, max(20, width - 9), max(4, height))
    grid: dict[tuple[int, int], Cell] = {}
    _envelope(grid, picture, scale, marks)
    for dot in picture.dots:
        _dot(grid, dot, scale, marks)
    for blank in picture.blanks:
        grid.setdefault((0, scale.column(blank.n)), Cell(0, marks.blank, ""))
    lines = [_line(grid, row, scale, marks, colour) for row in range(scale.height)]
    lines.append(f"{'':7}{marks.corner}{marks.floor * scale.width}")
    lines.append(f"{'':8}1{f'{picture.runs} runs':>{scale.width - 1}}")
    lines.append(f"{'':8}{marks.run} run  {marks.head} accepted  {marks.level} head  {marks.oversize} too big")
    lines.append(f"{'':8}{marks.invalid} invalid  {marks.above} off the scale  {marks.blank} no score")
    return "\n".join(lines)


def for_terminal(picture: Picture, width: int, colour: bool) -> str:
    """As this output can show it."""
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower()
    return frontier(picture, width=min(width, 110), colour=colour, unicode=encoding.startswith("utf"))


def _envelope(grid: dict[tuple[int, int], Cell], picture: Picture, scale: Scale, marks: Marks) -> None:
    if not picture.steps:  # ideas have scores, and no fresh run of the base has one yet
        return
    ends = [step.n for step in picture.steps[1:]] + [picture.runs]
    before: int | None = None
    for step, end in zip(picture.steps, ends, strict=True):
        row, start = scale.row(step.bpb), scale.column(max(1, step.n))
        for column in range(start, scale.column(end) + 1):
            grid[row, column] = Cell(ENVELOPE, marks.level, "envelope")
        for between in range(*sorted((row, row if before is None else before))):
            grid.setdefault((between, start), Cell(ENVELOPE, marks.drop, "envelope"))
        before = row


def _dot(grid: dict[tuple[int, int], Cell], dot: Dot, scale: Scale, marks: Marks) -> None:
    at = (scale.row(dot.bpb), scale.column(dot.n))
    mark = {"valid": marks.run, "head": marks.head, "oversize": marks.oversize, "invalid": marks.invalid}[dot.standing]
    if dot.bpb > scale.high and dot.standing != "invalid":
        mark = marks.above
    if at not in grid or grid[at].rank < RANK[dot.standing]:
        grid[at] = Cell(RANK[dot.standing], mark, dot.standing)


def _line(grid: dict[tuple[int, int], Cell], row: int, scale: Scale, marks: Marks, colour: bool) -> str:
    value = scale.high - row / (scale.height - 1) * (scale.high - scale.low)
    label = f"{value:6.3f}" if row % 5 == 0 or row == scale.height - 1 else ""
    cells = []
    for column in range(scale.width):
        cell = grid.get((row, column))
        paint = COLOURS.get(cell.style, "") if cell and colour else ""
        cells.append(f"{paint}{cell.mark}\x1b[0m" if cell and paint else cell.mark if cell else " ")
    return f"{label:>6} {marks.axis}{''.join(cells)}".rstrip()
