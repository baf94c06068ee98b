"""Who belongs to a command that was started: all that descends from it, and the orphans among them that came to us.

Takes the process that was started and its control group; gives `Proc` rows of those that live, and waits for the dead.
An orphan has lost the parent that said whose it is: it is ours if it is in a session that nobody else's command made.
"""

import os
import resource
import subprocess

from sandbox import child, tree
from sandbox.groups import Group
from sandbox.libc import LINUX
from sandbox.tree import Proc

# By root, while they live: two commands of one supervisor don't claim each other's orphans.
_families: dict[int, "Family"] = {}


class Family:
    """The tree of one command. Made before its root is started, so that it knows the children we had already."""

    def __init__(self) -> None:
        self._before = {(row.pid, row.start) for row in _children_of_self()}
        self._own_peak = _peak_of_self()
        self._group: Group | None = None
        self._process: subprocess.Popen[bytes]
        self._orphans = 0  # that were waited for
        self.pid = 0
        self.status: int | None = None  # of the root, once it ended and was waited for
        self.seen: dict[int, int] = {}  # process id -> start, at the last look
        self.reaped_cpu_s = 0.0  # of all that were waited for
        self.unreaped_cpu_s = 0.0  # of those that were not yet, at the last look
        self.peak = 0  # bytes the root held at most, once it was waited for and as far as that is its own

    def begin(self, process: "subprocess.Popen[bytes]", group: Group | None) -> None:
        self._process, self._group, self.pid = process, group, process.pid
        _families[self.pid] = self

    def end(self) -> None:
        """Its id may be somebody else's from now on; the last one ends the adopting of orphans."""
        if _families.get(self.pid) is self:
            del _families[self.pid]
        if not _families:
            child.adopt_orphans(False)

    def reap_root(self) -> bool:
        """Whether the root has ended."""
        if self.status is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid == 0:
                return False
            self.status = status
            self._process.returncode = os.waitstatus_to_exitcode(status)
            self.reaped_cpu_s += usage.ru_utime + usage.ru_stime
            peak = usage.ru_maxrss * (1024 if LINUX else 1)
            if peak > self._own_peak:  # up to there it may be ours, from before the exec
                self.peak = peak
        return True

    def rows(self, at_most: int = 1_000_000) -> dict[int, Proc]:
        """Every living process of the tree; reaps the dead ones that came to us."""
        members = () if self._group is None else self._group.pids()
        roots = [] if self.status is not None else [self.pid]
        for row in _children_of_self():
            if (row.pid, row.start) in self._before or row.pid in _families:
                continue
            if row.sid == os.getsid(0) or self._of_another(row):
                continue  # no orphan can be in our own session: its root left it before exec
            if row.zombie:
                self._reap_orphan(row.pid)
            else:
                roots.append(row.pid)
        if not LINUX:  # nobody brings us orphans there: follow those we have seen
            roots += [pid for pid, start in self.seen.items() if _is(pid, start)]
        dead: list[Proc] = []
        rows = tree.descendants([*roots, *members], at_most, dead)
        self.unreaped_cpu_s = sum(row.cpu_s + row.reaped_cpu_s for row in dead)
        self.seen = {pid: row.start for pid, row in rows.items()}
        return rows

    def last_rows(self) -> dict[int, Proc]:
        """The same while all are being ended: none only if nobody is left, alive or dead."""
        self.reap_root()
        before = self._orphans
        rows = self.rows()
        # One that ended while we looked has left us its own dead children, too late to be seen in that look.
        late = self.status is None or self._orphans > before
        return self.rows() if late and not rows else rows

    def _of_another(self, row: Proc) -> bool:
        """Whether an orphan is known to belong to another tree. One that nobody knows is anyone's."""
        others = [other for other in _families.values() if other is not self]
        return any(row.sid == other.pid or other.seen.get(row.pid) == row.start for other in others)

    def _reap_orphan(self, pid: int) -> None:
        try:
            reaped, _, usage = os.wait4(pid, os.WNOHANG)
        except ChildProcessError:
            return
        if reaped:
            self._orphans += 1
            self.reaped_cpu_s += usage.ru_utime + usage.ru_stime


def _is(pid: int, start: int) -> bool:
    row = tree.look(pid)
    return row is not None and row.start == start


def _children_of_self() -> list[Proc]:
    rows = (tree.look(pid) for pid in tree.children(os.getpid()))
    return [row for row in rows if row is not None]


def _peak_of_self() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1024 if LINUX else 1)
