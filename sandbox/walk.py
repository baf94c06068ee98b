"""How much the files of a folder take, while somebody moves them about.

Takes a folder; gives bytes. Each folder in it is opened from the one that holds it, so that what is above may get
another name meanwhile. What got another name between the list and the look is looked for again; whoever is faster than
that, look after look, hides something. One look alone may find less than there is.
"""

import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEEPEST = 64  # folders in one another: each is open while what is in it is looked at
TRIES = 20  # to find all that one folder lists
HIDDEN_AFTER = 4  # looks in a row that one thing was in no place
File = tuple[int, int]  # device, inode
A_FOLDER: File = (-1, -1)  # whichever: of folders in one another, it may be another's turn at each look
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Walk:
    """Looks at one folder; remembers what it could not find."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._missed: dict[File, int] = {}  # how many looks in a row

    def used(self, enough: int, entries: int) -> float:
        """Bytes, links not followed, what has two names once; infinite if there are more than so many entries, or
        something hides. It ends when it has found more than `enough`."""
        look = _Look(enough, entries)
        try:
            with _opened(str(self._folder), None) as fd:
                look.at(fd, 1)
        except FileNotFoundError:
            pass
        except _EnoughError:
            return look.total
        except OSError:
            return math.inf  # a folder that can't be read: honest code makes none
        self._missed = {file: self._missed.get(file, 0) + 1 for file in look.missed}
        return math.inf if max(self._missed.values(), default=0) >= HIDDEN_AFTER else look.total


class _EnoughError(Exception):
    """It need not be known better."""


class _Look:
    def __init__(self, enough: int, entries: int) -> None:
        self.total = 0.0
        self.missed: set[File] = set()
        self._enough, self._entries = enough, entries
        self._seen: set[File] = set()

    def at(self, fd: int, depth: int) -> None:
        """All that is in an open folder."""
        if depth > DEEPEST:
            self._give_up()
        device = os.fstat(fd).st_dev
        missed = set[File]()
        for _ in range(TRIES):
            missed = set(self._once(fd, device, depth))
            if not missed:
                return
        self.missed |= missed

    def _once(self, fd: int, device: int, depth: int) -> Iterator[File]:
        """Counts what was not counted yet; gives what was not there any more under the name listed."""
        with os.scandir(fd) as found:
            for entry in found:
                if (device, entry.inode()) in self._seen:
                    continue
                try:
                    info = entry.stat(follow_symlinks=False)
                    if (info.st_dev, info.st_ino) in self._seen:
                        continue
                    if stat.S_ISDIR(info.st_mode):
                        with _opened(entry.name, fd) as below:
                            self._count(os.fstat(below))
                            self.at(below, depth + 1)
                    else:
                        self._count(info)
                except (FileNotFoundError, NotADirectoryError):
                    yield A_FOLDER if entry.is_dir(follow_symlinks=False) else (device, entry.inode())

    def _count(self, info: os.stat_result) -> None:
        if (info.st_dev, info.st_ino) in self._seen:
            return
        self._seen.add((info.st_dev, info.st_ino))
        self.total += info.st_blocks * 512
        if self.total > self._enough:
            raise _EnoughError
        if len(self._seen) > self._entries:
            self._give_up()

    def _give_up(self) -> None:
        self.total = math.inf
        raise _EnoughError


@contextmanager
def _opened(name: str, within: int | None) -> Iterator[int]:
    fd = os.open(name, _FOLDER if within is None else _FOLDER | os.O_NOFOLLOW, dir_fd=within)
    try:
        yield fd
    finally:
        os.close(fd)
