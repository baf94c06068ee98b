"""The folder here of a job that runs elsewhere: what came back of it, as if it had run here.

Takes what a far machine says, which may be hostile; gives the files that `agent/runners/job.py` names. Nothing is
believed to be smaller, plainer or better formed than it was checked to be. `far.json` says where the job is.
"""

import json
import os
import stat
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from agent.runners.job import JobPaths, strict, strict_heartbeat, write_aside
from agent.runners.reading import MOST, read_small
from sandbox.limits import MB

NAME = "far.json"


@dataclass(frozen=True)
class Placed:
    """Where a job was put."""

    slot: str
    host: str
    asked: float | None = None  # when its start was last asked for, by this machine's clock; None: never
    judged: float | None = None  # when its scoring was last asked for
    ended: bool = False  # nothing of it runs there any more


def read(folder: Path) -> Placed | None:
    """Raises ValueError for a file that is none of ours."""
    text = read_small(folder / NAME)
    return None if text is None else strict(Placed, text)


def write(folder: Path, placed: Placed) -> None:
    write_aside(folder / NAME, json.dumps(asdict(placed), indent=1))


def offsets(folder: Path, names: Iterable[str]) -> dict[str, int]:
    """How much of each log is here."""
    return {name: _size(folder / name) for name in names}


def add(folder: Path, name: str, offset: int, data: bytes, most: int) -> None:
    """More of a log, where it goes on from what is here; no more of it than a run may write."""
    if offset != _size(folder / name):
        return
    data = data[: max(0, most - offset)]
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
    with os.fdopen(os.open(folder / name, flags, 0o600), "ab") as file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.write(data)


def most_of(name: str, log_mb: int) -> int:
    return (log_mb + 1) * MB if name != "shepherd.log" else MB


def keep_beat(folder: Path, text: str | None, before_s: float) -> None:
    """A sign of life, without the processes that it names: their numbers mean nothing on this machine."""
    beat = strict_heartbeat(text)
    if beat is not None:
        kept = replace(beat, boot="", root=0, processes={}, seconds=beat.seconds + before_s)
        write_aside(JobPaths(folder).heartbeat, json.dumps(asdict(kept)), durable=False)


def keep(path: Path, text: str | None) -> None:
    """A small file of the job, if there is one; whoever reads it checks what is in it."""
    if text is not None and len(text) <= MOST:
        write_aside(path, text)


def _size(path: Path) -> int:
    try:
        info = path.lstat()
    except OSError:
        return 0
    return info.st_size if stat.S_ISREG(info.st_mode) else 0
