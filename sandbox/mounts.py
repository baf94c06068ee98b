"""What is mounted where, as the kernel lists it for a process.

Takes a process id, or `self`, and kinds of file systems; gives `Mount` rows, none if the list can't be read.
"""

import os
import re
from pathlib import Path
from typing import NamedTuple

_OCTAL = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    place: str
    device: int
    kind: str
    options: tuple[str, ...]
    """Of the file system itself, not of this view of it."""


def mounts(pid: str, *kinds: str) -> list[Mount]:
    """In the kernel's order. Names in its list are escaped as octal numbers."""
    try:
        lines = Path(f"/proc/{pid}/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []
    found: list[Mount] = []
    for line in lines:
        left, _, right = line.partition(" - ")
        seen, of = left.split(" "), right.split(" ")
        if len(seen) > 4 and len(of) > 2 and of[0] in kinds:
            major, _, minor = seen[2].partition(":")
            place = _OCTAL.sub(lambda match: chr(int(match[1], 8)), seen[4])
            found.append(Mount(place, os.makedev(int(major), int(minor)), of[0], tuple(of[2].split(","))))
    return found
