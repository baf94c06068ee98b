"""The files of a box put together before there is a box: by root, in a mount namespace of the new process.

Takes the steps of `layout` and a folder; afterwards the folder holds all of them, for that process alone, and
bubblewrap makes it the root of its box. Bubblewrap would read the list of all mounts again for each of them: with some
fifty that is most of what a start costs. Plain words for paths: it is done between fork and exec.
"""

# ruff: noqa: PTH102, PTH110, PTH112, PTH211
import contextlib
import ctypes
import errno
import functools
import os
import struct
from collections.abc import Sequence
from pathlib import Path

from sandbox import syscalls
from sandbox.layout import Step
from sandbox.libc import LIBC, LINUX, checked

FOLDER = ".box"  # beside a run's one folder; empty for everybody else
# What nearly every program opens; its own terminals; and names that programs know them by.
NODES = ("null", "zero", "full", "random", "urandom", "tty")
TERMINALS = "newinstance,ptmxmode=0666,mode=620"
LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "core": "/proc/kcore",
    "ptmx": "pts/ptmx",
}

CLONE_NEWNS = 0x0002_0000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 1 << 1, 1 << 2, 1 << 3, 1 << 12, 1 << 14, 1 << 18
RDONLY, NOSUID, NODEV = 1 << 0, 1 << 1, 1 << 2  # what mount_setattr calls them
AT_FDCWD, AT_RECURSIVE = -100, 0x8000


def place(writable: str) -> str:
    """Where they are put together for a run with this folder. It stays: to remove it would take the mounts away."""
    folder = Path(writable).with_name(FOLDER)
    folder.mkdir(mode=0o700, exist_ok=True)
    return str(folder)


@functools.cache
def works() -> bool:
    """Whether this kernel sets what a mount allows in one call, which older ones than 5.12 do not."""
    try:
        _set("/", 0, 0)
    except OSError:
        return False
    return True


def make(steps: Sequence[Step], stage: str, memory: int) -> None:
    """In the new process. `memory`: bytes of each file system in memory.

    Raises:
        OSError: the log says why.
    """
    before = os.umask(0o022)
    try:
        _make(steps, stage, memory)
    except OSError as error:
        os.write(2, f"the files of its box can't be put together: {error}\n".encode())
        raise
    finally:
        os.umask(before)


def _make(steps: Sequence[Step], stage: str, memory: int) -> None:
    checked(LIBC.unshare(CLONE_NEWNS), "unshare")
    _mount("none", "/", "", MS_REC | MS_PRIVATE)  # nothing of this reaches anybody else
    _mount("tmpfs", stage, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
    os.mkdir(f"{stage}/proc")
    _devices(f"{stage}/dev")
    for step in steps:
        _step(step, stage + step.path, memory)
    for step in steps:
        if step.kind == "empty":
            _set(stage + step.path, 0, RDONLY)
    _set(stage, 0, RDONLY)


def _devices(folder: str) -> None:
    os.mkdir(folder)
    for name in NODES:
        if os.path.exists(f"/dev/{name}"):
            _file(f"{folder}/{name}")
            _show(f"/dev/{name}", f"{folder}/{name}", RDONLY | NOSUID)
    _folder(f"{folder}/pts")
    _mount("devpts", f"{folder}/pts", "devpts", MS_NOSUID | MS_NOEXEC, TERMINALS)
    for name, to in LINKS.items():
        os.symlink(to, f"{folder}/{name}")


def _step(step: Step, at: str, memory: int) -> None:
    match step.kind:
        case "show":
            _folder(at)
            _show(step.source, at, RDONLY | NOSUID | NODEV)
        case "folder":
            _folder(at)
        case "file":
            _file(at)
            _show(step.source, at, RDONLY | NOSUID | NODEV)
        case "link":
            os.symlink(step.source, at)
        case "empty":
            _mount("tmpfs", at, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
        case "memory":
            _folder(at)
            _mount("tmpfs", at, "tmpfs", MS_NOSUID | MS_NODEV, f"mode=1777,size={memory}")
        case "device":  # or a folder of them
            _folder(at) if os.path.isdir(step.source) else _file(at)
            _show(step.source, at, RDONLY | NOSUID)
        case "own":
            _folder(at)
            _show(step.source, at, NOSUID | NODEV)


def _folder(at: str) -> None:
    """Unless it is there. Inside of what is shown nothing can be made."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(at)


def _file(at: str) -> None:
    with contextlib.suppress(FileExistsError):
        os.close(os.open(at, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def _show(source: str, at: str, withheld: int) -> None:
    """With all that is mounted under it. What may only be read is so before the next step."""
    _mount(source, at, "", MS_BIND | MS_REC)
    _set(at, AT_RECURSIVE, withheld)


def _mount(source: str, at: str, kind: str, flags: int, options: str = "") -> None:
    words = (os.fsencode(source), os.fsencode(at), kind.encode() or None)
    checked(LIBC.mount(*words, ctypes.c_ulong(flags), options.encode() or None), source, None, at)


def _set(at: str, how: int, withheld: int) -> None:
    """Takes rights from a mount; what was withheld before stays so."""
    number, attributes = _number(), struct.pack("=QQQQ", withheld, 0, 0, 0)
    if not LINUX or number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), "mount_setattr")
    checked(LIBC.syscall(number, AT_FDCWD, os.fsencode(at), how, attributes, len(attributes)), at)


@functools.cache
def _number() -> int | None:
    machine = syscalls.this_machine()
    return None if machine is None else syscalls.number("mount_setattr", machine)
