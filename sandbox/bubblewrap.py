"""The strongest wall: an empty file system with an allow-list in it, and namespaces of its own for everything else.

Takes the files of a box, a command and its environment; gives bubblewrap's command and arguments. The arguments reach
it through an open file: its first process, which the candidate can see, shows neither them nor an environment.
"""

import functools
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sandbox.layout import Step
from sandbox.limits import MB

HOST = "box"  # torchrun looks its own name up
# What lies over files of the kernel's: where only a user's number says who may write, and root's is the same inside as
# outside; and over what counts pages that come back after they were thrown out, so that whoever reads one is told that
# somebody had read it before.
KERNEL = {
    "/proc/sys": "/proc/sys",
    "/proc/sysrq-trigger": "/dev/null",
    "/proc/vmstat": "/dev/null",
    "/proc/zoneinfo": "/dev/null",
}
# For everybody to read: which blocks of a disk are taken, how long somebody waited for memory.
FOLDERS = ("/proc/fs", "/proc/pressure")
SEEN = {"sys", "fs", "irq", "bus", "net"}  # of /proc: covered, read-only, or the box's own
INNER_UID = 1000  # inside, where the user outside is the person
BINDS = {"show": "--ro-bind", "file": "--ro-bind", "device": "--dev-bind", "own": "--bind"}


class Box(NamedTuple):
    """How bubblewrap is called on this machine."""

    bwrap: str
    setpriv: str | None
    """Where we are root: what makes the command a user of its own, without a single capability."""


def boxes() -> list[Box]:
    """What can be tried here, the best first."""
    bwrap, setpriv = shutil.which("bwrap"), shutil.which("setpriv")
    if bwrap is None:
        return []
    plain = Box(bwrap, None)
    return [Box(bwrap, setpriv), plain] if setpriv and os.getuid() == 0 else [plain]


def command(box: Box, arguments: int, argv: Sequence[str], uid: int | None) -> list[str]:
    """What is executed. `arguments`: the open file that they are read from."""
    return [box.bwrap, "--args", str(arguments), "--", *dropped(box, uid), *argv]


def dropped(box: Box, uid: int | None) -> list[str]:
    """What the command is preceded by, inside the box."""
    if box.setpriv is None:
        return []
    user = [f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    return [box.setpriv, *user, "--no-new-privs", "--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all", "--"]


def arguments(box: Box, files: Sequence[str], cwd: str, env: Mapping[str, str], seccomp: int | None) -> list[str]:
    """`files`: the words for them, `built` or `staged`. `seccomp`: the open file that the filter is read from."""
    found = namespaces(box)
    if seccomp is not None:
        found += ["--seccomp", str(seccomp)]
    found += [*files, *_kernel(box), "--chdir", cwd]
    for name, value in env.items():
        found += ["--setenv", name, value]
    return found


def built(steps: Sequence[Step], memory_mb: int) -> list[str]:
    """Bubblewrap puts the files together; for each it reads the list of all mounts. `memory_mb`: of each file system in
    memory."""
    found = ["--proc", "/proc", "--dev", "/dev"]
    for step in steps:
        match step.kind:
            case "folder":
                found += ["--perms", "0755", "--dir", step.path]
            case "link":
                found += ["--symlink", step.source, step.path]
            case "empty":
                found += ["--perms", "0755", "--tmpfs", step.path]
            case "memory":
                found += ["--perms", "1777", "--size", str(memory_mb * MB), "--tmpfs", step.path]
            case "show" | "file" | "device" | "own":
                found += [BINDS[step.kind], step.source, step.path]
    for step in steps:
        if step.kind == "empty":  # memory that could be written to
            found += ["--remount-ro", step.path]
    return [*found, "--remount-ro", "/dev", "--remount-ro", "/"]


def staged(stage: str) -> list[str]:
    """They have been put together there, each as it may be used; all that bubblewrap adds are the processes."""
    return ["--dev-bind", stage, "/", "--proc", "/proc"]


def _kernel(box: Box) -> list[str]:
    """What of the kernel's files is covered, for whoever is in this box."""
    found = []
    for path, over in KERNEL.items():
        found += ["--ro-bind", over, path] if Path(path).exists() else []
    for path in FOLDERS:
        found += ["--tmpfs", path, "--remount-ro", path] if Path(path).is_dir() else []
    if box.setpriv is None and os.getuid() == 0:  # the kernel takes who is in it for root, without its powers
        for path, is_folder in roots_alone():
            found += ["--tmpfs", path, "--remount-ro", path] if is_folder else ["--ro-bind", "/dev/null", path]
    return found


@functools.cache
def roots_alone() -> tuple[tuple[str, bool], ...]:
    """What the kernel lets only root read, by its number and not by a capability, and which of it are folders: where
    pages lie, what others allocate, which timers run."""
    found = []
    for folder, folders, files in os.walk("/proc"):
        if folder == "/proc":
            folders[:] = [name for name in folders if name not in SEEN and not name.isdigit()]
        for name in (*folders, *files):
            path = f"{folder}/{name}"
            if not os.path.islink(path) and not os.lstat(path).st_mode & stat.S_IROTH:  # noqa: PTH114
                found.append((path, name in folders))
        folders[:] = [name for name in folders if (f"{folder}/{name}", True) not in found]
    return tuple(sorted(found))


def namespaces(box: Box) -> list[str]:
    found = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    found += ["--die-with-parent", "--hostname", HOST, "--cap-drop", "ALL"]
    if box.setpriv is None:
        return [*found, "--unshare-user", "--disable-userns", "--uid", str(INNER_UID), "--gid", str(INNER_UID)]
    for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"):  # for setpriv, which gives them up
        found += ["--cap-add", capability]
    return found
