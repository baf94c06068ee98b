"""The job folder that the loop reads, kept like the one on the cluster, and who the job is there.

Takes what was seen of a job and what the depot gives; writes the files that every job folder has. The last of them is
result.json or lost.json: after that nothing is written any more.
"""

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.errors import InfraError
from agent.job.folder import JobPaths, JobResult, Loss, strict_heartbeat
from agent.job.reading import MOST, read_small, there
from agent.job.writing import write_aside
from agent.runners.far import mirror
from agent.runners.far.mirror import LOGS
from agent.runners.order import Order
from agent.runners.shepherd import BEAT_S
from agent.runners.slurm.batch import BEGAN
from agent.runners.slurm.depot import Depot, Look, Wanted
from agent.strict import strict
from sandbox.limits import MB

NOTE, LOG = "slurm.json", "slurm.log"
ONLY = "only"  # the node that a job must be on
MOST_BEGAN = 10_000
MOST_REFERENCE = 2_000_000_000


@dataclass(frozen=True)
class Note:
    """Who this job is on the cluster. Written before Slurm is asked for anything."""

    name: str
    folder: str
    index: int = -1  # in an array; -1: it is no part of one
    job: str = ""  # Slurm's id, as soon as it is known


class Mirror:
    def __init__(self, folder: Path) -> None:
        self.paths = JobPaths(folder)
        self.folder = folder

    # ------------------------------------------------------------ who it is

    def note(self) -> Note | None:
        text = read_small(self.folder / NOTE)
        try:
            return None if text is None else strict(Note, text)
        except ValueError as error:
            raise InfraError(f"{self.folder / NOTE} can't be read: {error}") from error

    def write_note(self, note: Note) -> None:
        write_aside(self.folder / NOTE, json.dumps(asdict(note)))

    def say(self, words: str) -> None:
        """For whoever wonders why a job does not start; the same is not said twice in a row."""
        path = self.folder / LOG
        before = (read_small(path) or "").splitlines()
        if before[-1:] != [words]:
            with contextlib.suppress(OSError):  # a full disk is no reason to stop
                write_aside(path, "\n".join([*before[-200:], words, ""]), durable=False)

    @property
    def over(self) -> bool:
        return there(self.paths.result) or there(self.paths.lost)

    # ------------------------------------------------------------ while it runs

    def wanted(self, note: Note) -> Wanted:
        return Wanted(note.folder, mirror.sizes(self.folder, LOGS))

    def take(self, look: Look, most: int) -> None:
        """What is new of its logs and its signs of life."""
        for name, at in mirror.sizes(self.folder, look.logs).items():
            mirror.append(self.folder, name, at, look.logs[name], most)
        if "started" in look.marks and not there(self.paths.started):
            write_aside(self.paths.started, "")
        mirror.beat(self.folder, look.beat.decode("utf-8", "replace"))

    # ------------------------------------------------------------ when it is over

    def bring(self, depot: Depot, note: Note, order: Order) -> JobResult:
        """All that the run left but its result, which is the last thing to be written.

        Raises:
            Unreadable: there is no result, and will be none.
            InfraError: it can't be fetched now.
        """
        track = order.limited
        files = {
            "result.json": MOST,
            BEGAN: MOST_BEGAN,
            self.paths.measure.name: MOST,
            self.paths.reference.name: MOST_REFERENCE,
        }
        if track.script.artifact:
            files[f"out/{track.script.artifact}"] = track.limits.disk_mb * MB
        most = (track.limits.log_mb + 1) * MB
        known = mirror.sizes(self.folder, LOGS)
        found = depot.fetch(note.folder, {**files, **dict.fromkeys(LOGS, most)}, known)
        try:
            result = JobResult.from_json(found.pop("result.json", b"").decode("utf-8", "replace"))
        except ValueError as error:
            raise Unreadable(f"its result can't be read: {error}") from error
        for name, data in found.items():
            if name in LOGS:
                mirror.append(self.folder, name, known[name], data, most)
            else:
                mirror.put(self.folder, name, data)
        return result

    def finish(self, result: JobResult) -> None:
        write_aside(self.paths.result, result.to_json())

    def lose(self, reason: str, wall_s: float | None = None, *, machine: bool = False) -> None:
        """`wall_s`: what it may have used; None: nobody knows which run it is."""
        ran = there(self.paths.started) or there(self.paths.heartbeat)
        used = 0.0 if wall_s is None else self.used(wall_s)
        mirror.lose(self.folder, Loss(ran or wall_s is None, used, reason, machine))

    def doubt(self) -> None:
        """Nobody can say whether candidate code has run: then it has."""
        if not there(self.paths.started):
            write_aside(self.paths.started, "")

    def cancelled(self, run_id: int, wall_s: float) -> None:
        """Nobody on the cluster answers for it any more."""
        ran = there(self.paths.started)
        reason = "cancelled in the queue" if not ran else "cancelled while it ran"
        self.finish(JobResult(run_id, "cancelled", reason, (), self.used(wall_s), (), ran))

    def used(self, wall_s: float) -> float:
        """Seconds of its slot, for a job that can't say so itself."""
        beat = strict_heartbeat(read_small(self.paths.heartbeat))
        if beat is None:
            return min(BEAT_S, wall_s) if there(self.paths.started) else 0.0
        return min(beat.seconds + BEAT_S, wall_s)


class Unreadable(InfraError):
    """What lies on the cluster is no result, and will not become one."""
