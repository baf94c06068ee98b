"""One program, started with its input and waited for: its whole tree of processes is gone when this returns.

Takes a command, its input, its environment and limits; gives an `Ended`. Threads may do this side by side: each
program is held by a process of its own (`holder.py`), which also ends it when this process dies.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from agent import own_process

Cause = Literal["exited", "time", "output", "unstarted"]

GRACE_S = 15.0  # for the holder's own start and its end, on a busy machine


class HolderFailed(Exception):
    """The holder said nothing that can be read: nobody knows what the program did."""


@dataclass(frozen=True)
class Ended:
    """How a program ended. `output`: it wrote more than it may, and `out` is the start of that."""

    cause: Cause
    rc: int | None
    words: str
    """Why it could not be started."""
    out: bytes
    err: bytes
    """The end of it."""


def run(
    argv: Sequence[str], *, given: bytes, cwd: Path, env: Mapping[str, str], seconds: float, most_out: int
) -> Ended:
    """Start it and wait. Raises HolderFailed."""
    spec = {
        "argv": list(argv),
        "cwd": str(cwd),
        "env": dict(env),
        "seconds": seconds,
        "most": most_out,
        "parent": os.getpid(),
    }
    holder = subprocess.Popen(
        own_process.command(own_process.code("agent.llm.holder")),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**own_process.ENV, "TMPDIR": tempfile.gettempdir()},
        cwd="/",
        start_new_session=True,
    )
    try:
        told, errors = holder.communicate(json.dumps(spec).encode() + b"\n" + given, timeout=seconds + GRACE_S)
    except subprocess.TimeoutExpired as error:
        raise HolderFailed(f"no word within {seconds + GRACE_S:.0f} s") from error
    finally:
        _end(holder)
    head, _, said = told.partition(b"\n")
    try:
        row = json.loads(head)
    except ValueError as error:
        raise HolderFailed(errors.decode("utf-8", "replace").strip()[-300:]) from error
    return Ended(cast(Cause, row["cause"]), row["rc"], row["words"], said[: row["out"]], said[row["out"] :])


def _end(holder: "subprocess.Popen[bytes]") -> None:
    """It ends its tree when it is told to; so it is killed only if it doesn't listen."""
    if holder.poll() is None:
        holder.terminate()
        try:
            holder.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            holder.kill()
            holder.wait()
