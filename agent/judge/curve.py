"""The loss curve of a run: what its log says of each step, to be kept for what is learnt of runs later.

Takes a log, which a candidate wrote; gives `Point`s, steps increasing, every number finite. Pure, but for `of`, which
reads the file. Bounded: of a huge log the head and the tail are read, and of many points MOST are kept.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from agent import step_lines
from agent.job.reading import read_ends
from agent.judge.lines import HEAD_CHARS, TAIL_CHARS, of_first_rank, rows
from agent.records import Point

MOST = 2000  # points of a run


def of(log: Path) -> tuple[Point, ...]:
    """Of a file, if there is one."""
    return read(read_ends(log, HEAD_CHARS, TAIL_CHARS))


def read(text: str) -> tuple[Point, ...]:
    """Of the first process, where several print. What is said first of a step counts, even where steps begin again."""
    found: dict[int, Point] = {}
    for row in of_first_rank(rows(text)):
        point = _point(row.text) if row.whole else None
        if point is not None:
            before = found.get(point.step)
            found[point.step] = point if before is None else _both(before, point)
    return _thinned([found[step] for step in sorted(found)])


def _both(one: Point, other: Point) -> Point:
    """What the first says, and what it leaves out as the other says it."""
    return replace(other, **{name: value for name, value in vars(one).items() if value is not None})


def _point(text: str) -> Point | None:
    if (parted := step_lines.of_part(text)) is not None:
        point = Point(parted[0], train_loss=parted[1])
    elif (line := next(iter(step_lines.read(text)), None)) is not None:
        losses = [line.loss("train_loss", "loss"), line.loss("val_loss"), line.bpb()]
        train, val, bpb = (None if said is None else step_lines.finite(said) for said in losses)
        point = Point(line.step, train, line.clock_ms(), val, bpb)
    else:
        return None
    return point if (point.train_loss, point.val_loss, point.val_bpb) != (None, None, None) else None


def _thinned(points: Sequence[Point]) -> tuple[Point, ...]:
    """Evenly. Those with a validation, which are rarer and say more, apart: both keep their ends, so the whole does."""
    if len(points) <= MOST:
        return tuple(points)
    validated = [point for point in points if (point.val_loss, point.val_bpb) != (None, None)]
    others = [point for point in points if (point.val_loss, point.val_bpb) == (None, None)]
    few = _evenly(validated, MOST - min(len(others), MOST // 2))
    return tuple(sorted((*few, *_evenly(others, MOST - len(few))), key=lambda point: point.step))


def _evenly(points: Sequence[Point], most: int) -> Sequence[Point]:
    if len(points) <= most:
        return points
    return [points[n * (len(points) - 1) // (most - 1)] for n in range(most)]
