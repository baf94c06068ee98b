"""The wall of macOS: its own sandbox, told by a profile what may be touched. It was never tried on such a machine.

Takes a policy; gives the profile as text, and the command that puts a program under it.
"""

import errno
import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePath

from sandbox.policy import Policy
from sandbox.seen import seen

PROGRAM = Path("/usr/bin/sandbox-exec")
TRY_S = 10.0
# What every process opens before its own first line, and what says nothing of anybody.
NODES_READ = ("/dev/random", "/dev/urandom", "/dev/zero", "/dev/dtracehelper")
NODES_WRITTEN = ("/dev/null", "/dev/zero")
# Of its own: to be started, to start others, to ask what machine this is, and to be ended by one of its own.
ALWAYS = (
    "(version 1)",
    "(deny default)",
    "(allow process-exec)",
    "(allow process-fork)",
    "(allow process-info* (target same-sandbox))",
    "(allow signal (target same-sandbox))",
    "(allow sysctl-read)",
    '(allow file-read* (literal "/"))',  # dyld lists it
)
LOOPBACK = (
    '(allow network-bind (local ip "localhost:*"))',
    '(allow network-inbound (local ip "localhost:*"))',
    '(allow network-outbound (remote ip "localhost:*"))',
)


def fault() -> str:
    """What is wrong with it here, found out by starting Python under it; empty: nothing."""
    if sys.platform != "darwin":
        return "it is for macOS"
    return _trial(PROGRAM)


@functools.cache
def _trial(program: Path) -> str:
    with tempfile.TemporaryDirectory() as folder:
        words = command(Policy(folder, (), seen(()).programs), [sys.executable, "-I", "-S", "-c", "import socket"])
        try:
            done = subprocess.run(words, env={}, cwd=folder, capture_output=True, timeout=TRY_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    return "" if done.returncode == 0 else done.stderr.decode("utf-8", "replace").strip()[-200:] or "it failed"


def command(policy: Policy, argv: Sequence[str]) -> list[str]:
    return [str(PROGRAM), "-p", profile(policy), *argv]


def profile(policy: Policy) -> str:
    """The last rule that fits decides: what is hidden comes after its parent, and what is shown of it after that."""
    lines = [*ALWAYS, *(LOOPBACK if policy.loopback else ())]
    shown, hidden = set(map(os.path.realpath, policy.all_read)), set(map(os.path.realpath, policy.hidden))
    for path in sorted(shown | hidden, key=lambda path: PurePath(path).parts):
        if path in hidden:
            lines.append(f"(deny file-read* (subpath {_quoted(path)}))")
        if path in shown:
            lines.append(f"(allow file-read* (subpath {_quoted(path)}))")
    lines += [f"(allow file-read* (literal {_quoted(node)}))" for node in NODES_READ]
    lines += [f"(allow file-read* file-write-data (literal {_quoted(node)}))" for node in NODES_WRITTEN]
    lines.append(f"(allow file-read* file-write* (subpath {_quoted(os.path.realpath(policy.writable))}))")
    lines += [f"(allow file-read-metadata (literal {_quoted(path)}))" for path in _on_the_way(policy)]
    return "\n".join(lines) + "\n"


def _on_the_way(policy: Policy) -> list[str]:
    """The folders and links that lead to what may be read. Rules are compared with where a path leads in the end."""
    named = [PurePath(path) for path in (*policy.all_read, policy.writable)]
    real = [PurePath(os.path.realpath(path)) for path in named]
    return sorted({str(path) for path in named} | {str(above) for path in (*named, *real) for above in path.parents})


def _quoted(path: str) -> str:
    """As a string of a profile.

    Raises:
        OSError: no string can hold it.
    """
    if any(ord(character) < 32 for character in path):
        raise OSError(errno.EINVAL, "the sandbox of macOS can't be told a path with a control character", path)
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
