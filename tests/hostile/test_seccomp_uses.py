"""Calls of which the filter denies some uses only: each made with and without it, by real processes."""

import errno

import pytest

from sandbox import seccomp, syscalls
from sandbox.seccomp import Kind
from sandbox.syscalls import NUMBERS
from tests.filtering import on_linux, said

pytestmark = on_linux

# code that gives an errno -> (bare, boxed, open)
E, OK = errno.EPERM, 0
INVAL, BADF, NOTTY, NOTSUP = errno.EINVAL, errno.EBADF, errno.ENOTTY, errno.EOPNOTSUPP
ASKED = {
    "call(N['clone'], 0x10000000 | 0x10000, 0, 0, 0, 0)": (INVAL, E, E),
    "call(N['clone'], 0x8000 | 0x10000, 0, 0, 0, 0)": (INVAL, E, E),
    "call(N['clone'], 0x10000, 0, 0, 0, 0)": (INVAL, INVAL, INVAL),
    "call(N['personality'], 0x0040000)": (OK, E, E),
    "call(N['personality'], 0)": (OK, OK, OK),
    "call(N['personality'], 0xffffffff)": (OK, OK, OK),
    "call(N['ioctl'], -1, 0x5412, 0)": (BADF, E, E),
    "call(N['ioctl'], -1, 0x100005412, 0)": (BADF, E, E),  # the kernel drops the upper half
    "call(N['ioctl'], -1, 0x541C, 0)": (BADF, E, E),
    "call(N['ioctl'], -1, 0x5401, 0)": (BADF, BADF, BADF),
    "call(N['fcntl'], -1, 1024, 0)": (BADF, E, E),
    "call(N['fcntl'], -1, 1026, 0)": (BADF, E, E),
    "call(N['fcntl'], -1, 1036, 0)": (BADF, E, E),
    "call(N['fcntl'], -1, 1038, 0)": (BADF, E, E),
    "call(N['fcntl'], -1, 1040, 0)": (BADF, E, E),
    "call(N['fcntl'], -1, 6, 0)": (BADF, BADF, BADF),
    "call(N['fcntl'], -1, 1033, 0)": (BADF, BADF, BADF),
    "call(N['fcntl'], -1, 1, 0)": (BADF, BADF, BADF),
    "call(N['prctl'], 22, 99, 0, 0, 0)": (INVAL, E, E),
    "call(N['prctl'], 67, 0, 0, 0, 0)": (OK, E, E),
    "call(N['prctl'], 62, 99, 0, 0, 0)": (INVAL, E, E),
    "call(N['prctl'], 15, b'name', 0, 0, 0)": (OK, OK, OK),
    "call(N['madvise'], 0, 0, 12)": (OK, E, E),
    "call(N['madvise'], 0, 0, 20)": (OK, E, E),
    "call(N['madvise'], 0, 0, 21)": (OK, E, E),
    "call(N['madvise'], 0, 0, 25)": (OK, E, E),
    "call(N['madvise'], 0, 0, 4)": (OK, OK, OK),
    "call(N['preadv2'], -1, 0, 0, 0, 0, 8)": (BADF, E, E),
    "call(N['preadv2'], -1, 0, 0, 0, 0, 0x80)": (BADF, E, E),
    "call(N['preadv2'], -1, 0, 0, 0, 0, 1)": (BADF, BADF, BADF),
    "call(N['pwritev2'], -1, 0, 0, 0, 0, 8 | 1)": (BADF, E, E),
    "call(N['mknodat'], -1, b'x', 0o020600, 0x103)": (BADF, E, E),
    "call(N['mknodat'], -1, b'x', 0o060600, 0x103)": (BADF, E, E),
    "call(N['mknodat'], -1, b'x', 0o010600, 0)": (BADF, BADF, BADF),
    "call(N['fallocate'], -1, 0, 0, 1)": (BADF, BADF, BADF),
    "call(N['fallocate'], -1, 1, 0, 1)": (BADF, NOTSUP, NOTSUP),
    "call(N['fallocate'], -1, 0x11, 0, 1)": (BADF, NOTSUP, NOTSUP),
    "call(N['fallocate'], -1, 3, 0, 1)": (BADF, BADF, BADF),
    "call(N['prlimit64'], 1, 7, 0, 0)": (OK, E, E),
    "call(N['prlimit64'], 0, 7, 0, 0)": (OK, OK, OK),
    "call(N['prlimit64'], 0, 4, b'\\0' * 16, 0)": (OK, OK, OK),
    "call(N['prlimit64'], 0, 4, b'\\0' * 16, b'\\0' * 16)": (OK, E, E),
    "call(N['prlimit64'], 0, 4, 0, b'\\0' * 16)": (OK, OK, OK),
    "call(N['prlimit64'], os.getpid(), 4, b'\\0' * 16, 0)": (OK, E, E),
    "tried(PAIR[0].setsockopt, 6, 31, b'tls')": (errno.EOPNOTSUPP, E, E),
    "tried(PAIR[0].setsockopt, 6, 30, 1)": (errno.EOPNOTSUPP, E, E),
    "tried(PAIR[0].setsockopt, 6, 1, 1)": (errno.EOPNOTSUPP,) * 3,
    "tried(PAIR[0].setsockopt, 1, 7, 9999)": (OK, OK, OK),
    # What chooses the device, the mark, the way or the headers of packets; and what libraries ask for.
    "call(N['setsockopt'], -1, 1, 25, 0, 0)": (BADF, BADF, E),
    "call(N['setsockopt'], -1, 1, 36, 0, 0)": (BADF, BADF, E),
    "call(N['setsockopt'], -1, 1, 62, 0, 0)": (BADF, BADF, E),
    "call(N['setsockopt'], -1, 0, 4, 0, 0)": (BADF, BADF, E),
    "call(N['setsockopt'], -1, 1 << 32, 50, 0, 0)": (BADF, BADF, E),
    "call(N['setsockopt'], -1, 41, 6, 0, 0)": (BADF, BADF, E),
    "call(N['setsockopt'], -1, 41, 54, 0, 0)": (BADF, BADF, E),
    "call(N['setsockopt'], -1, 41, 57, 0, 0)": (BADF, BADF, E),
    "call(N['setsockopt'], -1, 41, 1 << 32 | 57, 0, 0)": (BADF, BADF, E),
    "call(N['setsockopt'], -1, 41, 76, 0, 0)": (BADF, BADF, E),
    "call(N['setsockopt'], -1, 41, 26, 0, 0)": (BADF, BADF, BADF),
    **{f"call(N['setsockopt'], -1, 1, {option}, 0, 0)": (BADF,) * 3 for option in (2, 8, 9, 13, 15, 20, 21, 67)},
    # Sockets: family, type, protocol.
    "tried(socket.socket, 2, 1, 0)": (OK, OK, OK),
    "tried(socket.socket, 10, 1, 6)": (OK, OK, OK),
    "tried(socket.socket, 2, 1 | 0o4000 | 0o2000000, 6)": (OK, OK, OK),
    "call(N['socket'], 2 | 1 << 32, 2 | 1 << 32, 0)": (OK, OK, E),
    "tried(socket.socket, 2, 2, 17)": (OK, OK, E),
    "tried(socket.socket, 2, 3, 1)": (OK, E, E),
    "tried(socket.socket, 2, 2, 1)": (ANY := -1, E, E),
    "tried(socket.socket, 2, 1, 262)": (ANY, E, E),
    "tried(socket.socket, 2, 1, 132)": (ANY, E, E),
    "tried(socket.socket, 1, 1, 0)": (OK, OK, OK),
    "tried(socket.socket, 1, 5, 0)": (OK, OK, E),
    "tried(socket.socket, 1, 3, 0)": (OK, OK, E),
    "tried(socket.socket, 1, 2, 0)": (OK, OK, E),
    "tried(socket.socket, 16, 3, 0)": (OK, OK, OK),
    "tried(socket.socket, 16, 3, 4)": (OK, E, E),
    "tried(socket.socket, 16, 3, 15)": (OK, E, E),
    "tried(socket.socket, 17, 3, 0)": (OK, E, E),
    "tried(socket.socket, 38, 5, 0)": (ANY, E, E),
    "tried(socket.socket, 40, 1, 0)": (ANY, E, E),
    "tried(socket.socketpair, 1, 1, 0)": (OK, OK, OK),
    "tried(socket.socketpair, 1, 5, 0)": (OK, OK, OK),
    "tried(socket.socketpair, 1, 2, 0)": (OK, OK, E),
    "tried(socket.socketpair, 30, 1, 0)": (ANY, E, E),
    "tried(PAIR[0].sendmsg, [b'x'])": (OK, OK, OK),
    "tried(PAIR[0].send, b'x', 0x20000000)": (OK, OK, E),
    "tried(PAIR[0].sendmsg, [b'x'], [], 0x20000000)": (OK, OK, E),
    "call(N['sendmmsg'], -1, 0, 0, 0x20000000)": (BADF, BADF, E),
    "call(N['sendto'], -1, b'x', 1, 0, 0, 0)": (BADF, BADF, BADF),
    "call(N['sendto'], -1, b'x', 1, 0, 4096, 0)": (BADF, BADF, E),
    "call(N['sendto'], -1, b'x', 1, 0, 1 << 32, 0)": (BADF, BADF, E),
    "call(N['sendto'], -1, b'x', 1, 0, 4096, 12)": (BADF, BADF, BADF),
    "call(N['sendto'], -1, b'x', 1, 0, 4096, 16)": (BADF, BADF, E),
    # Other processes.
    "call(N['setpgid'], 0, -1)": (INVAL, INVAL, E),
    "call(N['setpriority'], 0, 1, 0)": (ANY, ANY, E),
    "call(N['setpriority'], 0, 0, 1)": (OK, OK, OK),
    "call(N['setpriority'], 2, 0, 0)": (ANY, ANY, E),
    "call(N['ioprio_set'], 1, 0, 2 << 13)": (OK, OK, OK),
    "call(N['ioprio_set'], 3, 0, 2 << 13)": (OK, OK, E),
    "call(N['sched_setscheduler'], os.getppid(), 0, b'\\0' * 4)": (OK, OK, E),
    "call(N['sched_setscheduler'], 0, 0, b'\\0' * 4)": (OK, OK, OK),
    "call(N['sched_setattr'], 99999999, 0, 0)": (INVAL, INVAL, E),
    "call(N['sched_setaffinity'], 99999999, 8, b'\\xff' * 8)": (errno.ESRCH, errno.ESRCH, E),
    "call(N['sched_setaffinity'], 0, 128, b'\\xff' * 128)": (OK, OK, OK),
    "call(N['kill'], -1, 99)": (ANY, ANY, E),
    "call(N['kill'], os.getpid(), 0)": (OK, OK, OK),
    # Modes and owners of files, which Landlock does not see.
    "call(N['fchmod'], -1, 0)": (BADF, BADF, OK),
    "call(N['utimensat'], -1, b'x', 0, 0)": (BADF, OK, OK),
    "call(N['fchown'], -1, 0, 0)": (BADF, BADF, E),
    "call(N['fsetxattr'], -1, b'user.x', b'x', 1, 0)": (BADF, BADF, E),
    # Requests to file systems: known extents, all extents, flags, a version, fscrypt, XFS, trimming, btrfs, clones.
    "call(N['ioctl'], -1, 0xC020662A, 0)": (BADF, NOTTY, NOTTY),
    "call(N['ioctl'], -1, 0x1C020662A, 0)": (BADF, NOTTY, NOTTY),
    "call(N['ioctl'], -1, 0xC020660B, 0)": (BADF, NOTTY, NOTTY),
    "call(N['ioctl'], -1, 0x40086602, 0)": (BADF, NOTTY, NOTTY),
    "call(N['ioctl'], -1, 0x40087602, 0)": (BADF, NOTTY, NOTTY),
    "call(N['ioctl'], -1, 0x800C6613, 0)": (BADF, NOTTY, NOTTY),
    "call(N['ioctl'], -1, 0x401C5820, 0)": (BADF, NOTTY, NOTTY),
    "call(N['ioctl'], -1, 0xC0185879, 0)": (BADF, NOTTY, NOTTY),
    "call(N['ioctl'], -1, 0xD000943E, 0)": (BADF, NOTSUP, NOTSUP),
    "call(N['ioctl'], -1, 0x40049409, 0)": (BADF, NOTSUP, NOTSUP),
    # Of terminals, sockets, NVIDIA's driver and its memory, InfiniBand: not a file system's.
    "call(N['ioctl'], -1, 0x5413, 0)": (BADF,) * 3,
    "call(N['ioctl'], -1, 0x8946, 0)": (BADF,) * 3,
    "call(N['ioctl'], -1, 0xC020462A, 0)": (BADF,) * 3,
    "call(N['ioctl'], -1, 0x30000001, 0)": (BADF,) * 3,
    "call(N['ioctl'], -1, 66, 0)": (BADF,) * 3,
    "call(N['ioctl'], -1, 0xC0181B01, 0)": (BADF,) * 3,
}


@pytest.mark.parametrize(("at", "kind"), [(0, None), (1, "boxed"), (2, "open")])
def test_what_is_denied_depends_on_the_arguments(at: int, kind: Kind | None) -> None:
    program = None if kind is None else seccomp.program(kind, loopback=True, pinned=False)
    machine = syscalls.this_machine()
    assert machine is not None
    numbers = {name: syscalls.number(name, machine) for name in NUMBERS}
    code = f"N = {numbers}\nPAIR = socket.socketpair()\nprint(json.dumps([{', '.join(ASKED)}]))"
    found = dict(zip(ASKED, said(code, program), strict=True))
    expected = {asked: errnos[at] for asked, errnos in ASKED.items()}
    assert {asked: got for asked, got in found.items() if expected[asked] not in (got, ANY)} == {}
    if kind is None:  # the last line proves little of what the machine denies by itself
        assert E not in [got for asked, got in found.items() if expected[asked] != ANY]
