"""The host keys of machines, as each had it at first: one that has another key later is another machine.

Takes a folder; a key is written there once, and held against what a machine shows from then on.
"""

import os
import secrets
from pathlib import Path

from agent.job.writing import sync_folder

MOST = 100_000  # bytes of a key
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


class Pins:
    """Host keys, one file for each machine, written at the first contact and never again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def file(self, host: str) -> Path:
        return self._folder / f"{host.replace('/', '.')}.pub"

    def holds(self, host: str, key: str) -> bool:
        """Whether the machine has the key that it had at first; remembers it if this is the first time.

        Raises:
            OSError: it can't be remembered, so it is not known either.
        """
        path = self.file(host)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        known = _read(path)
        if known:
            return known == key
        if known == "":  # an earlier version was killed, or had no room, before it wrote the key
            path.unlink(missing_ok=True)
        aside = path.with_name(f".tmp-{path.name}-{secrets.token_hex(8)}")
        try:
            with os.fdopen(os.open(aside, NEW, 0o600), "w", encoding="ascii") as file:
                file.write(f"{key}\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(aside, path, follow_symlinks=False)
        except FileExistsError:  # of several at once the first one's stands
            return _read(path) == key
        finally:
            aside.unlink(missing_ok=True)
        sync_folder(path.parent)
        return True


def _read(path: Path) -> str | None:
    """The key; None: there is none yet. What can't be read is nobody's key."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            return file.read(MOST).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None
    except OSError:
        return "unreadable"
