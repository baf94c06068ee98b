"""The lock of a job folder: held for a shepherd's life, gone with it however it dies.

Takes the path of the lock; gives an open file that holds it, or says whether somebody does.
"""

import fcntl
import os
import time
from pathlib import Path

# A look at the lock takes it for a moment; a shepherd that comes just then must not think it is the second.
PATIENCE_S = 2.0


def hold(path: Path, patience_s: float = PATIENCE_S) -> int | None:
    """Take the lock until the file is closed; None if somebody else keeps it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(fd)
                return None
            time.sleep(0.005)


def held(path: Path) -> bool:
    """Whether a shepherd lives."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def still_ours(fd: int, path: Path) -> bool:
    """Whether the path still leads to the file that we hold."""
    try:
        there = path.lstat()
    except OSError:
        return False
    here = os.fstat(fd)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
