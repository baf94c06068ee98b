"""A scope of systemd around one command: kernel bounds where we may make no control group but systemd may.

Takes a command, its environment and limits; gives the command that runs it in a scope, or the same command where no
systemd answers. `systemd-run --scope` becomes the command that it is given, so the process stays our child. It talks
to systemd first, so it must be the outermost word: around walls that a wrapper puts up, not inside any.
"""

import functools
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from sandbox.limits import Limits

BOOTED = Path("/run/systemd/system")  # there where systemd is the machine's first process
ANSWER_S = 5.0
ENV = "/usr/bin/env"
RUNTIME = "XDG_RUNTIME_DIR"  # where the person's own systemd listens


def fits(outermost: bool) -> bool:
    """Whether a command can get a scope: it must come first, before any wall."""
    return outermost and manager() is not None


def around(argv: Sequence[str], env: Mapping[str, str], limits: Limits) -> list[str]:
    """It gets exactly `env`: what systemd-run needs or adds is wiped again."""
    words = manager()
    if words is None:
        return list(argv)
    bounds = (f"MemoryMax={limits.memory_bound}", "MemorySwapMax=0", f"TasksMax={limits.tasks}")
    properties = [word for bound in bounds for word in ("--property", bound)]
    own = [f"{name}={value}" for name, value in env.items()]
    return [*words, "--description=caddie", *properties, "--", ENV, "-i", *own, *argv]


@functools.cache
def manager() -> tuple[str, ...] | None:
    """The words that make a scope here: root asks the machine's systemd, a person their own. Asked once."""
    tool = shutil.which("systemd-run")
    if tool is None or not BOOTED.is_dir():
        return None
    whose = () if os.getuid() == 0 else ("--user",)
    runtime = os.environ.get(RUNTIME, f"/run/user/{os.getuid()}")
    words = (ENV, f"{RUNTIME}={runtime}", tool, *whose, "--scope", "--quiet", "--collect")
    try:
        asked = subprocess.run([*words, "--", "true"], capture_output=True, timeout=ANSWER_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return words if asked.returncode == 0 else None
