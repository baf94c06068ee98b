"""Reads files of a job folder, where hostile code may have put anything: a link, a pipe, a folder, a giant.

Takes a path and how much to read; gives text, or nothing if no plain file is there. Standard library only, because the
shepherd loads it.
"""

import os
import stat
from pathlib import Path, PurePath

MOST = 4_000_000  # bytes of a file that is read whole
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


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
    """The first and the last bytes of a plain file as text; where it is cut, the two halves of lines go, too.

    A line that has no end among those bytes stays: it is all there is to see.
    """
    fd = _open_plain(path)
    if fd is None:
        return ""
    try:
        size = os.fstat(fd).st_size
        if size <= head + tail:
            data = os.pread(fd, size, 0)
        else:
            data = _ended(os.pread(fd, head, 0)) + _begun(os.pread(fd, tail, size - tail))
    except OSError:
        return ""
    finally:
        os.close(fd)
    return data.decode("utf-8", errors="replace")


def _ended(head: bytes) -> bytes:
    """Up to its last end of a line."""
    at = max(head.rfind(b"\n"), head.rfind(b"\r")) + 1
    return head[:at] if at else head and head + b"\n"


def _begun(tail: bytes) -> bytes:
    """From after its first end of a line."""
    ends = [at for at in (tail.find(b"\n"), tail.find(b"\r")) if at >= 0]
    return tail[min(ends) + 1 :] if ends else tail


def read_plain(folder: Path, name: str, most: int) -> bytes:
    """A plain file with one name and no more than `most` bytes; anything else may be a trap.

    How many names it has proves something only when no process of the candidate lives: the one by which it was opened
    may be gone again.

    Raises:
        OSError: it can't be opened; a link is on the way.
        ValueError: it is no such file, or too big.
    """
    fd = open_below(folder, name)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1:
            raise ValueError(f"{PurePath(name).name} is no plain file of its own any more")
        with os.fdopen(fd, "rb", closefd=False) as file:
            data = file.read(min(most, info.st_size) + 1)
    finally:
        os.close(fd)
    if len(data) > most:
        raise ValueError(f"{PurePath(name).name} has more than {most:,} bytes")
    return data


def open_below(folder: Path, name: str) -> int:
    """Opens `folder`/`name` for reading, step by step, so that no folder on the way can be a link."""
    *parents, last = PurePath(name).parts
    at = os.open(folder, FOLDER)
    try:
        for part in parents:
            at, above = os.open(part, FOLDER, dir_fd=at), at
            os.close(above)
        return os.open(last, FILE, dir_fd=at)
    finally:
        os.close(at)


def _open_plain(path: Path) -> int | None:
    """Follows no link, waits for no pipe. A file with two names may be somebody else's."""
    try:
        fd = os.open(path, FILE)
    except OSError:
        return None
    info = os.fstat(fd)
    if stat.S_ISREG(info.st_mode) and info.st_nlink <= 1:
        return fd
    os.close(fd)
    return None
