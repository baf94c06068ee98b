"""Writes a file so that whoever reads it sees the whole of it or none, however the writer dies.

Takes a path and a text; gives nothing. Standard library only, because the shepherd loads it.
"""

import os
import secrets
from pathlib import Path


def write_aside(path: Path, text: str, *, durable: bool = True) -> None:
    """Write next to `path` and move into place, so that a reader sees the whole text or none."""
    aside = path.with_name(f".tmp-{path.name}-{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(aside, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        aside.replace(path)
    except OSError:  # a full disk must not be filled with names, either
        aside.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
