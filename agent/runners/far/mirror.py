"""The folder here of a job that runs elsewhere: what came back of it, as if it had run here.

Takes what a far machine says, which may be hostile; gives the files that `agent/job/folder.py` names. Nothing is
believed to be smaller, plainer or better formed than it was checked to be. How it came, over ssh, from a cluster's
shared folder or through a store, is the runner's.
"""

import json
import os
import stat
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath

from agent.errors import InfraError
from agent.job.folder import JobPaths, Loss, strict_heartbeat
from agent.job.reading import MOST, read_small, there
from agent.job.writing import sync_folder, write_aside
from agent.strict import strict
from sandbox.limits import MB

TRAINING_LOGS = ("train.log", "shepherd.log")
JUDGING_LOGS = ("score.log", "judge.log")
LOGS = (*TRAINING_LOGS, *JUDGING_LOGS)
MOST_NAME = 500  # characters of a path in a job folder
MOST_WORDS = 2000
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def sizes(folder: Path, names: Iterable[str]) -> dict[str, int]:
    """How much of each log is here."""
    return {name: _size(folder / name) for name in names}


def append(folder: Path, name: str, at: int, data: bytes, most: int) -> None:
    """More of a log, where it goes on from what is here; no more of it than a run may write.

    Raises:
        OSError: something else lies in its place.
    """
    if not data or at != _size(folder / name):
        return
    data = data[: max(0, most - at)]
    with os.fdopen(os.open(folder / name, _APPEND, 0o600), "ab") as file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.write(data)


def most_of(name: str, log_mb: int) -> int:
    """Bytes of a log that are kept."""
    return (log_mb + 1) * MB if name != "shepherd.log" else MB


def beat(folder: Path, text: str | None, before_s: float = 0.0) -> None:
    """A sign of life, without the processes that it names: their numbers mean nothing on this machine."""
    found = strict_heartbeat(text)
    if found is not None:
        kept = replace(found, boot="", root=0, processes={}, seconds=found.seconds + before_s)
        write_aside(JobPaths(folder).heartbeat, json.dumps(asdict(kept)), durable=False)


def small(path: Path, text: str | None) -> None:
    """A small file of the job, if there is one; whoever reads it checks what is in it."""
    if text is not None and len(text) <= MOST:
        write_aside(path, text)


def put(folder: Path, name: str, data: bytes) -> None:
    """One file in a job folder: whole and durable, or not there; whatever lay there before."""
    path = folder / safe(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".tmp-{path.name}")
    aside.unlink(missing_ok=True)
    with os.fdopen(os.open(aside, _NEW, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    sync_folder(path.parent)


def safe(name: str) -> PurePosixPath:
    """A path below a folder. Raises InfraError for any other."""
    path = PurePosixPath(name)
    if not name or "\0" in name or path.is_absolute() or ".." in path.parts or not path.parts or len(name) > MOST_NAME:
        raise InfraError(f"{name[:100]!r} is no name of a file in a job's folder")
    return path


def lose(folder: Path, loss: Loss) -> None:
    """A tombstone: whatever the machine may say later, nobody listens."""
    paths = JobPaths(folder)
    if folder.is_dir() and not there(paths.lost):
        write_aside(paths.lost, json.dumps(asdict(replace(loss, reason=loss.reason[:MOST_WORDS]))))


def lost(folder: Path, otherwise: str) -> Loss:
    """What the tombstone says. Doubt counts as `ran`: dying, or taking the job folder along, must be no way to draw
    again."""
    try:
        return strict(Loss, read_small(JobPaths(folder).lost) or "")
    except ValueError:
        return Loss(True, 0.0, otherwise)


def _size(path: Path) -> int:
    try:
        info = path.lstat()
    except OSError:
        return 0
    return info.st_size if stat.S_ISREG(info.st_mode) else 0
