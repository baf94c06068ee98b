"""The process that holds one program: it ends the program's whole tree at a limit, or when nobody waits any more.

Takes a line of JSON (`Spec`) on its input, and after it what the program reads; gives a line of JSON on its output
(cause, exit code, words, sizes), then what the program wrote to its output and, of its errors, the end. It has one
thread and adopts orphans, so nothing that the program started outlives it, whatever session it moved to.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from typing import BinaryIO, TypedDict

from sandbox import child, tree

ERRORS_KEPT = 64_000
CHUNK = 65_536
LOOK_S = 0.05  # between two looks at the clock and at who waits
END_WITHIN_S = 3.0  # a killed process that is still there then is stuck in the kernel


class Spec(TypedDict):
    """What to start, and its limits."""

    argv: list[str]
    cwd: str
    env: dict[str, str]
    seconds: float
    most: int
    """Bytes of output."""
    parent: int
    """Who waits for the answer."""


class Holding:
    """One program while it runs.

    Its output is a file, because Claude Code loses what a pipe can't take at once.
    """

    def __init__(self, spec: Spec, given: BinaryIO, out: BinaryIO) -> None:
        self._spec = spec
        self._until = time.monotonic() + spec["seconds"]
        self._told_to_end = False
        self._out = out
        signal.signal(signal.SIGTERM, self._end_soon)
        child.adopt_orphans(True)
        self._program = subprocess.Popen(
            spec["argv"],
            cwd=spec["cwd"],
            env=spec["env"],
            stdin=given,
            stdout=out,
            stderr=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )
        assert self._program.stderr is not None
        self._pipe = self._program.stderr.fileno()
        os.set_blocking(self._pipe, False)
        self._open = True
        self._errors = bytearray()

    def hold(self) -> str:
        """Until it ends; why it did."""
        while (cause := self._cause()) is None:
            self._read_errors(LOOK_S)
        tree.end_all(self._rest, END_WITHIN_S)
        while self._read_errors(0.0):  # what it had said before; whoever could say more is dead
            pass
        return "output" if self._too_much() else cause

    @property
    def rc(self) -> int | None:
        return self._program.poll()

    @property
    def out(self) -> bytes:
        self._out.seek(0)
        return self._out.read(self._spec["most"])

    @property
    def err(self) -> bytes:
        return bytes(self._errors)

    def _cause(self) -> str | None:
        if self._program.poll() is not None:
            return "exited"
        if self._too_much():
            return "output"
        if time.monotonic() > self._until:
            return "time"
        # A parent that died, even by SIGKILL, leaves us to somebody else.
        return "left" if self._told_to_end or os.getppid() != self._spec["parent"] else None

    def _too_much(self) -> bool:
        return os.fstat(self._out.fileno()).st_size > self._spec["most"]

    def _read_errors(self, wait_s: float) -> bool:
        """Whether there were any."""
        if not self._open:
            time.sleep(wait_s)
        elif select.select([self._pipe], [], [], wait_s)[0]:
            data = os.read(self._pipe, CHUNK)
            self._open = bool(data)
            self._errors += data
            del self._errors[:-ERRORS_KEPT]
            return bool(data)
        return False

    def _rest(self) -> dict[int, tree.Proc]:
        self._program.poll()
        return tree.descendants(tree.children(os.getpid()))

    def _end_soon(self, *_: object) -> None:
        self._told_to_end = True


def main() -> int:
    source = sys.stdin.buffer
    spec: Spec = json.loads(source.readline())
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out:
        given.write(source.read())
        given.seek(0)
        try:
            holding = Holding(spec, given, out)
        except OSError as error:
            return _answer("unstarted", None, os.strerror(error.errno or 0), b"", b"")
        cause = holding.hold()
        return _answer(cause, holding.rc, "", holding.out, holding.err)


def _answer(cause: str, rc: int | None, words: str, out: bytes, err: bytes) -> int:
    head = {"cause": cause, "rc": rc, "words": words, "out": len(out)}
    with contextlib.suppress(BrokenPipeError):  # nobody waits any more
        sys.stdout.buffer.write(json.dumps(head).encode() + b"\n" + out + err)
        sys.stdout.buffer.flush()
    return 0
