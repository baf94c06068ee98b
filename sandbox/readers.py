"""Whether another user than ours may read what a run is given: only then can it be a user of its own.

Takes a policy. Plain words for paths: this is in the start of every run.
"""

# ruff: noqa: PTH116
import functools
import os
import stat
from pathlib import PurePath

from sandbox.policy import Policy


def anybody(policy: Policy) -> bool:
    """May read all of it, if he gets to it."""
    return _all_open(policy.programs) and all(map(_is_open, policy.read))


def reaches(policy: Policy) -> bool:
    """Gets to all of it by its whole path, as he must without a box."""
    paths = [PurePath(os.path.realpath(path)) for path in (*policy.all_read, policy.writable)]
    above = {parent for path in paths for parent in path.parents}
    return anybody(policy) and all(os.stat(folder).st_mode & stat.S_IXOTH for folder in above)


@functools.lru_cache(maxsize=4)
def _all_open(programs: tuple[str, ...]) -> bool:
    """The same for all runs of a supervisor."""
    return all(map(_is_open, programs))


def _is_open(path: str) -> bool:
    """Of a folder, and what is right in it."""
    try:
        info = os.stat(path)
    except OSError:
        return True  # what is not there can't be missed
    wanted = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(info.st_mode) else 0)
    return info.st_mode & wanted == wanted
