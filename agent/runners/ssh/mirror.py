"""Where a job was put that is mirrored here: `far.json` in its folder.

Takes a job folder; gives `Placed`. What came back of the job is in the other files (agent/runners/far/mirror.py).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.job.reading import read_small
from agent.job.writing import write_aside
from agent.strict import strict

NAME = "far.json"


@dataclass(frozen=True)
class Placed:
    """Where a job was put."""

    slot: str
    host: str
    asked: float | None = None  # when its start was last asked for, by this machine's clock; None: never
    judged: float | None = None  # when its scoring was last asked for
    ended: bool = False  # nothing of it runs there any more
    given_up: str = ""  # why; what it has there may be ended already, so it is never begun again
    waits: str = ""  # why it, or its scoring, has not begun there: somebody else's run is on its slot
    met: bool = False  # it was seen there; until then it may have waited without our knowing
    environment: str = ""  # sha256 of the Python and the packages that it ran with


def read(folder: Path) -> Placed | None:
    """Raises ValueError for a file that is none of ours."""
    text = read_small(folder / NAME)
    return None if text is None else strict(Placed, text)


def write(folder: Path, placed: Placed) -> None:
    write_aside(folder / NAME, json.dumps(asdict(placed), indent=1))
