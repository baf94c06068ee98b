"""How untrusted code is run: limits on a whole tree of processes, kept by whoever started it."""

from sandbox.confined import Confined, StartError
from sandbox.limits import CAPS, Cause, Exit, Limits
from sandbox.walls import Policy, walls, wrap

__all__ = ["CAPS", "Cause", "Confined", "Exit", "Limits", "Policy", "StartError", "walls", "wrap"]
