"""The data that a worker has: made or found here, and only good for a campaign whose own is the same to the byte.

Takes campaigns; gives the sha256 of their corpora, or says why not.
"""

from pathlib import Path

from agent import corpus
from agent import track as tracks
from agent.errors import CaddieError, UserError
from agent.records import Campaign
from agent.track import Track
from agent.workspace import corpus_folder
from trainer.data.place import Say


class Corpora:
    def __init__(self, root: Path, say: Say) -> None:
        self._root, self._say = root, say
        self.shas: set[str] = set()
        self._asked: set[str] = set()

    def make(self, track: Track) -> str:
        """Its sha256, once it is there."""
        sha = corpus.prepared(track, self._root, self._say)
        self.shas.add(sha)
        return sha

    def require(self, campaign: Campaign) -> None:
        """Raises UserError when the data here is not what the campaign was started on."""
        track = tracks.parse(campaign.track_toml, f"track of {campaign.name}")
        sha = self.make(track)
        if sha != campaign.data_sha:
            raise UserError(
                f"the corpus in {corpus_folder(self._root, track.data.corpus)} is {sha[:12]}, campaign {campaign.name} "
                f"was started on {campaign.data_sha[:12]}: scores on them can't be compared, so this worker takes none "
                "of its runs. Copy the campaign's corpus there, or remove the folder and start the worker again"
            )

    def look_into(self, campaign: Campaign) -> None:
        """As `require`, once for each campaign's data, and what is wrong is said instead."""
        if campaign.data_sha in self._asked:
            return
        self._asked.add(campaign.data_sha)
        try:
            self.require(campaign)
        except CaddieError as error:
            self._say(str(error))
