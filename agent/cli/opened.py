"""Opens the workspace for a command.

Takes a campaign's name, or none; gives its store and its row, or errors that name the fix.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from agent import named
from agent.workspace import campaign_folder, jobs_folder

if TYPE_CHECKING:
    from agent.records import Campaign
    from agent.store import Store

CampaignName = Annotated[str | None, typer.Option("--campaign", help="Which campaign. Default: the latest.")]
AtWork = Annotated[
    str | None, typer.Option("--campaign", help="Which campaign. Default: the latest that runs, else the latest.")
]


class Opened(NamedTuple):
    store: "Store"
    campaign: "Campaign"
    root: Path

    @property
    def folder(self) -> Path:
        return campaign_folder(self.root, self.campaign.name)

    @property
    def jobs(self) -> Path:
        return jobs_folder(self.root, self.campaign.name)


@contextmanager
def opened(name: str | None, *, at_work: bool = False) -> Iterator[Opened]:
    """The store and a campaign of it: the one that is named, or the latest; with `at_work` the latest that is run."""
    from agent.store import where
    from agent.store.lease import holder

    root = named.workspace()
    store = where.opened(root)
    try:
        with store.read() as reads:
            campaigns = reads.campaigns()
            if at_work and name is None:
                run = [one for one in campaigns if holder(reads.connection, f"campaign {one.name}")]
                campaigns = run or campaigns
        yield Opened(store, named.campaign(name, campaigns), root)
    finally:
        store.close()
