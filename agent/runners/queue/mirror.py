"""A job's folder on the controller's machine, kept like the one on the worker's: what came through the store is put
where every reader of job folders looks for it.

Takes a folder and a row of the queue; writes logs as they grow, and in the end what came of the job, its result last.
Workers are other machines: what they say is bounded and checked like everything hostile.
"""

from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import Connection

from agent.errors import InfraError
from agent.job.folder import JobPaths
from agent.job.reading import MOST, there
from agent.job.writing import write_aside
from agent.runners.far import mirror
from agent.runners.far.mirror import LOGS
from agent.runners.results import order_of
from agent.store import blobs, printed
from agent.store.queue import JobRow

MOST_LOG = 64_000_000  # bytes of one log
PIECE = 1_000_000


def logs(
    connection: Connection, folder: Path, row: JobRow, ends: Mapping[tuple[int, str], int], most: int = PIECE
) -> None:
    """Appends what came since; a log that was cut off half-way is gone on with at its size. `ends`: what there is."""
    for name, at in mirror.sizes(folder, LOGS).items():
        if at < min(MOST_LOG, ends.get((row.id, name), 0)):
            piece = printed.read(connection, row.id, name, at, min(most, MOST_LOG - at))
            try:
                mirror.append(folder, name, at, piece, MOST_LOG)
            except OSError as error:
                raise InfraError(f"{folder / name} can't be written: {error}") from error


def rest(connection: Connection, folder: Path, row: JobRow) -> None:
    """All of the logs that is there: nothing more will come."""
    logs(connection, folder, row, printed.ends(connection, [row.id]), MOST_LOG)


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
        mirror.put(folder, places[what], blobs.get(connection, sha, MOST if what == "measure" else blobs.MOST))
    rest(connection, folder, row)
    mirror.beat(folder, row.beat)
    if len(row.result) > MOST:
        raise InfraError(f"worker {row.worker} sent a result of {len(row.result):,} characters")
    write_aside(paths.result, row.result)
