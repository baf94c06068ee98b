"""Processes as a tree: who descends from whom, what each uses, and how all of them are ended.

Takes process ids; gives `Proc` rows. On Linux it reads /proc for the tree alone, so a look at one process
takes a fraction of a millisecond however busy the machine is; elsewhere psutil does the same more slowly.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from sandbox import syscalls
from sandbox.libc import LIBC, LINUX

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
READ = 1 << 16
KCMP_FILES = 2
MOST_TABLES = 4


class Proc(NamedTuple):
    """One process at one moment. `start` tells it from a later process with the same id."""

    pid: int
    ppid: int
    sid: int
    start: int
    cpu_s: float  # its own
    reaped_cpu_s: float  # of children that it waited for
    threads: int
    rss: int
    zombie: bool
    thread: int  # one that lives: what is asked about its memory


def read(path: str) -> bytes:
    """A file of the kernel's. With a third of the calls that a file object makes: this is a hot path."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = [os.read(fd, READ)]
        while parts[-1]:
            parts.append(os.read(fd, READ))
        return b"".join(parts)
    finally:
        os.close(fd)


def look(pid: int) -> Proc | None:
    """The process as it is now; None if there is none."""
    if not LINUX:
        return _look_elsewhere(pid)
    row = _stat(f"/proc/{pid}/stat", pid)
    if row is None or not row.zombie or row.threads <= 1:
        return row
    # Its first thread has ended but others go on: the kernel shows it as a zombie without memory.
    for thread in _threads(pid):
        other = _stat(f"/proc/{pid}/task/{thread}/stat", pid)
        if other is not None and not other.zombie:
            return row._replace(zombie=False, rss=other.rss, thread=int(thread))
    return row


def _stat(path: str, pid: int) -> Proc | None:
    try:
        text = read(path)
    except OSError:
        return None
    part = after_name(text)
    if len(part) < 22:
        return None
    return Proc(
        pid=pid,
        ppid=int(part[1]),
        sid=int(part[3]),
        start=int(part[19]),
        cpu_s=(int(part[11]) + int(part[12])) / TICKS,
        reaped_cpu_s=(int(part[13]) + int(part[14])) / TICKS,
        threads=int(part[17]),
        rss=int(part[21]) * PAGE,
        zombie=part[0] in (b"Z", b"X"),
        thread=pid,
    )


def after_name(stat: bytes) -> list[bytes]:
    """The words of a line of the kernel's about a process. Its name, in brackets, may hold brackets and ends of lines,
    too; what follows is numbers and a letter."""
    return stat.rpartition(b")")[2].split()


def _threads(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")  # noqa: PTH208  ten times as fast, and this is a hot path
    except OSError:
        return []


def ready_s(row: Proc) -> dict[str, float]:
    """Of each of its threads, by id: seconds that it ran or was ready to. Empty: there are none, or the kernel does not
    count."""
    found: dict[str, float] = {}
    for thread in _threads(row.pid):
        with contextlib.suppress(OSError, ValueError):
            ran, waited, *_ = map(int, read(f"/proc/{row.pid}/task/{thread}/schedstat").split())
            if ran:
                found[thread] = (ran + waited) / 1e9
    return found


def runnable(row: Proc, thread: str) -> bool:
    """Whether that thread of it runs, or would if it had a core."""
    with contextlib.suppress(OSError, ValueError):
        return after_name(read(f"/proc/{row.pid}/task/{thread}/stat"))[:1] == [b"R"]
    return False


def children(pid: int) -> list[int]:
    """Ids of the direct children, zombies included."""
    if not LINUX:
        return _children_elsewhere(pid)
    found: list[int] = []
    for thread in _threads(pid):
        # A thread may end between the listing and the reading.
        with contextlib.suppress(OSError):
            found += map(int, read(f"/proc/{pid}/task/{thread}/children").split())
    return found


def descendants(roots: Iterable[int], at_most: int = 1_000_000, dead: list[Proc] | None = None) -> dict[int, Proc]:
    """The roots and all that descends from them, without zombies, which go to `dead`; no further once there are
    `at_most`."""
    found: dict[int, Proc] = {}
    seen: set[int] = set()
    todo = list(roots)
    while todo and len(found) < at_most:
        pid = todo.pop()
        if pid in seen:
            continue
        seen.add(pid)
        row = look(pid)
        if row is None:
            continue
        if not row.zombie:
            found[pid] = row
        elif dead is not None:
            dead.append(row)
        todo += children(pid)
    return found


def signal_all(rows: Iterable[Proc], number: int) -> None:
    for row in rows:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(row.pid, number)


def end_all(find: Callable[[], dict[int, Proc]], within_s: float) -> dict[int, Proc]:
    """End all that `find` finds, again and again until it finds nothing; gives what is left `within_s` after the first
    was killed: to look at all can take long on a machine that is busy, and then what was killed is still ending.

    Everything is stopped before anything is killed: a stopped process can't fork, so a fork bomb that is
    found faster than it grows is caught whole, and no parent sees a child die and starts another.
    """
    deadline: float | None = None
    stopped: set[tuple[int, int]] = set()
    while found := find():
        fresh = [row for row in found.values() if (row.pid, row.start) not in stopped]
        if fresh and len(stopped) < 100_000:
            signal_all(fresh, signal.SIGSTOP)
            stopped |= {(row.pid, row.start) for row in fresh}
            continue
        signal_all(found.values(), signal.SIGKILL)
        now = time.monotonic()
        deadline = now + within_s if deadline is None else deadline
        if now > deadline:
            return found
        time.sleep(0.001)
    return {}


def every_pid() -> list[int]:
    if LINUX:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208
    import psutil

    return psutil.pids()


def owner(pid: int) -> int | None:
    """The user that the process runs as."""
    if LINUX:
        try:
            return Path(f"/proc/{pid}").stat().st_uid
        except OSError:
            return None
    import psutil

    try:
        return psutil.Process(pid).uids().real
    except psutil.Error:
        return None


def proportional_rss(pid: int, name: bytes = b"Pss:") -> int | None:
    """Bytes of the process, or of one kind that it has, with shared pages divided among those who share them. Slow:
    milliseconds."""
    try:
        text = read(f"/proc/{pid}/smaps_rollup")
    except OSError:
        return None
    line = next((line for line in text.splitlines() if line.startswith(name)), None)
    return None if line is None else int(line.split()[1]) * 1024


def open_but_deleted(pid: int) -> dict[tuple[int, int], int]:
    """Bytes held by files that have no name any more but are still open, or the program that it executes, or the folder
    that it is in: (device, inode) -> bytes.

    Raises:
        PermissionError: it lives, and lets nobody see its files, as no program does by itself.
        OverflowError: its threads have more tables of open files than any program needs.
    """
    found: dict[tuple[int, int], int] = {}
    for thread in _with_own_files(pid):
        found |= _open_but_deleted(f"/proc/{pid}/task/{thread}")
    return found


def _with_own_files(pid: int) -> list[str]:
    """One thread for each table of open files. All threads share one, unless somebody asked for another."""
    found: list[str] = []
    for thread in _threads(pid):
        if not any(_share_files(int(thread), int(other)) for other in found):
            found.append(thread)
            if len(found) > MOST_TABLES and _share_files(os.getpid(), os.getpid()):
                raise OverflowError(f"process {pid} has more than {MOST_TABLES} tables of open files")
    return found


def _share_files(one: int, other: int) -> bool:
    """False where the kernel does not tell: then what they have open is looked at twice."""
    machine = syscalls.this_machine()
    if not LINUX or machine is None:
        return False
    return int(LIBC.syscall(syscalls.number("kcmp", machine), one, other, KCMP_FILES, 0, 0)) == 0


def _open_but_deleted(thread: str) -> dict[tuple[int, int], int]:
    found: dict[tuple[int, int], int] = {}
    try:
        names = os.listdir(f"{thread}/fd")  # noqa: PTH208
    except PermissionError:
        if _has_memory(thread):
            raise
        return found  # about to end: the kernel shows those as root's
    except OSError:
        return found
    for name in ("exe", "cwd", *(f"fd/{name}" for name in names)):
        with contextlib.suppress(OSError):
            info = os.stat(f"{thread}/{name}")  # noqa: PTH116
            if info.st_nlink == 0:
                found[info.st_dev, info.st_ino] = info.st_blocks * 512
    return found


def _has_memory(thread: str) -> bool:
    try:
        return read(f"{thread}/statm").split()[0] != b"0"
    except OSError:
        return False


# ---------------------------------------------------------------- other systems


def _look_elsewhere(pid: int) -> Proc | None:
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            zombie = process.status() == psutil.STATUS_ZOMBIE
            cpu = process.cpu_times()
            return Proc(
                pid=pid,
                ppid=process.ppid(),
                sid=os.getsid(pid),
                start=round(process.create_time() * TICKS),
                cpu_s=cpu.user + cpu.system,
                reaped_cpu_s=0.0,
                threads=process.num_threads(),
                rss=process.memory_info().rss,
                zombie=zombie,
                thread=pid,
            )
    except (psutil.Error, OSError):
        return None


def _children_elsewhere(pid: int) -> list[int]:
    import psutil

    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []
