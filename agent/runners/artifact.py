"""Whether a candidate left an artifact that may be opened at all.

Takes the folder that it could write to and a name; gives what is wrong, or None.
Follows no link, waits for no pipe.
"""

import errno
import os
import stat
from pathlib import Path
from typing import NamedTuple

from agent.job.reading import open_below
from agent.records import Outcome


class Fault(NamedTuple):
    outcome: Outcome
    words: str


def fault(out: Path, name: str, most: int) -> Fault | None:
    """What is wrong with `out`/`name`; `most` is the largest size in bytes that is believed."""
    try:
        fd = open_below(out, name)
    except FileNotFoundError:
        return Fault("no_artifact", f"no artifact {name} was written")
    except OSError as error:
        link = error.errno in (errno.ELOOP, errno.ENOTDIR)
        why = "it is a link" if link else error.strerror
        return Fault("bad_artifact", f"artifact {name} can't be opened: {why}")
    try:
        return _of(name, os.fstat(fd), most)
    finally:
        os.close(fd)


def _of(name: str, info: os.stat_result, most: int) -> Fault | None:
    if not stat.S_ISREG(info.st_mode):
        return Fault("bad_artifact", f"artifact {name} is not a plain file")
    if info.st_nlink != 1:
        return Fault("bad_artifact", f"artifact {name} has {info.st_nlink} names: it may be another's file")
    if info.st_size == 0:
        return Fault("bad_artifact", f"artifact {name} is empty")
    if info.st_size > most:
        return Fault("bad_artifact", f"artifact {name} has {info.st_size:,} bytes, more than {most:,}")
    return None
