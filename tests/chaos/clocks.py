"""A wall clock that jumps for the processes that are told so, and for nobody else.

`Clock(folder)` builds a small library; processes started with its `env` read the time through it.
"""

import shutil
import struct
import subprocess
from pathlib import Path

from tests.absent import absent

SOURCE = Path(__file__).with_name("clock.c")


def needed() -> str:
    """The compiler."""
    found = shutil.which("cc")
    if found is None:
        absent("no C compiler here (apt-get install gcc): no clock can be made to jump")
    return found


class Clock:
    def __init__(self, folder: Path) -> None:
        self._moved = folder / "moved"
        library = folder / "clock.so"
        command = [needed(), "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
        subprocess.run(command, check=True, timeout=60)
        self.env = {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(self._moved)}
        self.jump(0)

    def jump(self, seconds: int) -> None:
        """So far from the true time it is from now on."""
        with self._moved.open("r+b" if self._moved.exists() else "wb") as file:
            file.write(struct.pack("q", seconds))
