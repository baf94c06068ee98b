"""Reads a folder that a stranger made: what lies in it, and files of it, bounded, no link followed, no pipe waited for.

Takes a path; gives `Entry`s and bytes. A link, a device or a folder of a million files is a finding, not a trap.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from agent.errors import UserError
from agent.job.reading import FOLDER, read_plain

MOST_ENTRIES = 2_000
MOST_DEPTH = 4
MOST_BYTES = 16_000_000  # of one file that is read whole


class Entry(NamedTuple):
    """One thing in a folder."""

    name: str  # from the folder, with forward slashes
    size: int
    plain: bool  # a file with one name, no link; a folder, which ends in a slash, was not looked into


def listing(folder: Path) -> tuple[Entry, ...]:
    """Everything but the folders that it looked into, sorted. UserError: it is no folder, or holds too much."""
    try:
        found = sorted(_below(folder, "", MOST_DEPTH))
    except OSError as error:
        raise UserError(f"can't look into {folder}: {error.strerror}") from error
    return tuple(found)


def _below(folder: Path, prefix: str, depth: int) -> Iterator[Entry]:
    fd = os.open(folder / prefix if prefix else folder, FOLDER)
    count = 0
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                count += 1
                if count > MOST_ENTRIES:
                    raise UserError(f"{folder / prefix} holds more than {MOST_ENTRIES:,} files: that is no submission")
                name = f"{prefix}{entry.name}"
                info = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(info.st_mode):
                    if entry.name == ".git":  # no pull request brings one along
                        continue
                    if depth:
                        yield from _below(folder, f"{name}/", depth - 1)
                    else:
                        yield Entry(f"{name}/", 0, False)  # what may lie in it is not known
                else:
                    yield Entry(name, info.st_size, stat.S_ISREG(info.st_mode) and info.st_nlink == 1)
    finally:
        os.close(fd)


def read(folder: Path, name: str) -> bytes | None:
    """A plain file, whole; None if it is none, is gone, is too big or is not below the folder."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        return None
    try:
        return read_plain(folder, name, MOST_BYTES)
    except (OSError, ValueError):
        return None
