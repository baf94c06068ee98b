"""Reads files of a job folder, where hostile code may have put anything: a link, a pipe, a folder, a giant.

Takes a path and how much to read; gives text, or nothing if no plain file is there. Standard library only, because the
shepherd loads it.
"""

import os
import stat
from pathlib import Path

MOST = 4_000_000  # bytes of a file that is read whole


def there(path: Path) -> bool:
    """Whether the path leads to anything; no, if its folder can't be read, which a candidate can bring about."""
    try:
        path.lstat()
    except OSError:
        return False
    return True


def read_small(path: Path) -> str | None:
    """The text of a small plain file, or None."""
    fd = _open_plain(path)
    if fd is None:
        return None
    with os.fdopen(fd, "rb") as file:
        try:
            data = file.read(MOST + 1)
        except OSError:
            return None
    return None if len(data) > MOST else data.decode("utf-8", errors="replace")


def read_ends(path: Path, head: int, tail: int) -> str:
    """The first and the last bytes of a plain file as text."""
    fd = _open_plain(path)
    if fd is None:
        return ""
    try:
        size = os.fstat(fd).st_size
        parts = [os.pread(fd, head, 0)] if head else []
        if size > head:
            parts.append(os.pread(fd, tail, max(head, size - tail)))
    except OSError:
        return ""
    finally:
        os.close(fd)
    return b"\n".join(parts).decode("utf-8", errors="replace")


def _open_plain(path: Path) -> int | None:
    """Follows no link, waits for no pipe."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return None
