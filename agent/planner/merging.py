"""Two ideas put together without asking anybody: a three-way merge of their scripts on the head that both started from.

Takes a `Request` with a `partner`; gives a `Draft`, or None where the two touch the same lines or one holds the other:
then a planner is asked. Each gain was measured below acceptance, so what is expected of the sum is shrunk as far as
noise may have made it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

from agent.errors import EditError
from agent.planner import edits
from agent.records import Draft, Mode, Proposal
from agent.script.merge import merge
from agent.search import pair_words

if TYPE_CHECKING:
    from agent.planner import Request

NAME = "merge"


class Part(NamedTuple):
    """One of the two ideas: what it gained, and what of that is believed."""

    proposal: Proposal
    gain: float
    believed: float
    variance: float


@dataclass(frozen=True)
class Merge:
    """A planner that search's choice to combine is put to first."""

    name: str = NAME
    modes: frozenset[Mode] = frozenset({"combine"})
    parallel: int = 1

    def propose(self, request: "Request") -> Draft | None:
        assert request.partner is not None
        both = _merged(request.head_files, request.files, request.partner_files)
        if both is None or both in (dict(request.files), dict(request.partner_files)):
            return None
        text = _edits(request.files, both)
        if text is None:
            return None
        parts = _part(request, request.source), _part(request, request.partner)
        larger = max(parts, key=lambda part: part.gain).proposal
        expected, variance = sum(part.believed for part in parts), sum(part.variance for part in parts)
        one, other = request.source, request.partner
        return Draft(
            title=f"{one.title} + {other.title}"[:200],
            hypothesis=_hypothesis(parts, expected),
            edits=text,
            planner=NAME,
            mode="combine",
            kind=larger.kind,
            source_id=one.id,
            expected_gain=round(expected, 5),
            confidence=round(NormalDist().cdf(expected / math.sqrt(variance)), 3) if variance > 0 else 0.5,
            risk=tuple(dict.fromkeys((*one.risk, *other.risk))),
            evidence=(f"p{one.id}", f"p{other.id}", pair_words(one.id, other.id)),
        )


MERGE = Merge()


def noted(draft: Draft | None, request: "Request") -> Draft | None:
    """A planner's answer, with the pair that it was to combine: no pair is asked for twice."""
    if draft is None or request.partner is None:
        return draft
    return replace(draft, evidence=(*draft.evidence, pair_words(request.source.id, request.partner.id)))


def _merged(base: Mapping[str, str], one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str] | None:
    result = {}
    for path, text in one.items():
        both = merge(base.get(path, ""), text, other.get(path, ""))
        if both is None:
            return None
        result[path] = both
    return result


def _edits(before: Mapping[str, str], after: Mapping[str, str]) -> str | None:
    changed = [path for path in after if after[path] != before.get(path)]
    try:
        text = "\n".join(edits.make_edits(path, before.get(path, ""), after[path]) for path in changed)
        return text if edits.apply(text, before, list(after)) == after else None
    except (EditError, ValueError):  # a change that edits can't say
        return None


def _part(request: "Request", proposal: Proposal) -> Part:
    rule = request.track.decision
    trial = next((one for one in request.trials if one.proposal_id == proposal.id), None)
    gain, runs = (0.0, 1) if trial is None else (trial.gain or 0.0, max(trial.runs, 1))
    noise = rule.prior_sigma**2 * (1 / runs + 1 / rule.report_seeds)
    spread = rule.prior_variance(rule.prior_sigma)
    weight = spread / (spread + noise)
    return Part(proposal, gain, weight * gain, weight * noise)


def _hypothesis(parts: tuple[Part, Part], expected: float) -> str:
    seen = " and ".join(f"p{part.proposal.id} ({part.proposal.title}) {part.gain:+.4f}" for part in parts)
    return (
        f"Measured apart against the same head, {seen}: each too little to be told from luck, together "
        f"{expected:+.4f} BPB if they add up, which they often do not in full. Their edits merge without a conflict."
    )
