"""Cuts a log that holds several runs into the logs of each.

Takes rows; gives them run by run. Pure. A script that was started twice with one log file, logs that were put
together, a summary with one entry a seed.
"""

import re
from collections.abc import Iterator, Sequence

from agent.judge.finals import read_final
from agent.judge.lines import Row

# How the beginning of a run looks, in any of the official scripts.
_START = re.compile(
    r"Running Python \d|Hyperparameters:|val_bpb:enabled |warm_?up(?:_step)?: ?1/\d|(?:step:)?0/\d+ |\s{0,4}seed: ?\d|"
    r'\s{0,4}"seed": ?\d'
)
_STEP = re.compile(r"(?:step:)?(\d{1,12})/\d{1,12} .{0,200}loss")
BEGUN = 2  # steps: of ranks that print at once, one may still begin when the other has made its first


def runs(rows: Sequence[Row]) -> list[list[Row]]:
    """Another run begins where something begins although the one before it has trained or has a score."""
    found = [list(one) for one in _cut(rows)]
    return found or [[]]


def _cut(rows: Sequence[Row]) -> Iterator[list[Row]]:
    run: list[Row] = []
    begun = False
    for row in rows:
        if begun and _START.match(row.text):
            yield run
            run, begun = [], False
        run.append(row)
        step = _STEP.match(row.text)
        begun = begun or (step is not None and int(step[1]) > BEGUN) or read_final(row) is not None
    if run:
        yield run
