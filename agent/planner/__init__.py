"""The planner protocol: what a planner is asked, and what it gives. `making.py` knows who there is.

A planner takes a `Request` (which source, which mode, what was tried) and gives a `Draft`: one idea as edits
of the source's files, or None when it has no more. It keeps no state: a restart changes nothing.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Protocol, Self, runtime_checkable

from agent.records import Campaign, Draft, Kind, Mode, Proposal, ProposalState, Taught
from agent.script.literals import KnobValue
from agent.search import Tried
from agent.track import Track


class TrialRow(Tried, Protocol):
    """What the store tells of one proposal: the columns a `Trial` is made from."""

    @property
    def bpb(self) -> float | None: ...


@dataclass(frozen=True)
class Trial:
    """What a planner gets to know of one earlier proposal, the base and every head included."""

    proposal_id: int
    state: ProposalState
    knobs: Mapping[str, KnobValue]
    """The whole effective configuration of its commit, as `literals.read` gives it."""
    gain: float | None
    """Mean BPB gain over its own baseline; more is better. None: no score."""
    bpb: float | None
    """Mean BPB of its runs: one scale for all trials."""
    total_bytes: int | None
    baseline_id: int | None
    runs: int = 1
    """How many runs the mean rests on."""
    mode: Mode = "exploit"
    source_id: int | None = None
    planner: str = ""
    kind: Kind = "knob"
    expected_gain: float = 0.0
    confidence: float = 0.5

    @classmethod
    def of(cls, row: TrialRow) -> Self:
        """From a row of the store."""
        return cls(
            proposal_id=row.proposal_id,
            state=row.state,
            knobs=row.knobs,
            gain=row.gain,
            bpb=row.bpb,
            total_bytes=row.total_bytes,
            baseline_id=row.baseline_id,
            runs=row.runs,
            mode=row.mode,
            source_id=row.source_id,
            planner=row.planner,
            kind=row.kind,
            expected_gain=row.expected_gain,
            confidence=row.confidence,
        )


@dataclass(frozen=True)
class Request:
    """One call for one idea."""

    track: Track
    campaign: Campaign
    mode: Mode
    head: Proposal
    source: Proposal
    files: Mapping[str, str]
    """The editable files at the source's commit: what the edits apply to."""
    head_files: Mapping[str, str]
    trials: tuple[Trial, ...]
    seed: int
    n: int
    """How many proposals the campaign has before this one, its base included."""
    made: int | None = None
    """How many of them are this planner's, where there are several planners."""
    partner: Proposal | None = None
    """To combine: the second idea, measured against the same head as the source."""
    partner_files: Mapping[str, str] = field(default_factory=dict)
    forgotten: Set[str] = frozenset()
    """Digests of the configurations (`literals.digest`) of ideas that are too old to be among the trials."""


class Planner(Protocol):
    """Anything that has ideas. `propose` may take long and may be called from several threads at once."""

    @property
    def name(self) -> str: ...

    @property
    def modes(self) -> frozenset[Mode]:
        """The modes it understands; what else it is asked, it takes for `exploit`."""

    @property
    def parallel(self) -> int:
        """How many calls it takes at once. 1: quick, and wants to know its last answer's proposal first.
        0: it is never asked; its ideas come by themselves, and it never runs out of them."""

    def propose(self, request: Request) -> Draft | None:
        """One idea, or None when there is none (left). Raises PlannerError when it failed for now."""


@runtime_checkable
class Learner(Protocol):
    """A planner that can also say in words what a verdict taught."""

    @property
    def name(self) -> str: ...

    @property
    def learns(self) -> bool:
        """Whether it is to be asked."""

    def learn(self, proposal: Proposal) -> Taught | None:
        """None: it said nothing that can be read. Raises PlannerError when it can't be asked."""
