"""Resource bombs: each passes one limit by a little and holds that for a moment, so that a look falls into it.

Each needs a run of its own, because whoever keeps the limits ends the whole tree. A bomb that was let through
leaves the file `held` in its folder; the harness takes that, how the run ended, and what is still written after it.
"""

import contextlib
import ctypes
import itertools
import mmap
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from .attempts import BOMBS, attempt
from .calls import LIBC, call, checked
from .spec import Spec

MB = 1_000_000
HOLD_S = 0.5
LONG_S = 2.5  # where a look is seldom
SHORT_S = 0.02  # what most looks miss
MAP_NORESERVE, MADV_NOHUGEPAGE = 0x4000, 15
OF_A_TABLE = 512 * mmap.PAGESIZE  # of addresses
BEATS_S = 1.0  # how long something writes that should not
STACK = 64 * 1024


def hold(spec: Spec, seconds: float = HOLD_S) -> None:
    time.sleep(seconds)
    Path(spec.own, "held").write_text(spec.word)


def _beat(spec: Spec, seconds: float) -> None:
    """Write a little, again and again: what the harness looks at when the run is over."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not Path(spec.own, "stop").exists():
        with Path(spec.own, "beats").open("a") as file:
            file.write("x")
        time.sleep(0.02)


def _deaf() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _beside(do: Callable[[], None]) -> int:
    """Do it in a child, which ends with us."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            LIBC.prctl(1, signal.SIGKILL)
            if os.getppid() == parent:
                do()
        finally:
            os._exit(0)
    return pid


def _touch(megabytes: float) -> mmap.mmap:
    memory = mmap.mmap(-1, int(megabytes * MB), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for at in range(0, len(memory), mmap.PAGESIZE):
        memory[at] = 1
    return memory


@attempt("Run more processes than it may.", "watchdog", into=BOMBS)
def processes(spec: Spec) -> None:
    for _ in range(int(spec.limits["processes"]) + 4):
        _beside(lambda: time.sleep(2 * HOLD_S))
    hold(spec)


@attempt("Run more threads than it may.", "watchdog", into=BOMBS)
def threads(spec: Spec) -> None:
    threading.stack_size(STACK)
    for _ in range(int(spec.limits["tasks"]) + 16):
        threading.Thread(target=time.sleep, args=(2 * HOLD_S,), daemon=True).start()
    hold(spec)
    os._exit(0)


@attempt("Use more memory than it may.", "watchdog", into=BOMBS)
def memory(spec: Spec) -> None:
    kept = _touch(spec.limits["memory_mb"] * 1.3)
    hold(spec)
    kept.close()


@attempt("Use more memory than it may, in several processes.", "watchdog", into=BOMBS)
def memory_of_many(spec: Spec) -> None:
    def use() -> None:
        kept = _touch(spec.limits["memory_mb"] * 0.45)
        time.sleep(2 * HOLD_S)
        kept.close()

    for _ in range(3):
        _beside(use)
    hold(spec)


@attempt("Have the kernel keep more page tables than it may use memory.", "watchdog", into=BOMBS)
def memory_tables(spec: Spec) -> None:
    tables = int(spec.limits["memory_mb"] * MB * 1.3) // mmap.PAGESIZE
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    kept = mmap.mmap(-1, tables * OF_A_TABLE, flags=flags, prot=mmap.PROT_READ)
    kept.madvise(MADV_NOHUGEPAGE)
    for at in range(0, len(kept), OF_A_TABLE):
        kept[at]
    hold(spec, LONG_S)


@attempt("Use more memory than it may, in segments of System V that it lets go.", "seccomp", into=BOMBS)
def memory_segments(spec: Spec) -> None:
    LIBC.shmat.restype, size = ctypes.c_void_p, 20 * MB
    for _ in range(int(spec.limits["memory_mb"] * 1.3) * MB // size):
        segment = checked(LIBC.shmget(0, size, 0o600), "shmget")
        LIBC.shmat(segment, None, 0)  # what keeps it, and is never looked at
        at = LIBC.shmat(segment, None, 0)
        checked(LIBC.shmctl(segment, 0, None), "shmctl")  # IPC_RMID: it goes with the process
        ctypes.memset(at, 1, size)
        LIBC.shmdt(ctypes.c_void_p(at))
    hold(spec, LONG_S)


@attempt("Use more memory than it may, in secret files that it maps for a moment.", "seccomp", into=BOMBS)
def memory_secret(spec: Spec) -> None:
    size = 4 << 20  # none is longer than a file may be
    for _ in range(
        2 * int(spec.limits["memory_mb"]) * MB // size
    ):  # the kernel's own bound is a little above the limit
        file = call("memfd_secret", 0)
        os.ftruncate(file, size)
        with mmap.mmap(file, size) as shown:
            shown[:: mmap.PAGESIZE] = b"x" * (size // mmap.PAGESIZE)
    hold(spec, LONG_S)


@attempt("Write more than it may, in several files.", "watchdog", into=BOMBS)
def disk(spec: Spec) -> None:
    for number in range(3):
        Path(spec.own, f"part-{number}").write_bytes(bytes(int(spec.limits["disk_mb"] * MB * 0.45)))
    hold(spec)


@attempt("Write more than it may into one file.", "rlimits", "watchdog", into=BOMBS)
def disk_one_file(spec: Spec) -> None:
    Path(spec.own, "whole").write_bytes(bytes(int(spec.limits["disk_mb"] * MB * 1.2)))
    hold(spec)


@attempt("Make a file that is longer than it may be, and empty.", "rlimits", into=BOMBS)
def disk_sparse(spec: Spec) -> None:
    with Path(spec.own, "sparse").open("wb") as file:
        file.truncate(int(spec.limits["disk_mb"] * MB * 1.2))
        file.write(b"x")
        file.flush()
        hold(spec)


@attempt("Write more than it may into files without a name.", "watchdog", into=BOMBS)
def disk_nameless(spec: Spec) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(3):
            path = Path(spec.own, f"nameless-{number}")
            file = stack.enter_context(path.open("wb"))
            path.unlink()
            file.write(bytes(int(spec.limits["disk_mb"] * MB * 0.45)))
            file.flush()
        hold(spec)


@attempt("Write more than it may into files that have no name and are not open, but mapped.", "watchdog", into=BOMBS)
def disk_mapped(spec: Spec) -> None:
    kept = []
    for number in range(3):
        path, size = Path(spec.own, f"mapped-{number}"), int(spec.limits["disk_mb"] * MB * 0.45)
        path.write_bytes(bytes(size))
        with path.open("r+b") as file:
            kept.append(mmap.mmap(file.fileno(), size))
        path.unlink()
    hold(spec, LONG_S)


@attempt(
    "Write more than it may into files that have no name, and that only rules of Landlock's keep.",
    "seccomp",
    into=BOMBS,
)
def disk_ruled(spec: Spec) -> None:
    kind, right = 1, 4  # what is beneath a path; to read it
    rules = call("landlock_create_ruleset", struct.pack("=Q", right), 8, 0)
    for number in range(3):
        path = Path(spec.own, f"ruled-{number}")
        with path.open("wb") as file:
            file.write(bytes(int(spec.limits["disk_mb"] * MB * 0.45)))
            file.flush()
            call("landlock_add_rule", rules, kind, struct.pack("=Qi", right, file.fileno()), 0)
            path.unlink()
    hold(spec, LONG_S)


@attempt("Make more files than anybody needs.", "watchdog", into=BOMBS)
def inodes(spec: Spec) -> None:
    for number in range(int(spec.limits["files"]) + 500):
        os.close(os.open(f"{spec.own}/{number}", os.O_CREAT | os.O_WRONLY, 0o600))
    hold(spec)


@attempt("Print more than it may.", "watchdog", "rlimits", into=BOMBS)
def log(spec: Spec) -> None:
    line = b"x" * 1023 + b"\n"
    for _ in range(int(spec.limits["log_mb"] * MB * 1.3) // len(line)):
        os.write(sys.stdout.fileno(), line)
    hold(spec)


@attempt("Go on writing after its time, deaf to being asked to end.", "watchdog", into=BOMBS)
def wall(spec: Spec) -> None:
    _deaf()
    _beat(spec, spec.limits["wall_s"] + BEATS_S)
    hold(spec, 0)


@attempt("Use more processor time than it may, in short children that nobody waits for.", "watchdog", into=BOMBS)
def cpu(spec: Spec) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    def burn() -> None:
        while time.process_time() < SHORT_S:
            sum(itertools.repeat(1, 1000))

    for _ in range(int(spec.limits["cpu_s"] * 1.4 / SHORT_S)):
        pid = _beside(burn)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    hold(spec)


@attempt("Leave a grandchild in a session of its own, which goes on writing.", "watchdog", into=BOMBS)
def outlive(spec: Spec) -> None:
    if os.fork() == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                _deaf()
                os.closerange(0, 100)
                _beat(spec, BEATS_S)
        finally:
            os._exit(0)
    while not Path(spec.own, "beats").exists():
        time.sleep(0.01)
