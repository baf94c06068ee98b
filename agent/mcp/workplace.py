"""Where the server works: the campaign of the workspace, looked up at each call, for a newer one may have begun.

Takes the name of a campaign, or none for the latest; gives what tools work with, or UserError with what a person does.
"""

import threading
from dataclasses import replace

from agent import named
from agent import track as tracks
from agent.errors import UserError
from agent.store import Store, where
from agent.tools import Desk
from agent.workspace import corpus_folder
from agent.worktree import Repository

START = "a person starts one with `agent start --planner mcp`, in this folder"


class Workplace:
    """One server's. Threads may share it."""

    def __init__(self, name: str | None) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._desk: Desk | None = None

    def desk(self) -> Desk:
        """The campaign as it is now. What was tried out stays with it from call to call."""
        with self._lock:
            root = named.workspace()
            self._store = self._store or where.opened(root)
            with self._store.read() as reads:
                campaign = named.campaign(self._name, reads.campaigns())
            if self._desk is None or self._desk.campaign.id != campaign.id:
                track = tracks.parse(campaign.track_toml, f"track of {campaign.name}")
                corpus = corpus_folder(root, track.data.corpus)
                self._desk = Desk(self._store, Repository(root), track, campaign, root, corpus)
            return replace(self._desk, campaign=campaign)

    def close(self) -> None:
        with self._lock:
            if self._store is not None:
                self._store.close()


def refuse_finished(desk: Desk) -> None:
    """An idea for a campaign that can't run it would only be lost."""
    if desk.campaign.state == "finished":
        raise UserError(f"campaign {desk.campaign.name} is finished ({desk.campaign.reason}); {START}")
