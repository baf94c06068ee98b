"""Which proposal to start from next, and what to do with it.

Takes a frozen `Snapshot` of the campaign (made by the loop from rows of the store) and gives a `Choice`.
Pure and seeded: the same snapshot, seed and number give the same choice, so a resumed campaign goes
on as it would have.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, get_args

from agent.records import Mode, ProposalState

KnobValue = str | int | float

ALL_MODES: frozenset[Mode] = frozenset(get_args(Mode)) - {"base"}

# Decided proposals without a promotion, after which search looks further away.
STAGNATION = 10
# How many children an idea of the frontier may have before it is left alone.
MAX_SHRINKS = 3
MAX_REPAIRS = 1
MAX_NEAR_MISS_CHILDREN = 2
FRONTIER = 6

_DECIDED: frozenset[ProposalState] = frozenset(
    {"worse", "inconclusive", "invalid", "oversize", "crashed", "promoted", "reverted"}
)


@dataclass(frozen=True)
class Candidate:
    """One proposal as search sees it. `children`: proposals whose source it is, in whatever state."""

    id: int
    state: ProposalState
    baseline_id: int | None
    gain: float | None
    total_bytes: int | None
    mode: Mode
    knobs: Mapping[str, KnobValue]
    children: int = 0


@dataclass(frozen=True)
class Snapshot:
    """All that search looks at. Candidates come in the order of their ids, the base first."""

    head_id: int
    candidates: tuple[Candidate, ...]
    modes: frozenset[Mode] = ALL_MODES
    """What the planners understand."""
    min_gain: float = 0.0
    """The track's smallest gain that matters."""


@dataclass(frozen=True)
class Choice:
    mode: Mode
    source_id: int


class Tried(Protocol):
    """What search needs to know of one earlier proposal; `agent.planner.Trial` is one."""

    @property
    def proposal_id(self) -> int: ...
    @property
    def state(self) -> ProposalState: ...
    @property
    def baseline_id(self) -> int | None: ...
    @property
    def source_id(self) -> int | None: ...
    @property
    def gain(self) -> float | None: ...
    @property
    def total_bytes(self) -> int | None: ...
    @property
    def mode(self) -> Mode: ...
    @property
    def knobs(self) -> Mapping[str, KnobValue]: ...


def snapshot(
    head_id: int,
    tried: Sequence[Tried],
    *,
    modes: frozenset[Mode] = ALL_MODES,
    min_gain: float = 0.0,
) -> Snapshot:
    """The campaign as search sees it, from what was tried."""
    children = Counter(one.source_id for one in tried if one.source_id != head_id)
    candidates = tuple(
        Candidate(
            id=one.proposal_id,
            state=one.state,
            baseline_id=one.baseline_id,
            gain=one.gain,
            total_bytes=one.total_bytes,
            mode=one.mode,
            knobs=one.knobs,
            children=children[one.proposal_id],
        )
        for one in sorted(tried, key=lambda one: one.proposal_id)
    )
    return Snapshot(head_id, candidates, modes, min_gain)


def choose(snapshot: Snapshot, seed: int, n: int) -> Choice:
    """Mode and source of the n-th proposal."""
    urgent = _shrink(snapshot) or _repair(snapshot)
    if urgent is not None:
        return urgent
    draw = random.Random(f"search/{seed}/{n}")
    weights = _weights(snapshot)
    modes = [mode for mode in weights if mode in snapshot.modes and weights[mode] > 0]
    mode: Mode = draw.choices(modes, [weights[m] for m in modes])[0] if modes else "exploit"
    return Choice(mode, _source(snapshot, mode, draw))


def frontier(snapshot: Snapshot) -> list[Candidate]:
    """The few ideas worth another look: near misses and oversize ideas that were better, best first."""
    alive = [c for c in snapshot.candidates if _near_miss(c, snapshot) or _oversize_but_better(c, snapshot)]
    return sorted(alive, key=lambda c: (-(c.gain or 0.0), c.id))[:FRONTIER]


def stagnant(snapshot: Snapshot) -> bool:
    """Nothing was promoted among the last decided proposals."""
    decided = [c for c in snapshot.candidates if c.state in _DECIDED and c.mode != "base"]
    return len(decided) >= STAGNATION and all(c.state != "promoted" for c in decided[-STAGNATION:])


def _shrink(snapshot: Snapshot) -> Choice | None:
    """An idea that is better but too big is worth more than a new one: buy its bytes back at once."""
    if "shrink" not in snapshot.modes:
        return None
    for idea in _shrinkable(snapshot):
        if idea.baseline_id == snapshot.head_id:
            return Choice("shrink", idea.id)
    return None


def _shrinkable(snapshot: Snapshot) -> list[Candidate]:
    return [c for c in frontier(snapshot) if c.state == "oversize" and c.children < MAX_SHRINKS]


def _repair(snapshot: Snapshot) -> Choice | None:
    if "repair" not in snapshot.modes:
        return None
    for idea in reversed(snapshot.candidates):
        if idea.state == "crashed" and idea.children < MAX_REPAIRS and idea.mode != "repair":
            return Choice("repair", idea.id)
    return None


def _weights(snapshot: Snapshot) -> dict[Mode, float]:
    near = sum(_near_miss(c, snapshot) for c in snapshot.candidates)
    combine = 0.15 if near >= 2 else 0.0
    # Of an older head: what it gained there it may no longer gain, so it is one idea among others.
    shrink = 0.1 if _shrinkable(snapshot) else 0.0
    if stagnant(snapshot):
        return {"exploit": 0.3, "widen": 0.45, "combine": combine, "simplify": 0.05, "shrink": shrink}
    return {"exploit": 0.75, "widen": 0.05, "combine": combine, "simplify": 0.05, "shrink": shrink}


def _source(snapshot: Snapshot, mode: Mode, draw: random.Random) -> int:
    """The head, mostly: gains add up only on what was promoted. Near misses get a second chance."""
    near = [c for c in frontier(snapshot) if _near_miss(c, snapshot) and c.children < MAX_NEAR_MISS_CHILDREN]
    if mode == "exploit" and near and draw.random() < 0.2:
        return near[0].id
    return snapshot.head_id


def _near_miss(idea: Candidate, snapshot: Snapshot) -> bool:
    """Measured against the present head, a gain that matters if it is real, and not accepted."""
    return (
        idea.state in ("inconclusive", "worse")
        and idea.baseline_id == snapshot.head_id
        and idea.gain is not None
        and idea.gain > max(snapshot.min_gain, 0.0)
    )


def _oversize_but_better(idea: Candidate, snapshot: Snapshot) -> bool:
    return idea.state == "oversize" and idea.gain is not None and idea.gain > max(snapshot.min_gain, 0.0)
