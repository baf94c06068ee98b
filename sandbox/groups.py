"""Kernel bounds on the tasks and the memory of a tree, its processor time, and the list of who is in it.

Takes numbers; gives a `Group`, or None where the machine has no control groups that we may make. A group is a
folder in each hierarchy that helps (version 1: one for pids, one for memory, one for time; version 2: one for all),
named after its supervisor, so that groups whose supervisor died can be found, emptied and removed by anyone.
"""

import contextlib
import functools
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from sandbox import tree
from sandbox.mounts import mounts

PREFIX = "caddie-"
Bound = Literal["pids", "memory"]
BOUNDS: tuple[Bound, ...] = ("pids", "memory")
Use = Literal[Bound, "cpuacct"]  # which bounds nothing: it is what counts processor time in version 1
USES: tuple[Use, ...] = (*BOUNDS, "cpuacct")
_made = itertools.count()


class Place(NamedTuple):
    """A folder in which we may make groups, and what they bound or count there."""

    folder: Path
    version: int
    bounds: tuple[Use, ...]


class Group:
    """The groups of one tree, at most one for each bound."""

    def __init__(self, parts: list[Place]) -> None:
        self._parts = parts
        self._pids = next((part for part in parts if "pids" in part.bounds), None)
        self._memory = next((part for part in parts if "memory" in part.bounds), None)
        self._cpu = next((part for part in parts if part.version == 2 or "cpuacct" in part.bounds), None)

    @classmethod
    def make(cls, tasks: int, memory: int) -> "Group | None":
        """Of at most so many tasks and so many bytes, with all that descends from those who join."""
        me = tree.look(os.getpid())
        if me is None:
            return None
        name = f"{PREFIX}{_namespace()}-{me.pid}-{me.start}-{next(_made)}"
        made = [_make(place, name, tasks, memory) for place in _places()]
        group = cls([part for part in made if part is not None])
        if not group.bounds:
            group.remove()
        return group if group.bounds else None

    @property
    def bounds(self) -> tuple[Bound, ...]:
        return tuple(bound for bound in BOUNDS if any(bound in part.bounds for part in self._parts))

    def open(self) -> list[int]:
        """What a new process writes "0" to in order to join, opened before the fork."""
        return [os.open(part.folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC) for part in self._parts]

    def pids(self) -> set[int]:
        return {pid for part in self._parts for pid in _pids(part.folder)}

    def kill(self) -> None:
        """All of it in one step, where the kernel has that; whoever calls it makes sure by other means."""
        for part in self._parts:
            with contextlib.suppress(OSError):
                fd = os.open(part.folder / "cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)  # never made by us
                try:
                    os.write(fd, b"1")
                finally:
                    os.close(fd)

    def refused(self) -> bool:
        """Whether the kernel has refused a task since the group was made."""
        return self._pids is not None and _numbers(self._pids.folder / "pids.events").get(b"max", 0) > 0

    def out_of_memory(self) -> bool | None:
        """Whether the kernel has killed one of it for lack of memory; None where nobody counts that."""
        if self._memory is None:
            return None
        name = "memory.oom_control" if self._memory.version == 1 else "memory.events"
        kills = _numbers(self._memory.folder / name).get(b"oom_kill")
        return None if kills is None else kills > 0

    def memory(self) -> int | None:
        """Bytes that can't be given back: of processes, each page once, and of files in memory, mapped or not. None
        where nobody counts them."""
        if self._memory is None:
            return None
        names = (b"total_rss", b"total_shmem") if self._memory.version == 1 else (b"anon", b"shmem")
        numbers = _numbers(self._memory.folder / "memory.stat")
        return sum(numbers[name] for name in names) if numbers.keys() >= set(names) else None

    def cpu_s(self) -> float | None:
        """Processor time of all that was ever in it, whether anybody waited for it or not; None where nobody counts."""
        if self._cpu is None:
            return None
        if self._cpu.version == 1:
            return _number(self._cpu.folder / "cpuacct.usage") / 1e9
        return _numbers(self._cpu.folder / "cpu.stat").get(b"usage_usec", 0) / 1e6

    @property
    def forgets(self) -> bool:
        return self._memory is not None and os.access(_forgetting(self._memory), os.W_OK)

    def forget(self) -> None:
        """What its processes were the first to read of any file leaves memory again, once all of them have ended: how
        long a read takes tells nobody what they have read. What others had read before stays."""
        if self._memory is not None:
            _set(_forgetting(self._memory), 1 << 50)  # bytes, more than there are

    def remove(self) -> None:
        """It must be empty; a group that is not stays, and is found by `left_behind`."""
        for part in self._parts:
            with contextlib.suppress(OSError):
                part.folder.rmdir()


def left_behind() -> list[int]:
    """Processes in groups whose supervisor is dead; removes such groups that are empty."""
    found: set[int] = set()
    ours = f"{PREFIX}{_namespace()}-"
    for folder in _all_named(ours):
        words = folder.name.removeprefix(ours).split("-")
        if len(words) != 3 or not all(word.isdigit() for word in words):
            continue
        supervisor = tree.look(int(words[0]))
        if supervisor is not None and supervisor.start == int(words[1]):
            continue
        found |= set(_pids(folder))
        with contextlib.suppress(OSError):
            folder.rmdir()
    return sorted(found)


def forgets() -> bool:
    """Whether a group that is made here forgets what was read in it."""
    group = Group.make(1, 1 << 20)
    if group is None:
        return False
    try:
        return group.forgets
    finally:
        group.remove()


def _forgetting(memory: Place) -> str:
    """The file that takes back what is held in memory: version 2 (from Linux 5.19) is told how much."""
    return f"{memory.folder}/{'memory.force_empty' if memory.version == 1 else 'memory.reclaim'}"


def _make(place: Place, name: str, tasks: int, memory: int) -> Place | None:
    folder = place.folder / name
    try:
        folder.mkdir()
    except OSError:
        return None
    text = str(folder)  # from here on plain words: this is in the start of every run
    bounds = tuple(bound for bound in place.bounds if _bind(text, place.version, bound, tasks, memory))
    if not bounds:
        with contextlib.suppress(OSError):
            folder.rmdir()
        return None
    return Place(folder, place.version, bounds)


def _bind(folder: str, version: int, bound: Use, tasks: int, memory: int) -> bool:
    if bound == "cpuacct":
        return True
    if bound == "pids":
        return _set(f"{folder}/pids.max", tasks)
    if version == 1:
        # The second number is memory and swap together: no swap, where swap is counted at all.
        done = _set(f"{folder}/memory.limit_in_bytes", memory)
        _set(f"{folder}/memory.memsw.limit_in_bytes", memory)
        return done
    _set(f"{folder}/memory.swap.max", 0)
    _set(f"{folder}/memory.oom.group", 1)  # all of it ends at once, not the one that is largest
    return _set(f"{folder}/memory.max", memory)


def _set(path: str, number: int) -> bool:
    """The kernel makes these files, never we."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, str(number).encode())
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _numbers(path: Path) -> dict[bytes, int]:
    """A file of lines "name number"."""
    try:
        rows = [line.split() for line in tree.read(str(path)).splitlines()]
    except OSError:
        return {}
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def _number(path: Path) -> int:
    try:
        return int(tree.read(str(path)))
    except OSError:
        return 0


def _pids(folder: Path) -> list[int]:
    try:
        return [int(word) for word in tree.read(f"{folder}/cgroup.procs").split()]
    except OSError:
        return []


# ---------------------------------------------------------------- where groups can be made


class _Hierarchy(NamedTuple):
    """One control group file system: where it is, where in it we are, and what it bounds or counts (version 2 says so
    folder by folder)."""

    mount: Path
    own: Path
    version: int
    bounds: tuple[Use, ...]


def _places() -> list[Place]:
    """Below our own group, or beside it where version 2 wants that; each bound once."""
    places: list[Place] = []
    for one in _hierarchies():
        taken = {bound for place in places for bound in place.bounds}
        place = _below(one) if one.version == 1 else _handed_out(one)
        if place is not None and (bounds := tuple(bound for bound in place.bounds if bound not in taken)):
            places.append(place._replace(bounds=bounds))
    return places


def _below(one: _Hierarchy) -> Place | None:
    return Place(one.own, 1, one.bounds) if os.access(one.own, os.W_OK) else None


def _handed_out(one: _Hierarchy) -> Place | None:
    """A group of version 2 that has processes can't bound its children: then they are made beside it."""
    for folder in (one.own, one.own.parent) if one.own != one.mount else (one.own,):
        try:
            words = (folder / "cgroup.subtree_control").read_text().split()
        except OSError:
            continue
        bounds = tuple(bound for bound in BOUNDS if bound in words)
        if bounds and os.access(folder, os.W_OK) and os.access(folder / "cgroup.procs", os.W_OK):
            return Place(folder, 2, bounds)
    return None


def _hierarchies() -> list[_Hierarchy]:
    """Where we are in them can change while we live, where they are does not."""
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    return [
        _Hierarchy(mount, _inside(mount, _own(groups, bounds[0] if bounds else "")), version, bounds)
        for mount, version, bounds in _mounts()
    ]


@functools.cache
def _mounts() -> tuple[tuple[Path, int, tuple[Use, ...]], ...]:
    found: list[tuple[Path, int, tuple[Use, ...]]] = []
    for mount in mounts("self", "cgroup", "cgroup2"):
        bounds = tuple(use for use in USES if use in mount.options)
        if mount.kind == "cgroup2":
            found.append((Path(mount.place), 2, ()))
        elif bounds:
            found.append((Path(mount.place), 1, bounds))
    return tuple(found)


def _own(groups: list[str], controller: str) -> str:
    """Our path in the hierarchy of a controller; version 2 has one hierarchy, without a name."""
    for line in groups:
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return path
    return "/"


def _inside(mount: Path, path: str) -> Path:
    folder = mount / path.lstrip("/")
    return folder if folder.is_dir() else mount


def _all_named(start: str) -> list[Path]:
    """Groups of ours wherever they are: a supervisor's own group may have been another than ours. The inner ones
    come first, so that the outer can be removed: a judge's are inside its shepherd's."""
    found = [path for one in _hierarchies() for path in _named(one.mount, start)]
    return sorted(found, key=lambda path: -len(path.parts))


def _named(mount: Path, start: str) -> Iterator[Path]:
    for place, names, _ in os.walk(mount):
        yield from (Path(place, name) for name in names if name.startswith(start))


@functools.cache
def _namespace() -> int:
    """Process ids mean nothing in another pid namespace: a container's groups are not ours to judge."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0
