"""What the steps of one campaign work with, and where its files are."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from agent.records import Campaign
from agent.track import Track
from agent.workspace import campaign_folder, job_folder, jobs_folder, packed_folder

if TYPE_CHECKING:
    from agent.planner import Planner
    from agent.runners import Runner
    from agent.store import Store
    from agent.tools.desk import Desk
    from agent.worktree import Repository


T = TypeVar("T")


def known(value: T | None) -> T:
    """A column that is empty only before the step that fills it."""
    assert value is not None
    return value


@dataclass(frozen=True)
class Setting:
    """One campaign at work. Nothing in here changes while it runs; what changes is in the store."""

    store: "Store"
    repo: "Repository"
    runner: "Runner"
    planners: "tuple[Planner, ...]"
    track: Track
    campaign: Campaign
    corpus: Path
    """The prepared corpus: train/, val/, manifest.json."""
    desk: "Desk"
    """What planners look at; what they and the loop have tried out of scripts is kept with it."""

    @property
    def folder(self) -> Path:
        return campaign_folder(self.repo.root, self.campaign.name)

    @property
    def jobs(self) -> Path:
        return jobs_folder(self.repo.root, self.campaign.name)

    def job(self, run_id: int) -> Path:
        return job_folder(self.repo.root, self.campaign.name, run_id)

    @property
    def packed(self) -> Path:
        return packed_folder(self.repo.root, self.campaign.name)
