"""What a language model is told before it is asked for an idea: `Evidence`, frozen and pure.

`gather` takes the store's rows and the planner's `Request`; the same rows give the same evidence. Texts stand in it as
they were written; what is done against the tricks in them is for `render`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import unified_diff
from typing import TYPE_CHECKING, Protocol

from agent import skills as skills_
from agent.context import history
from agent.context.history import Head, History, Review, Step, Tried, Waiting
from agent.records import Balance, Kind, Mode, Proposal
from agent.skills import Skill
from agent.store import Reads
from agent.track import Track

if TYPE_CHECKING:
    from agent.planner import Request

PIECES = 2  # near misses whose changes are to be combined
# Kinds of ideas in the order in which questions are sent to them.
FOCUS: tuple[Kind, ...] = ("architecture", "optimiser", "tokenizer", "data", "quantisation", "evaluation", "systems")
# Skills that most ideas need, where only some can be shown.
FIRST = (
    *("validity", "statistics-and-noise", "schedules-and-short-runs", "depth-and-width"),
    *("tokenizers-and-vocabulary", "quantisation", "muon", "compression"),
)


class ForecastRow(Protocol):
    """A figure as it was said and as it was measured: means over `n` ideas, and the mean error as a share."""

    @property
    def n(self) -> int: ...
    @property
    def expected(self) -> float | None: ...
    @property
    def measured(self) -> float | None: ...
    @property
    def error(self) -> float | None: ...


class CalibrationRow(Protocol):
    """How a planner's predictions of one kind of idea (empty: of all) came out."""

    @property
    def planner(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def n(self) -> int: ...
    @property
    def expected_gain(self) -> float: ...
    @property
    def measured_gain(self) -> float | None: ...
    @property
    def confidence(self) -> float: ...
    @property
    def better(self) -> float: ...
    @property
    def size(self) -> ForecastRow: ...
    @property
    def step(self) -> ForecastRow: ...


@dataclass(frozen=True)
class Source:
    """What the edits start from, or one of the changes to be combined."""

    name: str
    title: str
    state: str
    hypothesis: str
    words: str
    """Of its last verdict, or why it ended."""
    total_bytes: int | None
    diff: str
    """From the head's script to its own; empty for the head."""


@dataclass(frozen=True)
class Evidence:
    campaign: str
    track: Track
    skills: tuple[str, ...]
    """One line each."""
    head: Head
    files: tuple[tuple[str, str], ...]
    """The head's editable files: path and text."""
    lineage: tuple[Step, ...]
    older: History
    """What failed, and what was learnt, before the present head was one."""
    region: History
    """The same against the present head, or since."""
    near: tuple[Tried, ...]
    """Near misses of the present head, best first."""
    in_flight: tuple[Waiting, ...]
    reviews: tuple[Review, ...]
    calibration: tuple[CalibrationRow, ...]
    """Of this planner."""
    sigma: float | None
    """Noise between seeds as the last verdict had it."""
    balance: Balance
    run_s: float
    """What a run takes of a slot, on average."""
    mode: Mode
    source: Source
    pieces: tuple[Source, ...]
    """Of `combine`: the changes to be combined."""
    log_tail: str
    """Of `repair`: the end of the log of the run that crashed."""
    focus: Kind | None
    """Where to look first, of `exploit` and `widen`: who is asked at the same time is sent elsewhere."""
    texts: tuple[Skill, ...]
    """Whole skills, what most ideas need first: for a model that can't ask for them."""


def gather(
    reads: Reads,
    request: "Request",
    *,
    planner: str,
    skills: tuple[Skill, ...] = (),
    calibration: tuple[CalibrationRow, ...] = (),
    log_tail: str = "",
) -> Evidence:
    """All of it, as of one moment of the store."""
    campaign, head = request.campaign, request.head
    since = history.head_since(reads, campaign.id)
    near = history.near_misses(reads, head)
    mode: Mode = "exploit" if request.mode == "base" else request.mode
    return Evidence(
        campaign=campaign.name,
        track=request.track,
        skills=tuple(skills_.index(skills).splitlines()),
        head=history.head(reads, head),
        files=tuple(request.head_files.items()),
        lineage=history.lineage(reads, campaign.id),
        older=history.failures(reads, head, since, region=False),
        region=history.failures(reads, head, since, region=True),
        near=near,
        in_flight=history.in_flight(reads, campaign.id),
        reviews=history.reviews(reads, campaign.id),
        calibration=tuple(row for row in calibration if row.planner == planner),
        sigma=history.sigma(reads, campaign.id),
        balance=reads.balance(campaign.id),
        run_s=history.run_s(reads, campaign.id) or request.track.guess_run_s(),
        mode=mode,
        source=_source(reads, request),
        pieces=_pieces(reads, request, near) if mode == "combine" else (),
        log_tail=log_tail if mode == "repair" else "",
        focus=FOCUS[request.n % len(FOCUS)] if mode in ("exploit", "widen") else None,
        texts=tuple(sorted(skills, key=lambda one: FIRST.index(one.name) if one.name in FIRST else len(FIRST))),
    )


def _source(reads: Reads, request: "Request") -> Source:
    return _told(reads, request.source, _changed(request.head_files, request.files))


def _pieces(reads: Reads, request: "Request", near: tuple[Tried, ...]) -> tuple[Source, ...]:
    """The pair that search chose, the source's own change being told with the task; else the two best that fit."""
    if request.partner is not None:
        theirs = _changed(request.head_files, request.partner_files)
        return _told(reads, request.source, ""), _told(reads, request.partner, theirs)
    fit = [reads.proposal(int(one.name[1:])) for one in near if one.state != "oversize"]
    return tuple(_told(reads, one, one.diff) for one in fit[:PIECES])


def _told(reads: Reads, proposal: Proposal, diff: str) -> Source:
    verdicts = reads.verdicts(proposal.id)
    return Source(
        name=f"p{proposal.id}",
        title=proposal.title,
        state=proposal.state,
        hypothesis=proposal.hypothesis,
        words=verdicts[-1].words if verdicts else proposal.reason,
        total_bytes=history.total_bytes(reads, proposal.id),
        diff=diff,
    )


def _changed(head: Mapping[str, str], files: Mapping[str, str]) -> str:
    """Not the stored diff: that one starts from the source's own baseline, which may be an older head."""
    lines: list[str] = []
    for path, text in files.items():
        before = head.get(path, "")
        if before != text:
            lines += unified_diff(
                before.splitlines(keepends=True), text.splitlines(keepends=True), f"a/{path}", f"b/{path}"
            )
    return "".join(line if line.endswith("\n") else line + "\n" for line in lines)
