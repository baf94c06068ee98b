"""What the file systems in memory hold that a tree sees and we do not: the /tmp and /dev/shm of its boxes; and without
a box, what is its user's in the machine's own.

Takes process ids, or a user; gives `Held`. Nothing that the tree wrote is believed: the mounts are the kernel's list,
each is reached from the process' own root without following a link, and must be the file system that the list named.
The files of a box are never looked at, so it costs the same for one as for a million.
"""

import contextlib
import ctypes
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from sandbox.libc import LIBC, LINUX
from sandbox.mounts import Mount, mounts

TMPFS = 0x01021994
SHARED = "/dev/shm"
MOST_ENTRIES = 100_000  # that are looked at
_DIRECTORY = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", 0)  # O_PATH: looks, opens nothing


class Held(NamedTuple):
    bytes: int
    entries: int


def held(pids: Iterable[int]) -> Held:
    """In all boxes of these processes, each file system once."""
    found: dict[int, Held] = {}
    if LINUX:
        ours, seen = _namespace("self"), set[int]()
        for pid in pids:
            namespace = _namespace(str(pid))
            if namespace is None or namespace == ours or namespace in seen:
                continue
            seen.add(namespace)
            found |= _in_box(pid)
    return Held(sum(one.bytes for one in found.values()), sum(one.entries for one in found.values()))


def of_user(uid: int) -> Held:
    """In the shared memory of the whole machine, of a user that is nobody but one run."""
    found = [info for _, info in _files_of(uid)]
    return Held(sum(info.st_blocks * 512 for info in found), len(found))


def clear(uid: int) -> None:
    """Takes it away, when all of the run has ended: what it left would tell the next one something, and stay."""
    for path, info in sorted(_files_of(uid), key=lambda one: -len(one[0])):
        with contextlib.suppress(OSError):
            Path(path).rmdir() if stat.S_ISDIR(info.st_mode) else Path(path).unlink()


def _files_of(uid: int) -> list[tuple[str, os.stat_result]]:
    """No link is followed. A folder of somebody else's is not looked into: he could exchange it for another."""
    found: list[tuple[str, os.stat_result]] = []
    todo = [SHARED]
    while todo and len(found) < MOST_ENTRIES:
        with contextlib.suppress(OSError), os.scandir(todo.pop()) as entries:
            for entry in entries:
                info = entry.stat(follow_symlinks=False)
                if info.st_uid != uid:
                    continue
                found.append((entry.path, info))
                if stat.S_ISDIR(info.st_mode):
                    todo.append(entry.path)
    return found


def _in_box(pid: int) -> dict[int, Held]:
    known = {mount.device for mount in mounts("self", "tmpfs")}  # what was here before, and is only shown there
    found: dict[int, Held] = {}
    with contextlib.suppress(OSError):  # the process has ended
        root = os.open(f"/proc/{pid}/root", os.O_DIRECTORY | os.O_CLOEXEC | os.O_PATH)
        try:
            for mount in mounts(str(pid), "tmpfs"):
                if mount.device in known or mount.device in found:
                    continue
                if (size := _size(root, mount)) is not None:
                    found[mount.device] = size
        finally:
            os.close(root)
    return found


def _size(root: int, mount: Mount) -> Held | None:
    """None where another file system lies over it, or it has gone: then its row is another's."""
    try:
        fd = _open_below(root, mount.place)
    except OSError:
        return None
    try:
        return _measured(fd) if os.fstat(fd).st_dev == mount.device else None
    finally:
        os.close(fd)


def _open_below(root: int, place: str) -> int:
    fd = os.dup(root)
    for name in place.strip("/").split("/") if place != "/" else ():
        try:
            below = os.open(name, _DIRECTORY, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
    return fd


def _measured(fd: int) -> Held | None:
    """By statfs: its answer says the type of the file system, which Python's own does not."""
    row = (ctypes.c_ulong * 32)()
    if LIBC.fstatfs(fd, row) != 0 or row[0] != TMPFS:
        return None
    _, size, blocks, free, _, entries, free_entries = row[:7]
    return Held((blocks - free) * size, entries - free_entries)


def _namespace(pid: str) -> int | None:
    try:
        return Path(f"/proc/{pid}/ns/mnt").stat().st_ino
    except OSError:
        return None
