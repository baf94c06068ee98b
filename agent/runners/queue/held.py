"""A job in a worker's hands: its folder, its lease, how much of its logs was sent.

Takes a job folder; the lease is written in it, so that a worker that comes again after a kill finds what it held.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from agent.errors import InfraError
from agent.job.folder import Heartbeat, JobPaths, strict_heartbeat
from agent.job.reading import read_small
from agent.job.writing import write_aside
from agent.runners.results import order_of
from agent.store.queue import Held, Sign
from agent.strict import strict

FILE = "lease.json"


@dataclass(frozen=True)
class Noted:
    job_id: int
    token: int
    run_id: int
    slot: str


@dataclass
class Job:
    """What this worker runs. `over`: its lease is, so it is ended and nothing of it is handed in."""

    folder: Path
    noted: Noted
    over: bool = False
    asked: bool = False
    """To end, by the controller."""
    cancelled: bool = False
    wall_s: float = 0.0
    """That it may take at most; 0: it was not looked up yet."""
    sent: dict[str, int] = field(default_factory=dict)
    """Bytes of each log that the store has."""

    @property
    def held(self) -> Held:
        return Held(self.noted.job_id, self.noted.token)

    def left_s(self) -> float:
        """Until its slot is free again, at the latest."""
        if not self.wall_s:
            try:
                self.wall_s = order_of(self.folder).wall_s
            except InfraError:
                return 0.0
        return max(0.0, self.wall_s - self.sign().seconds)

    def sign(self) -> Sign:
        text = read_small(JobPaths(self.folder).heartbeat)
        beat: Heartbeat | None = strict_heartbeat(text)
        return Sign(self.held, 0.0, "") if beat is None or text is None else Sign(self.held, beat.seconds, text)


def note(folder: Path, noted: Noted) -> None:
    write_aside(folder / FILE, json.dumps(asdict(noted)))


def noted(folder: Path) -> Noted | None:
    try:
        return strict(Noted, read_small(folder / FILE) or "")
    except ValueError:
        return None
