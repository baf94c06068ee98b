"""The filter on system calls: what a candidate may ask of the kernel at all.

Takes the kind of place that it runs in; gives the program for that place as bytes, for bubblewrap's --seccomp or
for `install` in a new process before its exec. Everything is allowed but what is named here, so that libraries
which train models find what they expect, and what is newer than this list; the other walls (namespaces, Landlock)
hold files and the network.
"""

import ctypes
import errno
import functools
import signal
import socket
import stat
import sys
from typing import Literal

from sandbox import bpf, syscalls
from sandbox.bpf import ALLOW, NOTIFY, Block, among, branch, fail, high, load, lookup, low, mask, ret
from sandbox.libc import LIBC, checked
from sandbox.syscalls import Machine

# boxed: in namespaces of its own, so other processes and the host's sockets are not there at all.
# open: on the host; connect, bind and listen are answered by the doorman.
Kind = Literal["boxed", "open"]

NO = fail(errno.EPERM)
YES = ret(ALLOW)
ABSENT = fail(errno.ENOSYS)  # what makes libraries fall back on an older call
UNSUPPORTED = fail(errno.EOPNOTSUPP)  # as by file systems that can't
PRETEND = fail(0)  # nothing happens, and it looks like a success
NOT_THERE = fail(errno.ENOTTY)  # what a file system says of a request that is not for it

# Other processes' memory, keys, programs in the kernel, mounts, namespaces, the machine itself, files behind the
# back of path checks, and what tells one run about another (page cache, file events).
DENIED = (
    "ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp pidfd_getfd "
    "keyctl add_key request_key bpf userfaultfd perf_event_open seccomp vmsplice modify_ldt "
    "mount umount2 pivot_root chroot open_tree open_tree_attr move_mount fsopen fsconfig fsmount fspick mount_setattr "
    "statmount listmount setns unshare "
    "init_module finit_module delete_module create_module query_module get_kernel_syms kexec_load kexec_file_load "
    "reboot swapon swapoff acct quotactl quotactl_fd syslog iopl ioperm settimeofday clock_settime adjtimex "
    "clock_adjtime sethostname setdomainname vhangup nfsservctl uselib ustat sysfs _sysctl "
    "open_by_handle_at name_to_handle_at lookup_dcookie fanotify_init fanotify_mark "
    "fadvise64 mincore move_pages migrate_pages"
)
# Where there is a newer call that a filter can't look into (its arguments are in memory) or that is not ours to allow.
# In which part of the machine's memory a page is, the next run can see; libraries then take all of it for one.
PRETENDED_ABSENT = (
    "clone3 io_uring_setup io_uring_enter io_uring_register io_setup io_submit cachestat inotify_init inotify_init1 "
    "openat2 "  # which tells whether somebody has asked for a name
    "file_getattr file_setattr "  # requests to file systems, see below
    "mbind get_mempolicy set_mempolicy set_mempolicy_home_node "
    # Memory that no process shows, and rules that keep a file which has no name and is not open. Ours stand before.
    "memfd_secret landlock_create_ruleset landlock_add_rule landlock_restrict_self"
)
# Without an ipc namespace they outlive a run, and others can open them; and no process shows the memory that they hold.
SHARED_OBJECTS = (
    "shmget shmat shmctl shmdt semget semop semtimedop semctl msgget msgsnd msgrcv msgctl "
    "mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr"
)
# Landlock does not see these, on any file of the same user. Programs that copy files give up when they fail.
MODES = "chmod fchmod fchmodat fchmodat2"
# Whoever may write to a file may also say that it was used now, and a box has device nodes of the machine, which lie on
# mounts that can't be read-only where bubblewrap makes them: it would make the devices unusable.
TIMES = "utime utimes utimensat futimesat"
OWNERS_AND_ATTRIBUTES = (
    "chown fchown lchown fchownat setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr "
    "removexattrat"
)

CLONE_NEW = 0x7E02_0000  # every namespace
CLONE_PARENT = 0x8000  # a child that is its parent's sibling
PERSONALITIES = (0, 0xFFFF_FFFF)  # plain Linux, and the question which one it is
TIOCSTI, TIOCLINUX, TIOCSETD = 0x5412, 0x541C, 0x5423  # typing for somebody else; line disciplines
# What file systems are asked, by the byte that says whose request it is: ext4 and all of them, versions, XFS, btrfs.
# Some tell which files somebody has read, some change a file that may only be read. Python copies by one of the last
# kind where it can, and else only if it is told that it is not supported.
REQUESTS = {"f": NOT_THERE, "v": NOT_THERE, "X": NOT_THERE, "\x94": fail(errno.EOPNOTSUPP)}
F_SETLEASE, F_NOTIFY, F_SETDELEG = 1024, 1026, 1040  # who opens it, and when
F_SET_RW_HINT, F_SET_FILE_RW_HINT = 1036, 1038  # a mark that the owner of a file may leave where nothing can be written
FILE_CONTROLS = (F_SETLEASE, F_NOTIFY, F_SETDELEG, F_SET_RW_HINT, F_SET_FILE_RW_HINT)
# Whoever may read a file may lock it. A lone process works as if it had, and asks for nobody's.
F_GETLK, F_SETLK, F_SETLKW, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW = 5, 6, 7, 36, 37, 38
LOCKS = dict.fromkeys((F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW), PRETEND)
LOCKS |= dict.fromkeys((F_GETLK, F_OFD_GETLK), fail(errno.ENOLCK))
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, PR_SET_MEMORY_MERGE = 1, 22, 38, 67
PR_SCHED_CORE = 62  # who may run beside it on the other half of its core
RWF_NOWAIT_DONTCACHE = 0x08 | 0x80  # says whether a page is in memory; drops it
MADV_MERGEABLE = 12  # says who else has this page
MADV_COLD, MADV_PAGEOUT, MADV_COLLAPSE = 20, 21, 25  # drop it; replace it by one of its own, which goes with it
MADVICE = (MADV_MERGEABLE, MADV_COLD, MADV_PAGEOUT, MADV_COLLAPSE)
KEEP_SIZE, PUNCH_HOLE = 1, 2  # of fallocate
MSG_FASTOPEN = 0x2000_0000  # connects without connect()
SOL_TCP, TCP_FASTOPEN_CONNECT, TCP_ULP = 6, 30, 31
# All that a socket may be told in the open, but for options of TCP: what those that train by loopback ask for. Others
# choose the device, the way or the headers of packets, and one to a loopback address would leave the machine.
SOL_SOCKET, SOL_IPV6, IPV6_V6ONLY = 1, 41, 26
# Addresses used again, broadcast, room, keeping alive, priority, how to close, ports shared, credentials, waiting.
OF_SOCKETS = (2, 6, 7, 8, 9, 12, 13, 15, 16, 18, 20, 21, 66, 67)
SOCKADDR_NL = 12  # bytes
TYPE_MASK = 0xF  # what else is in a socket's type are NONBLOCK and CLOEXEC
NETLINK_ROUTE = 0
AF_NETLINK = 16
TCP_ONLY = (0, socket.IPPROTO_TCP)  # 0 is the family's usual one: not MPTCP, SCTP or SMC, which know other addresses
TCP_UDP = (*TCP_ONLY, socket.IPPROTO_UDP)
STREAM, DGRAM, SEQPACKET = 1, 2, 5
PRIO_PROCESS = 0
RLIMIT_CORE = 4
IOPRIO_WHO_PROCESS = 1

SECCOMP_SET_MODE_FILTER = 1
SPEC_ALLOW, NEW_LISTENER, WAIT_KILLABLE_RECV = 1 << 2, 1 << 3, 1 << 5


@functools.cache
def program(kind: Kind, *, loopback: bool, pinned: bool, timed: bool = False, lone: bool = False) -> bytes:
    """`loopback`: whether it may have sockets that have names; `pinned`: whether it must stay on its cores; `timed`:
    whether all of its processor time must count; `lone`: whether no other run may be told anything by what it holds:
    locks on files and, in the open, internet sockets.

    Raises:
        OSError: no filter can be built for this machine.
    """
    machine = syscalls.this_machine()
    if machine is None or sys.byteorder != "little":
        known = ", ".join(syscalls.MACHINES)
        raise OSError(errno.ENOSYS, f"no system call numbers for this machine, only for {known}")
    return build(machine, kind, loopback=loopback, pinned=pinned, timed=timed, lone=lone)


def build(
    machine: Machine, kind: Kind, *, loopback: bool, pinned: bool, timed: bool = False, lone: bool = False
) -> bytes:
    calls: dict[str, Block] = dict.fromkeys(DENIED.split(), NO) | dict.fromkeys(PRETENDED_ABSENT.split(), ABSENT)
    calls |= dict.fromkeys(SHARED_OBJECTS.split(), NO) | dict.fromkeys(TIMES.split(), PRETEND)
    calls |= _by_argument(lone) | _sockets(kind, loopback, lone)
    if kind == "open":
        calls |= _other_processes()
        calls |= dict.fromkeys(MODES.split(), PRETEND) | dict.fromkeys(OWNERS_AND_ATTRIBUTES.split(), NO)
    if pinned:
        calls["sched_setaffinity"] = NO
    if timed:  # who ignores the end of children has the kernel forget their time
        calls["rt_sigaction"] = load(low(0), branch("==", signal.SIGCHLD, _null(1, YES, PRETEND), YES))
    if lone:
        calls["flock"] = PRETEND
    numbers = {name: syscalls.number(name, machine) for name in calls}
    cases = {number: calls[name] for name, number in numbers.items() if number is not None}
    body = branch(">=", syscalls.NEWER, ABSENT, lookup(cases, YES))
    if machine.other_abi is not None:
        body = branch(">=", machine.other_abi, NO, body)
    checked = branch("==", machine.audit, load(bpf.NUMBER, body), ret(bpf.KILL_PROCESS))
    return bpf.assemble(load(bpf.ARCH, checked))


def _by_argument(lone: bool) -> dict[str, Block]:
    """Calls of which only some uses are denied. The kernel looks at the lower half of these arguments only."""
    # Not to outlive whoever started it, and what runs as our user can write into the memory of its box's first process,
    # which is under this filter, too. Libraries that ask for a softer end give up when that fails.
    dies = load(low(1), branch("==", signal.SIGKILL, YES, PRETEND))
    of_files = mask(0xFF00, lookup({ord(whose) << 8: answer for whose, answer in REQUESTS.items()}, YES))
    # Core dumps stay limited to what is less than any has: at 0 the machine's own program for crashes would be started.
    # Who asks for the limit that was before in the same call would be told none.
    cores = _null(2, YES, _null(3, PRETEND, NO))
    controls = dict.fromkeys(FILE_CONTROLS, NO) | (LOCKS if lone else {})
    settings = {PR_SET_PDEATHSIG: dies} | dict.fromkeys((PR_SET_SECCOMP, PR_SET_MEMORY_MERGE, PR_SCHED_CORE), NO)
    device = mask(0o170000, among((stat.S_IFCHR, stat.S_IFBLK), NO, YES))
    return {
        "clone": load(low(0), branch("&", CLONE_NEW | CLONE_PARENT, NO, YES)),
        "personality": load(low(0), among(PERSONALITIES, YES, NO)),
        "ioctl": load(low(1), among((TIOCSTI, TIOCLINUX, TIOCSETD), NO, of_files)),
        "fcntl": load(low(1), lookup(controls, YES)),
        "prctl": load(low(0), lookup(settings, YES)),
        "madvise": load(low(2), among(MADVICE, NO, YES)),
        "preadv2": load(low(5), branch("&", RWF_NOWAIT_DONTCACHE, NO, YES)),
        "pwritev2": load(low(5), branch("&", RWF_NOWAIT_DONTCACHE, NO, YES)),
        "mknod": load(low(1), device),
        # Room behind the end of a file, which no bound on its length sees. That of a hole takes none.
        "fallocate": load(low(1), branch("&", KEEP_SIZE, branch("&", PUNCH_HOLE, YES, UNSUPPORTED), YES)),
        "mknodat": load(low(2), device),
        "setrlimit": load(low(0), branch("==", RLIMIT_CORE, PRETEND, YES)),
        "prlimit64": _zero(0, load(low(1), branch("==", RLIMIT_CORE, cores, YES)), NO),
    }


def _sockets(kind: Kind, loopback: bool, lone: bool) -> dict[str, Block]:
    """Which sockets may be made, and how they come by an address."""
    unix = NO if kind == "open" else YES
    inet, route = NO, NO
    if loopback and kind == "open":
        unix = _kind_of_socket((STREAM,), (0,))
    if loopback and not (lone and kind == "open"):
        # In the open what has a name is bound and reached through the doorman; datagrams could go to any name.
        inet = _kind_of_socket((STREAM,), TCP_ONLY) if kind == "open" else _kind_of_socket((STREAM, DGRAM), TCP_UDP)
        route = load(low(2), branch("==", NETLINK_ROUTE, YES, NO))  # which interfaces there are
    families = {socket.AF_UNIX: unix, socket.AF_INET: inet, socket.AF_INET6: inet, AF_NETLINK: route}
    calls = {"socket": load(low(0), lookup({int(family): block for family, block in families.items()}, NO))}
    of_tcp = load(low(2), among((TCP_ULP, TCP_FASTOPEN_CONNECT), NO, YES))
    if kind != "open":
        calls["socketpair"] = load(low(0), branch("==", socket.AF_UNIX, YES, NO))
        calls["setsockopt"] = load(low(1), branch("==", SOL_TCP, of_tcp, YES))
        return calls
    of_sockets = load(low(2), lookup(dict.fromkeys(OF_SOCKETS, YES), NO))
    of_ipv6 = load(low(2), branch("==", IPV6_V6ONLY, YES, NO))
    options = {SOL_SOCKET: of_sockets, SOL_TCP: of_tcp, SOL_IPV6: of_ipv6}
    calls["setsockopt"] = load(low(1), lookup(options, NO))
    # A pair of datagram sockets could send to any name.
    pair = load(low(1), mask(TYPE_MASK, among((STREAM, SEQPACKET), YES, NO)))
    calls["socketpair"] = load(low(0), branch("==", socket.AF_UNIX, pair, NO))
    fast = branch("&", MSG_FASTOPEN, NO, YES)
    calls["sendmsg"] = load(low(2), fast)
    calls["sendmmsg"] = load(low(3), fast)
    to_netlink = load(low(5), branch("==", SOCKADDR_NL, YES, NO))  # no internet address is as short
    calls["sendto"] = load(low(3), branch("&", MSG_FASTOPEN, NO, _null(4, YES, to_netlink)))
    calls |= dict.fromkeys(("connect", "bind", "listen"), ret(NOTIFY) if loopback else NO)
    return calls


def _kind_of_socket(types: tuple[int, ...], protocols: tuple[int, ...]) -> Block:
    by_protocol = load(low(2), among(protocols, YES, NO))
    return load(low(1), mask(TYPE_MASK, among(types, by_protocol, NO)))


def _other_processes() -> dict[str, Block]:
    """Without a pid namespace: what reaches processes by their number. Signals can't be told apart here."""
    calls = {
        # It stays in the group that its end is tied to. Programs which start workers in a session of their own
        # give up when that fails, so it seems to succeed.
        "setsid": PRETEND,
        "setpgid": NO,
        "setpriority": load(low(0), branch("==", PRIO_PROCESS, _zero(1, YES, NO), NO)),
        "ioprio_set": load(low(0), branch("==", IOPRIO_WHO_PROCESS, _zero(1, YES, NO), NO)),
        "kill": load(low(0), branch("==", 0xFFFF_FFFF, NO, YES)),  # -1: everybody
    }
    own = ("sched_setscheduler", "sched_setparam", "sched_setattr", "sched_setaffinity")
    return calls | dict.fromkeys(own, _zero(0, YES, NO))


def _zero(argument: int, yes: Block, no: Block) -> Block:
    """Whether an `int` is 0: a process that means itself."""
    return load(low(argument), branch("==", 0, yes, no))


def _null(argument: int, yes: Block, no: Block) -> Block:
    """Whether a pointer is null."""
    return load(low(argument), branch("==", 0, load(high(argument), branch("==", 0, yes, no)), no))


class _Program(ctypes.Structure):
    _fields_ = (("count", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def no_new_privileges() -> None:
    """What the kernel asks of an ordinary user before a filter or a Landlock domain; no way back."""
    checked(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl(PR_SET_NO_NEW_PRIVS)")


def install(program: bytes, *, listener: bool) -> int | None:
    """Puts this process, and all that it starts, under the program, for good.

    With `listener` it gives a file that notifications are read from (closed on exec): for the doorman.
    """
    no_new_privileges()
    machine = syscalls.this_machine()
    assert machine is not None  # or there would be no program
    number = syscalls.number("seccomp", machine)
    filled = _Program(len(program) // 8, program)
    # A filter is no reason to slow down all branches, as older kernels think.
    usual = SPEC_ALLOW | (NEW_LISTENER if listener else 0)
    # So that a signal handler of the candidate can't make it repeat a call that is being answered.
    for flags in (usual | WAIT_KILLABLE_RECV, usual) if listener else (usual,):
        fd = int(LIBC.syscall(number, SECCOMP_SET_MODE_FILTER, flags, ctypes.byref(filled)))
        if fd >= 0 or ctypes.get_errno() != errno.EINVAL:
            break
    checked(fd, "seccomp(SECCOMP_SET_MODE_FILTER)")
    return fd if listener else None
