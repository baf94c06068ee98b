"""The walls of a node are tried before code that nobody has read first runs there, as those of a rented machine are.

Takes the folder where the answers of all nodes are kept; on a node, raises `Failed` where they do not hold; where jobs
are submitted, says which nodes Slurm is not to give. A node is tried once for each start of it and each version of our
code. One that failed is left alone for a day, and may then have been mended.
"""

import contextlib
import json
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.admission.examine import LIMIT_S, Look, examine
from agent.admission.seen import Record
from agent.job import lock
from agent.job.reading import read_small
from agent.job.writing import write_aside
from agent.runners.shepherd import boot
from agent.strict import strict
from sandbox.policy import Level, reaches

FOLDER = "nodes"  # in the cluster's folder
REFUSED_S = 86_400
WRONG_S = 3600  # for one that is not what was asked for: perhaps it is the settings that are wrong, and will be mended
MOST_NAMED = 5
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,200}")
_REFUSED = re.compile(rf"({_NODE.pattern})@([0-9]{{1,12}})")


class Failed(Exception):
    """Nothing of a model's may run on this node."""


@dataclass(frozen=True)
class Known:
    """What came of trying a node."""

    boot: str
    code: str
    """The folder of our code: it is named by its content."""
    level: Level
    tried: int
    unknown: tuple[str, ...]
    """Attempts that got through and should not have."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))


# ---------------------------------------------------------------- on a node


def require(nodes: Path, node: str, minimum: Level, scratch: Path, code: str) -> float:
    """Seconds that it took: the first job of a node waits for it, and others that come meanwhile wait too.

    Raises:
        Failed: the walls of this node are weaker than asked for, or do not hold.
    """
    if not reaches(minimum, "pod"):
        return 0.0  # what no model wrote needs none
    if not _NODE.fullmatch(node):
        raise Failed(f"this node has no name that can be written down: {node[:100]!r}")
    began = time.monotonic()
    nodes.mkdir(mode=0o700, exist_ok=True)
    held = None
    with contextlib.suppress(OSError):  # no locks on that file system: two may try at once
        held = lock.hold(nodes / f"{node}.lock", patience_s=2 * LIMIT_S)
    try:
        known = remembered(nodes, node, code) or _try(nodes, node, scratch, code)
        if wrong := fault(known, minimum):
            refuse(nodes, node)
            raise Failed(f"its walls: {wrong}")
    finally:
        if held is not None:
            os.close(held)
    return time.monotonic() - began


def remembered(nodes: Path, node: str, code: str) -> Known | None:
    """None: it was not tried since it was started, or not by this code."""
    try:
        found = strict(Known, read_small(nodes / f"{node}.json") or "")
    except (OSError, ValueError):
        return None
    return found if (found.boot, found.code) == (boot(), code) else None


def remember(nodes: Path, node: str, known: Known) -> None:
    write_aside(nodes / f"{node}.json", known.to_json())


def fault(known: Known, minimum: Level) -> str:
    """Why it is not taken; empty: it is."""
    if not reaches(known.level, minimum):
        return f"they are of level {known.level}, {minimum} is asked for"
    if known.unknown:
        named = ", ".join(known.unknown[:MOST_NAMED])
        more = len(known.unknown) - MOST_NAMED
        return f"they do not hold: {named}{f' and {more} more' if more > 0 else ''} got through"
    return ""


def refuse(nodes: Path, node: str, seconds: int = REFUSED_S) -> None:
    """From now on Slurm is asked for others."""
    if not _NODE.fullmatch(node):
        return
    until = int(time.time()) + seconds
    with contextlib.suppress(OSError):
        nodes.mkdir(mode=0o700, exist_ok=True)
        (nodes / f"{node}@{until}").touch()


def _try(nodes: Path, node: str, scratch: Path, code: str) -> Known:
    record = examine(Look(cuda=False, disk=scratch, data=None, parts=("walls",)))
    known = _known(record, code)
    remember(nodes, node, known)
    return known


def _known(record: Record, code: str) -> Known:
    if record.walls is None:  # perhaps the node is too busy for it: the next job tries again
        why = record.unfinished.get("walls", "nobody knows why")
        raise Failed(f"its walls could not be tried: {why[:300]}")
    return Known(boot(), code, record.walls.level, record.walls.tried, record.walls.unknown)


# ---------------------------------------------------------------- where jobs are submitted


def refused(names: Iterable[str], now: float) -> tuple[str, ...]:
    """Nodes that are left alone, by the names in the folder."""
    found = (_REFUSED.fullmatch(name) for name in names)
    return tuple(sorted({one[1] for one in found if one is not None and int(one[2]) > now}))


def name_of(env: Mapping[str, str], host: str) -> str:
    """As Slurm calls it."""
    return env.get("SLURMD_NODENAME", "") or host
