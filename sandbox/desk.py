"""How the doorman answers one call: the address is copied once, checked, and used on a copy of the socket.

Takes notifications from a seccomp listener; gives each its answer. Nothing that the candidate can still change is
looked at twice, and no call is ever let through to the kernel as it was made.

Processes of the candidate may also meet at unix sockets, as those that load data do: a name that one binds stands
for a name that nobody knows, and leads nowhere outside.
"""

import ctypes
import errno
import fcntl
import ipaddress
import os
import secrets
import socket
import struct
import threading
from typing import NamedTuple, TypeVar

from sandbox import status, syscalls
from sandbox.addresses import (
    Address,
    inside,
    internet,
    is_netlink,
    is_unix,
    listeners,
    netlink_name,
    parse,
    plain,
    unix_name,
)
from sandbox.libc import LIBC, checked

# From linux/seccomp.h: struct seccomp_notif is id, pid, flags, number, architecture, pointer, six arguments.
_REQUEST = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")
_RECEIVE, _SEND, _VALID = 0xC0502100, 0xC0182101, 0x40082102
_PIDFD_THREAD = os.O_EXCL
LONGEST = 128  # struct sockaddr_storage
AT_ONCE = 64  # answers in work; a candidate whose connects hang waits for itself
NAMES_KEPT = 65_536
FIRST_PORT = 1024  # those below are root's, and the doorman may be root

_Name = TypeVar("_Name")
_Real = TypeVar("_Real")


class Call(NamedTuple):
    """A system call that waits for an answer."""

    id: int
    thread: int
    name: str
    arguments: tuple[int, ...]


class Desk:
    """Answers the calls of one candidate, each in a thread of its own, since a connect may take its time."""

    def __init__(self, listener: int) -> None:
        machine = syscalls.this_machine()
        if machine is None:
            raise OSError(errno.ENOSYS, "no system call numbers for this machine")
        self._listener = listener
        self._names = {syscalls.number(name, machine): name for name in ("connect", "bind", "listen")}
        self._getfd = syscalls.number("pidfd_getfd", machine)
        self._at_work = threading.Semaphore(AT_ONCE)
        # Names that the candidate itself has listened on or bound, oldest first.
        self._listening: dict[Address, None] = {}
        self._sockets: dict[int, None] = {}  # by inode: those that it has listened with
        self._unix: dict[bytes, str] = {}
        self._lock = threading.Lock()
        threading.stack_size(1 << 18)

    def free(self) -> bool:
        """Whether `take` would not have to wait."""
        if self._at_work.acquire(blocking=False):
            self._at_work.release()
            return True
        return False

    def take(self) -> None:
        """Takes one call that waits, and has it answered."""
        buffer = bytearray(_REQUEST.size)
        try:
            fcntl.ioctl(self._listener, _RECEIVE, buffer)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):  # whoever called is dead
                return
            raise
        number, thread, _, asked, _, _, *arguments = _REQUEST.unpack(buffer)
        call = Call(number, thread, self._names.get(asked, ""), tuple(arguments))
        self._at_work.acquire()
        try:
            threading.Thread(target=self._answer, args=(call,), daemon=True).start()
        except RuntimeError:  # the machine has no more threads to give
            self._reply(call, errno.EAGAIN)

    def _answer(self, call: Call) -> None:
        failed = errno.EPERM
        try:
            self._act(call)
            failed = 0
        except OSError as error:
            failed = error.errno or errno.EPERM
        finally:
            self._reply(call, failed)

    def _reply(self, call: Call, failed: int) -> None:
        try:
            fcntl.ioctl(self._listener, _SEND, _ANSWER.pack(call.id, 0, -failed, 0))
        except OSError:
            pass  # it was killed, or gave up
        finally:
            self._at_work.release()

    def _act(self, call: Call) -> None:
        raw = b"" if call.name == "listen" else _address(call)
        with self._copy(call) as copy:
            # Until here the number may have become another process's; what was read is used only if it has not.
            fcntl.ioctl(self._listener, _VALID, struct.pack("=Q", call.id))
            if call.name == "listen":
                self._listen(copy, call.arguments[1] & 0xFFFF_FFFF)
            elif call.name == "bind":
                self._bind(copy, raw)
            elif call.name == "connect":
                self._connect(copy, raw)
            else:
                raise OSError(errno.ENOSYS, "not a call that we answer")

    def _copy(self, call: Call) -> socket.socket:
        """A second name for the candidate's socket: the same one, even if its own is closed or exchanged meanwhile."""
        process = _open_process(call.thread)
        try:
            number = ctypes.c_int(call.arguments[0] & 0xFFFF_FFFF)
            fd = checked(LIBC.syscall(self._getfd, process, number, 0), "pidfd_getfd")
        finally:
            os.close(process)
        try:
            return socket.socket(fileno=fd)
        except OSError:
            os.close(fd)
            raise

    def _connect(self, copy: socket.socket, raw: bytes) -> None:
        if is_unix(copy):
            with self._lock:
                real = self._unix.get(unix_name(raw))
            if real is None:
                raise OSError(errno.ECONNREFUSED, "no socket of the candidate's")
            copy.connect(real)
            return
        family = internet(copy)
        to = parse(raw, family)
        name = inside(to, copy, family)
        if name is None:
            raise OSError(errno.ENETUNREACH, f"{to.host} is not loopback")
        own = self._own(name, family)
        if own is None or not self._answers(plain(own)):  # a service of the host, or nobody: it can't tell
            raise OSError(errno.ECONNREFUSED, f"{name} is no socket of the candidate's")
        copy.connect(own)

    def _own(self, name: Address, family: int) -> Address | None:
        """The candidate's own socket of that name. One that was bound to any address is at 127.0.0.1, and is meant
        by all others: many machines call themselves 127.0.1.1."""
        usual = Address("127.0.0.1", name.port)
        with self._lock:
            if plain(name) in self._listening:
                return name
            if usual not in self._listening:
                return None
        return usual if family == socket.AF_INET else Address("::ffff:127.0.0.1", name.port)

    def _answers(self, name: Address) -> bool:
        """Whether the candidate is still who listens there: a name that it gave up may be another's by now."""
        found = listeners(name)
        with self._lock:
            return bool(found) and found <= self._sockets.keys()

    def _bind(self, copy: socket.socket, raw: bytes) -> None:
        if is_netlink(copy):
            copy.bind(netlink_name(copy, raw))
            return
        if is_unix(copy):
            called, real = unix_name(raw), f"\0caddie-{secrets.token_hex(16)}"
            copy.bind(real)
            for known in (called, real.encode()):  # its owner is told the real one by getsockname
                self._remember(self._unix, known, real)
            return
        family = internet(copy)
        to = parse(raw, family)
        name = inside(to, copy, family)
        if name is None:
            raise OSError(errno.EADDRNOTAVAIL, f"{to.host} is not loopback")
        if 0 < name.port < FIRST_PORT:
            raise OSError(errno.EACCES, f"port {name.port} is root's")
        copy.bind(name)

    def _listen(self, copy: socket.socket, backlog: int) -> None:
        if is_unix(copy):
            copy.listen(min(backlog, 0xFFFF))
            return
        family = internet(copy)
        if copy.getsockname()[1] == 0:
            anywhere = Address("0.0.0.0" if family == socket.AF_INET else "::", 0)
            copy.bind(inside(anywhere, copy, family) or anywhere)
        copy.listen(min(backlog, 0xFFFF))
        name = Address(*copy.getsockname()[:2])
        if not ipaddress.ip_address(plain(name).host).is_loopback:  # another thread undid the bind meanwhile
            copy.shutdown(socket.SHUT_RD)
            raise OSError(errno.EADDRNOTAVAIL, f"{name.host} is not loopback")
        self._remember(self._listening, plain(name), None)
        self._remember(self._sockets, os.fstat(copy.fileno()).st_ino, None)

    def _remember(self, names: dict[_Name, _Real], name: _Name, real: _Real) -> None:
        with self._lock:
            names.pop(name, None)
            names[name] = real
            if len(names) > NAMES_KEPT:
                del names[next(iter(names))]


def _address(call: Call) -> bytes:
    """The address as the candidate gave it, copied out of its memory once."""
    length = ctypes.c_int(call.arguments[2] & 0xFFFF_FFFF).value
    if not 0 <= length <= LONGEST:
        raise OSError(errno.EINVAL, f"an address of {length} bytes")
    if length == 0:
        return b""
    here = ctypes.create_string_buffer(length)
    ours = (ctypes.c_void_p * 2)(ctypes.addressof(here), length)
    theirs = (ctypes.c_void_p * 2)(call.arguments[1], length)
    one, none = ctypes.c_ulong(1), ctypes.c_ulong(0)
    got = checked(LIBC.process_vm_readv(call.thread, ours, one, theirs, one, none), "process_vm_readv")
    if got != length:
        raise OSError(errno.EFAULT, "the address is not there to its end")
    return here.raw


def _open_process(thread: int) -> int:
    """The open process of a thread; the thread itself where the kernel can open one."""
    try:
        return os.pidfd_open(thread, _PIDFD_THREAD)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    leader = status.number(thread, b"Tgid")
    if leader is None:
        raise ProcessLookupError(errno.ESRCH, "it is gone")
    return os.pidfd_open(leader)
