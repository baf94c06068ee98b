"""One spot check: every part in a process of its own, one after the other, all within a minute.

Takes where to look; gives a `Record`. No part can hang it: a part that is late is killed, or left behind where it can't
be, and the record says so.
"""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from agent import own_process
from agent.admission.parts import PARTS, Asked
from agent.admission.seen import MOST_BYTES, MOST_WORD, NO_TIME, VERSION, Record
from agent.strict import from_json, strict

LIMIT_S = 60.0
# What each part may take at most. Data come last and get what is left.
SHARE_S = {"host": 8.0, "gpus": 8.0, "environment": 8.0, "step": 25.0, "links": 12.0, "walls": 25.0, "disk": 8.0}
KILL_S = 0.5
PART = own_process.code("agent.admission.parts")


@dataclass(frozen=True)
class Look:
    cuda: bool
    disk: Path
    data: Path | None
    parts: tuple[str, ...] = tuple(PARTS)
    limit_s: float = LIMIT_S


def examine(look: Look, say: Callable[[str], None] = lambda _: None) -> Record:
    """Also with `limit_s` of nothing it gives a record: of a machine on which nothing finished."""
    started = time.monotonic()
    until = started + min(look.limit_s, LIMIT_S) - 2 * KILL_S
    found: dict[str, object] = {}
    unfinished: dict[str, str] = {}
    for name in look.parts:
        share = min(SHARE_S.get(name, LIMIT_S), until - time.monotonic())
        say(f"{name} ...")
        try:
            found[name] = _part(name, look, share)
        except _Unfinished as error:
            unfinished[name] = str(error)[:MOST_WORD]
    empty = dict.fromkeys(PARTS)
    seconds = time.monotonic() - started
    whole = {"version": VERSION, "seconds": seconds, "unfinished": unfinished, **empty, **found}
    return strict(Record, json.dumps(whole))


class _Unfinished(Exception):
    """Why a part did not come."""


def _part(name: str, look: Look, seconds: float) -> object:
    if seconds <= 0:
        raise _Unfinished(NO_TIME)
    asked = Asked(seconds, look.cuda, str(look.disk), "" if look.data is None else str(look.data))
    command = own_process.command(PART, name, json.dumps(asdict(asked)))
    # Files, because a pipe can be held open by whoever outlives the part.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        # A variable that names GPUs is the machine's to set.
        env = {
            **own_process.ENV,
            **{key: value for key, value in os.environ.items() if key.startswith(("CUDA_", "NVIDIA_"))},
        }
        env |= {"HOME": str(look.disk), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env, cwd="/", start_new_session=True
        )
        try:
            code = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise _Unfinished(f"it was not done after {seconds:.1f} s") from None
        finally:
            _end(process)
        if code != 0:
            raise _Unfinished(_tail(err) or f"it ended with {code}")
        out.seek(0)
        try:
            return from_json(out.read(MOST_BYTES).decode("utf-8", "replace"))
        except ValueError as error:
            raise _Unfinished(f"what it said can't be read: {error}") from error


def _end(process: "subprocess.Popen[bytes]") -> None:
    """With all that it started. One that hangs in the kernel is not waited for."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=KILL_S)


def _tail(file: IO[bytes]) -> str:
    """The last line that was said."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 10 * MOST_WORD))
    lines = file.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else ""
