"""The doorman of a candidate without a network namespace: its sockets get loopback addresses, and no others.

Takes the listener of a seccomp filter (its connect, bind and listen wait here) and the candidate's process group;
gives a small process that answers until nobody is left behind the filter. It is also the twin of the supervisor:
when that dies, the twin kills the group. Whoever starts it has one thread.
"""

import contextlib
import errno
import math
import os
import select
import signal
import socket
import time
from pathlib import Path
from typing import NoReturn

from sandbox import child, seccomp
from sandbox.desk import Desk

LOOK_MS = 200  # between two looks whether the group is still there, where no filter tells of its end
FULL_MS = 10  # before looking again whether an answer was finished
END_WITHIN_S = 5.0  # a killed process that is still there then is stuck in the kernel, or nobody reaps it


class Handover:
    """How the listener of a filter gets from a new process to its supervisor; made before the fork."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()

    def give(self, listener: int) -> None:
        """In the new process, when the filter is in force."""
        socket.send_fds(self._theirs, [b"x"], [listener])

    def take(self) -> int:
        """In the supervisor, when the new process has got to its exec.

        Raises:
            OSError: it has given nothing.
        """
        self._theirs.close()
        with self._ours:
            _, fds, _, _ = socket.recv_fds(self._ours, 1, 1, socket.MSG_CMSG_CLOEXEC)
        if not fds:
            raise OSError(errno.EPIPE, "the new process gave no listener: its filter was refused")
        return fds[0]

    def close(self) -> None:
        """In a new process that goes on without an exec, or when none was started."""
        self._ours.close()
        self._theirs.close()


class Doorman:
    """The process, as its supervisor sees it. When it is not alive, the candidate must be ended."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None  # how it ended, or that it was stopped

    @classmethod
    def start(cls, listener: int | None, group: int, within_s: float = math.inf) -> "Doorman":
        """Forks it. The listener passes to it and is closed here; with None it is a twin only. After `within_s` it ends
        the group: by then its supervisor would have, unless that was stopped."""
        try:
            supervisor = os.pidfd_open(os.getpid())
            try:
                pid = os.fork()
                if pid == 0:
                    _be(listener, group, supervisor, time.monotonic() + within_s)
            finally:
                os.close(supervisor)
        finally:
            if listener is not None:
                os.close(listener)
        return cls(pid)

    def alive(self) -> bool:
        """Whether it is at work. One that was stopped is not, and stopping it was hostile."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
            self._status = status if pid else None
        return self._status is None

    def failed(self) -> bool:
        """Whether it left somebody behind. Where it found nobody any more, the candidate is about to end: the kernel
        lets go of its filters first, and of its memory after that."""
        return not self.alive() and self._status != 0

    def end(self) -> None:
        """After the candidate has ended. What waits for an answer finds that there is none any more."""
        if self.alive() or os.WIFSTOPPED(self._status or 0):
            os.kill(self.pid, signal.SIGKILL)
            self._status = os.waitpid(self.pid, 0)[1]


def works() -> bool:
    """Whether a doorman can answer here, found out by trying: old kernels, containers and Yama forbid parts of it.

    Its caller has one thread.
    """
    try:
        filter = seccomp.program("open", loopback=True, pinned=False)
        handover = Handover()
        candidate = os.fork()
    except OSError:
        return False
    if candidate == 0:
        _try_loopback(filter, handover)
    doorman = None
    try:
        doorman = Doorman.start(handover.take(), candidate)
    except (OSError, AttributeError):  # no pidfd_open
        os.kill(candidate, signal.SIGKILL)
    status = os.waitpid(candidate, 0)[1]
    if doorman is not None:
        doorman.end()
    return status == 0


def _try_loopback(filter: bytes, handover: Handover) -> NoReturn:
    try:
        os.setsid()
        listener = seccomp.install(filter, listener=True)
        if listener is not None:
            handover.give(listener)
            os.close(listener)
        handover.close()
        with socket.socket() as server, socket.socket() as client:
            server.bind(("127.0.0.1", 0))
            server.listen()
            client.connect(server.getsockname())
        os._exit(0)
    finally:
        os._exit(1)


def _be(listener: int | None, group: int, supervisor: int, until: float) -> NoReturn:
    """In the new process, which leaves only by the last line: with 0 when nobody is left."""
    failed = 1
    try:
        os.setpgid(0, 0)  # whoever ends the supervisor's group does not end its twin
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        with contextlib.suppress(OSError):  # for people who look at processes
            Path("/proc/self/comm").write_text("doorman")
        _close_all_but(listener, supervisor)
        _watch(listener, group, supervisor, until)
        failed = 0
    finally:
        os._exit(failed)


def _close_all_but(listener: int | None, supervisor: int) -> None:
    """Locks, logs and pipes of the supervisor must not live on here."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    kept = sorted({supervisor, *(() if listener is None else (listener,))})
    for low, high in zip([2, *kept], [*kept, os.sysconf("SC_OPEN_MAX")], strict=True):
        os.closerange(low + 1, high)


def _watch(listener: int | None, group: int, supervisor: int, until: float) -> None:
    poll = select.poll()
    poll.register(supervisor, select.POLLIN)
    desk = None
    if listener is not None:
        desk = Desk(listener)
        poll.register(listener, select.POLLIN)
    while True:
        if desk is not None and listener is not None:
            free = desk.free()
            poll.modify(listener, select.POLLIN if free else 0)
            events = dict(poll.poll(_at_most(until) if free else FULL_MS))
        else:
            events = dict(poll.poll(LOOK_MS))
        if supervisor in events or time.monotonic() > until:
            _end(group)
            return
        if desk is None or listener is None:
            if not _there(group):
                return
        elif events.get(listener, 0) & ~select.POLLIN:  # nobody is behind the filter any more
            return
        elif events.get(listener, 0):
            desk.take()


def _at_most(until: float) -> float | None:
    """Milliseconds to wait. None: for ever."""
    return None if until == math.inf else max(0.0, 1000 * (until - time.monotonic())) + 1


def _there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _end(group: int) -> None:
    """One signal reaches the whole group at once, and who is hit can't fork any more; it is repeated all the same."""
    until = time.monotonic() + END_WITHIN_S
    with child.ahead_of_all(), contextlib.suppress(ProcessLookupError):
        while time.monotonic() < until:
            os.killpg(group, signal.SIGKILL)
            time.sleep(0.002)
