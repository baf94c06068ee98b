"""One job in hand: what is remembered of it from one look to the next.

Takes its mirror, and what Slurm and its folder say now; gives what is known, for `next_step`. All of it can be found
out again by whoever comes later.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from agent.job.reading import there
from agent.runners.order import Order
from agent.runners.slurm.commands import Row, Stage
from agent.runners.slurm.depot import Look
from agent.runners.slurm.mirror import ONLY, Mirror, Note
from agent.runners.slurm.next_step import Known
from sandbox.limits import MB

# Of two rows for one job, the first of these counts.
_RANK: dict[Stage, int] = {"running": 0, "ending": 1, "waiting": 2, "held": 3, "over": 4}


@dataclass
class Held:
    mirror: Mirror
    order: Order
    note: Note | None
    """None: nothing was asked of Slurm yet."""
    since: float = field(default_factory=time.monotonic)
    """When it came into our hands, or Slurm was last asked to take it."""
    asked_at: float | None = None
    reminded_at: float = 0.0
    over_at: float | None = None
    again_at: float | None = None
    waits_since: float | None = None
    """When it was first seen in the queue; None: it is not there."""
    nowhere_since: float | None = None
    beat: bytes = b""
    beat_at: float = field(default_factory=time.monotonic)

    @property
    def placed(self) -> Note:
        assert self.note is not None
        return self.note

    @property
    def slurm_id(self) -> str:
        """ "": it is not known yet."""
        note = self.placed
        return f"{note.job}_{note.index}" if note.job and note.index >= 0 else note.job

    @property
    def most_log(self) -> int:
        return (self.order.limited.limits.log_mb + 1) * MB

    @property
    def alone(self) -> bool:
        """It is for one node alone."""
        return there(self.mirror.folder / ONLY)

    @property
    def waited_s(self) -> float:
        return 0.0 if self.waits_since is None else time.monotonic() - self.waits_since

    def know(self, note: Note) -> None:
        """Written down before it is relied on."""
        if note != self.note:
            self.mirror.write_note(note)
            self.note = note

    def known(self, row: Row | None, look: Look) -> Known:
        now = time.monotonic()
        if look.beat != self.beat:
            self.beat, self.beat_at = look.beat, now
        if row is not None and row.stage != "over":
            self.over_at = None
        elif self.over_at is None:
            self.over_at = now
        if row is None or row.stage not in ("waiting", "held") or "started" not in look.marks:
            self.again_at = None
        elif self.again_at is None:
            self.again_at = now
        if row is None or row.stage != "waiting":
            self.waits_since = None
        elif self.waits_since is None:
            self.waits_since = now
        if row is None or not row.nowhere or not self.alone:
            self.nowhere_since = None
        elif self.nowhere_since is None:
            self.nowhere_since = now
        asked = there(self.mirror.paths.cancel)
        if asked and self.asked_at is None:
            self.asked_at = now
        if row is not None:
            self.know(replace(self.placed, job=row.id.split("_")[0]))
        return Known(
            row=row,
            look=look,
            submitted=bool(self.placed.job),
            asked=asked,
            asked_s=0.0 if self.asked_at is None else now - self.asked_at,
            over_s=0.0 if self.over_at is None else min(now - self.over_at, now - self.since),
            silent_s=now - self.beat_at,
            again_s=0.0 if self.again_at is None else now - self.again_at,
            nowhere_s=0.0 if self.nowhere_since is None else now - self.nowhere_since,
        )


class Rows(NamedTuple):
    own: Row | None
    double: Sequence[str]
    """Ids of others in the queue, which are there because an answer of Slurm's got lost."""


def rows_of(note: Note, queue: Mapping[str, Sequence[Row]]) -> Rows:
    place = None if note.index < 0 else note.index
    mine = [row for row in queue.get(note.name, ()) if row.place == place]
    mine.sort(key=lambda row: (_RANK[row.stage], int(row.id.split("_")[0])))
    return Rows(mine[0] if mine else None, [row.id for row in mine[1:] if row.stage in ("waiting", "held")])
