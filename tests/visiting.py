"""Code behind the open filter, with a real doorman in front of it. For the tests of both."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from sandbox import landlock, seccomp
from sandbox.doorman import Doorman, Handover
from tests.filtering import HEAD
from tests.processes import until

# Two sockets that meet; what is written in capitals is put in by whoever asks.
MEET = """
server = socket.socket(FAMILY)
server.bind((HOST, 0))
server.listen()
client = socket.socket(FAMILY)
client.connect((TO or server.getsockname()[0], server.getsockname()[1]))
met, peer = server.accept()
client.sendall(b'hello')
print(json.dumps([server.getsockname()[0], met.recv(5).decode(), peer[0]]))
"""


class Visitor:
    """Code behind the filter, with a doorman."""

    def __init__(self, code: str, *, rules: int | None = None) -> None:
        handover = Handover()
        program = seccomp.program("open", loopback=True, pinned=False)

        def in_child() -> None:
            if rules is not None:
                landlock.enforce(rules)
            listener = seccomp.install(program, listener=True)
            assert listener is not None
            handover.give(listener)

        self.process = subprocess.Popen(
            [sys.executable, "-c", HEAD + code],
            preexec_fn=in_child,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            cwd=tempfile.gettempdir(),
            env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"},
        )
        self.doorman = Doorman.start(handover.take(), self.process.pid)

    def said(self, timeout: float = 60) -> Any:
        out, err = self.process.communicate(timeout=timeout)
        assert self.process.returncode == 0, err.decode()
        return json.loads(out.splitlines()[-1])

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()
        self.doorman.end()


@contextlib.contextmanager
def visitor(code: str, **more: Any) -> Iterator[Visitor]:
    one = Visitor(code, **more)
    try:
        yield one
    finally:
        one.end()


def said(code: str, **more: Any) -> Any:
    """What the code printed, after the doorman has gone home by itself."""
    with visitor(code, **more) as one:
        answer = one.said()
        until(lambda: not one.doorman.alive(), within_s=2)
        return answer
