"""The sandboxes of the stand-in for Modal: what each is, the commands in it, and every process that belongs to one."""

import asyncio
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modal_proto import api_pb2

BEGAN = datetime(2026, 11, 1, 20, 0, tzinfo=UTC)
STATUS = api_pb2.GenericResult


@dataclass
class Exec:
    """A command in a sandbox, and all that it said."""

    process: asyncio.subprocess.Process
    said: dict[int, bytearray]
    open: set[int]
    taken: int = 0
    hearing: tuple[asyncio.Task[None], ...] = ()
    news: asyncio.Condition = field(default_factory=asyncio.Condition)


@dataclass
class Box:
    """One sandbox."""

    id: str
    number: int
    app_id: str
    definition: Any
    tags: dict[str, str]
    created: float
    folder: Path
    ended: float | None = None
    status: int = 0
    execs: dict[str, Exec] = field(default_factory=dict)

    @property
    def task(self) -> str:
        return f"ta-{self.id}"


def processes_of(box: Box) -> list[int]:
    """Every process of a sandbox, whoever started it: the container ends with all of them."""
    found, own = [], str(box.folder).encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                said = (entry / "environ").read_bytes() + b"\0" + (entry / "cmdline").read_bytes()
                where = str((entry / "cwd").readlink())
            except OSError:
                continue
            if own in said or where.startswith(str(box.folder)):
                found.append(int(entry.name))
    return found
