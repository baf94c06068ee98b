"""A kernel bound on how many tasks a tree may have at once, and the list of who is in it.

Takes a number; gives a `TaskGroup`, or None where the machine has no pids controller that we may use. A group
is a folder of the control group file system (version 1 or 2) named after its supervisor, so that groups whose
supervisor died can be found, emptied and removed by anyone.
"""

import contextlib
import itertools
import os
from pathlib import Path

from sandbox import tree

PREFIX = "caddie-"
_numbers = itertools.count()


class TaskGroup:
    """One group. A task in it can start no more than `most` with all that descend from it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def make(cls, most: int) -> "TaskGroup | None":
        parent = _parent()
        me = tree.look(os.getpid())
        if parent is None or me is None:
            return None
        folder = parent / f"{PREFIX}{me.pid}-{me.start}-{next(_numbers)}"
        try:
            folder.mkdir()
            (folder / "pids.max").write_text(str(most))
        except OSError:
            with contextlib.suppress(OSError):
                folder.rmdir()
            return None
        return cls(folder)

    def open(self) -> int:
        """What a new process writes "0" to in order to join, opened before the fork."""
        return os.open(self._folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)

    def pids(self) -> list[int]:
        return _pids(self._folder)

    def refused(self) -> bool:
        """Whether the kernel has refused a task since the group was made."""
        try:
            words = (self._folder / "pids.events").read_text().split()
        except OSError:
            return False
        return len(words) >= 2 and words[1] != "0"

    def remove(self) -> None:
        """It must be empty; a group that is not stays, and is found by `left_behind`."""
        with contextlib.suppress(OSError):
            self._folder.rmdir()


def left_behind() -> list[int]:
    """Processes in groups whose supervisor is dead; removes such groups that are empty."""
    parent = _parent()
    found: list[int] = []
    if parent is None:
        return found
    # A judge's groups are inside its shepherd's: the inner ones come first, so that the outer can be removed.
    for folder in sorted(parent.glob(f"**/{PREFIX}*"), key=lambda path: -len(path.parts)):
        words = folder.name.removeprefix(PREFIX).split("-")
        if len(words) != 3 or not all(word.isdigit() for word in words):
            continue
        supervisor = tree.look(int(words[0]))
        if supervisor is not None and supervisor.start == int(words[1]):
            continue
        found += _pids(folder)
        with contextlib.suppress(OSError):
            folder.rmdir()
    return found


def _pids(folder: Path) -> list[int]:
    try:
        return [int(word) for word in (folder / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def _parent() -> Path | None:
    """Where we may make groups: below our own group, or beside it where version 2 wants that."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for mount in mounts:
        left, _, right = mount.partition(" - ")
        kind, _, options = right.split(" ", 2)
        place = Path(left.split()[4])
        if kind == "cgroup" and "pids" in options.split(","):
            return _usable(place, _own(groups, "pids"))
        if kind == "cgroup2":
            own = _usable(place, _own(groups, ""))
            for folder in () if own is None else (own, own.parent):
                if _hands_out_pids(folder):
                    return folder
    return None


def _own(groups: list[str], controller: str) -> str:
    """Our path in the hierarchy of a controller; version 2 has one hierarchy, without a name."""
    for line in groups:
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return path
    return "/"


def _usable(mount: Path, path: str) -> Path | None:
    folder = mount / path.lstrip("/")
    folder = folder if folder.is_dir() else mount
    return folder if os.access(folder, os.W_OK) else None


def _hands_out_pids(folder: Path) -> bool:
    try:
        controllers = (folder / "cgroup.subtree_control").read_text().split()
    except OSError:
        return False
    return "pids" in controllers and os.access(folder / "cgroup.procs", os.W_OK)
