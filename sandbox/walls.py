"""Which walls stand around a confined process, and the one place where more are put up.

Takes a command and a policy; gives the command that runs it behind the walls. Namespaces, Landlock and
seccomp are not built yet: they come in `wrap`, and then show in `walls`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.groups import Group
from sandbox.limits import MB


@dataclass(frozen=True)
class Policy:
    """What a confined process may touch."""

    writable: Path  # its one folder


def walls() -> tuple[str, ...]:
    """What is in force now, recorded with every run."""
    group = Group.make(1, MB)
    if group is None:
        return ("env", "process-group", "rlimits", "watchdog")
    group.remove()
    names = {"pids": "task-group", "memory": "memory-group"}
    return ("env", "process-group", "rlimits", "watchdog", *(names[bound] for bound in group.bounds))


def wrap(argv: Sequence[str], policy: Policy) -> list[str]:
    """The command behind the walls. Today all of them are set up around the process, none by a wrapper."""
    return list(argv)
