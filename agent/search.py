"""Which proposal to start from next, and what to do with it.

Takes a frozen `Snapshot` of the campaign (made by the loop from rows of the store) and gives a `Choice`.
Pure and seeded: the same snapshot, seed and number give the same choice, so a resumed campaign goes
on as it would have.
"""

import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol, get_args

from agent.records import Kind, Mode, ProposalState
from agent.script.literals import KnobValue

ALL_MODES: frozenset[Mode] = frozenset(get_args(Mode)) - {"base"}

# Decided proposals without a promotion, after which search looks further away.
STAGNATION = 10
# How many children an idea of the frontier may have before it is left alone.
MAX_SHRINKS = 3
MAX_REPAIRS = 1
# Crashes in a row of one planner with one kind of idea, after which none of them is repaired any more.
MOST_CRASHES = 3
# Of the smallest gain that matters: an idea that promised less is not worth a repair.
WORTH_SAVING = 0.1
MAX_NEAR_MISS_CHILDREN = 2
FRONTIER = 6

_DECIDED: frozenset[ProposalState] = frozenset(
    {"worse", "inconclusive", "invalid", "oversize", "crashed", "promoted", "reverted"}
)
_PAIR = re.compile(r"p(\d{1,12}) with p(\d{1,12})")

Pair = frozenset[int]


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
    runs: int = 1
    planner: str = ""
    kind: Kind = "knob"
    promised: float | None = None
    """Expected gain times confidence; None: its planner expected nothing in particular."""


@dataclass(frozen=True)
class Snapshot:
    """All that search looks at. Candidates come in the order of their ids, the base first."""

    head_id: int
    candidates: tuple[Candidate, ...]
    modes: frozenset[Mode] = ALL_MODES
    """What the planners understand."""
    min_gain: float = 0.0
    """The track's smallest gain that matters."""
    sigma: float = 0.0
    """The track's noise between seeds."""
    combined: frozenset[Pair] = frozenset()
    """Pairs of ideas that were put together before, or could not be."""


@dataclass(frozen=True)
class Choice:
    mode: Mode
    source_id: int
    with_id: int | None = None
    """To combine: the second idea; None: the planner finds out itself what goes together, on the head."""


class Tried(Protocol):
    """What search needs to know of one earlier proposal; `agent.planner.Trial` is one, and so is a row of the store."""

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
    @property
    def runs(self) -> int: ...
    @property
    def planner(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    @property
    def expected_gain(self) -> float: ...
    @property
    def confidence(self) -> float: ...


def snapshot(
    head_id: int,
    tried: Sequence[Tried],
    *,
    modes: frozenset[Mode] = ALL_MODES,
    min_gain: float = 0.0,
    sigma: float = 0.0,
    combined: frozenset[Pair] = frozenset(),
) -> Snapshot:
    """The campaign as search sees it, from what was tried."""
    children = Counter(one.source_id for one in tried if one.source_id != head_id and one.mode != "combine")
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
            runs=one.runs,
            planner=one.planner,
            kind=one.kind,
            promised=one.expected_gain * one.confidence if one.expected_gain else None,
        )
        for one in sorted(tried, key=lambda one: one.proposal_id)
    )
    return Snapshot(head_id, candidates, modes, min_gain, sigma, combined)


def pair_words(one: int, other: int) -> str:
    """How a proposal's evidence says which two ideas it was to combine."""
    return f"p{one} with p{other}"


def pairs_in(evidence: Iterable[str]) -> frozenset[Pair]:
    found = (_PAIR.fullmatch(words) for words in evidence)
    return frozenset(frozenset({int(match[1]), int(match[2])}) for match in found if match)


def choose(snapshot: Snapshot, seed: int, n: int) -> Choice:
    """Mode and source of the n-th proposal."""
    urgent = _shrink(snapshot) or _repair(snapshot)
    if urgent is not None:
        return urgent
    draw = random.Random(f"search/{seed}/{n}")
    weights = _weights(snapshot)
    modes = [mode for mode in weights if mode in snapshot.modes and weights[mode] > 0]
    mode: Mode = draw.choices(modes, [weights[m] for m in modes])[0] if modes else "exploit"
    if mode == "combine" and (untried := _pairs(snapshot)):
        return Choice(mode, *untried[0])
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
        if idea.state == "crashed" and idea.children < MAX_REPAIRS and _worth_saving(idea, snapshot):
            return Choice("repair", idea.id)
    return None


def _worth_saving(idea: Candidate, snapshot: Snapshot) -> bool:
    """It promised something, is not a repair itself, and its planner does not crash with all ideas of this kind."""
    if idea.mode == "repair" or (idea.promised is not None and idea.promised < WORTH_SAVING * snapshot.min_gain):
        return False
    alike = [
        c for c in snapshot.candidates if c.planner == idea.planner and c.kind == idea.kind and c.state in _DECIDED
    ]
    last = alike[-MOST_CRASHES:]
    return len(last) < MOST_CRASHES or any(c.state != "crashed" for c in last)


def _pairs(snapshot: Snapshot) -> list[tuple[int, int]]:
    """Near misses to put together, the most measured gain first; no pair twice."""
    near = [c for c in snapshot.candidates if _near_miss(c, snapshot) and _over_its_noise(c, snapshot)]
    best = sorted(near, key=lambda c: (-(c.gain or 0.0), c.id))[:FRONTIER]
    untried = [
        (one, other) for one, other in combinations(best, 2) if frozenset({one.id, other.id}) not in snapshot.combined
    ]
    untried.sort(key=lambda two: -((two[0].gain or 0.0) + (two[1].gain or 0.0)))
    return [(one.id, other.id) for one, other in untried]


def _over_its_noise(idea: Candidate, snapshot: Snapshot) -> bool:
    """Two gains that are luck do not add up to one that isn't."""
    return (idea.gain or 0.0) > snapshot.sigma / math.sqrt(max(idea.runs, 1))


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
