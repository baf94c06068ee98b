"""Run attempts, each in a process of its own with a time limit, so that a kill or a hang is only its own result.

Takes a spec and a mode; prints the answers.
"""

import json
import os
import select
import signal
import time
from collections.abc import Iterator
from errno import errorcode
from pathlib import Path
from typing import NamedTuple

from . import bombs, files, kernel, leftovers, processes, sockets
from .attempts import ATTEMPTS, BOMBS, FIND, LEAVE, Absent, Attempt, Refused
from .spec import Spec, read_spec

AT_ONCE = 8
WITHIN_S = 2.5
AREAS = (files, sockets, processes, kernel, leftovers, bombs)  # importing them fills the lists

Answer = dict[str, str | int]


class Child(NamedTuple):
    name: str
    pid: int
    pipe: int
    until: float


def main(arguments: list[str]) -> None:
    spec = read_spec(Path(arguments[0]))
    mode = arguments[1] if len(arguments) > 1 else "all"
    if mode == "bomb":
        print(json.dumps({arguments[2]: answer(BOMBS[arguments[2]], spec)}), flush=True)
        return
    attempts = {"all": ATTEMPTS, "leave": LEAVE, "find": FIND}[mode]
    answers = dict(each(list(attempts.values()), spec))
    print(json.dumps({name: answers[name] for name in attempts}), flush=True)


def each(attempts: list[Attempt], spec: Spec) -> Iterator[tuple[str, Answer]]:
    """The answers, as they come."""
    todo, running = list(reversed(attempts)), list[Child]()
    while todo or running:
        while todo and len(running) < AT_ONCE:
            running.append(_start(todo.pop(), spec))
        wait_s = max(0.0, min(child.until for child in running) - time.monotonic())
        ready, _, _ = select.select([child.pipe for child in running], [], [], wait_s)
        for child in [one for one in running if one.pipe in ready or time.monotonic() >= one.until]:
            running.remove(child)
            yield child.name, _end(child, child.pipe in ready)


def _start(one: Attempt, spec: Spec) -> Child:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        me, given = os.getpid(), answer(one, spec)
        if os.getpid() == me:  # not a child of the attempt, that an error brought here
            os.write(write, json.dumps(given).encode())
        os._exit(0)
    os.close(write)
    return Child(one.name, pid, read, time.monotonic() + WITHIN_S)


def _end(child: Child, spoke: bool) -> Answer:
    """Its answer; or how it ended without one."""
    said = os.read(child.pipe, 10_000) if spoke else b""
    os.close(child.pipe)
    if not said and not spoke:
        os.kill(child.pid, signal.SIGKILL)
    _, status = os.waitpid(child.pid, 0)
    if said:
        given: Answer = json.loads(said)
        return given
    return {"got": "denied", "why": _ending(status) if spoke else f"no answer within {WITHIN_S} s"}


def _ending(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"


def answer(one: Attempt, spec: Spec) -> Answer:
    try:
        found = one.do(spec)
    except Absent as reason:
        return {"got": "absent", "why": str(reason)}
    except Refused as reason:
        return {"got": "denied", "why": str(reason)}
    except OSError as error:
        return {"got": "denied", "why": errorcode.get(error.errno or 0, str(error))}
    except Exception as error:  # whatever a box makes of it is this attempt's answer, and no other's
        return {"got": "denied", "why": f"{type(error).__name__}: {error}"}
    return {"got": "allowed", "why": ""} | ({} if found is None else {"found": found})
