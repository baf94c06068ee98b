"""How the plots look: colours, shapes, titles, marks at the edge for what lies far off.

Takes points; draws on the axes it is given. Nothing global of matplotlib is touched, and text of a model is
never read as mathematics. The colours keep apart for colour-blind people, and the shapes say the same.
"""

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke

INK, FAINT, GRID = "#222222", "#7d7d7d", "#e6e6e6"
GREEN, ORANGE, RED, BLUE, GREY = "#009E73", "#E69F00", "#D55E00", "#0072B2", "#9aa5ad"
DASHES = (0, (4, 3))
LINES = ("x", "+")  # marks that are not filled
LEGEND_COLUMNS = 5  # more do not fit beside each other
NAMED_BELOW = 6  # points under the range that get their value written beside them
# Any: matplotlib types each key of its settings by name.
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "svg.hashsalt": "caddie",
}


class Look(NamedTuple):
    colour: str
    marker: str
    label: str


class Range(NamedTuple):
    """Of BPB. What lies outside is marked at the edge."""

    low: float
    high: float


@contextmanager
def style() -> Iterator[None]:
    """The style of these plots alone. A character that the font lacks becomes a box, without a warning."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        yield


def figure(title: str, subtitle: str) -> tuple[Figure, Axes]:
    made = Figure(figsize=(9.2, 5.4), layout="constrained")
    axes = made.add_subplot()
    axes.set_title(title, loc="left", fontsize=14, fontweight="bold", color=INK, pad=30, parse_math=False)
    axes.annotate(
        subtitle,
        (0, 1),
        (0, 12),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=10.5,
        color=FAINT,
        parse_math=False,
    )
    return made, axes


def marks(axes: Axes, points: Sequence[tuple[float, float]], look: Look, within: Range) -> None:
    """The points inside the range as they are; those outside at its edge, as arrows or with their value."""
    low, high = within
    wide = 2.0 if look.marker in LINES else 0.0
    inside = [point for point in points if low <= point[1] <= high]
    axes.scatter(
        [x for x, _ in inside],
        [y for _, y in inside],
        s=38,
        color=look.colour,
        marker=look.marker,
        linewidths=wide,
        alpha=0.9,
        clip_on=False,
        zorder=3,
        label=look.label if points else None,
    )
    above = [x for x, y in points if y > high]
    below = [(x, y) for x, y in points if y < low]
    axes.scatter(above, [high] * len(above), s=34, color=look.colour, marker="^", clip_on=False, zorder=3)
    axes.scatter(
        [x for x, _ in below],
        [low] * len(below),
        s=38,
        color=look.colour,
        marker=look.marker if look.marker in LINES else "v",
        linewidths=wide,
        clip_on=False,
        zorder=3,
    )
    for x, y in below[:NAMED_BELOW]:
        tag(axes, f"{y:.2f}", (x, low), (0, 8), look.colour)


def off_scale(axes: Axes, values: Iterable[float], within: Range) -> None:
    """Says in the legend what the arrows at the upper edge are, where there are any."""
    if any(value > within.high for value in values):
        axes.scatter([], [], s=34, color=FAINT, marker="^", label="off the scale")


def tag(
    axes: Axes,
    text: str,
    at: tuple[float, float],
    offset: tuple[float, float],
    colour: str,
    ha: str = "center",
) -> None:
    """A word next to a point, readable over a line; never outside its place in the margins."""
    axes.annotate(
        text,
        at,
        offset,
        textcoords="offset points",
        color=colour,
        fontsize=9.5,
        ha=ha,
        va="center",
        annotation_clip=False,
        parse_math=False,
        zorder=6,
        path_effects=[Stroke(linewidth=3, foreground="white"), Normal()],
    )


def legend(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        rows = math.ceil(len(labels) / LEGEND_COLUMNS)
        axes.figure.legend(handles, labels, loc="outside lower center", ncols=math.ceil(len(labels) / rows))
