"""How untrusted code is run: limits on a whole tree of processes, kept by whoever started it."""

from sandbox.limits import CAPS, Cause, Exit, Limits

__all__ = ["CAPS", "Cause", "Exit", "Limits"]
