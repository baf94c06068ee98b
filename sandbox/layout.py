"""What the file system of a box holds: nothing but an allow-list, as the steps that make it.

Takes a policy; gives `Step`s, parents first. Bubblewrap is told them as words, or a new process makes them itself
before it becomes bubblewrap (`staging`). Plain words for paths: this is in the start of every run.
"""

import functools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from sandbox.policy import Policy

HOSTS = Path(__file__).parent / "etc" / "hosts"
PRIVATE = ("/dev/shm", "/tmp")  # in memory, and gone with the box
GPU_NODES = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-caps", "nvidia-modeset")

# folder: made, empty. show: the source, to be read. link: a symbolic link to the source. empty: memory that nobody may
# write, over what is to be hidden. memory: memory that all may write. device: the source, a node that may be opened.
# own: the source, to be written.
Kind = Literal["folder", "show", "link", "empty", "memory", "device", "own"]


class Step(NamedTuple):
    kind: Kind
    path: str
    source: str = ""


def steps(policy: Policy) -> list[Step]:
    files = _Files()
    wanted = {path: os.path.realpath(path) for path in policy.read} | _real(policy.programs)
    if policy.gpus:
        wanted["/sys"] = "/sys"
    wanted |= {real: real for real in wanted.values()}
    # Parents come before what is in them, so that a folder can be hidden and a part of it shown again.
    for path in sorted({*wanted, *policy.hidden}, key=lambda path: path.split("/")):
        if path in policy.hidden:
            files.hide(path)
        if path in wanted:
            files.show(path, wanted[path])
    for path in policy.read:
        files.cover(doors(path))
    for node in gpu_nodes(policy.gpus):
        files.steps.append(Step("device", node, node))
    files.own(policy.writable)
    return files.steps


@functools.lru_cache(maxsize=4)
def _real(programs: tuple[str, ...]) -> dict[str, str]:
    """Where the programs really are: the same for all runs of a supervisor, and slow to find out."""
    return {path: os.path.realpath(path) for path in programs}


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
        self.steps += [Step("folder", "/etc"), Step("show", "/etc/hosts", str(HOSTS))]
        # Folders that are there; True: with all that is in them outside.
        self._there = dict.fromkeys(("/", "/dev", "/etc", "/proc", *PRIVATE), False)

    def show(self, path: str, real: str) -> None:
        if self._shown(path):
            return
        self._make_parents(path)
        self.steps.append(Step("show" if path == real else "link", path, real))
        self._there[path] = True

    def hide(self, path: str) -> None:
        if self._shown(path):
            self.steps.append(Step("empty", path))
            self._there[path] = False

    def cover(self, doors: Iterable[str]) -> None:
        """With a device that can't be opened there."""
        self.steps += [Step("show", door, "/dev/null") for door in doors]

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
