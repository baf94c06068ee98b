"""`Costs` in words, and as one picture.

Takes `Costs`; gives text, or a file whose name says its format. Where there are no dollars, it is told in seconds.
"""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from agent.errors import UserError, did_you_mean
from agent.report.costs import Costs, Gain, Line
from agent.report.drawing import BLUE, FAINT, GREEN, GREY, INK, ORANGE, style, tag
from agent.words import line, table

FORMATS = ("png", "svg", "pdf")
LEAST_BARS = 5
MOST_BARS = 8
NAME = 34  # characters of a bar's name
CENT = 0.005


def words(found: Costs) -> str:
    parts = [_first(found)]
    for title, lines in (
        ("By rung", found.by_rung),
        ("By kind of idea", found.by_kind),
        ("By planner", found.by_planner),
    ):
        parts.append(f"{title}:\n{_lines(found, lines)}")
    parts.append(f"By accepted gain, each with its own runs alone:\n{_gains(found)}")
    parts.append(f"By machine:\n{_machines(found)}")
    if found.whole.usd is None:
        parts.append(f"No machine sent a bill, so what is counted is {found.unit}-seconds.")
    return "\n\n".join(parts)


def _first(found: Costs) -> str:
    """What a person asks first: how much, what for, how much of it for nothing."""
    whole = found.whole
    dollars = [f"${usd:.2f} for {what}" for usd, what in ((whole.usd, "machines"), (whole.model_usd, "models")) if usd]
    lines = [f"{found.campaign}: {_time(found, whole.gpu_s)} in {found.runs} runs{''.join(', ' + d for d in dollars)}."]
    if found.unbilled_usd >= CENT:
        lines.append(f"${found.unbilled_usd:.2f} of it is reckoned from prices: no bill has come for that yet.")
    if found.lost_s > 0:
        lines.append(f"{_time(found, found.lost_s)} of it went to runs that were lost or cancelled.")
    if found.idle is not None:
        paid = "were paid for" if whole.usd is not None else "there were while a controller was at it"
        lines.append(f"Idle: {100 * found.idle:.1f} % of the {_time(found, found.paid_s)} that {paid}.")
    lines.append(_price(found, whole))
    return "\n".join(lines)


def _price(found: Costs, whole: Gain) -> str:
    if whole.milli_bpb is None or whole.gpu_s_each is None:
        return "Nothing was gained yet."
    each = f"{whole.gpu_s_each:.1f} {found.unit}-seconds"
    if whole.usd_each is not None:
        each = (
            f"${whole.usd_each:.3g} ({each})"
            if whole.usd is not None
            else f"{each} and ${whole.usd_each:.3g} of models"
        )
    gained = f"Gained: {whole.milli_bpb:.2f} milli-BPB from the base to the head"
    return f"{gained}, at {each} a milli-BPB, all that failed included."


def _time(found: Costs, seconds: float) -> str:
    return f"{seconds / 3600:.2f} {found.unit}-hours" if seconds >= 3600 else f"{seconds:.0f} {found.unit}-seconds"


def _lines(found: Costs, lines: Sequence[Line]) -> str:
    header = ("", "runs", f"{found.unit}-hours", "share", *_dollars(found))
    return table(
        header,
        [
            (one.name, one.runs, one.gpu_s / 3600, f"{100 * one.share:.1f} %", *_paid(found, one.usd, one.model_usd))
            for one in lines
        ],
    )


def _gains(found: Costs) -> str:
    header = ("", "milli-BPB", f"{found.unit}-seconds", "of each milli-BPB", *_dollars(found))
    each = ("$ of each milli-BPB",) if _dollars(found) else ()
    return table(
        (*header, *each),
        [
            (
                one.name,
                one.milli_bpb,
                round(one.gpu_s),
                one.gpu_s_each,
                *_paid(found, one.usd, one.model_usd),
                *((one.usd_each,) if each else ()),
            )
            for one in (*found.by_gain, found.whole)
        ],
    )


def _machines(found: Costs) -> str:
    header = ("", "", "runs", f"{found.unit}-hours used", "there were", "idle", "$", "idle $")
    shown = len(header) if found.whole.usd is not None else len(header) - 2
    return table(
        header[:shown],
        [
            (
                *(one.name, one.words, one.runs, one.used_s / 3600, one.paid_s / 3600, f"{100 * one.idle:.1f} %"),
                *(one.usd, one.idle_usd),
            )[:shown]
            for one in found.by_machine
        ],
    )


def _dollars(found: Costs) -> tuple[str, ...]:
    """Columns that hold something."""
    return (*(("$",) if found.whole.usd is not None else ()), *(("models $",) if found.whole.model_usd else ()))


def _paid(found: Costs, usd: float | None, model_usd: float) -> tuple[float | None, ...]:
    shown = {"$": usd, "models $": model_usd}
    return tuple(shown[name] for name in _dollars(found))


# ---------------------------------------------------------------- the picture


def write(found: Costs, path: Path) -> None:
    kind = path.suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise UserError(f"--plot {path}:{did_you_mean(kind, FORMATS)} name a file that ends in .png, .svg or .pdf")
    try:
        with style():
            drawing(found).savefig(path, dpi=160, metadata={"Date": None} if kind == "svg" else None)
    except OSError as error:
        raise UserError(f"can't write the plot to {path}: {error}") from error


def drawing(found: Costs) -> Figure:
    """Five panels of bars: rungs, kinds, planners, machines with their idle share, what a thousandth of a BPB cost."""
    made = Figure(figsize=(15, 7.6), layout="constrained")
    made.suptitle(_title(found), x=0.01, ha="left", fontsize=14, fontweight="bold", color=INK, parse_math=False)
    rows = made.add_gridspec(2, 1)
    above, below = (
        made.add_subfigure(rows[0]),
        made.add_subfigure(rows[1]),
    )  # long names in one row leave the other alone
    panels, (machine, gain) = above.subplots(1, 3), below.subplots(1, 2, width_ratios=(1, 2))
    dollars = found.whole.usd is not None
    unit = "dollars" if dollars else f"{found.unit}-hours"
    for axes, name, lines in zip(
        panels, ("rung", "kind of idea", "planner"), (found.by_rung, found.by_kind, found.by_planner), strict=True
    ):
        values = [(one.name, (one.usd or 0.0) + one.model_usd if dollars else one.gpu_s / 3600) for one in lines]
        idle = [("(idle)", sum(one.idle_usd or 0.0 for one in found.by_machine))] if dollars else []
        _bars(axes, f"by {name}, {unit}", [*values, *idle], BLUE)
    each = [(one.name, one.usd_each if dollars else one.gpu_s_each) for one in found.by_gain]
    priced = [(name, value) for name, value in each if value is not None]
    _machine_bars(machine, found)
    title = f"a milli-BPB of each accepted idea, {unit.replace('hours', 'seconds')}"
    _bars(gain, title, priced, GREEN)
    return made


def _title(found: Costs) -> str:
    whole = found.whole
    if whole.usd is not None and whole.usd_each is not None:
        price = f"${whole.usd_each:.3g} a milli-BPB"
    elif whole.gpu_s_each is not None:
        price = f"{whole.gpu_s_each:.0f} {found.unit}-seconds a milli-BPB"
    else:
        price = "nothing gained yet"
    idle = "" if found.idle is None else f", {100 * found.idle:.0f} % idle"
    return f"{line(found.campaign, 40)}: {price}, {_time(found, whole.gpu_s)}{idle}"


def _machine_bars(axes: Axes, found: Costs) -> None:
    """What worked and what stood idle; where somebody is paid, of the machines that he is paid for."""
    dollars = found.whole.usd is not None
    each = [
        (one.name, one.usd if dollars else one.paid_s / 3600, one.idle)
        for one in found.by_machine
        if one.usd is not None or not dollars
    ]
    rows = [(name, worth * (1 - idle), worth * idle) for name, worth, idle in each if worth is not None]
    rows.sort(key=lambda row: -(row[1] + row[2]))
    if len(rows) > MOST_BARS:
        rest = rows[MOST_BARS - 1 :]
        others = (f"{len(rest)} others", sum(row[1] for row in rest), sum(row[2] for row in rest))
        rows = [*rows[: MOST_BARS - 1], others]
    unit = "dollars" if dollars else f"{found.unit}-hours"
    axes.set_title(f"by machine, {unit}: at work, idle", loc="left", fontsize=11, color=INK, parse_math=False)
    places, worked = list(range(len(rows))), [row[1] for row in rows]
    axes.barh(places, worked, color=BLUE, height=0.66)
    axes.barh(places, [row[2] for row in rows], left=worked, color=ORANGE, height=0.66)
    _names(axes, [row[0] for row in rows])
    for place, (_, at_work, idle) in zip(places, rows, strict=True):
        whole = at_work + idle
        share = f", {100 * idle / whole:.0f} % idle" if whole > 0 else ""
        tag(axes, f"{whole:.3g}{share}", (whole, place), (5, 0), FAINT, "left")
    most = max((at_work + idle for _, at_work, idle in rows), default=0.0)
    axes.set_xlim(0, 1.5 * most or 1.0)  # a margin would end where a bar of no idle time does


def _bars(axes: Axes, title: str, values: Sequence[tuple[str, float]], colour: str) -> None:
    """The longest first; what is beyond the last bar is one bar together."""
    axes.set_title(title, loc="left", fontsize=11, color=INK, parse_math=False)
    shown = sorted(values, key=lambda one: -one[1])
    if len(shown) > MOST_BARS:
        rest = sum(value for _, value in shown[MOST_BARS - 1 :])
        shown = [*shown[: MOST_BARS - 1], (f"{len(shown) - MOST_BARS + 1} others", rest)]
    places = range(len(shown))
    colours = [ORANGE if name == "(idle)" else GREY if name.endswith(" others") else colour for name, _ in shown]
    axes.barh(places, [value for _, value in shown], color=colours, height=0.66)
    _names(axes, [name for name, _ in shown])
    axes.margins(x=0.18)
    for place, (_, value) in zip(places, shown, strict=True):
        tag(axes, f"{value:.3g}", (value, place), (5, 0), FAINT, "left")


def _names(axes: Axes, names: Sequence[str]) -> None:
    """Of the bars, from the top; few bars are no wall of colour."""
    axes.set_yticks(list(range(len(names))), [line(name, NAME) for name in names], fontsize=9, parse_math=False)
    axes.set_ylim(max(len(names), LEAST_BARS) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
