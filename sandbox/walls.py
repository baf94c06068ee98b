"""Which walls stand around a confined process, and the one place where more are put up.

Takes a command and a policy; gives the command that runs it behind the walls. Namespaces, Landlock and
seccomp are not built yet: they come in `wrap`, and then show in `walls`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.tasks import TaskGroup


@dataclass(frozen=True)
class Policy:
    """What a confined process may touch."""

    writable: Path  # its one folder


def walls() -> tuple[str, ...]:
    """What is in force now, recorded with every run."""
    group = TaskGroup.make(1)
    if group is None:
        return ("env", "process-group", "rlimits", "watchdog")
    group.remove()
    return ("env", "process-group", "rlimits", "watchdog", "task-group")


def wrap(argv: Sequence[str], policy: Policy) -> list[str]:
    """The command behind the walls. Today all of them are set up around the process, none by a wrapper."""
    return list(argv)
