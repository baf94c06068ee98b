"""The parts of a spot check, each made by a process of its own: one that hangs in a driver takes no other with it.

Takes the name of a part and what it needs to know; prints JSON. agent/admission/examine.py starts them.
"""

import hashlib
import json
import os
import platform
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from agent import packages
from agent.admission import smi, storage, work
from agent.admission.seen import Environment, Host, Walls
from agent.runners.cores import cores, cpu_name
from agent.runners.shepherd import boot
from agent.strict import strict
from sandbox.policy import Policy, reaches
from sandbox.proving import ProbeError
from sandbox.seen import seen
from sandbox.table import tried
from sandbox.walls import NoWalls, in_force, stack

MACHINE_ID = Path("/etc/machine-id")
LEAVE_S = 0.5  # for the last words


@dataclass(frozen=True)
class Asked:
    seconds: float  # for this part
    cuda: bool  # whether the work is for GPUs
    disk: str  # a folder where something can be written
    data: str  # the folder of the data; empty: there are none


class Lacking(Exception):
    """This part can't be made here; the text says why."""


def host(asked: Asked) -> object:
    """A machine is known again by its GPUs; one that has none, by what the system calls it."""
    try:
        uuids = sorted(gpu.uuid for gpu in smi.look(os.getpid()))
    except (OSError, ValueError):
        uuids = [MACHINE_ID.read_text() if MACHINE_ID.is_file() else socket.gethostname(), cpu_name()]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1_000_000
    digest = hashlib.sha256("\n".join(uuids).encode()).hexdigest()[:32]
    return asdict(Host(cpu_name(), len(cores()), memory, boot(), digest))


def gpus(asked: Asked) -> object:
    try:
        return [asdict(gpu) for gpu in smi.look(os.getpid())]
    except FileNotFoundError:
        if asked.cuda:
            raise
        return []


def environment(asked: Asked) -> object:
    """Names and versions of what is installed, without importing any of it."""
    found = packages.installed()
    system = f"{platform.system()} {platform.release()} {platform.machine()}, libc {' '.join(platform.libc_ver())}"
    return asdict(Environment(platform.python_version(), found.get("torch", ""), system, found, packages.digest()))


def step(asked: Asked) -> object:
    return asdict(work.cuda() if asked.cuda else work.cpu())


def links(asked: Asked) -> object:
    return [asdict(link) for link in work.links()] if asked.cuda else []


def walls(asked: Asked) -> object:
    policy = Policy(writable=asked.disk, read=(), programs=seen(()).programs, minimum="pod")
    try:
        found = stack(policy)
        # What a track accepts is not known here; at `pod` much is told that gets through.
        out = tried(None if reaches(found.level, "landlock") else found, found.level)
    except (ProbeError, NoWalls) as error:
        raise Lacking(str(error)) from error
    return asdict(Walls(found.level, tuple(in_force(policy)), *out))


def disk(asked: Asked) -> object:
    return asdict(storage.disk(Path(asked.disk)))


def data(asked: Asked) -> object:
    """As much as there is time for."""
    if not asked.data:
        return None
    if not Path(asked.data).is_dir():
        raise Lacking(f"there is no folder {asked.data}")
    return asdict(storage.data(Path(asked.data), time.monotonic() + asked.seconds - LEAVE_S))


# In this order: what rules a machine out soonest comes first, and what can be cut short last.
PARTS: Mapping[str, Callable[[Asked], object]] = {
    one.__name__: one for one in (host, gpus, environment, step, links, walls, disk, data)
}


def main(name: str, text: str) -> int:
    try:
        print(json.dumps(PARTS[name](strict(Asked, text))))
    except (Lacking, OSError, ValueError, RuntimeError, ImportError) as error:  # torch's errors are RuntimeErrors
        print(f"{type(error).__name__}: {error}" if not isinstance(error, Lacking) else error, file=sys.stderr)
        return 1
    return 0
