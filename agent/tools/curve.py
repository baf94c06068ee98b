"""The training losses that a log names, step by step.

Takes the text of a log, which a candidate wrote; gives numbers to show, never to decide a score by.
"""

import re

from agent import step_lines
from agent.judge.lines import rows

_NUMBER = re.compile(r"[-+]?(?:nan|inf(?:inity)?|\d{1,12}(?:\.\d{0,24})?(?:e[-+]?\d{1,3})?)", re.IGNORECASE | re.ASCII)


def losses(text: str) -> dict[int, float]:
    """By step, in the order of the log; the first loss of a step counts."""
    found: dict[int, float] = {}
    for row in rows(text):
        for line in step_lines.read(row.text):
            if (loss := line.loss("train_loss")) is not None and _NUMBER.fullmatch(loss):
                found.setdefault(line.step, float(loss))
    return found
