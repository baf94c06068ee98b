"""How fast the disk and the way to the data are, and what the data are.

Takes folders and the moment at which to stop; gives speeds and digests. Reads go past what the system remembers of a
file where it lets us drop that, so that it is the disk or the network that is timed.
"""

import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from agent.admission.seen import Data, Disk, File

TEST_MB = 128
BLOCK = 1 << 20
MOST_FILES = 1000


def disk(folder: Path) -> Disk:
    """Writes a file there, and reads it again."""
    free = shutil.disk_usage(folder).free / 1e6
    if free < 4 * TEST_MB:
        return Disk(None, None, free)
    with tempfile.TemporaryFile(dir=folder) as file:
        block = os.urandom(BLOCK)  # a disk that compresses has nothing to gain
        started = time.perf_counter()
        for _ in range(TEST_MB):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        wrote = TEST_MB * BLOCK / 1e6 / (time.perf_counter() - started)
        _forget(file.fileno())
        file.seek(0)
        started = time.perf_counter()
        while file.read(BLOCK):
            pass
        read = TEST_MB * BLOCK / 1e6 / (time.perf_counter() - started)
    return Disk(wrote, read, free)


def data(folder: Path, until: float) -> Data:
    """The files in it by name, as many as there is time for; `until` by the monotonic clock."""
    found, left, total, spent = list[File](), 0, 0, 0.0
    for path in _plain(folder):
        started = time.perf_counter()
        whole = _digest(path, until) if time.monotonic() < until and len(found) < MOST_FILES else None
        if whole is None:
            left += 1
            continue
        spent += time.perf_counter() - started
        total += whole[0]
        found.append(File(str(path.relative_to(folder)), *whole))
    return Data(tuple(found), left, total / 1e6 / spent if total and spent > 0 else None)


def _plain(folder: Path) -> Iterator[Path]:
    """Follows no link below the folder."""
    for path in sorted(folder.rglob("*")):
        if stat.S_ISREG(path.lstat().st_mode):
            yield path


def _digest(path: Path, until: float) -> tuple[int, str] | None:
    """Its size and its sha256; None: there was no time to read it to its end."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        _forget(file.fileno())
        while block := file.read(BLOCK):
            digest.update(block)
            size += len(block)
            if time.monotonic() > until:
                return None
    return size, digest.hexdigest()


def _forget(fd: int) -> None:
    """What the system remembers of a file that is written out."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
