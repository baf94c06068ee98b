"""What a tree holds in files that have no name any more: open ones, and those that are only mapped into a process; and
in memory that is shown as such a file, and in no process.

Takes process ids, and their folder; gives bytes. A file that was opened, mapped, removed and closed is in no folder and
in no list of open files, and takes room on the disk all the same. How large a mapped one is only root may see; for
others it is as large as what of it is mapped, which is the least that it can be.
"""

import os
import time
from collections.abc import Collection, Iterable
from pathlib import Path

from sandbox import tree
from sandbox.tree import Proc

GONE = b" (deleted)"
MEMORY = (b"/dev/zero", b"/memfd:", b"/SYSV")  # how the kernel shows memory that processes share
File = tuple[int, int]  # device, inode


def opened(pids: Iterable[int]) -> dict[File, int]:
    """Raises PermissionError, OverflowError: one of them lives, and lets nobody see all its files."""
    found: dict[File, int] = {}
    for pid in pids:
        found |= tree.open_but_deleted(pid)
    return found


class Mappings:
    """Looks at what processes map, a few at a time: to read of all that one can map takes a tenth of a second."""

    def __init__(self, folder: Path | None) -> None:
        """`folder`: of the files that count; None: memory that is shown as a file."""
        self._folder = folder
        self._looked: dict[int, float] = {}
        self._found: dict[int, dict[File, int]] = {}

    def look(self, pids: Collection[int], within_s: float) -> dict[File, int]:
        """Those that were not looked at for longest, one at least; of the others it is what was found before."""
        now = time.monotonic()
        self._looked = {pid: self._looked.get(pid, 0.0) for pid in pids}
        self._found = {pid: files for pid, files in self._found.items() if pid in self._looked}
        for pid in sorted(self._looked, key=lambda pid: self._looked[pid]):
            self._found[pid], self._looked[pid] = mapped([pid], self._folder), now
            if time.monotonic() > now + within_s:
                break
        return _largest(self._found.values())


def mapped(pids: Iterable[int], folder: Path | None) -> dict[File, int]:
    """Those that were in the folder. Memory that is shown as a file is none of them, nor is a library that changed."""
    under = MEMORY if folder is None else (os.fsencode(folder) + b"/",)
    return _largest(_mapped(pid, under) for pid in pids)


def unshown(memory: Mappings, rows: Collection[Proc], within_s: float) -> int:
    """Bytes of shared memory that processes have filled without showing them any more, as far as we may see how much it
    is. Of one that does not tell what it shows of it, or has ended, all that it shows counts."""
    files = memory.look([row.thread for row in rows], within_s)
    filled = sum(size for (device, _), size in files.items() if device >= 0)
    if not filled:
        return 0
    shown = [(row.rss, tree.proportional_rss(row.thread, b"Pss_Shmem:")) for row in rows]
    return max(0, filled - sum(rss if size is None else size for rss, size in shown))


def _largest(each: Iterable[dict[File, int]]) -> dict[File, int]:
    found: dict[File, int] = {}
    for files in each:
        for key, size in files.items():
            found[key] = max(size, found.get(key, 0))
    return found


def _mapped(pid: int, under: tuple[bytes, ...]) -> dict[File, int]:
    try:
        text = tree.read(f"/proc/{pid}/maps")
    except OSError:
        return {}  # it has ended; what hides its files from us is told by those that are open
    found: dict[File, int] = {}
    # Only this end of a line is none of a file's name: the kernel writes it otherwise there.
    for line in text.split(b"\n") if GONE in text else ():
        words = line.split(None, 5)
        if len(words) == 6 and words[5].endswith(GONE) and words[5].startswith(under):
            key, size = _file(pid, words)
            found[key] = size if key[0] >= 0 else found.get(key, 0) + size
    return found


def _file(pid: int, words: list[bytes]) -> tuple[File, int]:
    begin, _, end = words[0].partition(b"-")
    first, last = int(begin, 16), int(end, 16)
    try:
        info = Path(f"/proc/{pid}/map_files/{first:x}-{last:x}").stat()
    except OSError:  # not ours to look at
        return (-1, int(words[4])), last - first
    return (info.st_dev, info.st_ino), info.st_blocks * 512 if info.st_nlink == 0 else 0
