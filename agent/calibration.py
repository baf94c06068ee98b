"""How far a planner's predictions can be believed: what it expected beside what was measured, by kind of idea.

Takes the campaign's newest ideas (`agent/store/promises.py`); gives a `Row` for each planner and kind, and one
for each planner with all its kinds together (`kind` empty). Pure but for `table`, which reads them. The view
`calibration` of the store shows the same means in plain SQL.
"""

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.store import Reads
    from agent.store.promises import Promise

# How many predictions the belief "a planner is as good as it says" is worth, and "a kind is like its planner's others".
PRIOR = 4.0
LEAST, MOST = 0.05, 2.0  # of trust: nobody is silenced for good, and nobody is believed beyond twice what was said
FAILED = frozenset({"crashed", "invalid"})
ENDED_BADLY = FAILED | {"worse"}  # at a trial that leaves no gain

TrustOf = Callable[[str, str], float]
"""From a planner's name and a kind to the factor for what it expects."""


@dataclass(frozen=True)
class Forecast:
    """A figure of ideas as it was said before and measured after, over those of which both are known."""

    n: int = 0
    expected: float | None = None
    """Mean."""
    measured: float | None = None
    """Mean."""
    error: float | None = None
    """Mean of |expected - measured| / measured."""


@dataclass(frozen=True)
class Row:
    """Of one planner and kind: what was said before, what was seen after."""

    planner: str
    kind: str
    n: int
    """Predictions that could be scored: ideas with a measured gain, and those that crashed, broke a rule or failed a
    trial."""
    expected_gain: float
    measured_gain: float | None
    """Mean over those that were measured."""
    confidence: float
    better: float
    """Share that was better than its baseline: what confidence should have been."""
    brier: float
    """Mean square of confidence less what happened: 0 is a prophet, 0.25 says always 0.5."""
    trust: float
    """What an expected gain times its confidence is worth here; 1: as much as was said."""
    size: Forecast = Forecast()
    """Bytes of artifact and code."""
    step: Forecast = Forecast()
    """Time of one step, as a multiple of the baseline's."""


def table(reads: "Reads", campaign_id: int) -> tuple[Row, ...]:
    """By planner, all kinds together first, then by kind."""
    from agent.store.promises import promises

    return rows(promises(reads, campaign_id))


def rows(ideas: "Sequence[Promise]") -> tuple[Row, ...]:
    """From ideas in any state: those without an end that says something count nothing."""
    by_planner: dict[str, list[Promise]] = defaultdict(list)
    for idea in ideas:
        if idea.gain is not None or idea.state in ENDED_BADLY:
            by_planner[idea.planner].append(idea)
    found = []
    for planner, mine in sorted(by_planner.items()):
        overall = _row(planner, "", mine, 1.0)
        found.append(overall)
        for kind in sorted({idea.kind for idea in mine}):
            found.append(_row(planner, kind, [idea for idea in mine if idea.kind == kind], overall.trust))
    return tuple(found)


def trust_of(table: Sequence[Row]) -> TrustOf:
    """By kind where the planner has a record of it, else by planner; 1 for who has none."""
    known = {(row.planner, row.kind): row.trust for row in table}

    def trust(planner: str, kind: str) -> float:
        return known.get((planner, kind), known.get((planner, ""), 1.0))

    return trust


def claim(expected_gain: float, confidence: float) -> float:
    """What an idea promises, all in all."""
    return max(0.0, expected_gain) * confidence


def credible(gain: float | None, stderr: float | None) -> float:
    """What of a measured gain counts: nothing while it is not above its own standard error."""
    if gain is None or stderr is None or gain <= stderr:
        return 0.0
    return gain


def _row(planner: str, kind: str, ideas: "list[Promise]", before: float) -> Row:
    measured = [idea.gain for idea in ideas if idea.gain is not None]
    better = [float(_worked(idea)) for idea in ideas]
    errors = [(idea.confidence - seen) ** 2 for idea, seen in zip(ideas, better, strict=True)]
    return Row(
        planner,
        kind,
        len(ideas),
        statistics.fmean(idea.expected_gain for idea in ideas),
        statistics.fmean(measured) if measured else None,
        statistics.fmean(idea.confidence for idea in ideas),
        statistics.fmean(better),
        statistics.fmean(errors),
        _trust(ideas, before),
        _forecast((idea.expected_bytes, idea.measured_bytes) for idea in ideas),
        _forecast((idea.expected_step, idea.measured_step) for idea in ideas),
    )


def _forecast(pairs: Iterable[tuple[float | None, float | None]]) -> Forecast:
    known = [(said, seen) for said, seen in pairs if said is not None and seen is not None]
    if not known:
        return Forecast()
    return Forecast(
        len(known),
        statistics.fmean(said for said, _ in known),
        statistics.fmean(seen for _, seen in known),
        statistics.fmean(abs(said - seen) / seen for said, seen in known),
    )


def _worked(idea: "Promise") -> bool:
    return idea.state not in FAILED and idea.gain is not None and idea.gain > 0


def _trust(ideas: "list[Promise]", before: float) -> float:
    """Gains that count over what was promised, shrunk to what was believed before; that, where nothing was promised."""
    promised = sum(claim(idea.expected_gain, idea.confidence) for idea in ideas)
    if promised <= 0:
        return before
    came = sum(credible(idea.gain, idea.stderr) for idea in ideas if idea.state not in FAILED)
    ratio = came / promised
    return min(MOST, max(LEAST, (len(ideas) * ratio + PRIOR * before) / (len(ideas) + PRIOR)))
