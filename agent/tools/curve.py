"""The training losses that a log names, step by step.

Takes the text of a log, which a candidate wrote; gives numbers to show, never to decide a score by.
"""

import re

from agent.judge.lines import rows

# step:120/300 train_loss:5.1
_NUMBER = r"[+-]?(?:nan|inf|\d{1,12}(?:\.\d{0,12})?(?:e[+-]?\d{1,3})?)"
_STEP = re.compile(
    rf"(?:step[: ])?\s{{0,8}}(\d{{1,9}})/\d{{1,9}}\b.{{0,80}}?train_loss:?\s?({_NUMBER})",
    re.IGNORECASE | re.ASCII,  # else a dotless i is an i, and float() does not think so
)


def losses(text: str) -> dict[int, float]:
    """By step, in the order of the log; the first loss of a step counts."""
    found: dict[int, float] = {}
    for row in rows(text):
        if step := _STEP.match(row.text):
            found.setdefault(int(step[1]), float(step[2]))
    return found


def same_start(one: dict[int, float], other: dict[int, float]) -> int:
    """How many of the first steps that both name have exactly the same loss."""
    common = sorted(one.keys() & other.keys())
    return next((n for n, step in enumerate(common) if one[step] != other[step]), len(common))
