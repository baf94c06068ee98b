"""How untrusted code is run: limits on a whole tree of processes, kept by whoever started it."""

from sandbox.confined import BlindError, Confined, StartError
from sandbox.limits import CAPS, Cause, Exit, Limits
from sandbox.names import level
from sandbox.policy import LEVELS, BoxName, Level, Policy
from sandbox.walls import NoWalls, in_force, stack

__all__ = [
    "CAPS",
    "LEVELS",
    "BlindError",
    "BoxName",
    "Cause",
    "Confined",
    "Exit",
    "Level",
    "Limits",
    "NoWalls",
    "Policy",
    "StartError",
    "in_force",
    "level",
    "stack",
]
