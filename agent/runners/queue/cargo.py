"""The files of a job on their way through the store: what is read of a folder, and how it is written into another.

Takes folders that candidates and far machines may have filled; gives bytes by name. Everything is bounded, no link is
followed, and no name leads out of the folder.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from agent.errors import InfraError
from agent.job.reading import open_below, read_plain
from agent.runners.far.mirror import safe

MOST_FILES = 2_000
MOST_CODE = 32_000_000  # bytes of all files of a script
RUNS = "+x"  # ends what is said of a file that may be executed
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def load(folder: Path) -> dict[str, bytes]:
    """The plain files under a folder, by their path in it; InfraError for more than a job may have."""
    found: dict[str, bytes] = {}
    left = MOST_CODE
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        try:
            data = read_plain(folder, name, left)
        except (OSError, ValueError) as error:
            raise InfraError(f"the code can't be sent: {error}; {MOST_CODE:,} bytes are sent at most") from error
        left -= len(data)
        found[name + RUNS * _runs(path)] = data
        if len(found) > MOST_FILES:
            raise InfraError(f"the code can't be sent: it has more than {MOST_FILES:,} files")
    return found


def unload(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes files into a new folder of our own."""
    for said, data in files.items():
        name = safe(said.removesuffix(RUNS))
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, _FLAGS, 0o755 if said.endswith(RUNS) else 0o644), "wb") as file:
            file.write(data)


def read_end(folder: Path, name: str, start: int, most: int) -> bytes:
    """What a log has from byte `start` on, `most` bytes of it; nothing where no plain file is."""
    try:
        fd = open_below(folder, name)
    except OSError:
        return b""
    try:
        return os.pread(fd, most, start) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(fd)


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(place, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield path


def _runs(path: Path) -> bool:
    return bool(path.lstat().st_mode & stat.S_IXUSR)
