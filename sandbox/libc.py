"""The C library, for what Python has no function of, and how its failures are told.

Takes what a call of it gave; gives that back, or raises what the kernel said.
"""

import ctypes
import os
import sys

LINUX = sys.platform.startswith("linux")
# Loaded before any fork: a new process only calls it.
LIBC = ctypes.CDLL(None, use_errno=True)


def checked(result: int, *of: str | None) -> int:
    """`of`: what failed, or its files as OSError takes them. Nothing of LIBC may be called in between."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), *of)
    return result
