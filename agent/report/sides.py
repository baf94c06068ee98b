"""The two sides of a claim, however a contestant writes them: scores, files, runs, a promoted commit.

Takes words of a command line; gives `Side`s. What a file holds is somebody else's: numbers are read, nothing more.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from agent.errors import UserError
from agent.job.reading import read_small
from agent.judge.claim import NATS

_SCORE = re.compile(r"\d{1,3}\.\d{1,17}", re.ASCII)


class Side(NamedTuple):
    scores: tuple[float, ...]  # bits per byte
    tokens_per_byte: float | None


FromStore = Callable[[str], Side]


def side(texts: Sequence[str], from_store: FromStore) -> Side:
    """Several texts are pooled: `1.0793 1.0799`, `1.0793,1.0799`, `r12 r13 r14`, `p12`, a submission.json, a file of
    numbers. Raises UserError for a text that is none of them."""
    found = [_one(text.strip(), from_store) for whole in texts for text in whole.split(",") if text.strip()]
    ratios = {one.tokens_per_byte for one in found} - {None}
    if len(ratios) > 1 and max(r for r in ratios if r) > 1.001 * min(r for r in ratios if r):
        raise UserError("these scores come from several tokenizers; give those of one submission")
    scores = tuple(score for one in found for score in one.scores)
    return Side(scores, next((ratio for ratio in ratios), None))


def _one(text: str, from_store: FromStore) -> Side:
    if _SCORE.fullmatch(text):
        return Side((float(text),), None)
    path = Path(text)
    if path.is_dir():
        path = path / "submission.json"
    if path.is_file():
        return _of_json(path) if path.suffix == ".json" else _of_numbers(path)
    if re.fullmatch(r"[prPR]?\d{1,12}", text):
        return from_store(text)
    raise UserError(
        f"{text!r} is no score (1.0793), no file, no run (r12) and no proposal (p12). Scores are bits per byte"
    )


def _of_numbers(path: Path) -> Side:
    words = (read_small(path) or "").split()
    wrong = next((word for word in words if not _SCORE.fullmatch(word)), None)
    if wrong is not None or not words:
        raise UserError(f"{path}: holds no scores, one a line, such as 1.07928348 ({(wrong or 'nothing')[:40]!r})")
    return Side(tuple(map(float, words)), None)


def _of_json(path: Path) -> Side:
    """The seeds of a submission.json; its val_loss beside val_bpb says how many tokens a byte has."""
    try:
        whole = json.loads(read_small(path) or "")
        rows = whole["seed_results"]
        seeds = list(rows.values()) if isinstance(rows, dict) else list(rows)
        scores = [_number(row["val_bpb"]) for row in seeds]
        losses = [_number(row["val_loss"]) for row in seeds if row.get("val_loss") is not None]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise UserError(f"{path}: no seed_results with a val_bpb each, as the contest's entries have them") from error
    ratios = [bpb * NATS / loss for bpb, loss in zip(scores, losses, strict=False) if loss > 0]
    return Side(tuple(scores), sum(ratios) / len(ratios) if len(ratios) == len(scores) and ratios else None)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("no number")
    return float(value)
