"""A campaign while it runs: a bar for each experiment, budget, best so far, queue, the last verdicts.

Takes a store and the job folders; shows them in a terminal, or prints events as lines where there is none.
Needs no runner: whoever can read the folders can watch, from any terminal.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from agent.job.folder import Progress
from agent.records import Event, Run
from agent.report import heard
from agent.report import status as report
from agent.report.tables import event_lines
from agent.runners.progress import progress
from agent.store import Reads, Store
from agent.store.lease import holder
from agent.track import parse
from agent.words import duration, markup

if TYPE_CHECKING:
    from rich.console import Console, JustifyMethod, RenderableType
    from rich.live import Live

JUSTIFY: "tuple[JustifyMethod, ...]" = ("left", "left", "left", "right")
EVERY_S = 0.5  # between two looks at the store when there is a terminal
LINES_EVERY_S = 1.0
ALONE_S = 5.0  # without a controller: one that stands by takes over before
# What becomes of an idea; anything else that happens is on the bars already.
VERDICTS = {
    **dict.fromkeys(("promoted", "reported"), "green"),
    **dict.fromkeys(("tried", "confirming", "replaying", "stopping", "waiting", "lesson"), "cyan"),
    **dict.fromkeys(("invalid", "reverted", "crashed", "planner"), "red"),
    **dict.fromkeys(("oversize", "inconclusive", "worse", "duplicate", "blocked", "edit_failed", "unfunded"), "yellow"),
}
# Lines of a log tell the rest too, but not each step from one state to the next.
QUIET = frozenset({"drafted", "approved", "queued", "measured", "auditing", "accepted"})


@dataclass(frozen=True)
class Job:
    """One experiment that runs now."""

    run: Run
    title: str
    progress: Progress | None
    clock_s: float | None = None
    """After what time of training it ends by itself, however many steps it names."""

    @property
    def share(self) -> float:
        """How far it is, from 0 to 1, as far as its log says."""
        at = self.progress
        if at is None:
            return 0.0
        if at.phase == "judge":
            return 1.0
        by_steps = at.step / at.steps if at.step is not None and at.steps else at.share or 0.0
        return min(1.0, max(by_steps, self._by_clock))

    @property
    def _by_clock(self) -> float:
        at = self.progress
        return at.trained_s / self.clock_s if at and at.trained_s is not None and self.clock_s else 0.0

    @property
    def left_s(self) -> float | None:
        at = self.progress
        if at is None or at.phase == "judge" or not 0.02 <= self.share < 1:
            return None
        if self.clock_s and self.share == self._by_clock:  # which does not count the start
            return self.clock_s * (1 - self.share)
        return at.elapsed_s * (1 - self.share) / self.share


@dataclass(frozen=True)
class Scene:
    """All that the view shows at one moment."""

    now: report.Status
    jobs: tuple[Job, ...]
    verdicts: tuple[Event, ...]


def scene(reads: Reads, campaign_id: int, jobs_root: Path) -> Scene:
    now = report.status(reads, campaign_id)
    runs = reads.runs(campaign_id, states={"queued", "running"})
    newest = reads.newest_events(campaign_id, 120)
    base = reads.lineage(reads.head(campaign_id).id)[0].id
    clocks = _clocks(reads.campaign_by_id(campaign_id).track_toml) if runs else {}
    return Scene(
        now=now,
        jobs=tuple(
            Job(run, reads.proposal(run.proposal_id).title, progress(jobs_root / f"r{run.id}"), clocks.get(run.rung))
            for run in runs
        ),
        verdicts=tuple(event for event in newest if event.what in VERDICTS and event.proposal_id != base)[-6:],
    )


@lru_cache(maxsize=8)
def _clocks(track_toml: str) -> dict[str, float | None]:
    """By rung; a view asks at every look."""
    track = parse(track_toml, "the campaign's track")
    return {rung.name: track.clock_s(rung) for rung in track.rung}


def _console() -> "Console":
    """The terminal, or whoever reads instead of one: if that one goes away, it ends as the other commands do."""
    from rich.console import Console

    class Quiet(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Quiet()


class LiveView:
    """`with LiveView(...) as view:` and `view.refresh()` as often as one likes.

    `leads`: whoever shows it does the work, and goes on when nobody reads it any more.
    """

    def __init__(
        self,
        store: Store,
        campaign_id: int,
        jobs_root: Path,
        *,
        console: "Console | None" = None,
        leads: bool = False,
    ) -> None:
        self._store, self._campaign_id, self._jobs = store, campaign_id, jobs_root
        self._console = console
        self._show: Callable[[Callable[[], None]], None] = heard.show if leads else lambda draw: draw()
        self._live: Live | None = None
        self._next = 0.0
        self._seen = 0
        self._day = ""  # of the last line
        self._led = time.monotonic()
        self.scene: Scene | None = None

    def __enter__(self) -> "LiveView":
        if self._console is None:
            self._console = _console()
        with self._store.read() as reads:
            newest = reads.newest_events(self._campaign_id, 1)
        self._seen = newest[-1].id if newest else 0
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            from rich.live import Live

            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        try:
            self.refresh(now=True)
        except BaseException:  # Ctrl-C in the first picture: the cursor comes back
            if self._live is not None:
                self._live.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or not issubclass(kind, Exception):
            self.refresh(now=True)
        if self._live is not None:
            self._show(self._live.stop)

    def refresh(self, *, now: bool = False) -> None:
        """Looks again if it is time to; cheap to call at every turn of a loop."""
        at = time.monotonic()
        if not now and at < self._next:
            return
        self._next = at + (EVERY_S if self._live else LINES_EVERY_S)
        with self._store.read() as reads:
            if self._live is not None:
                self.scene = scene(reads, self._campaign_id, self._jobs)
                self._show(partial(self._live.update, render(self.scene), refresh=True))
                return
            events = reads.events(self._campaign_id, after=self._seen)
        told = [event for event in events if event.what not in QUIET]
        for shown in event_lines(told, self._day):
            self._show(partial(print, shown, flush=True))
        self._day = told[-1].at[:10] if told else self._day
        self._seen = events[-1].id if events else self._seen

    @property
    def over(self) -> bool:
        """The campaign has ended. Lines end too when nobody runs it any more, which a terminal is shown instead."""
        with self._store.read() as reads:
            campaign = reads.campaign_by_id(self._campaign_id)
            led = self._live is not None or holder(reads.connection, f"campaign {campaign.name}") is not None
        if led:
            self._led = time.monotonic()
        return campaign.state != "running" or time.monotonic() - self._led > ALONE_S


def render(found: Scene) -> "RenderableType":
    """The scene for rich. Text of a model goes through `markup`, so that it stays text."""
    from rich.console import Group
    from rich.text import Text

    now = found.now
    parts: list[RenderableType] = [_top(found), Text()]
    if found.jobs:
        parts += [_bars(found), Text()]
    if now.queue:
        parts.append(_labelled("next", [markup(item, 76) for item in now.queue[:4]], len(now.queue) - 4))
    if report.waits_for_clients(now):
        parts.append(_labelled("ideas", [markup(report.WAITS, 110)]))
    if now.to_review:
        waiting = [markup(item, 76) for item in now.to_review[:3]]
        parts.append(_labelled("review", waiting, len(now.to_review) - 3))
        parts.append(Text.from_markup("          [cyan]agent review[/] answers them"))
    if found.verdicts:
        parts.append(_labelled("verdicts", [_verdict(event) for event in reversed(found.verdicts)]))
    return Group(*parts)


def _top(found: Scene) -> "RenderableType":
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    now = found.now
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=9, style="bold")
    grid.add_column()
    grid.add_column()
    state = _state(found)
    so_far = f"{now.proposals} ideas, {now.runs_done} runs, {now.accepted} accepted"
    grid.add_row(markup(now.campaign, 30), Text.from_markup(f"{state}  track {markup(now.track)}  {so_far}"))
    words = report.budget_words(now)
    if now.cap_hours:
        bar = ProgressBar(total=now.cap_hours, completed=now.settled_hours, width=24)
        held = Table.grid(padding=(0, 1))
        held.add_row(bar, words)
        grid.add_row("budget", held)
    else:
        grid.add_row("budget", words)
    grid.add_row("best", _cut(markup(report.head_words(now), 110)))
    return grid


def _state(found: Scene) -> str:
    if found.now.state != "running":
        return markup(f"{found.now.state}: {found.now.reason}", 90)
    if found.now.controller is None:
        return "[red]nobody runs it: agent resume[/]"
    if found.now.asked:
        return "[yellow]finishing what runs[/]" if found.now.asked == "drain" else "[yellow]cancelling[/]"
    return "[green]running[/]"


def _bars(found: Scene) -> "RenderableType":
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    grid = Table.grid(padding=(0, 1))
    for justify in JUSTIFY:
        grid.add_column(justify=justify, no_wrap=True)
    grid.add_column()
    for job in found.jobs:
        bar = ProgressBar(total=1.0, completed=job.share, width=16)
        name = f"p{job.run.proposal_id} {report.purpose(job.run)}"
        grid.add_row(f"r{job.run.id}", name, bar, _how_far(job), _cut(markup(job.title, 44)))
    return grid


def _how_far(job: Job) -> str:
    at = job.progress
    if at is None:
        return "starting"
    if at.phase == "judge":
        return f"being scored, {duration(at.elapsed_s)}"
    parts = [f"{at.step}/{at.steps}"] if at.steps is not None else [f"{duration(at.elapsed_s)}"]
    if at.loss is not None:
        parts.append(f"loss {at.loss:.3f}")
    if job.left_s is not None:
        parts.append(f"{duration(job.left_s)} left")
    return "  ".join(parts)


def _verdict(event: Event) -> str:
    who = f"p{event.proposal_id}" if event.proposal_id is not None else ""
    return f"[{VERDICTS[event.what]}]{event.what:<12}[/] {who:>4}  {markup(event.text, 84)}"


def _labelled(label: str, lines: list[str], more: int = 0) -> "RenderableType":
    from rich.table import Table

    grid = Table.grid(padding=(0, 1))
    grid.add_column(min_width=9, no_wrap=True, style="bold")
    grid.add_column()
    for n, text in enumerate(lines):
        grid.add_row("" if n else label, _cut(text))
    if more > 0:
        grid.add_row("", f"and {more} more")
    return grid


def _cut(text: str) -> "RenderableType":
    """Markup on one line, cut where the terminal ends."""
    from rich.text import Text

    shown = Text.from_markup(text)
    shown.no_wrap, shown.overflow = True, "ellipsis"
    return shown


def snapshot(store: Store, campaign_id: int, jobs_root: Path) -> str:
    """The view once, as text."""
    import io

    from rich.console import Console

    with store.read() as reads:
        shown = render(scene(reads, campaign_id, jobs_root))
    out = io.StringIO()
    Console(file=out, width=114, color_system=None).print(shown)
    return "\n".join(row.rstrip() for row in out.getvalue().splitlines())
