"""What each planner's ideas came to, as data and in words: its record, its predictions, its share of next questions.

Takes the store's rows; gives a `PlannerRow` for each planner that had an idea, with its kinds.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from agent import calibration
from agent.calibration import Row
from agent.planner import bandit
from agent.store import Reads
from agent.store.promises import REMEMBERED, paid, promises
from agent.words import table


@dataclass(frozen=True)
class PlannerRow:
    planner: str
    ideas: int
    decided: int
    promoted: int
    gain: float
    """Of what was promoted, and of credible near misses a part."""
    slot_hours: float
    llm_usd: float
    share: float | None
    """Of the next questions; None: it is not one of those that the campaign asks."""
    predictions: tuple[Row, ...]
    """How they came true: of all kinds together first (kind empty), then by kind."""


def planners(reads: Reads, campaign_id: int) -> list[PlannerRow]:
    """Of the newest ideas, as far back as the choice between planners looks."""
    campaign = reads.campaign_by_id(campaign_id)
    ideas, spent = promises(reads, campaign_id), paid(reads, campaign_id)
    seen = {idea.planner for idea in ideas} | set(spent)
    asked = [_named(part.strip(), seen) for part in campaign.planner.split(",")]
    records = bandit.records([*asked, *sorted(seen - set(asked))], ideas, spent)
    shares = bandit.shares(records[: len(asked)], bandit.slot_s_per_usd(campaign.caps))
    predictions = calibration.rows(ideas)
    return [
        PlannerRow(
            planner=record.planner,
            ideas=record.ideas,
            decided=record.decided,
            promoted=record.promoted,
            gain=record.gain,
            slot_hours=record.slot_s / 3600,
            llm_usd=record.llm_usd,
            share=shares.get(record.planner),
            predictions=tuple(row for row in predictions if row.planner == record.planner),
        )
        for record in records
    ]


def words(rows: Sequence[PlannerRow]) -> str:
    header = ("planner", "ideas", "decided", "promoted", "gain", "slot-hours", "model dollars", "share")
    lines = [
        table(
            header,
            [
                (one.planner, one.ideas, one.decided, one.promoted, one.gain, one.slot_hours, one.llm_usd, one.share)
                for one in rows
            ],
        )
    ]
    predictions = [row for one in rows for row in one.predictions]
    if predictions:
        names = ("planner", "kind", "ideas", "expected", "measured", "confidence", "better", "Brier", "trust")
        shown = [_prediction(row) for row in predictions]
        said = "Predictions, and how they came true (off: mean error of bytes and of the time of a step, as a share):"
        lines += ["", said, table((*names, "bytes off", "step off"), shown)]
    else:
        lines += ["", "No idea has been decided yet."]
    if sum(one.ideas for one in rows) >= REMEMBERED:
        lines += ["", f"Of the newest {REMEMBERED} ideas."]
    return "\n".join(lines)


def _prediction(row: Row) -> tuple[object, ...]:
    gains = (row.n, row.expected_gain, row.measured_gain, row.confidence, row.better, row.brier, row.trust)
    return (row.planner, row.kind or "all", *gains, row.size.error, row.step.error)


def _named(part: str, seen: Collection[str]) -> str:
    """How the planner that `--planner` spells so is named in proposals: without the file or what else follows."""
    known = [name for name in seen if part == name or part.startswith(f"{name}:")]
    return max(known, key=len, default=part)
