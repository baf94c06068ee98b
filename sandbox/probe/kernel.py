"""Attempts on the kernel: namespaces, mounts, keys, tracing, devices, and calls for root alone.

Calls that could harm the machine are made with arguments that can't work: the error tells whether the caller
would have been let through.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import Callable
from pathlib import Path

from .attempts import Absent, Refused, attempt
from .calls import LIBC, NEWNS, NEWUSER, NEWUTS, call, checked, number
from .files import is_it
from .spec import Spec

MS_REC, MS_PRIVATE = 0x4000, 0x40000
PROCESS_KEYRING = -2


def with_powers(do: Callable[[], object]) -> None:
    """As it is; or as the root of a user namespace of its own, if it can make one."""
    try:
        do()
    except PermissionError as refusal:
        try:
            call("unshare", NEWUSER | NEWNS | NEWUTS)
        except OSError:
            raise refusal from None
        do()


def reaches(beyond: set[int], name: str, *arguments: object) -> None:
    """Make a call that can't work; an error of `beyond` comes after the kernel asked who calls."""
    try:
        call(name, *arguments)
    except OSError as error:
        if error.errno not in beyond:
            raise


@attempt("Make a user namespace, to be root in it.", "namespaces", "seccomp")
def unshare_user(spec: Spec) -> None:
    call("unshare", NEWUSER)


@attempt("Make a user namespace with clone.", "namespaces", "seccomp")
def clone_user(spec: Spec) -> None:
    _end_clone(call("clone", NEWUSER | signal.SIGCHLD, 0, 0, 0, 0))


@attempt("Make a user namespace with clone3, whose flags no filter can read.", "namespaces", "seccomp")
def clone3_user(spec: Spec) -> None:
    wanted = struct.pack("=11Q", NEWUSER, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, 0)
    _end_clone(call("clone3", wanted, len(wanted)))


def _end_clone(pid: int) -> None:
    if pid == 0:
        LIBC._exit(0)
    os.waitpid(pid, 0)


@attempt("Make a user namespace by the 32-bit system call.", "namespaces", "seccomp")
def unshare_by_32_bit(spec: Spec) -> None:
    if platform.machine() != "x86_64":
        raise Absent("for x86_64 only")
    code = bytes.fromhex("53 89f8 89f3 cd80 5b c3")  # push rbx; eax, ebx = arguments; int 0x80; pop rbx; ret
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    start = ctypes.addressof(ctypes.c_char.from_buffer(page))
    result = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int)(start)(310, NEWUSER)
    if result < 0:
        raise OSError(-result, os.strerror(-result))


@attempt("Make a user namespace by the x32 system call.", "namespaces", "seccomp")
def unshare_by_x32(spec: Spec) -> None:
    if platform.machine() != "x86_64":
        raise Absent("for x86_64 only")
    checked(LIBC.syscall(ctypes.c_long(0x40000000 | number("unshare")), ctypes.c_long(NEWUSER)), "unshare")


@attempt("Join a namespace.", "namespaces", "seccomp")
def setns(spec: Spec) -> None:
    with_powers(lambda: call("setns", os.open("/proc/self/ns/uts", os.O_RDONLY), 0))


@attempt("Mount a file system.", "namespaces", "seccomp", "landlock")
def mount(spec: Spec) -> None:
    place = Path(spec.own, "mount")
    place.mkdir()

    def do() -> None:
        call("unshare", NEWNS)  # so that nobody else sees it
        call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
        call("mount", b"tmpfs", os.fsencode(place), b"tmpfs", 0, None)

    with_powers(do)


@attempt("Change the root with chroot.", "namespaces", "seccomp")
def chroot(spec: Spec) -> None:
    with_powers(lambda: os.chroot(spec.own))


@attempt("Change the root with pivot_root.", "namespaces", "seccomp")
def pivot_root(spec: Spec) -> None:
    with_powers(lambda: reaches({errno.ENOENT}, "pivot_root", b"/is/not", b"/is/not"))


@attempt("Begin a mount with fsopen.", "namespaces", "seccomp")
def fsopen(spec: Spec) -> None:
    with_powers(lambda: call("fsopen", b"tmpfs", 0))


@attempt("Copy a mount with open_tree.", "namespaces", "seccomp")
def open_tree(spec: Spec) -> None:
    with_powers(lambda: call("open_tree", -100, b"/", 0x8001))  # AT_FDCWD; AT_RECURSIVE, OPEN_TREE_CLONE


@attempt("Put a key into a keyring.", "seccomp")
def add_key(spec: Spec) -> None:
    call("add_key", b"user", spec.word.encode(), b"x", 1, PROCESS_KEYRING)


@attempt("Ask for a key.", "seccomp")
def request_key(spec: Spec) -> None:
    reaches({errno.ENOKEY}, "request_key", b"user", spec.word.encode(), None, 0)


@attempt("Ask for a keyring.", "seccomp")
def keyctl(spec: Spec) -> None:
    call("keyctl", 0, PROCESS_KEYRING, 1)


@attempt("Load a map into the kernel with bpf.", "namespaces", "seccomp", "uid")
def bpf(spec: Spec) -> None:
    wanted = struct.pack("=IIII", 2, 4, 4, 1).ljust(72, b"\0")  # an array of one number
    call("bpf", 0, wanted, len(wanted))


@attempt("Open a performance counter.", "seccomp")
def perf_event_open(spec: Spec) -> None:
    flags = 1 << 5 | 1 << 6  # without kernel and hypervisor, which anybody may
    wanted = struct.pack("=IIQQQQQ", 1, 112, 1, 0, 0, 0, flags).ljust(112, b"\0")
    call("perf_event_open", wanted, 0, -1, -1, 0)


@attempt("Handle page faults itself with userfaultfd.", "seccomp")
def userfaultfd(spec: Spec) -> None:
    call("userfaultfd", 1)  # UFFD_USER_MODE_ONLY, which anybody may


@attempt("Make system calls through an io_uring.", "seccomp")
def io_uring(spec: Spec) -> None:
    call("io_uring_setup", 1, ctypes.create_string_buffer(120))


@attempt("Turn off address randomisation with personality.", "seccomp")
def personality(spec: Spec) -> None:
    call("personality", 0x0040000)


@attempt("Type into a terminal with TIOCSTI.", "seccomp")
def type_into_terminal(spec: Spec) -> None:
    _, terminal = pty.openpty()
    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    fcntl.ioctl(terminal, termios.TIOCSTI, b"x")


@attempt("Become root by a setuid program.")
def setuid_program(spec: Spec) -> None:
    program = Path(spec.shared, "setuid_program")
    if "root_only" not in spec.secrets:
        raise Absent("the harness is not root")
    content = subprocess.run([program, spec.secrets["root_only"]], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    is_it(spec, "root_only", content.stdout)


@attempt("Load a kernel module.", "namespaces", "seccomp", "uid")
def init_module(spec: Spec) -> None:
    reaches({errno.ENOEXEC, errno.EFAULT}, "init_module", None, 0, b"")


@attempt("Load a kernel module from a file.", "namespaces", "seccomp", "uid")
def finit_module(spec: Spec) -> None:
    reaches({errno.EBADF}, "finit_module", -1, b"", 0)


@attempt("Load another kernel.", "namespaces", "seccomp", "uid")
def kexec_load(spec: Spec) -> None:
    reaches({errno.EINVAL}, "kexec_load", 0, 100_000, None, 0x8000)


@attempt("Swap to a file of its own.", "namespaces", "seccomp", "uid")
def swapon(spec: Spec) -> None:
    reaches({errno.ENOENT}, "swapon", b"/is/not", 0)


@attempt("Have all that ends accounted in a file of its own.", "namespaces", "seccomp", "uid")
def acct(spec: Spec) -> None:
    reaches({errno.ENOENT}, "acct", b"/is/not")


@attempt("Set the clock.", "namespaces", "seccomp", "uid")
def set_clock(spec: Spec) -> None:
    impossible = struct.pack("=QQ", 0x4000, 0).ljust(208, b"\0")  # ADJ_TICK, with no tick
    reaches({errno.EINVAL}, "adjtimex", ctypes.create_string_buffer(impossible))


@attempt("Ask for a disk quota.", "seccomp")
def quotactl(spec: Spec) -> None:
    reaches({errno.ENOENT}, "quotactl", 0x80000700, b"/is/not", 0, ctypes.create_string_buffer(200))


@attempt("Reach the machine's ports with iopl.", "namespaces", "seccomp", "uid")
def iopl(spec: Spec) -> None:
    call("iopl", 3)


@attempt("Read the kernel's log by a call.", "namespaces", "seccomp", "uid")
def syslog(spec: Spec) -> None:
    call("syslog", 3, ctypes.create_string_buffer(64), 64)


@attempt("Read the kernel's log from its device.", "namespaces", "uid", "landlock")
def read_kmsg(spec: Spec) -> None:
    os.read(os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK), 10_000)


@attempt("Change the host's domain name.", "namespaces", "seccomp", "uid")
def set_domain_name(spec: Spec) -> None:
    call("setdomainname", spec.word.encode(), len(spec.word))


@attempt("Write a setting of the kernel (the value that it has).", "landlock", "uid")
def write_proc_sys(spec: Spec) -> None:
    setting = Path("/proc/sys/kernel/printk_ratelimit")
    setting.write_text(setting.read_text())


@attempt("Read what each page of the machine's memory is used for.", "landlock", "uid")
def read_page_flags(spec: Spec) -> None:
    with Path("/proc/kpageflags").open("rb") as flags:
        if not flags.read(8):
            raise Refused("nothing is there")


@attempt("Read which blocks of a disk are taken.", "landlock")
def read_blocks_of_disk(spec: Spec) -> None:
    told = [path for path in Path("/proc/fs").glob("ext4/*/mb_groups") if path.read_bytes()]
    if not told:
        raise Absent("no file system here says so")


@attempt("Open what commands the kernel from a keyboard.", "namespaces", "landlock", "uid")
def open_sysrq(spec: Spec) -> None:
    os.close(os.open("/proc/sysrq-trigger", os.O_WRONLY))  # opened, and nothing written


@attempt("Open a setting of the devices for writing.", "namespaces", "landlock", "uid")
def open_sys(spec: Spec) -> None:
    for setting in ("kernel/mm/transparent_hugepage/enabled", "kernel/uevent_helper", "power/state"):
        if Path("/sys", setting).exists():
            os.close(os.open(f"/sys/{setting}", os.O_WRONLY))
            return
    raise Refused("there is none")
