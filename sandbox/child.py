"""What happens in a new process between fork and exec, and what its supervisor needs from the kernel.

Takes limits and a core; gives `prepare`, a function for Popen's `preexec_fn`. That is safe only while the
supervisor has one thread (another could hold a lock at the fork, and the child would wait for it for ever):
so it is in the shepherd and in the judge session.
"""

import contextlib
import os
import resource
import signal
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sandbox.libc import LIBC, LINUX, checked
from sandbox.limits import Limits, rlimits

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
CAPABILITY_VERSION_3 = 0x20080522
LATE_S = 5.0  # after a run's time, before it is ended by others than its supervisor


def adopt_orphans(on: bool) -> None:
    """Whether descendants whose parent died become our children, whatever session they moved to."""
    if LINUX:
        checked(LIBC.prctl(PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")


def prepare(
    limits: Limits,
    core: int | None,
    groups: Sequence[int],
    uid: int | None = None,
    becomes: bool = False,
    last: Callable[[], None] | None = None,
    alarm: bool = True,
) -> Callable[[], None]:
    """The function to run in the child. All that can be worked out before the fork is.

    `groups` are open files by which the child joins its control groups, `uid` is the user that it will run as
    (which it `becomes` here, or later), and `last` is done at the very end. With `alarm` the kernel ends the new
    process a moment after its time, also when its supervisor was stopped: of a box that is the outermost process, which
    what is inside can't reach and does not outlive.
    """
    supervisor = os.getpid()
    bounds = rlimits(limits, uid)
    pin = core is not None and hasattr(os, "sched_setaffinity")

    def in_child() -> None:
        if LINUX:
            _first_for_the_oom_killer()
        for group in groups:
            with contextlib.suppress(OSError):  # not allowed after all: the watchdog still looks
                os.write(group, b"0")
        os.umask(0o077)
        for which, soft, hard in bounds:
            resource.setrlimit(which, (soft, hard))
        if pin and core is not None:
            os.sched_setaffinity(0, {core})
        if becomes and uid is not None:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        if LINUX:
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # another user would not keep it
            if os.getppid() != supervisor:  # it died before the line above
                os._exit(125)
        if alarm:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
            signal.setitimer(signal.ITIMER_REAL, limits.wall_s + LATE_S)  # kept by an exec
        if last is not None:
            last()

    return in_child


def drop_capabilities() -> None:
    """Of a process of root's that stays root's: it reads and ends no more than its files' owner could. No way back,
    once no new privileges can be had by an exec."""
    if LINUX:
        checked(LIBC.capset(struct.pack("=Ii", CAPABILITY_VERSION_3, 0), bytes(24)), "capset")


def _first_for_the_oom_killer() -> None:
    """If the machine runs out of memory between two looks, it is this process that goes, not the person's."""
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    except OSError:
        return
    try:
        os.write(fd, b"1000")
    except OSError:
        pass  # some containers forbid it; the watchdog still looks
    finally:
        os.close(fd)


@contextlib.contextmanager
def ahead_of_all() -> Iterator[None]:
    """Run before everything else for a moment, where we may: thousands of runaway processes must not starve
    the one that ends them."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except (AttributeError, OSError):  # no such call, or not allowed
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def open_log(path: Path) -> int:
    """A new file, or a plain file of ours to append to; never a link, a pipe or somebody else's file."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        fd = os.open(path, flags | os.O_NONBLOCK)
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1 or info.st_uid != os.getuid():
        os.close(fd)
        raise FileExistsError(f"{path} is there and is not a log of ours")
    return fd


def oom_kills() -> int:
    """How often the kernel has killed for lack of memory since it started; 0 where it does not say."""
    try:
        text = Path("/proc/vmstat").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill ")), 0)
