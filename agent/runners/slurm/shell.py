"""Commands where Slurm is: on this machine, or on a login node.

Takes words and what they read; gives what they said. A `Shell` blocks until the command has ended, or its time is over.
"""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from agent.errors import InfraError

MOST = 64_000_000  # bytes of output that are read
USUAL_S = 60.0


class Said(NamedTuple):
    rc: int
    out: bytes
    err: str


class Shell(Protocol):
    def run(self, words: Sequence[str], stdin: bytes = b"", *, within_s: float = USUAL_S, most: int = MOST) -> Said:
        """What a command said, of which no more than `most` bytes are read.

        Raises:
            InfraError: it could not be run, took too long, or said more: whether it did its work is not known.
        """
        ...

    def close(self) -> None:
        """Gives back what it holds."""
        ...


class LocalShell:
    """`env` is all that the commands see of the outside, where it is given; `before`: words before each command."""

    def __init__(self, env: Mapping[str, str] | None = None, before: Sequence[str] = ()) -> None:
        self._env = None if env is None else dict(env)
        self._before = tuple(before)

    def run(self, words: Sequence[str], stdin: bytes = b"", *, within_s: float = USUAL_S, most: int = MOST) -> Said:
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write(stdin)
            given.seek(0)
            try:
                child = subprocess.Popen(
                    [*self._before, *words],
                    stdin=given,
                    stdout=out,
                    stderr=err,
                    env=self._env,
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                raise InfraError(f"can't run {words[0]}: {error.strerror}") from error
            _bound(child.pid, most + 1)
            try:
                rc = child.wait(within_s)
            except subprocess.TimeoutExpired as error:
                raise InfraError(f"{words[0]} did not answer within {within_s:g} s") from error
            finally:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait()
            out.seek(0)
            said = out.read(most + 1)
            err.seek(0)
            words_of_error = err.read(10_000).decode("utf-8", "replace")
        if len(said) > most:
            raise InfraError(f"{words[0]} said more than {most:,} bytes")
        return Said(rc, said, words_of_error)

    def close(self) -> None:
        """It holds nothing."""


def _bound(pid: int, most: int) -> None:
    """What it writes can't fill the disk either."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))
