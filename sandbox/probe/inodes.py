"""What the kernel and a file system keep of a file besides its pages and its times.

Takes paths of files; gives what is kept there. What a file system does not know is an OSError.
"""

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Iterator

from .calls import call

EXT4_CLEAR_EXTENTS, EXT4_KNOWN_EXTENTS = 0x6628, 0xC020662A
GET_VERSION, SET_VERSION = 0x80087601, 0x40087602
EVERYWHERE, MOST = 1 << 60, 8  # of a file; extents that are told
VERSION = 54_321
GET_HINT, SET_HINT = 1035, 1036
NO_HINT, LONG = 0, 4
AT_FDCWD, RESOLVE_CACHED = -100, 0x20


@contextlib.contextmanager
def _open(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def has_extents(path: str) -> bool:
    """Whether ext4 knows where any of it lies without asking the disk: since somebody has read it, or asked, too."""
    asked = bytearray(struct.pack("=QQIIII", 0, EVERYWHERE, 0, 0, MOST, 0).ljust(32 + 56 * MOST, b"\0"))
    with _open(path) as fd:
        fcntl.ioctl(fd, EXT4_KNOWN_EXTENTS, asked)
    return int(struct.unpack_from("=QQIIII", asked)[3]) > 0


def forget_extents(path: str) -> None:
    """For whoever owns the file. On another file system there is nothing to forget."""
    with _open(path) as fd, contextlib.suppress(OSError):
        fcntl.ioctl(fd, EXT4_CLEAR_EXTENTS)


def set_version(path: str) -> None:
    with _open(path) as fd:
        fcntl.ioctl(fd, SET_VERSION, struct.pack("=q", VERSION))


def file_version(path: str) -> int | None:
    """None where the file system knows of none."""
    found = bytearray(8)
    try:
        with _open(path) as fd:
            fcntl.ioctl(fd, GET_VERSION, found)
    except OSError:
        return None
    return int(struct.unpack("=i", found[:4])[0])


def set_hint(path: str, hint: int) -> None:
    """How long what is written there will live. It is kept while the file is in memory, whoever has it open."""
    with _open(path) as fd:
        fcntl.fcntl(fd, SET_HINT, struct.pack("=Q", hint))


def hint_of(path: str) -> int:
    with _open(path) as fd:
        return int(struct.unpack("=Q", fcntl.fcntl(fd, GET_HINT, bytes(8)))[0])


def was_asked_for(path: str) -> bool:
    """Of a file that is not there: whether the kernel knows that without asking the file system."""
    how = struct.pack("=QQQ", os.O_RDONLY | os.O_CLOEXEC, 0, RESOLVE_CACHED)
    try:
        os.close(call("openat2", AT_FDCWD, os.fsencode(path), how, len(how)))
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EAGAIN):
            raise
        return error.errno == errno.ENOENT
    return True
