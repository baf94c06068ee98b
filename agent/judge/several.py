"""Cuts a log that holds several runs into the logs of each.

Takes rows; gives them run by run. Pure. A script that was started twice with one log file, logs that were put
together, a summary with one entry a seed.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent import step_lines
from agent.judge.finals import read_final
from agent.judge.lines import Row

# How the beginning of a run looks, in any of the official scripts.
_START = re.compile(r"Running Python \d|Hyperparameters:|val_bpb:enabled |warm_?up(?:_step)?: ?1/\d|(?:step:)?0/\d+ ")
_SEED = re.compile(r'\s{0,4}(?:seed|"seed"): ?(\d{1,20})\b')
BEGUN = 2  # steps: of ranks that print at once, one may still begin when the other has made its first


@dataclass
class _Seen:
    """What the run that is read has shown."""

    trained: bool = False
    scored: bool = False
    seed: str | None = None

    def ends_before(self, row: Row) -> bool:
        """Whether the row belongs to another run. A seed may be told late, and twice; not another one."""
        if seed := _SEED.match(row.text):
            return self.scored or (self.trained and self.seed not in (None, seed[1]))
        return (self.trained or self.scored) and _START.match(row.text) is not None

    def add(self, row: Row) -> None:
        step, seed = step_lines.official(row.text), _SEED.match(row.text)
        self.trained = self.trained or (step is not None and step > BEGUN)
        self.scored = self.scored or read_final(row) is not None
        self.seed = seed[1] if seed is not None and self.seed is None else self.seed


def runs(rows: Sequence[Row]) -> list[list[Row]]:
    """Another run begins where something begins although the one before it has trained or has a score."""
    return list(_cut(rows)) or [[]]


def _cut(rows: Sequence[Row]) -> Iterator[list[Row]]:
    run: list[Row] = []
    seen = _Seen()
    for row in rows:
        if seen.ends_before(row):
            yield run
            run, seen = [], _Seen()
        run.append(row)
        seen.add(row)
    if run:
        yield run
