"""What the file system of a box holds: nothing but an allow-list, as the steps that make it.

Takes a policy; gives `Step`s, parents first. Bubblewrap is told them as words, or a new process makes them itself
before it becomes bubblewrap (`staging`). Plain words for paths: this is in the start of every run.
"""

import functools
import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from sandbox.policy import Policy

HOSTS = Path(__file__).parent / "etc" / "hosts"
PRIVATE = ("/dev/shm", "/tmp")  # in memory, and gone with the box
# Of /sys, what CUDA, NCCL and gloo look through: devices, and neither file systems nor the kernel's own settings.
DEVICES = ("/sys/bus", "/sys/class", "/sys/dev", "/sys/devices", "/sys/module")
COUNTS = "/sys/devices/system/node/node*/vmstat"  # as /proc/vmstat
GPU_NODES = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-caps", "nvidia-modeset")

# folder: made, empty. show, file: the source, a folder or a file to be read. link: a symbolic link to the source.
# empty: memory that nobody may write, over what is to be hidden. memory: memory that all may write. device: the source,
# a node that may be opened, or a folder of nodes. own: the source, a folder to be written.
Kind = Literal["folder", "show", "file", "link", "empty", "memory", "device", "own"]


class Step(NamedTuple):
    kind: Kind
    path: str
    source: str = ""


def steps(policy: Policy) -> list[Step]:
    files = _Files()
    wanted = _found(policy.read) | _found_before(policy.programs)
    if policy.gpus:
        wanted |= _found(filter(os.path.isdir, DEVICES))
    # Parents come before what is in them, so that a folder can be hidden and a part of it shown again.
    for path in sorted({*wanted, *policy.hidden}, key=lambda path: path.split("/")):
        if path in policy.hidden:
            files.hide(path)
        if path in wanted:
            files.show(path, *wanted[path])
    for path in policy.read:
        files.cover(doors(path))
    if policy.gpus:
        files.cover(glob.iglob(COUNTS))  # noqa: PTH207
    for node in gpu_nodes(policy.gpus):
        files.steps.append(Step("device", node, node))
    files.own(policy.writable)
    return files.steps


class Found(NamedTuple):
    real: str
    is_folder: bool


def _found(paths: Iterable[str]) -> dict[str, Found]:
    """The paths, and where links among them lead."""
    found = {path: os.path.realpath(path) for path in paths}
    found |= {real: real for real in found.values()}
    return {path: Found(real, os.path.isdir(real)) for path, real in found.items()}  # noqa: PTH112


@functools.lru_cache(maxsize=4)
def _found_before(programs: tuple[str, ...]) -> dict[str, Found]:
    """The same for all runs of a supervisor, and slow to find out."""
    return _found(programs)


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


def gpu_nodes(gpus: tuple[int, ...]) -> list[str]:
    if not gpus:
        return []
    nodes = [Path("/dev") / name for name in (*(f"nvidia{number}" for number in gpus), *GPU_NODES)]
    return [str(node) for node in nodes if node.exists()]


class _Files:
    """The file system of a box while it is put together."""

    def __init__(self) -> None:
        self.steps = [Step("memory", folder) for folder in PRIVATE]
        self.steps += [Step("folder", "/etc"), Step("file", "/etc/hosts", str(HOSTS))]
        # Folders that are there; True: with all that is in them outside.
        self._there = dict.fromkeys(("/", "/dev", "/etc", "/proc", *PRIVATE), False)

    def show(self, path: str, real: str, is_folder: bool) -> None:
        if self._shown(path):
            return
        self._make_parents(path)
        self.steps.append(Step("link" if path != real else "show" if is_folder else "file", path, real))
        self._there[path] = True

    def hide(self, path: str) -> None:
        if self._shown(path):
            self.steps.append(Step("empty", path))
            self._there[path] = False

    def cover(self, doors: Iterable[str]) -> None:
        """With a device that can't be opened there."""
        self.steps += [Step("file", door, "/dev/null") for door in doors]

    def own(self, path: str) -> None:
        self._make_parents(path)
        self.steps.append(Step("own", path, path))

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
                self.steps.append(Step("folder", folder))
                self._there[folder] = False
