"""The report of `agent judge` on a terminal: the verdict, then findings with their evidence, then figures and rules.

Takes a `Report` and a console; prints. Whatever a stranger wrote is text without markup: it opens no style and no link.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from agent.report.judged import TITLES, WIDE, Report, Verdict
from agent.words import line, table

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

COLOURS: dict[Verdict, str] = {"invalid": "red", "flagged": "yellow", "clean": "green"}
SEVERITIES = {"invalid": "bold red", "error": "bold red", "flag": "yellow", "warning": "yellow"}
STATES = {"passed": "green", "unknown": "yellow"}
LONG = 600


def show(of: Report, console: "Console") -> None:
    """What decides comes first and is on one screen."""
    from rich.panel import Panel
    from rich.text import Text

    head = Text(line(of.words, LONG))
    if of.measured_bpb is not None:
        head = Text.assemble((f"{of.measured_bpb:.6f} BPB", "bold"), f", {of.trust}\n", head)
    title = Text.assemble((TITLES[of.verdict], f"bold {COLOURS[of.verdict]}"), f"  {of.kind} {line(of.name, 60)}")
    console.print(Panel(head, title=title, title_align="left", border_style=COLOURS[of.verdict]))
    for note in of.notes:
        console.print(Text(line(note, LONG), "dim"))
    for part in _parts(of):
        console.print()
        console.print(part)


def _parts(of: Report) -> "Iterator[RenderableType]":
    if any(True for _ in _faults(of)):
        yield _findings(of)
    if of.scores:
        yield _scores(of)
    if of.figures:
        yield _grid("measured", ((one.group, one.what, one.said) for one in of.figures))
    yield _rules(of)
    if of.files:
        largest = sorted(of.files.items(), key=lambda one: -one[1])[:8]
        yield _grid(f"files: {len(of.files)}", ((f"{size:,}", name, "") for name, size in largest))


def _faults(of: Report) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Severity, what it is about, words, evidence: what is worst first, the package last."""
    broken = [one for one in of.rulings if one.state == "violated"]
    told = {text for one in broken for text in one.evidence}
    for one in sorted(broken, key=lambda one: (one.severity != "invalid", one.rule)):
        evidence = tuple(text for text in one.evidence if not text.endswith(one.words))
        yield one.severity, f"rule {one.rule}, {one.name}", one.words, (f"why: {one.reason}", *evidence)
    for found in of.findings:
        if found.severity != "note" and f"{found.rule}: {found.text}" not in told:
            yield found.severity, found.rule, found.text, ()
    for problem in of.problems:
        yield problem.severity, "the package", problem.words, ()


def _findings(of: Report) -> "RenderableType":
    from rich.text import Text

    text = Text.assemble(("findings", "bold"))
    for severity, name, words, evidence in _faults(of):
        text.append(f"\n{severity:<8} ", SEVERITIES.get(severity, "cyan"))
        text.append(f"{line(name, 120)}: ", "bold").append(line(words, LONG))
        for one in evidence:
            text.append(f"\n         - {line(one, LONG)}", "dim")
    return text


def _scores(of: Report) -> "RenderableType":
    from rich.text import Text

    text = Text.assemble(("logs", "bold"))
    if len(of.scores) > 1 and of.table is not None:
        header = ("log", "seed", "bpb", "loss", "bytes", "steps", "train s", "score s")
        rows = [(line(row.log, 48), str(row.seed), *row[2:]) for row in of.table.rows]
        text.append(f"\n{table(header, rows)}", "")
        if of.table.mean is not None:
            text.append(f"\nmean {of.table.mean:.8f}", "bold")
            text.append("" if of.table.std is None else f", standard deviation {of.table.std:.8f} (n - 1)")
    for score in of.scores:
        figure = "no official score" if score.bpb is None else f"{score.bpb:.8f} BPB"
        text.append(f"\n{line(score.log, 80)} ").append(figure, "bold").append(f": {line(score.why, LONG)}")
        for more in (line(score.line, WIDE), score.recount, *score.notes, *score.runs):
            if more:
                text.append(f"\n  {line(more, LONG)}", "dim")
    return text


def _rules(of: Report) -> "RenderableType":
    """Those that are broken stand above, with what shows it."""
    rows = [(str(one.rule), "passed", f"{one.name}: {one.words}") for one in of.rulings if one.state == "passed"]
    groups: dict[str, list[str]] = {}
    for one in of.rulings:
        if one.state == "unknown":
            groups.setdefault(one.words, []).append(str(one.rule))
    rows += [(", ".join(numbers), "unknown", words) for words, numbers in groups.items()]
    return _grid("rules", rows)


def _grid(title: str, rows: Iterable[tuple[str, str, str]]) -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, show_header=False, title=Text(title, "bold"), title_justify="left", pad_edge=False)
    grid.add_column(max_width=14)
    for row in rows:
        grid.add_row(*(Text(line(cell, LONG), STATES.get(cell, "")) for cell in row))
    return grid
