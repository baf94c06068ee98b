"""Numbers for users that are nobody but one run, where we are root.

Takes what a machine knows of its users and processes; gives one of them. They lie where neither people nor services nor
containers have theirs: what a run's user has in the machine's shared memory is taken away when the run has ended.
"""

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

# By systemd's and shadow's lists (UIDS-GIDS, login.defs): from 65,536 on nothing is given to anybody until subordinate
# users begin at 100,000. A container that has only the first 65,536 has a gap before the users of systemd's services.
WIDE, NARROW = range(70_000, 100_000), range(60_706, 61_184)


def spare(uid_map: str) -> range:
    """Of what /proc/self/uid_map says that is there."""
    rows = [tuple(map(int, row.split())) for row in uid_map.splitlines() if len(row.split()) == 3]
    whole = any(first <= WIDE.start and first + count >= WIDE.stop for first, _, count in rows)
    return WIDE if whole or not rows else NARROW


def here() -> range:
    try:
        return spare(Path("/proc/self/uid_map").read_text())
    except OSError:
        return WIDE


@lru_cache(maxsize=8)
def uid_of(supervisor: int) -> int:
    """The user that a supervisor's runs get: nobody's who has a process here. Another supervisor whose number ends
    alike may get the same one where it asks between two processes of this one's."""
    numbers, taken = here(), set(_with_processes())
    first = supervisor % len(numbers)
    order = (*numbers[first:], *numbers[:first]) if numbers[first] in taken else (numbers[first],)
    return next((uid for uid in order if uid not in taken), numbers[first])


def _with_processes() -> Iterator[int]:
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdecimal():
                try:
                    yield entry.stat().st_uid
                except OSError:  # it has ended
                    continue
