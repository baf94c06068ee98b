"""What the walls around a run are called: the words that its row keeps.

Takes the names around parts of a run; gives those of the whole, and the level that names amount to.
"""

from collections.abc import Collection

from sandbox.groups import Bound
from sandbox.policy import LEVELS, Level

ALWAYS = ("env", "process-group", "rlimits", "watchdog")
GROUPS: dict[Bound, str] = {"pids": "task-group", "memory": "memory-group"}
MAY_OUTLIVE = "may-outlive"  # no wall but the lack of one: no other name says that nothing outlives a killed supervisor
TRACELESS = "traceless"  # around a process of the judge's: what it reads and touches tells a later one nothing
FORGETTING = (
    "running as root or with a delegated control group (of version 2 from Linux 5.19 on)"  # so that groups forget
)
# One part of a run that lacks something is enough, and without a trace is only who sees the validation text.
_OF_ONE_PART = frozenset({"unsafe", MAY_OUTLIVE, TRACELESS})


def level(names: Collection[str]) -> Level:
    """How strong the walls of these names are together."""
    return next((known for known in reversed(LEVELS) if known in names), "base")


def both(one: Collection[str], other: Collection[str]) -> tuple[str, ...]:
    """Around a run of two parts: what did not stand around both did not stand."""
    stood = tuple(name for name in one if name in other or name in _OF_ONE_PART)
    return (*stood, *(name for name in other if name in _OF_ONE_PART and name not in stood))
