"""What the `knobs` planner knows at one question: the space, the effects learnt, the sizes learnt.

Takes a `Request`; gives a `View`, rebuilt each time from the request's trials alone.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from agent.planner.knobs.sizes import Sizes
from agent.planner.knobs.space import Axis, Space, of
from agent.planner.knobs.surrogate import Additive, Point, Prior
from agent.script import literals
from agent.script.literals import KnobValue
from agent.states import FINAL, GIVEN_UP

if TYPE_CHECKING:
    from agent.planner import Request, Trial

At = tuple[int, ...]

MOST_TRIALS = 300
# What an additive model leaves unexplained of one configuration, in BPB.
MISFIT = 0.008
# A script that gave no score is taken to be this much worse than the head.
FAILED = 0.06

# Spread of the effect of one step in BPB, and the mean cost of leaving a default that somebody chose.
TAU = {
    "tokenizer": 0.06,
    "data": 0.035,
    "shape": 0.03,
    "optimiser": 0.02,
    "evaluation": 0.004,
    "bytes": 0.004,
}
DRIFT = 0.25  # of tau, per step
# Rounding weights to fewer bits, measured.
BITS_COST = {8: 0.0, 6: 0.006, 5: 0.020, 4: 0.090}


@dataclass(frozen=True)
class View:
    request: "Request"

    @cached_property
    def head(self) -> dict[str, KnobValue]:
        return literals.read(self.request.track, self.request.head_files)

    @cached_property
    def source(self) -> dict[str, KnobValue]:
        return literals.read(self.request.track, self.request.files)

    @cached_property
    def trials(self) -> "tuple[Trial, ...]":
        return self.request.trials[-MOST_TRIALS:]

    @cached_property
    def space(self) -> Space:
        configs = [self.head, self.source, *(trial.knobs for trial in self.trials)]
        return of(self.request.track.knob, configs)

    @cached_property
    def head_at(self) -> At:
        at = self.space.point(self.head)
        assert at is not None  # the space was made from it
        return at

    @cached_property
    def reference(self) -> At:
        """The configuration that effects are counted from: the oldest one known."""
        known = (self.space.point(trial.knobs) for trial in self.trials)
        return next((at for at in known if at is not None), self.head_at)

    @cached_property
    def measured(self) -> tuple[tuple[At, float, float], ...]:
        """Point, BPB and its spread, of all that was measured or failed."""
        sigma = self.request.track.decision.prior_sigma
        found = []
        head_bpb = self._head_bpb()
        for trial in self.trials:
            at = self.space.point(trial.knobs)
            if at is None:
                continue
            if trial.bpb is not None:
                spread = math.hypot(sigma / math.sqrt(max(trial.runs, 1)), MISFIT)
                found.append((at, trial.bpb, spread))
            elif trial.state in ("crashed", "invalid") and head_bpb is not None:
                found.append((at, head_bpb + FAILED, 2 * sigma + MISFIT))
        return tuple(found)

    @cached_property
    def pending(self) -> tuple[At, ...]:
        """What is planned, waiting or running and has no score yet."""
        waiting = [t for t in self.trials if t.bpb is None and t.state not in FINAL]
        return tuple(at for at in (self.space.point(t.knobs) for t in waiting) if at is not None)

    @cached_property
    def seen(self) -> frozenset[At]:
        tried = [t for t in self.request.trials if t.state not in GIVEN_UP or t.bpb is not None]
        points = (self.space.point(t.knobs) for t in tried)
        return frozenset({self.head_at, *(at for at in points if at is not None)})

    def tried(self, at: At) -> bool:
        """Whether an idea that has a score, or was not given up, has this configuration, however long ago."""
        forgotten = self.request.forgotten
        return at in self.seen or (bool(forgotten) and literals.digest(self.space.config(at)) in forgotten)

    @cached_property
    def effects(self) -> Additive:
        """Effects on BPB. Pending points count as measured, at what is expected of them."""
        points = [Point(*one) for one in self.measured]
        priors = [self._prior(axis, level) for axis, level in zip(self.space.axes, self.reference, strict=True)]
        model = Additive(self.space, self.reference, priors, points)
        if not self.pending or not points:
            return model
        sigma = math.hypot(self.request.track.decision.prior_sigma, MISFIT)
        lies = [Point(at, model.value(at).mean, sigma) for at in self.pending]
        return Additive(self.space, self.reference, priors, [*points, *lies])

    @cached_property
    def sizes(self) -> Sizes:
        settings = literals.settings(self.request.track, self.request.head_files)
        measured = [(t.knobs, t.total_bytes) for t in self.trials if t.total_bytes is not None]
        return Sizes(self.space, settings, self.reference, measured)

    def root(self) -> Mapping[str, KnobValue] | None:
        """The configuration of the source's own baseline."""
        source = self.request.source
        if source.id == self.request.head.id or source.baseline_id == self.request.head.id:
            return self.head
        return next((t.knobs for t in self.trials if t.proposal_id == source.baseline_id and t.knobs), None)

    def _head_bpb(self) -> float | None:
        found = [t.bpb for t in self.trials if t.proposal_id == self.request.head.id and t.bpb is not None]
        return found[0] if found else None

    def _prior(self, axis: Axis, reference: int) -> Prior:
        tau = TAU.get(axis.group, 0.02)
        if axis.group == "bytes":
            return self._bytes_prior(axis, reference)
        if not axis.ordered:
            means = {i: DRIFT * tau for i in range(len(axis.levels)) if i != reference}
        else:
            means = {i: DRIFT * tau * abs(i - reference) for i in range(len(axis.levels))}
        return Prior(tau, means)

    def _bytes_prior(self, axis: Axis, reference: int) -> Prior:
        """Fewer bits cost BPB; a compressor costs nothing."""
        costs = [BITS_COST.get(int(v), 0.0) if isinstance(v, int | float) else 0.0 for v in axis.levels]
        if not axis.ordered:
            return Prior(0.0005, {})
        # Embedding and matrices share what rounding everything costs.
        means = {i: (cost - costs[reference]) / 2 for i, cost in enumerate(costs)}
        return Prior(TAU["bytes"], means)
