"""The strongest wall: an empty file system with an allow-list in it, and namespaces of its own for everything else.

Takes a policy, a command and its environment; gives bubblewrap's command and arguments. The arguments reach it through
an open file: its first process, which the candidate can see, shows neither them nor an environment.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sandbox.limits import MB
from sandbox.policy import Policy

HOST = "box"  # torchrun looks its own name up
HOSTS = Path(__file__).parent / "etc" / "hosts"
# Where only a user's number says who may write, and root's is the same inside as outside: what lies over it.
KERNEL = {"/proc/sys": "/proc/sys", "/proc/sysrq-trigger": "/dev/null"}
PRIVATE = ("/dev/shm", "/tmp")  # in memory, and gone with the box
INNER_UID = 1000  # inside, where the user outside is the person
# As root, a user for each run: above what people and services are given, below what a container maps.
FIRST_UID, UIDS = 61_184, 4_000
GPU_NODES = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-caps", "nvidia-modeset")


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


def uid_of(supervisor: int) -> int:
    """The user that a supervisor's runs get: not that of another one that lives at the same time, or nearly never."""
    return FIRST_UID + supervisor % UIDS


def command(box: Box, arguments: int, argv: Sequence[str], uid: int | None) -> list[str]:
    """What is executed. `arguments`: the open file that they are read from."""
    return [box.bwrap, "--args", str(arguments), "--", *dropped(box, uid), *argv]


def dropped(box: Box, uid: int | None) -> list[str]:
    """What the command is preceded by, inside the box."""
    if box.setpriv is None:
        return []
    user = [f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    return [box.setpriv, *user, "--no-new-privs", "--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all", "--"]


def arguments(
    box: Box, policy: Policy, cwd: str, env: Mapping[str, str], memory_mb: int, seccomp: int | None
) -> list[str]:
    """`seccomp`: the open file that the filter is read from."""
    found = namespaces(box)
    if seccomp is not None:
        found += ["--seccomp", str(seccomp)]
    found += ["--proc", "/proc", "--dev", "/dev"]
    for path, over in KERNEL.items():
        found += ["--ro-bind", over, path] if Path(path).exists() else []
    for folder in PRIVATE:
        found += ["--perms", "1777", "--size", str(memory_mb * MB), "--tmpfs", folder]
    found += _files(policy)
    found += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", cwd]
    for name, value in env.items():
        found += ["--setenv", name, value]
    return found


def namespaces(box: Box) -> list[str]:
    found = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    found += ["--die-with-parent", "--hostname", HOST, "--cap-drop", "ALL"]
    if box.setpriv is None:
        return [*found, "--unshare-user", "--disable-userns", "--uid", str(INNER_UID), "--gid", str(INNER_UID)]
    for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"):  # for setpriv, which gives them up
        found += ["--cap-add", capability]
    return found


def _files(policy: Policy) -> list[str]:
    files = _Files()
    wanted = {path: os.path.realpath(path) for path in (*policy.all_read, *(("/sys",) if policy.gpus else ()))}
    wanted |= {real: real for real in wanted.values()}
    # Parents come before what is in them, so that a folder can be hidden and a part of it shown again.
    for path in sorted({*wanted, *policy.hidden}, key=lambda path: path.split("/")):
        if path in policy.hidden:
            files.hide(path)
        if path in wanted:
            files.show(path, wanted[path])
    for path in policy.read:
        files.cover(doors(path))
    files.seal()
    for node in gpu_nodes(policy.gpus):
        files.arguments += ["--dev-bind", node, node]
    files.own(policy.writable)
    return files.arguments


def doors(folder: str) -> Iterator[str]:
    """Sockets and pipes: whoever sees one can talk to whoever is behind it, also where nothing can be written."""
    try:
        entries = os.scandir(folder)
    except NotADirectoryError:
        return
    with entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from doors(entry.path)
            elif not entry.is_file(follow_symlinks=False) and not entry.is_symlink():
                yield entry.path


class _Files:
    """The file system of a box while it is put together. Plain words for paths: this is in the start of every run."""

    def __init__(self) -> None:
        self.arguments = ["--perms", "0755", "--dir", "/etc", "--ro-bind", str(HOSTS), "/etc/hosts"]
        # Folders that are there; True: with all that is in them outside.
        self._there = dict.fromkeys(("/", "/dev", "/etc", "/proc", *PRIVATE), False)
        self._emptied: list[str] = []

    def show(self, path: str, real: str) -> None:
        if self._shown(path):
            return
        self._make_parents(path)
        self.arguments += ["--ro-bind", path, path] if path == real else ["--symlink", real, path]
        self._there[path] = True

    def hide(self, path: str) -> None:
        if self._shown(path):
            self.arguments += ["--perms", "0755", "--tmpfs", path]
            self._there[path] = False
            self._emptied.append(path)

    def cover(self, doors: Iterable[str]) -> None:
        """With a device that can't be opened there."""
        for door in doors:
            self.arguments += ["--ro-bind", "/dev/null", door]

    def own(self, path: str) -> None:
        self._make_parents(path)
        self.arguments += ["--bind", path, path]

    def seal(self) -> None:
        """What was emptied is memory that could be written to."""
        for path in self._emptied:
            self.arguments += ["--remount-ro", path]

    def _shown(self, path: str) -> bool:
        while path not in self._there:
            path = path.rpartition("/")[0] or "/"
        return self._there[path]

    def _make_parents(self, path: str) -> None:
        """Bubblewrap would make them so that another user could not go through them."""
        parts = path.split("/")
        for count in range(2, len(parts)):
            folder = "/".join(parts[:count])
            if folder not in self._there and not self._shown(folder):
                self.arguments += ["--perms", "0755", "--dir", folder]
                self._there[folder] = False


def gpu_nodes(gpus: tuple[int, ...]) -> list[str]:
    if not gpus:
        return []
    nodes = [Path("/dev") / name for name in (*(f"nvidia{number}" for number in gpus), *GPU_NODES)]
    return [str(node) for node in nodes if node.exists()]
