"""A job's folder on the controller's machine, kept like the one on the worker's: what came through the store is put
where every reader of job folders looks for it.

Takes a folder and a row of the queue; writes logs as they grow, and in the end what came of the job, its result last.
Workers are other machines: what they say is bounded and checked like everything hostile.
"""

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from sqlalchemy import Connection

from agent.errors import InfraError
from agent.runners.job import JobPaths, strict_heartbeat, write_aside
from agent.runners.queue.cargo import put
from agent.runners.reading import MOST, there
from agent.runners.results import order_of
from agent.store import blobs, queue
from agent.store.queue import JobRow

LOGS = ("train.log", "score.log", "judge.log", "shepherd.log")
MOST_LOG = 64_000_000  # bytes of one log
PIECE = 1_000_000


def beat(folder: Path, row: JobRow) -> None:
    """The worker's heartbeat, without what means something on its machine only: process ids there name others here."""
    found = strict_heartbeat(row.beat)
    if found is not None:
        here = replace(found, boot="", root=0, processes={})
        write_aside(JobPaths(folder).heartbeat, json.dumps(asdict(here)), durable=False)


def logs(
    connection: Connection, folder: Path, row: JobRow, ends: Mapping[tuple[int, str], int], most: int = PIECE
) -> None:
    """Appends what came since; a log that was cut off half-way is gone on with at its size. `ends`: what there is."""
    for name in LOGS:
        if (row.id, name) not in ends:
            continue
        try:
            fd = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise InfraError(f"{folder / name} can't be written: {error}") from error
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode) or info.st_size >= min(MOST_LOG, ends[row.id, name]):
                continue
            left = min(most, MOST_LOG - info.st_size)
            os.write(fd, queue.log_pieces(connection, row.id, name, info.st_size, left))
        finally:
            os.close(fd)


def result(connection: Connection, folder: Path, row: JobRow) -> None:
    """All that came of the job; may be called again after a kill. Raises InfraError for what can't be believed."""
    paths = JobPaths(folder)
    if there(paths.result):
        return
    order = order_of(folder)
    places = {"measure": paths.measure.name, "reference": paths.reference.name}
    if order.limited.script.artifact:
        places["artifact"] = f"{paths.out.name}/{order.limited.script.artifact}"
    for what, sha in row.outputs.items():
        if what not in places:
            raise InfraError(f"worker {row.worker} sent {what[:50]!r}, which no job has")
        put(folder, places[what], blobs.get(connection, sha, MOST if what == "measure" else blobs.MOST))
    logs(connection, folder, row, queue.log_ends(connection, [row.id]), MOST_LOG)
    beat(folder, row)
    if len(row.result) > MOST:
        raise InfraError(f"worker {row.worker} sent a result of {len(row.result):,} characters")
    write_aside(paths.result, row.result)


def lost(folder: Path, reason: str) -> None:
    """Said in the folder too, so that it stays lost whatever comes later."""
    paths = JobPaths(folder)
    if not there(paths.lost) and folder.is_dir():
        write_aside(paths.lost, json.dumps({"reason": reason[:2000]}))
