"""Backends of a fleet that hold what they can't give back, or refuse to say how it fares; and ideas to run on them."""

from pathlib import Path

from agent.errors import UserError
from agent.job.folder import JobState
from agent.runners.fake import FakeRunner
from tests.e2e import world

IDEAS = [world.idea(f"wider {n}", ('"width": 4', f'"width": {n}')) for n in (2, 6, 8)] + [
    world.idea(f"rate {n}", ('"rate": 0.10', f'"rate": {n / 100}')) for n in (2, 5, 20, 40)
]


class Holding(FakeRunner):
    """What it holds can be given back, unless that fails."""

    error: Exception | None = None
    refused: str | Exception = ""
    closed = False

    def poll(self, folder: Path) -> JobState:
        if self.refused:
            raise self.refused if isinstance(self.refused, Exception) else UserError(self.refused)
        return super().poll(folder)

    def close(self) -> None:
        if self.error is not None:
            raise self.error
        self.closed = True
