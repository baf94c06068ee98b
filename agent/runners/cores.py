"""The cores of this machine: which there are, and which ones a controller's runs are pinned to.

Takes a number of slots; gives as many cores, free ones first. A core is claimed by a lock that lasts as long as this
process, so two campaigns on one machine do not share a core unnoticed, and a kill leaves nothing behind.
"""

import fcntl
import os
import platform
import stat
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from agent.errors import UserError

LOOK_S = 0.25  # long enough for some ticks of the kernel's clock
STAT = Path("/proc/stat")
AUTOGROUP = Path("/proc/sys/kernel/sched_autogroup_enabled")

_claimed: dict[int, int] = {}  # by core: the open file whose lock this process holds


def claim(slots: int) -> tuple[list[int], list[int]]:
    """One core for each slot, and those of them that another campaign claims too. Raises UserError: too few cores."""
    usable = cores()
    if slots > len(usable):
        raise UserError(f"--slots {slots}: this machine has {len(usable)} cores, one for each slot")
    folder = _folder()
    mine = [core for core in usable if folder is not None and _lock(folder, core)]
    chosen = mine[:slots] + [core for core in usable if core not in mine][: max(0, slots - len(mine))]
    for core in mine[slots:]:
        os.close(_claimed.pop(core))
    return sorted(chosen, key=usable.index), [core for core in chosen if folder is not None and core not in mine]


def release() -> None:
    """Gives up what this process has claimed: its runs are another process' from now on."""
    while _claimed:
        os.close(_claimed.popitem()[1])


def _folder() -> Path | None:
    """Of this user alone. None where somebody else made one of that name: then nothing is claimed."""
    folder = Path(tempfile.gettempdir()) / f"caddie-cores-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    return folder if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() else None


def _lock(folder: Path, core: int) -> bool:
    if core in _claimed:
        return True
    try:
        file = os.open(folder / f"core-{core}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return False
    _claimed[core] = file
    return True


def cores() -> list[int]:
    """The cores that this process may use, one of each physical core first."""
    if not hasattr(os, "sched_getaffinity"):
        return list(range(os.cpu_count() or 1))
    usable = sorted(os.sched_getaffinity(0))
    siblings = {core: _siblings(core) for core in usable}
    return sorted(usable, key=lambda core: ([c for c in siblings[core] if c in usable].index(core), core))


def _siblings(core: int) -> list[int]:
    """The hardware threads of the physical core that this one belongs to."""
    path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    try:
        parts = path.read_text().strip().split(",")
        ranges = [part.split("-") for part in parts]
        found = [n for first, *last in ranges for n in range(int(first), int(last[0] if last else first) + 1)]
    except (OSError, ValueError):
        return [core]
    return found if core in found else [core]


def spare(core: int, over_s: float = LOOK_S) -> float | None:
    """The part of a core that nobody used during the next moment; work that stands back does not count."""
    before = _ticks(core)
    time.sleep(over_s)
    after = _ticks(core)
    if before is None or after is None or after.all <= before.all:
        return None
    return 1 - (after.used - before.used) / (after.all - before.all)


class _Ticks(NamedTuple):
    used: int
    all: int


def _ticks(core: int) -> _Ticks | None:
    """Since the machine was started. None: this system does not say."""
    try:
        lines = STAT.read_text("ascii").splitlines()
        line = next(line for line in lines if line.startswith(f"cpu{core} "))
        user, nice, system, idle, waiting, *interrupts = map(int, line.split()[1:9])
    except (OSError, ValueError, StopIteration):
        return None
    work = user + system + sum(interrupts)
    return _Ticks(work if _stands_back() else work + nice, work + nice + idle + waiting)


def _stands_back() -> bool:
    """Whether work of a low priority leaves a core to others. Where the kernel shares cores out between terminals, what
    is nice in another terminal takes as much as anything else."""
    try:
        return AUTOGROUP.read_text("ascii").strip() != "1"
    except OSError:
        return True


def cpu_name() -> str:
    """As the kernel calls it: what makes two machines' clocks comparable."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
