"""What goes to the cluster for a job, and how Slurm is asked to run it.

Takes orders and job folders; gives Slurm's id. What several jobs need, such as code and data, is sent once.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

from agent.errors import InfraError
from agent.job.folder import JobPaths
from agent.job.reading import read_small
from agent.runners.order import Order, corpus_beside
from agent.runners.slurm import listing, proven
from agent.runners.slurm.batch import WHERE, Where
from agent.runners.slurm.commands import Slurm
from agent.runners.slurm.depot import Depot, Tar, folder_tar, own_code
from agent.runners.slurm.mirror import ONLY, Note
from agent.runners.slurm.script import Need, Nodes, script, words
from agent.runners.slurm.settings import Settings


class Unsendable(InfraError):
    """Something is gone here that the job needs."""


def beside(note: Note) -> str:
    """Where Slurm keeps what the batch script says, but for its end."""
    return f"{note.folder.rpartition('/')[0]}/{note.name}"


def batch_log(note: Note) -> str:
    return f"{beside(note)}{f'-{note.index}' if note.index >= 0 else ''}.log"


class Sender:
    def __init__(self, settings: Settings, slurm: Slurm, depot: Depot) -> None:
        self._settings, self._slurm, self._depot = settings, slurm, depot
        self._shas: dict[Path, str] = {}
        self.refused: set[str] = set()
        """Nodes on which nothing is to run any more."""

    def alike(self, order: Order, folder: Path) -> str:
        """The same for jobs that may be one array: the same code, for the same time, on other seeds."""
        asked = json.loads(order.to_json())
        for name in ("run_id", "seed", "auditing"):
            del asked[name]
        code = folder_tar(JobPaths(folder).code).sha()
        return hashlib.sha256(f"{json.dumps(asked, sort_keys=True)}{code}{self.only(folder)}".encode()).hexdigest()

    def only(self, folder: Path) -> str:
        """The node that the job must be on; empty: any."""
        return read_small(folder / ONLY) or ""

    def packed(self, order: Order, folder: Path) -> Tar:
        """The job as the cluster gets it; what it shares with others is sent.

        Raises:
            Unsendable: it never can be.
        """
        code = {f"code/{name}": path for name, path in folder_tar(JobPaths(folder).code).files.items()}
        if "train" not in order.phases:  # what was trained before is scored once more
            code |= {f"out/{name}": path for name, path in folder_tar(JobPaths(folder).out).files.items()}
        where = self._where(order, folder)
        own: dict[str, Path | bytes] = {"order.json": order.to_json().encode(), WHERE: where.to_json().encode()}
        return Tar({**code, **own}, ("code", "out"))

    def submit(self, jobs: Sequence[tuple[Order, Note]], only: str = "") -> str:
        """Slurm's id of the job, or of the array of all of them."""
        bad = proven.refused(self._depot.names(f"{self._depot.folder}/{proven.FOLDER}"), time.time())
        nodes = Nodes(only, tuple(sorted({*self.refused, *bad} - {only})))
        (order, note), *_ = jobs
        code = self._depot.send("code", own_code().sha(), own_code())
        need = Need(order.wall_s, order.limited.hardware.gpus)
        indexes = [note.index for _, note in jobs if note.index >= 0]
        folders = [""] * (max(indexes, default=0) + 1)
        for _, one in jobs:
            folders[max(one.index, 0)] = one.folder
        log = f"{beside(note)}{'-%a' if indexes else ''}.log"
        return self._slurm.submit(
            script(self._settings, code, folders), words(self._settings, need, note.name, log, indexes, nodes)
        )

    def _where(self, order: Order, folder: Path) -> Where:
        return Where(
            corpus=self._corpus(order, folder),
            copied=self._settings.data == "node" and order.limited.data.corpus != "none",
            scratch=self._settings.scratch,
            device=self._settings.device,
            reference=self._reference(order, folder),
            nodes=f"{self._depot.folder}/{proven.FOLDER}",
        )

    def _corpus(self, order: Order, folder: Path) -> str:
        if order.limited.data.corpus == "none":
            return self._depot.folder
        if self._settings.corpus is not None:
            return self._settings.corpus
        here = corpus_beside(order, folder)
        if here not in self._shas:
            self._shas[here] = listing.sha(here)
        return self._depot.send("data", self._shas[here], folder_tar(here))

    def _reference(self, order: Order, folder: Path) -> str:
        reference = order.auditing.reference
        if reference is None:
            return ""
        path = folder.parent / reference.path
        if not path.is_file():
            raise Unsendable(f"{path}, scores of an earlier run, is not there any more")
        name = path.name
        return f"{self._depot.send('reference', reference.sha256, Tar({name: path}))}/{name}"
