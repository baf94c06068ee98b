"""Whose turn it is on a GPU, or on a core that two campaigns share: a lock that a run's shepherd has for its life, and
that is gone with it however it dies.

Takes the names of what a run has for itself; gives open files that hold all of them, or says who has one.
"""

import contextlib
import fcntl
import os
import pwd
import stat
import time
from collections.abc import Collection
from pathlib import Path

# A look at a lock takes it for a moment; what is taken for longer is another run's.
PATIENCE_S = 0.02
MOST_WHO = 200
TAKEN_S = 600.0  # what a run is taken to wait for another's: nobody knows, but what is free comes first
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Taken(Exception):
    """Somebody else has his run there; says who."""


class Turns:
    def __init__(self, folder: Path, *, everybody: bool = False) -> None:
        """`everybody`: the runs of all users of the machine are to see one another's locks."""
        self._folder, self._everybody = folder, everybody

    def take(self, names: Collection[str], who: str) -> list[int]:
        """All of them, until the files are closed in every process that has them.

        Raises:
            Taken: one of them is somebody else's, or nobody can tell.
        """
        held: list[int] = []
        try:
            self._make()
            for name in sorted(names):
                held.append(self._open(name))
                self._lock(held[-1])
            for file in held:
                os.ftruncate(file, 0)
                os.pwrite(file, who.encode("utf-8", "replace")[:MOST_WHO], 0)
        except (OSError, Taken) as error:
            for file in held:
                os.close(file)
            raise error if isinstance(error, Taken) else Taken(_nobody_knows(error)) from error
        return held

    def by(self, names: Collection[str]) -> str:
        """Who has one of them, or why nobody can tell; empty: all are free."""
        for name in sorted(names):
            try:
                file = os.open(self._path(name), _OPEN)
            except FileNotFoundError:
                continue
            except OSError as error:
                return _nobody_knows(error)
            try:
                self._lock(file, patience_s=0.0, how=fcntl.LOCK_SH)
            except Taken as taken:
                return str(taken)
            except OSError as error:
                return _nobody_knows(error)
            finally:
                os.close(file)
        return ""

    def _make(self) -> None:
        """The folder, if it is not there. One that a stranger can replace, or a link, is no place for locks."""
        with contextlib.suppress(FileExistsError):
            self._folder.mkdir(mode=0o700)
        there = self._folder.lstat()
        if not stat.S_ISDIR(there.st_mode):
            raise Taken(_nobody_knows(f"{self._folder} is no folder"))
        if self._everybody and there.st_uid == os.getuid():  # each time: who made it may have been killed in between
            self._folder.chmod(0o1777)

    def _path(self, name: str) -> Path:
        return self._folder / name.replace("/", "_")

    def _open(self, name: str) -> int:
        """Opened before it is made: where the folder is everybody's, systems refuse to make what is another's."""
        path = self._path(name)
        try:
            file = os.open(path, _OPEN)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, _OPEN | os.O_CREAT | os.O_EXCL, 0o600))
            file = os.open(path, _OPEN)
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:  # what is written into it would be in another file
            os.close(file)
            raise Taken(_nobody_knows(f"{path} is no plain file of its own"))
        if self._everybody and found.st_uid == os.getuid():
            os.fchmod(file, 0o666)
        return file

    def _lock(self, file: int, patience_s: float = PATIENCE_S, how: int = fcntl.LOCK_EX) -> None:
        deadline = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(file, how | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise Taken(_who(file)) from None
                time.sleep(0.005)


# Where the machine itself keeps it, and no network: the same for every user and every campaign.
GPUS = Turns(Path("/tmp/caddie-gpus"), everybody=True)


def of(root: Path, gpus: Collection[int]) -> Turns:
    """For runs on a far machine: on its GPUs those of everybody, on its cores those of Caddie's folder there."""
    return GPUS if gpus else Turns(root / "turns")


def who(folder: Path) -> str:
    """The campaign of a job folder, here or on a far machine, and the user whose process this is."""
    campaign = folder.parents[1].name if folder.parent.name == "jobs" else folder.name.rpartition(".jobs.")[0]
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return f"campaign {campaign} of {user}"


def words(by: str) -> str:
    return f"its slot is taken by {by}"


def _nobody_knows(why: object) -> str:
    return f"nobody knows whom: {why}"


def _who(file: int) -> str:
    """What stands in the file, which may be another user's: words for a person, and nothing else."""
    text = os.pread(file, MOST_WHO, 0).decode("utf-8", "replace")
    return "".join(letter for letter in text if letter.isprintable()) or "somebody"
