"""Landlock: which files a process and all that it starts may open, by the kernel, without privileges or namespaces.

Takes paths to read and paths to write; gives an open ruleset, made before the fork, and `enforce` for the child.
All that is not listed can't be opened, made, renamed or removed. It does not see stat, chmod, chown, times and
attributes of files, the command lines in /proc, unix sockets that have a path, or the network. Whoever keeps root's
capabilities reads the environments of others in /proc, too, where that is listed.
"""

import ctypes
import errno
import functools
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

from sandbox import syscalls
from sandbox.libc import LIBC, LINUX, checked
from sandbox.seccomp import no_new_privileges

_VERSION = 1  # the flag that asks for it
_PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
MAKE_CHAR, MAKE_BLOCK = 1 << 6, 1 << 11
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
READ = EXECUTE | READ_FILE | READ_DIR
# What a file that is no folder can have; the kernel refuses the others for it.
OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
DEVICES = MAKE_CHAR | MAKE_BLOCK  # a node for a disk, in one's own folder, would be the whole disk
SCOPE_ABSTRACT_SOCKETS, SCOPE_SIGNALS = 1 << 0, 1 << 1


@functools.cache
def abi() -> int:
    """The kernel's version of Landlock; 0 where there is none. Files from 1, signals and abstract sockets from 6."""
    try:
        return _call("landlock_create_ruleset", None, 0, _VERSION)
    except OSError:
        return 0


def handled(version: int) -> int:
    """Every right over files that this version can withhold."""
    rights = REFER - 1
    for since, right in ((2, REFER), (3, TRUNCATE), (5, IOCTL_DEV)):
        rights |= right if version >= since else 0
    return rights


def ruleset(read: Iterable[Path | int], write: Iterable[Path | int], names: Iterable[Path | int] = ()) -> int:
    """An open ruleset: `read` may be read and executed, `write` all but given device nodes, of `names` only the names
    be listed, each with all that is below.

    A place is a path that is there (links are followed) or an open file, which can't be exchanged meanwhile.

    Raises:
        OSError: there is no Landlock here, or a path is not there.
    """
    version = abi()
    if version == 0:
        raise OSError(errno.ENOSYS, "this kernel has no Landlock")
    everything = handled(version)
    scopes = SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS if version >= 6 else 0
    # Files, TCP ports (none of them handled: they say nothing of addresses), scopes; older kernels know less.
    attributes = struct.pack("=QQQ", everything, 0, scopes)[: 8 if version < 4 else 16 if version < 6 else 24]
    fd = _call("landlock_create_ruleset", attributes, len(attributes), 0)
    try:
        for place in read:
            _allow(fd, place, READ)
        for place in names:
            _allow(fd, place, READ_DIR)
        for place in write:
            _allow(fd, place, everything & ~DEVICES)
    except BaseException:
        os.close(fd)
        raise
    return fd


def enforce(ruleset: int) -> None:
    """Puts this process, and all that it starts, under the rules, for good."""
    no_new_privileges()
    _call("landlock_restrict_self", ruleset, 0)


def _allow(ruleset: int, place: Path | int, rights: int) -> None:
    opened = place if isinstance(place, int) else os.open(place, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            rights &= OF_A_FILE
        _call("landlock_add_rule", ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, opened), 0)
    finally:
        if opened is not place:
            os.close(opened)


def _call(name: str, *arguments: int | bytes | None) -> int:
    machine = syscalls.this_machine()
    number = None if machine is None else syscalls.number(name, machine)
    if not LINUX or number is None:
        raise OSError(errno.ENOSYS, f"{name}: not on this machine")
    whole = (ctypes.c_long(one) if isinstance(one, int) else one for one in arguments)
    return checked(LIBC.syscall(number, *whole), name)
