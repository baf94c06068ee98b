"""What came of a dry run, and the answers that a campaign's processes keep for one another.

Takes a folder and a key that says all that an answer depends on; gives a `DryRun`, or None. A client's idea is tried by
the server that takes it in, and once more before its run by the loop: the second time the first answer is read.
"""

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from agent.job.reading import read_small
from agent.job.writing import write_aside
from agent.judge.contract import Conformance
from agent.strict import strict

MOST = 64  # answers that are kept
OLD_S = 86_400.0  # after which one is asked for anew: the machine and its packages may be others


@dataclass(frozen=True)
class DryRun:
    """What a dry run did. All but sizes, memory and time is what the script printed."""

    failure: str
    """Why it is no good, in words; empty: it trained and left its artifact."""
    tail: str
    """The last lines of its log, of a failed one; of one that breaks the contract, those of its scoring's log."""
    losses: dict[int, float]
    parameters: int | None
    step_cost_ms: float | None
    artifact_bytes: int | None
    code_bytes: int
    peak_mb: float
    seconds: float
    raised: bool = False
    """Whether it ended with a traceback."""
    slow: bool = False
    """It met its wall clock: on a machine that has less to do it may not."""
    busy: bool = False
    """It met a clock, and other work had its core meanwhile: nothing is known of the script."""
    conformance: Conformance | None = None
    """What came of the test of its scoring. None: that was not asked, or training failed."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "DryRun":
        found = strict(cls, text)
        return replace(found, losses={int(step): loss for step, loss in found.losses.items()})


def read(folder: Path, key: str) -> DryRun | None:
    path = folder / f"{key}.json"
    with suppress(OSError, ValueError):
        if path.lstat().st_mtime > time.time() - OLD_S:
            return DryRun.from_json(read_small(path) or "")
    return None


def write(folder: Path, key: str, found: DryRun) -> None:
    """Best effort: whoever finds no answer tries again. A loss that is no number is not written."""
    with suppress(OSError, ValueError):
        text = found.to_json()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_aside(folder / f"{key}.json", text, durable=False)
        kept = sorted(folder.glob("*.json"), key=lambda path: path.lstat().st_mtime)
        for path in kept[:-MOST]:
            path.unlink(missing_ok=True)
