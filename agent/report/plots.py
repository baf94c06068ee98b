"""The plots of a campaign, as PNG and SVG: frontier, sizes, spending, lineage.

Takes a `Picture`; writes files. Each title tells the finding.
"""

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from agent.report.drawing import (
    BLUE,
    DASHES,
    GREEN,
    GREY,
    INK,
    ORANGE,
    RED,
    Look,
    Range,
    figure,
    legend,
    marks,
    off_scale,
    style,
    tag,
)
from agent.report.points import Node, Picture, Standing
from agent.words import line

RUN_LOOKS: dict[Standing, Look] = {
    "valid": Look(GREY, "o", "a run"),
    "head": Look(GREEN, "o", "a run of an accepted idea"),
    "oversize": Look(ORANGE, "s", "over the size limit"),
    "invalid": Look(RED, "x", "invalid"),
}
NO_SCORE = Look(INK, "+", "no score: stopped or crashed")
# By state of the idea, in the order of the legend.
IDEA_LOOKS: dict[str, Look] = {
    "": Look(GREY, "o", "tried"),
    "oversize": Look(ORANGE, "s", "over the size limit"),
    "invalid": Look(RED, "x", "invalid"),
    "reverted": Look(BLUE, "D", "reverted"),
    "promoted": Look(GREEN, "o", "accepted"),
}
NAMED_HEADS = 8  # more have no room for their titles


def write(picture: Picture, folder: Path, formats: tuple[str, ...] = ("png", "svg")) -> list[Path]:
    """All four plots; gives the files."""
    folder.mkdir(parents=True, exist_ok=True)
    plots: dict[str, Callable[[Picture], Figure]] = {
        "frontier": frontier,
        "size": sizes,
        "spend": spending,
        "lineage": lineage,
    }
    written = []
    for name, draw in plots.items():
        with style():
            drawn = draw(picture)
            for kind in formats:
                path = folder / f"{name}.{kind}"
                drawn.savefig(path, dpi=160, metadata={"Date": None} if kind == "svg" else None)
                written.append(path)
    return written


def frontier(picture: Picture) -> Figure:
    """Every run a dot, the accepted envelope a step line."""
    drawn, axes = figure(_frontier_title(picture), f"{picture.campaign}: every run on track {picture.track}")
    within = _range(picture)
    for standing, look in RUN_LOOKS.items():
        marks(axes, [(d.n, d.bpb) for d in picture.dots if d.standing == standing], look, within)
    off_scale(axes, (dot.bpb for dot in picture.dots), within)
    marks(axes, [(blank.n, within.high) for blank in picture.blanks], NO_SCORE, within)
    if picture.steps:
        n = [step.n for step in picture.steps] + [max(picture.runs, picture.steps[-1].n)]
        bpb = [step.bpb for step in picture.steps] + [picture.steps[-1].bpb]
        axes.step(n, bpb, where="post", color=GREEN, linewidth=2.4, label="accepted", zorder=4)
        tag(axes, f"{bpb[-1]:.4f}", (n[-1], bpb[-1]), (6, 0), GREEN, "left")
    for before, after in zip(picture.steps, picture.steps[1:], strict=False):
        if after.reverted:
            tag(axes, f"p{before.proposal_id} reverted", (after.n, after.bpb), (0, 12), BLUE, "left")
    axes.set(xlabel="finished runs", ylabel="bits per byte (lower is better)", ylim=within)
    axes.set_xlim(0, max(picture.runs, 1) * 1.02 + 0.5)
    legend(axes)
    return drawn


def sizes(picture: Picture) -> Figure:
    """Size against score, one mark an idea, with the limit drawn."""
    drawn, axes = figure(_size_title(picture), f"{picture.campaign}: ideas by size and score")
    within = _range(picture)
    sized = [node for node in picture.nodes if node.total_bytes]
    for state, look in IDEA_LOOKS.items():
        marks(axes, [(_kb(n), n.bpb) for n in sized if _look(n) == state], look, within)
    off_scale(axes, (node.bpb for node in sized), within)
    by_id = {node.proposal_id: node for node in sized}
    chain = [by_id[i] for i in picture.lineage if i in by_id]
    axes.plot([_kb(n) for n in chain], [n.bpb for n in chain], color=GREEN, linewidth=1.8, zorder=4)
    for node in chain[-NAMED_HEADS:]:
        tag(axes, f"p{node.proposal_id}", (_kb(node), node.bpb), (-8, 0), GREEN, "right")
    if picture.limit is not None:
        axes.axvline(picture.limit / 1000, color=INK, linewidth=1.4, linestyle=DASHES)
        top = (picture.limit / 1000, within.high)
        tag(axes, f"limit: {picture.limit:,} bytes", top, (6, -8), INK, "left")
    axes.set(xlabel="code and artifact, kB", ylabel="bits per byte (lower is better)", ylim=within)
    legend(axes)
    return drawn


def spending(picture: Picture) -> Figure:
    """What was settled over time, and the cap that is never passed."""
    drawn, axes = figure(_spend_title(picture), f"{picture.campaign}: slot time that was paid for")
    minutes = bool(picture.spent) and picture.spent[-1].hours < 2
    when = [one.hours * (60 if minutes else 1) for one in picture.spent]
    spent = [one.slot_hours for one in picture.spent]
    axes.fill_between(when, spent, step="post", color=BLUE, alpha=0.15, linewidth=0)
    axes.step(when, spent, where="post", color=BLUE, linewidth=2.2, label="settled")
    if picture.reserved_hours > 0 and when:
        top = spent[-1] + picture.reserved_hours
        axes.vlines(when[-1], spent[-1], top, color=ORANGE, linewidth=5, label="reserved for what runs")
    if picture.cap_hours is not None:
        axes.axhline(picture.cap_hours, color=INK, linewidth=1.4, linestyle=DASHES, label="cap")
    axes.set(xlabel="minutes since the start" if minutes else "hours since the start", ylabel="slot-hours")
    axes.set_xlim(left=0)
    axes.set_ylim(0, max([picture.cap_hours or 0, *spent]) * 1.08 or 1)
    legend(axes)
    return drawn


def lineage(picture: Picture) -> Figure:
    """The tree: accepted ideas on a line, what was tried on each of them beside it."""
    drawn, axes = figure(_lineage_title(picture), f"{picture.campaign}: what was built on what")
    within = _range(picture)
    by_id = {node.proposal_id: node for node in picture.nodes}
    places = {head: float(n) for n, head in enumerate(picture.lineage) if head in by_id}
    beside = _fan(picture, places)
    _branches(axes, beside, by_id, places, within)
    for state, look in IDEA_LOOKS.items():
        some = [(x, by_id[i].bpb) for i, x in beside.items() if _look(by_id[i]) == state]
        marks(axes, some, look, within)
    off_scale(axes, (by_id[i].bpb for i in beside), within)
    axes.plot(
        list(places.values()),
        [by_id[head].bpb for head in places],
        color=GREEN,
        linewidth=2.6,
        marker="o",
        markersize=10,
        markeredgecolor="white",
        zorder=5,
        label="accepted",
    )
    axes.set(ylabel="bits per byte (lower is better)", ylim=within)
    axes.set_xlim(-0.5, max(1, len(picture.lineage)) - 0.1)
    shown = dict(list(places.items())[:: 1 + len(places) // 16])
    axes.set_xticks(list(shown.values()), [_name(by_id[i], len(places)) for i in shown], fontsize=9, parse_math=False)
    axes.grid(axis="x", visible=False)
    legend(axes)
    return drawn


def _fan(picture: Picture, places: Mapping[int, float]) -> dict[int, float]:
    """Where what was tried on each head, and is not in the lineage, stands to its right."""
    tried: dict[int, list[int]] = {}
    for node in picture.nodes:
        head = node.baseline_id
        if head is not None and head in places and node.proposal_id not in places:
            tried.setdefault(head, []).append(node.proposal_id)
    return {
        proposal_id: places[head] + 0.14 + 0.66 * (k + 1) / (len(ids) + 1)
        for head, ids in tried.items()
        for k, proposal_id in enumerate(ids)
    }


def _branches(
    axes: Axes,
    beside: Mapping[int, float],
    by_id: Mapping[int, Node],
    places: Mapping[int, float],
    within: Range,
) -> None:
    """A line from each head to what was tried on it."""
    lines, colours = [], []
    for proposal_id, x in beside.items():
        node = by_id[proposal_id]
        assert node.baseline_id is not None
        end = min(max(node.bpb, within.low), within.high)
        lines.append([(places[node.baseline_id], by_id[node.baseline_id].bpb), (x, end)])
        colours.append(IDEA_LOOKS[_look(node)].colour)
    axes.add_collection(LineCollection(lines, colors=colours, linewidths=0.9, alpha=0.5, zorder=1))


def _name(node: Node, heads: int) -> str:
    if heads > NAMED_HEADS:
        return f"p{node.proposal_id}"
    title = "base" if node.baseline_id is None else line(node.title, 44)
    return "\n".join(
        [f"p{node.proposal_id}   {node.bpb:.4f}", *textwrap.wrap(title, 22, max_lines=2, placeholder=" …")]
    )


def _look(node: Node) -> str:
    return node.state if node.state in IDEA_LOOKS else ""


def _kb(node: Node) -> float:
    return (node.total_bytes or 0) / 1000


def _range(picture: Picture) -> Range:
    """What was accepted and what came near it."""
    fair = sorted(dot.bpb for dot in picture.dots if dot.standing != "invalid")
    if not fair:
        return Range(0.0, 1.0)
    base = picture.steps[0].bpb if picture.steps else fair[len(fair) // 2]
    spread = max(base - fair[0], 0.02 * base)
    high = max(min(fair[-1], base + 0.6 * spread), base)
    margin = 0.08 * (high - fair[0]) or 0.01
    return Range(fair[0] - margin, high + margin)


# ---------------------------------------------------------------- titles: what was found


def _frontier_title(picture: Picture) -> str:
    if not picture.steps:
        return f"No score {'of the base ' if picture.dots else ''}yet, after {picture.runs} runs"
    base, head = picture.steps[0], picture.steps[-1]
    if len(picture.lineage) < 2:
        return f"Nothing beats the base ({base.bpb:.4f} BPB) yet, after {picture.runs} runs"
    return (
        f"p{head.proposal_id} reaches {head.bpb:.4f} BPB, {base.bpb - head.bpb:.4f} below the base, "
        f"after {picture.runs} runs"
    )


def _size_title(picture: Picture) -> str:
    head = next((n for n in picture.nodes if picture.lineage and n.proposal_id == picture.lineage[-1]), None)
    if head is None or head.total_bytes is None:
        return "No size yet"
    if picture.limit is None:
        return f"The head has {head.total_bytes:,} bytes; this track has no limit"
    better = sum(node.state == "oversize" and node.bpb < head.bpb for node in picture.nodes)
    more = f"; {better} better, but too big" if better else ""
    return f"The head uses {100 * head.total_bytes / picture.limit:.1f} % of the bytes{more}"


def _spend_title(picture: Picture) -> str:
    spent = picture.spent[-1].slot_hours if picture.spent else 0.0
    cap = f" of {picture.cap_hours:.2f}" if picture.cap_hours is not None else ""
    return f"{spent:.2f}{cap} slot-hours spent on {picture.runs} runs"


def _lineage_title(picture: Picture) -> str:
    tried = max(0, len(picture.nodes) - 1)
    reverted = sum(node.state == "reverted" for node in picture.nodes)
    more = f", {reverted} reverted" if reverted else ""
    return f"{max(0, len(picture.lineage) - 1)} of {tried} measured ideas accepted{more}"
