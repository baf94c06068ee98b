"""What a confined process may use, and how it ended.

Takes nothing; gives the frozen records `Limits` and `Exit`, and `rlimits`, the kernel's share of the limits.
"""

import math
import os
import resource
from dataclasses import dataclass
from typing import Literal

from sandbox import tree

# `killed` is our own kill(); a signal from elsewhere is `exited` with that signal.
Cause = Literal["exited", "wall", "cpu", "memory", "disk", "log", "processes", "gpu-memory", "network", "killed"]
CAPS: frozenset[Cause] = frozenset({"wall", "cpu", "memory", "disk", "log", "processes", "gpu-memory", "network"})

MB = 1_000_000
MIB = 1 << 20
OPEN_FILES = 1024
NO_CORE = 1  # less than any core dump has; at 0 the kernel still starts the machine's own program for one, as root
NPROC_SLACK = 1024  # RLIMIT_NPROC counts all that the person runs: room for that to grow


@dataclass(frozen=True)
class Limits:
    """Upper bounds for a whole tree of processes."""

    wall_s: float
    cpu_s: float | None
    memory_mb: int
    disk_mb: int
    log_mb: int
    processes: int
    gpu_memory_mb: int | None = None

    def __post_init__(self) -> None:
        numbers = [self.wall_s, self.memory_mb, self.disk_mb, self.log_mb, self.processes]
        numbers += [number for number in (self.cpu_s, self.gpu_memory_mb) if number is not None]
        if not all(math.isfinite(number) and number > 0 for number in numbers):
            raise ValueError(f"every limit must be above 0 and finite: {self}")

    @property
    def tasks(self) -> int:
        """Processes and threads together: what a kernel bound can count."""
        return 64 + 16 * self.processes

    @property
    def memory_bound(self) -> int:
        """Bytes that the kernel allows. What the watchdog counts is not all that the kernel does (page tables, sockets,
        files read): with room for that, the watchdog's verdict comes first, unless something grows too fast for it."""
        return self.memory_mb * MB * 9 // 8 + 64 * MB


@dataclass(frozen=True)
class Network:
    """Bytes that went to or came from anything but loopback."""

    own: int
    """Of the tree's sockets: one is too many."""
    unclaimed: int
    """Of sockets that ended before anybody saw whose they were, and that nobody was listening for."""
    machine_before: int
    machine_after: int


@dataclass(frozen=True)
class Exit:
    """How a confined process ended: `rc` or `signal`. Times and memory are of the whole tree."""

    rc: int | None
    signal: int | None
    cause: Cause
    wall_s: float
    cpu_s: float
    peak_mb: float
    network: Network | None = None
    """Where it was counted."""
    ready_s: float | None = None
    """How long a thread of it ran or was ready to run, where the kernel says so: what it lacks of the wall time, it
    waited for something itself."""

    @property
    def ok(self) -> bool:
        return self.cause == "exited" and self.rc == 0


def rlimits(limits: Limits, uid: int | None = None) -> list[tuple[int, int, int]]:
    """(resource, soft, hard) to set in the child: belts for the moments between two looks of the watchdog.

    `uid` is the user that it will run as, where that is not ours.

    No RLIMIT_AS: CUDA reserves far more addresses than it uses.
    """
    largest_file = max(limits.disk_mb, limits.log_mb) * MB
    wanted = [
        (resource.RLIMIT_CORE, NO_CORE, NO_CORE),
        (resource.RLIMIT_FSIZE, largest_file, largest_file),
        (resource.RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES),
    ]
    if limits.cpu_s is not None:
        seconds = math.ceil(limits.cpu_s) + 1  # per process, so never tighter than the tree's limit
        wanted.append((resource.RLIMIT_CPU, seconds, seconds + 1))
    if uid is not None:
        wanted.append((resource.RLIMIT_NPROC, limits.tasks, limits.tasks))  # nobody else is this user
    elif os.getuid() != 0:  # it means nothing for root
        most = tasks_of_user() + limits.tasks + NPROC_SLACK
        wanted.append((resource.RLIMIT_NPROC, most, most))
    return [_within_hard(*row) for row in wanted]


def tasks_of_user() -> int:
    """Threads of all processes of this user, which is what RLIMIT_NPROC is compared with."""
    rows = [tree.look(pid) for pid in tree.every_pid() if tree.owner(pid) == os.getuid()]
    return sum(row.threads for row in rows if row is not None)


def _within_hard(which: int, soft: int, hard: int) -> tuple[int, int, int]:
    """Only root may raise a hard limit; ours must fit under the one that is there."""
    _, ceiling = resource.getrlimit(which)
    if ceiling == resource.RLIM_INFINITY:
        return which, soft, hard
    return which, min(soft, ceiling), min(hard, ceiling)
