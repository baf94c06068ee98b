"""The host keys of machines, as each had it at first: one that has another key later is another machine.

Takes a folder; a key is written there once, and held against what a machine shows from then on.
"""

import os
from pathlib import Path

from agent.runners.reading import read_small


class Pins:
    """Host keys, one file for each machine, written at the first contact and never again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def file(self, host: str) -> Path:
        return self._folder / f"{host.replace('/', '.')}.pub"

    def holds(self, host: str, key: str) -> bool:
        """Whether the machine has the key that it had at first; remembers it if this is the first time."""
        path = self.file(host)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except FileExistsError:
            return (read_small(path) or "").strip() == key
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write(f"{key}\n")
            file.flush()
            os.fsync(file.fileno())
        return True
