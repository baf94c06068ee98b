"""Attempts on other processes: to see, signal, read, change or drive them; and to rise above its own place."""

import contextlib
import ctypes
import errno
import fcntl
import os
import resource
from pathlib import Path

from .attempts import Absent, Refused, attempt
from .calls import IoVec, call
from .files import is_it
from .spec import Spec

F_SETSIG, WALL = 10, 0x40000000
PTRACE_PEEKDATA, PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 2, 17, 0x4206, 0x4207
SECRET_BYTES = 32  # of the secret in the victim's memory


@attempt("See another process in /proc.", "namespaces")
def see_processes(spec: Spec) -> None:
    if spec.word.encode() not in Path(f"/proc/{spec.victim.pid}/cmdline").read_bytes():
        raise Refused("another process has that number")


@attempt("Signal another process.", "namespaces", "uid", "landlock")
def signal_victim(spec: Spec) -> None:
    os.kill(spec.victim.pid, spec.victim.signals["signal_victim"])


@attempt("Signal the process group of another process.", "namespaces", "uid", "landlock")
def signal_group(spec: Spec) -> None:
    os.killpg(spec.victim.pid, spec.victim.signals["signal_group"])


@attempt("Signal one thread of another process.", "namespaces", "uid", "landlock")
def signal_thread(spec: Spec) -> None:
    call("tgkill", spec.victim.pid, spec.victim.pid, spec.victim.signals["signal_thread"])


@attempt("Signal another process through a pidfd.", "namespaces", "uid", "landlock")
def signal_by_pidfd(spec: Spec) -> None:
    fd = call("pidfd_open", spec.victim.pid, 0)
    call("pidfd_send_signal", fd, spec.victim.signals["signal_by_pidfd"], None, 0)


@attempt("Signal another process by making it the owner of a pipe.", "namespaces", "uid", "landlock")
def signal_by_pipe(spec: Spec) -> None:
    read, write = os.pipe()
    fcntl.fcntl(read, fcntl.F_SETOWN, spec.victim.pid)
    fcntl.fcntl(read, F_SETSIG, spec.victim.signals["signal_by_pipe"])
    fcntl.fcntl(read, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    os.write(write, b"x")


@attempt("Signal the process that started it.", "namespaces", "uid", "landlock")
def signal_launcher(spec: Spec) -> None:
    os.kill(spec.launcher, spec.launcher_signal)


@attempt("Attach to another process with ptrace, and read its memory.", "namespaces", "uid", "seccomp", "landlock")
def ptrace(spec: Spec) -> None:
    call("ptrace", PTRACE_SEIZE, spec.victim.pid, 0, 0)
    call("ptrace", PTRACE_INTERRUPT, spec.victim.pid, 0, 0)
    os.waitpid(spec.victim.pid, WALL)
    found = (ctypes.c_long * (SECRET_BYTES // 8))()
    try:
        for at in range(0, SECRET_BYTES, 8):
            call("ptrace", PTRACE_PEEKDATA, spec.victim.pid, spec.victim.address + at, ctypes.byref(found, at))
    finally:
        call("ptrace", PTRACE_DETACH, spec.victim.pid, 0, 0)
    is_it(spec, "memory", bytes(found))


@attempt("Read another process's memory with process_vm_readv.", "namespaces", "uid", "seccomp", "landlock")
def read_memory(spec: Spec) -> None:
    buffer = ctypes.create_string_buffer(SECRET_BYTES)
    here, there = IoVec(ctypes.addressof(buffer), SECRET_BYTES), IoVec(spec.victim.address, SECRET_BYTES)
    call("process_vm_readv", spec.victim.pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    is_it(spec, "memory", buffer.raw)


@attempt("Write another process's memory with process_vm_writev.", "namespaces", "uid", "seccomp", "landlock")
def write_memory(spec: Spec) -> None:
    content = ctypes.create_string_buffer(spec.word.encode())
    here, there = IoVec(ctypes.addressof(content), len(spec.word)), IoVec(spec.victim.writable, len(spec.word))
    call("process_vm_writev", spec.victim.pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)


@attempt("Read another process's memory through /proc/PID/mem.", "namespaces", "uid", "landlock")
def read_proc_mem(spec: Spec) -> None:
    with Path(f"/proc/{spec.victim.pid}/mem").open("rb", buffering=0) as memory:
        memory.seek(spec.victim.address)
        is_it(spec, "memory", memory.read(SECRET_BYTES))


@attempt("Read another process's environment.", "namespaces", "uid")
def read_environ(spec: Spec) -> None:
    for line in Path(f"/proc/{spec.victim.pid}/environ").read_bytes().split(b"\0"):
        name, _, value = line.partition(b"=")
        if name.decode() == spec.variable:
            is_it(spec, "variable", value)
            return
    raise Refused("it is not there")


@attempt("Read the environment of the process that started it.", "namespaces", "uid")
def read_environ_of_launcher(spec: Spec) -> None:
    content = Path(f"/proc/{spec.launcher}/environ").read_bytes()
    if not content:
        raise Refused("it is empty")
    is_it(spec, "launcher", content)


@attempt("Read in the environment of the first process what it was not given itself.", "namespaces", "uid")
def read_environ_of_init(spec: Spec) -> None:
    lines = Path("/proc/1/environ").read_bytes().split(b"\0")
    if all(os.environb.get(name) == value for name, _, value in (line.partition(b"=") for line in lines if line)):
        raise Refused("nothing else is there")


@attempt("Find a secret of the launcher in its own environment.", "env")
def read_own_environ(spec: Spec) -> None:
    if spec.variable not in os.environ:
        raise Refused("it is not there")
    is_it(spec, "variable", os.environb[spec.variable.encode()])


@attempt("Take an open file from another process with pidfd_getfd.", "namespaces", "uid", "seccomp", "landlock")
def take_fd(spec: Spec) -> None:
    fd = call("pidfd_getfd", call("pidfd_open", spec.victim.pid, 0), spec.victim.fd, 0)
    is_it(spec, "secret", os.pread(fd, 1000, 0))


@attempt("Change the priority of another process.", "namespaces", "uid")
def set_priority(spec: Spec) -> None:
    os.setpriority(os.PRIO_PROCESS, spec.victim.pid, 7)


@attempt("Change the priority of another process at the disk.", "namespaces", "uid")
def set_disk_priority(spec: Spec) -> None:
    call("ioprio_set", 1, spec.victim.pid, (3 << 13))


@attempt("Change a limit of another process.", "namespaces", "uid", "seccomp")
def set_limit(spec: Spec) -> None:
    resource.prlimit(spec.victim.pid, resource.RLIMIT_NOFILE, (77, 777))


@attempt("Move another process to one core.", "namespaces", "uid", "seccomp")
def set_affinity(spec: Spec) -> None:
    os.sched_setaffinity(spec.victim.pid, {min(os.sched_getaffinity(spec.victim.pid))})


@attempt("Offer another process to the OOM killer.", "namespaces", "uid", "landlock")
def set_oom_score(spec: Spec) -> None:
    Path(f"/proc/{spec.victim.pid}/oom_score_adj").write_text("777")


@attempt("Leave the core that it was given.", "seccomp")
def leave_core(spec: Spec) -> None:
    if spec.core is None:
        raise Absent("this machine has one core")
    others = set(range(os.cpu_count() or 1)) - {spec.core}
    os.sched_setaffinity(0, others)


@attempt("Run before everything else (SCHED_FIFO).", "namespaces", "uid")
def rise_to_real_time(spec: Spec) -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@attempt("Raise its own priority.", "namespaces", "uid")
def rise(spec: Spec) -> None:
    os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) - 1)


@attempt("Raise its own hard limits.", "uid")
def raise_limits(spec: Spec) -> None:
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 1))
    except ValueError:  # what Python makes of EPERM here
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM)) from None


@attempt("Have a crash start the machine's program for those, by another limit of core dumps.", "seccomp")
def lower_core_limit(spec: Spec) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if resource.getrlimit(resource.RLIMIT_CORE)[0] != 0:
        raise Refused("the limit is as it was")


@attempt("Leave its task group for the one above.", "namespaces", "landlock", "uid")
def leave_task_group(spec: Spec) -> None:
    for folder in Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup/unified"):
        with contextlib.suppress(OSError):
            (folder / "cgroup.procs").write_text("0")
            return
    raise Refused("no group that it may join")
