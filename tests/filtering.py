"""Python code run as a process of its own behind a filter, and what it printed. For the tests of the filters."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from sandbox import seccomp, syscalls
from sandbox.seccomp import Kind

KINDS: tuple[Kind, ...] = ("boxed", "open")
on_linux = pytest.mark.skipif(
    not sys.platform.startswith("linux") or syscalls.this_machine() is None, reason="needs Linux on a machine we know"
)

HEAD = """
import ctypes, errno, json, os, socket, sys
LIBC = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    whole = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    return ctypes.get_errno() if LIBC.syscall(number, *whole) == -1 else 0
def tried(what, *arguments):
    try:
        what(*arguments)
    except OSError as error:
        return error.errno
    return 0
"""


def said(code: str, program: bytes | None = None, timeout: float = 60) -> Any:
    """The JSON that the code printed last."""
    ended = run(code, program, timeout)
    assert ended.returncode == 0, ended.stderr.decode()
    return json.loads(ended.stdout.splitlines()[-1])


def run(code: str, program: bytes | None = None, timeout: float = 60) -> "subprocess.CompletedProcess[bytes]":
    def in_child() -> None:
        if program is not None:
            seccomp.install(program, listener=False)

    return subprocess.run(
        [sys.executable, "-c", HEAD + code],
        preexec_fn=in_child,
        capture_output=True,
        timeout=timeout,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        cwd=tempfile.gettempdir(),
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": os.environ.get("PATH", ""), "OMP_NUM_THREADS": "1"},
    )
