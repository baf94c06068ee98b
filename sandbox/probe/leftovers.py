"""Side channels: what one session leaves and a later one, with the same read-only files, finds.

What is left is one byte. `find` says which it found, without having been told; the harness compares. Where a
channel has a file for each bit, those are `spec.marked[channel]`.
"""

import ctypes
import errno
import fcntl
import os
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

from .attempts import FIND, LEAVE, Refused, Try, add
from .calls import LIBC, call, checked
from .inodes import LONG, has_extents, hint_of, set_hint, was_asked_for
from .page_cache import BY_FAULT, CACHE, load, marked
from .spec import Spec

HOLD_S = 4.0
FIRST_PORT, PORTS = 10_000, 20_000
USER_KEYRING, PROCESS_KEYRING = -4, -2
KEYCTL_LINK, KEYCTL_UNLINK, KEYCTL_SEARCH, KEYCTL_READ = 8, 9, 10, 11
IPC_CREAT, IPC_NOWAIT, IPC_RMID, GETVAL, SETVAL = 0o1000, 0o4000, 0, 12, 16


def _byte(spec: Spec, channel: str, is_set: Callable[[str], bool]) -> int:
    return sum(is_set(path) << at for at, path in enumerate(spec.marked[channel]))


# ---------------------------------------------------------------- times and locks of shared files


def _leave_access(spec: Spec) -> None:
    load(spec, "access_time")


def _find_access(spec: Spec) -> int:
    now = time.time()
    return _byte(spec, "access_time", lambda path: now - Path(path).stat().st_atime < 3600)


def _leave_change(spec: Spec) -> None:
    for path in marked(spec, "change_time"):
        os.utime(path, (1, 1))


def _find_change(spec: Spec) -> int:
    return _byte(spec, "change_time", lambda path: Path(path).stat().st_mtime == 1)


def _find_extents(spec: Spec) -> int:
    return _byte(spec, "extents", has_extents)


def _leave_hint(spec: Spec) -> None:
    for path in marked(spec, "write_hint"):
        set_hint(path, LONG)


def _find_hint(spec: Spec) -> int:
    return _byte(spec, "write_hint", lambda path: hint_of(path) == LONG)


def _names(spec: Spec) -> list[str]:
    """Of files that are not there; others in each round of two sessions, which their folders tell."""
    number = Path(spec.own).name.rpartition("-")[2]
    return [f"{spec.shared}/{spec.word}-{number}-{bit}" for bit in range(8)]


def _leave_names(spec: Spec) -> None:
    for bit, path in enumerate(_names(spec)):
        if spec.byte >> bit & 1:
            Path(path).exists()


def _find_names(spec: Spec) -> int:
    return sum(was_asked_for(path) << bit for bit, path in enumerate(_names(spec)))


def _leave_lock(spec: Spec) -> None:
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            _hold_locks(spec, write)
        finally:
            os._exit(0)
    os.close(write)
    if not os.read(read, 1):
        raise Refused("no lock")


def _hold_locks(spec: Spec, locked: int) -> None:
    os.setsid()
    files = [os.open(path, os.O_RDONLY) for path in marked(spec, "lock")]
    for fd in files:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.write(locked, b"x")
    os.closerange(0, min(files))
    time.sleep(HOLD_S)


def _find_lock(spec: Spec) -> int:
    return _byte(spec, "lock", _is_locked)


def _is_locked(path: str) -> bool:
    try:
        fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


# ---------------------------------------------------------------- ports of the host


def _ports(spec: Spec) -> list[int]:
    return [FIRST_PORT + (spec.key + at) % PORTS for at in range(8)]


def _leave_ports(spec: Spec) -> None:
    """Whoever closes a connection first keeps its port for a minute, after the end of the process, too."""
    for at, port in enumerate(_ports(spec)):
        if spec.byte >> at & 1:
            with socket.socket() as here:
                here.bind(("127.0.0.1", port))
                here.listen()
                with socket.create_connection(("127.0.0.1", port)):
                    here.accept()[0].close()


def _find_ports(spec: Spec) -> int:
    return sum(_is_taken(port) << at for at, port in enumerate(_ports(spec)))


def _is_taken(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return True
    return False


# ---------------------------------------------------------------- objects that outlive who made them


def _leave_shm(spec: Spec) -> None:
    one = checked(LIBC.shmget(spec.key, 4096, IPC_CREAT | 0o600), "shmget")
    ctypes.c_ubyte.from_address(_attached(one)).value = spec.byte


def _find_shm(spec: Spec) -> int:
    one = checked(LIBC.shmget(spec.key, 0, 0), "shmget")
    byte = ctypes.c_ubyte.from_address(_attached(one)).value
    checked(LIBC.shmctl(one, IPC_RMID, None), "shmctl")
    return byte


def _attached(one: int) -> int:
    LIBC.shmat.restype = ctypes.c_void_p
    start: int = LIBC.shmat(one, None, 0)
    if start == ctypes.c_void_p(-1).value:
        checked(-1, "shmat")
    return start


def _leave_message(spec: Spec) -> None:
    one = checked(LIBC.msgget(spec.key, IPC_CREAT | 0o600), "msgget")
    checked(LIBC.msgsnd(one, struct.pack("=qB", 1, spec.byte), ctypes.c_size_t(1), 0), "msgsnd")


def _find_message(spec: Spec) -> int:
    one = checked(LIBC.msgget(spec.key, 0), "msgget")
    found = ctypes.create_string_buffer(16)
    checked(LIBC.msgrcv(one, found, ctypes.c_size_t(1), ctypes.c_long(0), IPC_NOWAIT), "msgrcv")
    checked(LIBC.msgctl(one, IPC_RMID, None), "msgctl")
    return found.raw[8]


def _leave_semaphore(spec: Spec) -> None:
    one = checked(LIBC.semget(spec.key, 1, IPC_CREAT | 0o600), "semget")
    checked(LIBC.semctl(one, 0, SETVAL, spec.byte), "semctl")


def _find_semaphore(spec: Spec) -> int:
    one = checked(LIBC.semget(spec.key, 0, 0), "semget")
    byte = checked(LIBC.semctl(one, 0, GETVAL), "semctl")
    checked(LIBC.semctl(one, 0, IPC_RMID), "semctl")
    return byte


def _leave_queue(spec: Spec) -> None:
    attributes = struct.pack("=8q", 0, 1, 1, 0, 0, 0, 0, 0)
    one = call("mq_open", spec.word.encode(), os.O_CREAT | os.O_RDWR, 0o600, attributes)
    call("mq_timedsend", one, bytes([spec.byte]), 1, 0, None)


def _find_queue(spec: Spec) -> int:
    found = ctypes.create_string_buffer(1)
    one = call("mq_open", spec.word.encode(), os.O_RDONLY | os.O_NONBLOCK, 0, None)
    call("mq_timedreceive", one, found, 1, None, None)
    call("mq_unlink", spec.word.encode())
    return found.raw[0]


def _leave_key(spec: Spec) -> None:
    call("add_key", b"user", spec.word.encode(), bytes([spec.byte]), 1, USER_KEYRING)


def _find_key(spec: Spec) -> int:
    key = call("keyctl", KEYCTL_SEARCH, USER_KEYRING, b"user", spec.word.encode(), 0)
    call("keyctl", KEYCTL_LINK, key, PROCESS_KEYRING)  # who possesses a key may read it
    found = ctypes.create_string_buffer(1)
    call("keyctl", KEYCTL_READ, key, found, 1)
    call("keyctl", KEYCTL_UNLINK, key, USER_KEYRING)
    return found.raw[0]


def _leave_file(spec: Spec, folder: str) -> None:
    Path(folder, f"{spec.word}-left").write_bytes(bytes([spec.byte]))


def _find_file(spec: Spec, folder: str) -> int:
    left = Path(folder, f"{spec.word}-left")
    byte = left.read_bytes()[0]
    left.unlink()
    return byte


# ---------------------------------------------------------------- all of them

Find = Callable[[Spec], int]
FILES = {"left_in_tmp": "/tmp", "left_in_var_tmp": "/var/tmp", "left_in_shm": "/dev/shm"}
# Channels that need a file for each bit.
MARKED = (*CACHE, "access_time", "change_time", "lock", "extents", "write_hint")
# Channels that whoever finds them takes away.
OBJECTS = ("shm", "message", "semaphore", "queue", "key")


def _channel(name: str, tries: str, leave: Try, find: Find, *walls: str) -> None:
    add(name, leave, tries, *walls, into=LEAVE)
    add(name, find, tries, *walls, into=FIND)


def _cache(name: str) -> None:
    one = CACHE[name]
    _channel(
        name,
        one.tries,
        lambda spec: one.mark(spec, name),
        lambda spec: _byte(spec, name, lambda path: one.is_cached(path) != one.starts_cached),
        *(() if name in BY_FAULT else ("seccomp",)),  # no filter stops a fault
    )


def _file(name: str) -> None:
    folder = FILES[name]
    _channel(
        name,
        f"Leave a file in {folder}.",
        lambda spec: _leave_file(spec, folder),
        lambda spec: _find_file(spec, folder),
        "namespaces",
        "landlock",
    )


for _name in CACHE:
    _cache(_name)
for _name in FILES:
    _file(_name)
_channel("access_time", "Leave a time of access on a shared file.", _leave_access, _find_access, "namespaces")
_channel("change_time", "Leave a time of change on a shared file.", _leave_change, _find_change, "namespaces", "uid")
_channel("lock", "Leave a process that holds a lock on a shared file.", _leave_lock, _find_lock, "namespaces")
_channel(
    "extents",
    "Read shared files; see it by which extents ext4 has at hand.",
    lambda spec: load(spec, "extents"),
    _find_extents,
    "seccomp",
)
_channel("write_hint", "Leave a hint on a shared file.", _leave_hint, _find_hint, "seccomp", "uid")
_channel("names", "Look names up; see it by openat2 with RESOLVE_CACHED.", _leave_names, _find_names, "seccomp")
_channel("ports", "Leave ports of the host taken.", _leave_ports, _find_ports, "namespaces", "seccomp")
_channel("shm", "Leave System V shared memory.", _leave_shm, _find_shm, "namespaces")
_channel("message", "Leave a System V message.", _leave_message, _find_message, "namespaces")
_channel("semaphore", "Leave a System V semaphore.", _leave_semaphore, _find_semaphore, "namespaces")
_channel("queue", "Leave a message in a POSIX queue.", _leave_queue, _find_queue, "namespaces", "landlock")
_channel("key", "Leave a key in the keyring of the user.", _leave_key, _find_key, "namespaces", "seccomp")
