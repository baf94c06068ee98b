"""What a run may touch, whatever walls keep it to that.

Takes nothing; gives the frozen record `Policy` and the order of `LEVELS`.
"""

from dataclasses import dataclass
from typing import Literal

Level = Literal["unsafe", "base", "pod", "seatbelt", "landlock", "namespaces"]
LEVELS: tuple[Level, ...] = ("unsafe", "base", "pod", "seatbelt", "landlock", "namespaces")  # weakest first


# How bubblewrap is called: so that the command is a user of its own, or plainly. "": whoever starts it tries.
BoxName = Literal["", "own", "plain"]


@dataclass(frozen=True)
class Policy:
    """Everything that is not listed is out of reach, as far as the walls that stand go."""

    writable: str
    """Its one folder."""
    read: tuple[str, ...]
    """Its own files and folders, with all that is under them."""
    programs: tuple[str, ...] = ()
    """The system's libraries and Python, as `seen` lists them."""
    hidden: tuple[str, ...] = ()
    """Folders under those of `programs` that are not to be seen, but for what `programs` lists under them in turn."""
    packages: tuple[str, ...] = ()
    """Folders of Python packages, of which it sees those that are in `programs`."""
    gpus: tuple[int, ...] = ()
    """Numbers of the device nodes: /dev/nvidia0 is 0."""
    loopback: bool = False
    """Whether its processes talk to each other by TCP, as torchrun's do."""
    pinned: bool = False
    """Whether it must stay on the core that it was put on."""
    timed: bool = False
    """Whether its processor time decides something, so that none of it may be forgotten."""
    traceless: bool = False
    """Whether what it was the first to read of any file leaves memory with it, so that no later run can tell. What it
    reads anew it then waits for."""
    minimum: Level = "landlock"
    """The weakest level at which it may run at all."""
    box: BoxName = ""
    """What was found to work on the machine that it runs on, so that not every run has to try."""

    @property
    def all_read(self) -> tuple[str, ...]:
        return (*self.programs, *self.read)


def reaches(level: Level, minimum: Level) -> bool:
    return LEVELS.index(level) >= LEVELS.index(minimum)
