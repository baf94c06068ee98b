"""Showing what must not end with whoever looks: research goes on where a terminal was closed, or `| head` is over.

Takes what shows something; once nobody can be shown it any more, that and all that follows goes nowhere.
"""

import errno
import os
import select
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

GONE = frozenset({errno.EIO, errno.EPIPE})
OUT, ERR = 1, 2
UNREAD = "Nobody reads what is shown here any more; it goes on all the same, and says nothing more."


def show(draw: Callable[[], None]) -> None:
    """Raises what has nothing to do with who reads it."""
    try:
        draw()
    except OSError as error:
        lost = [fd for fd in (OUT, ERR) if error.errno in GONE and unread(fd)]
        if not lost:
            raise
        null = os.open(os.devnull, os.O_WRONLY)
        for fd in lost:
            os.dup2(null, fd)
        os.close(null)
        if lost == [OUT]:
            with suppress(OSError):
                print(UNREAD, file=sys.stderr, flush=True)


def unread(fd: int) -> bool:
    """A terminal that was closed answers like none; a pipe says that it has no reader."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISCHR(mode):
        return not os.isatty(fd) and not _null(fd)
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return False
    asked = select.poll()
    asked.register(fd, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in asked.poll(0))


def _null(fd: int) -> bool:
    return os.fstat(fd).st_rdev == Path(os.devnull).stat().st_rdev
