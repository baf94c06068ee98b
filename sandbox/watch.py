"""The watchdog's eyes: what a tree of processes uses now, against its limits.

Takes the processes, the folder and the log; gives the first limit that is passed, and when to look again.
"""

import math
import os
import time
from pathlib import Path

from sandbox import nameless, status, tree
from sandbox.gpus import Meter
from sandbox.groups import Group
from sandbox.limits import MB, Cause, Limits
from sandbox.memory_files import Held, held, of_user
from sandbox.traffic import Traffic
from sandbox.tree import Proc
from sandbox.walk import Walk

EVERY_S = 0.1
HASTE_S = 0.01  # between two looks when something grows so fast that it could pass its limit before the next one
READY_EVERY_S = 0.5
DISK_EVERY_S = 0.25
DISK_SHARE = 20  # a look at the disk may take 1/20 of the time between two
MAPS_EVERY_S = 1.0
MAPS_WITHIN_S = 0.05  # nothing else is looked at meanwhile
MAX_ENTRIES = 20_000


class Watch:
    """Looks at one tree; remembers what it needs for the next look."""

    def __init__(
        self,
        limits: Limits,
        folder: Path,
        log_fd: int,
        group: Group | None,
        gpus: Meter | None,
        traffic: Traffic | None = None,
        uid: int | None = None,
    ) -> None:
        """`uid`: a user that nobody else is, where the tree shares the machine's own memory for files."""
        self._limits = limits
        self._uid = uid
        self._group = group
        self._gpus = gpus
        self._traffic = traffic
        self._walk, self._mappings = Walk(folder), nameless.Mappings(folder)
        self._shared_mappings = nameless.Mappings(None)
        self._log_fd = log_fd
        self._started = time.monotonic()
        self._disk_due = self._started + DISK_EVERY_S
        self._mapped, self._maps_due = 0, self._started
        self._tables, self._unshown, self._tables_due = 0, 0, self._started
        self._shared, self._shared_until = 0, 0.0
        self._own_cpu: dict[tuple[int, int], float] = {}
        self._ready: dict[tuple[int, str], float] = {}  # of each thread of a process that started then
        self._ready_at = self._started
        self._not_ready = 0.0  # seconds in which no thread was seen to be
        self.ready_s: float | None = None
        self._last: tuple[float, dict[Cause, float]] = (self._started, {})
        self.due = self._started + HASTE_S
        self.reaped_cpu_s = 0.0  # of children that have ended, set by whoever waits for them
        self.cpu_s = 0.0
        self.peak = 0.0

    def look(self, rows: dict[int, Proc]) -> Cause | None:
        """One sample: the first limit that is passed, or None."""
        now = time.monotonic()
        self._count_cpu(rows)
        if now >= self._ready_at + READY_EVERY_S:
            self.count_ready(rows)
        used = self._used(rows, now)
        self.peak = max(self.peak, used["memory"])
        self.due = now + self._rest(used, now)
        self._last = (now, used)
        if rows and self._group is not None and self._group.out_of_memory():
            return "memory"  # the kernel was first; whom it killed need not be the one that we started
        return next((cause for cause, limit in self._bounds().items() if used.get(cause, 0.0) > limit), None)

    def at_end(self) -> Cause | None:
        """What can be told after the last process is gone, so that a short life is judged like a long one."""
        size, allowed = os.fstat(self._log_fd).st_size, self._limits.log_mb * MB
        if size > allowed:
            return "log"
        if self._limits.cpu_s is not None and self.cpu_s > self._limits.cpu_s:
            return "cpu"
        if self.peak > self._limits.memory_mb * MB:
            return "memory"
        enough = self._limits.disk_mb * MB
        return "disk" if self._walk.used(enough, MAX_ENTRIES) + self._beyond_log() > enough else None

    def _bounds(self) -> dict[Cause, float]:
        limits = self._limits
        return {
            "network": 0,
            "wall": limits.wall_s,
            "cpu": math.inf if limits.cpu_s is None else limits.cpu_s,
            "memory": limits.memory_mb * MB,
            "log": limits.log_mb * MB,
            "processes": limits.processes,
            "disk": limits.disk_mb * MB,
            "gpu-memory": math.inf if limits.gpu_memory_mb is None else limits.gpu_memory_mb * MB,
        }

    def _used(self, rows: dict[int, Proc], now: float) -> dict[Cause, float]:
        threads = sum(row.threads for row in rows.values())
        used: dict[Cause, float] = {
            "wall": now - self._started,
            "cpu": self.cpu_s,
            "memory": self._memory(rows, now),
            "log": os.fstat(self._log_fd).st_size,
            "processes": len(rows) if threads < self._limits.tasks else max(len(rows), threads),
        }
        if self._gpus is not None:
            used["gpu-memory"] = self._gpus.look(rows)
        if self._traffic is not None:
            used["network"] = self._traffic.look(rows)
        if now >= self._disk_due:
            used["disk"] = self._disk(rows)
            took = time.monotonic() - now
            self._disk_due = now + max(DISK_EVERY_S, DISK_SHARE * took)
        return used

    def _disk(self, rows: dict[int, Proc]) -> float:
        if self._held(rows).entries > MAX_ENTRIES:
            return math.inf
        try:
            opened = nameless.opened(rows)
        except (PermissionError, OverflowError):
            return math.inf  # it made itself unreadable for us: honest code does not
        now = time.monotonic()
        if now >= self._maps_due:
            mapped = self._mappings.look([row.thread for row in rows.values()], MAPS_WITHIN_S)
            self._mapped = sum(size for file, size in mapped.items() if file not in opened)
            self._maps_due = time.monotonic() + max(MAPS_EVERY_S, DISK_SHARE * (time.monotonic() - now))
        named = self._walk.used(self._limits.disk_mb * MB, MAX_ENTRIES)
        return named + sum(opened.values()) + self._mapped + self._beyond_log()

    def _beyond_log(self) -> int:
        """What the log takes on the disk and its length does not say: a file may have room behind its end."""
        return max(0, os.fstat(self._log_fd).st_blocks * 512 - self._limits.log_mb * MB)

    def _held(self, rows: dict[int, Proc]) -> Held:
        boxes = held(rows)
        shared = Held(0, 0) if self._uid is None else of_user(self._uid)
        return Held(boxes.bytes + shared.bytes, boxes.entries + shared.entries)

    def _count_cpu(self, rows: dict[int, Proc]) -> None:
        """Three counts, none too high: the group's; what was waited for; and what was seen (a parent that ignores
        SIGCHLD makes the kernel forget its children's time, but for the group's)."""
        for row in rows.values():
            self._own_cpu[row.pid, row.start] = row.cpu_s
        seen = sum(self._own_cpu.values())
        waited = self.reaped_cpu_s + sum(row.cpu_s + row.reaped_cpu_s for row in rows.values())
        counted = None if self._group is None else self._group.cpu_s()
        self.cpu_s = max(self.cpu_s, seen, waited, counted or 0.0)

    def count_ready(self, rows: dict[int, Proc]) -> None:
        """In each stretch of time it is the thread that ran or was ready to run for longest that counts: many threads
        that wait for one another's core are not kept from it by others. The kernel counts a wait when it is over: until
        then it shows by a thread that is ready and does nothing, and what is left of it is counted afterwards."""
        now = time.monotonic()
        passed, longest, waits = now - self._ready_at, 0.0, False
        for row in rows.values():
            for thread, seconds in tree.ready_s(row).items():
                before = self._ready.get((row.start, thread), 0.0)
                longest = max(longest, seconds - before)
                waits = waits or (seconds == before and tree.runnable(row, thread))
                self._ready[row.start, thread] = seconds
        self._ready_at = now
        if self._ready:
            late = min(max(longest - passed, 0.0), self._not_ready)
            counted = passed if waits else min(longest, passed)
            self._not_ready += passed - counted - late
            self.ready_s = (self.ready_s or 0.0) + counted + late

    def _memory(self, rows: dict[int, Proc], now: float) -> float:
        """Files in memory count too. Only the kernel knows which of their pages are in a process as well; where it does
        not say, those count twice, and what of shared memory no process shows is looked for. Page tables come on top,
        looked at now and then: the kernel's own bound is above ours."""
        if not rows:
            return 0
        counted = None if self._group is None else self._group.memory()
        resident = self._resident(rows, now)
        if now >= self._tables_due:
            self._tables = sum(status.page_tables(row.thread) for row in rows.values())
            if counted is None:
                self._unshown = nameless.unshown(self._shared_mappings, rows.values(), MAPS_WITHIN_S)
            self._tables_due = now + MAPS_EVERY_S
        used = resident + self._held(rows).bytes + self._unshown if counted is None else max(resident, counted)
        return used + self._tables

    def _resident(self, rows: dict[int, Proc], now: float) -> float:
        """Forked processes share pages, which the quick sum counts for each; over the limit that matters."""
        quick, limit = sum(row.rss for row in rows.values()), self._limits.memory_mb * MB
        if len(rows) < 2 or quick <= limit:
            return quick
        if quick - self._shared > limit or now >= self._shared_until:
            fair = [(row.rss, tree.proportional_rss(row.pid)) for row in rows.values()]
            self._shared = quick - sum(rss if size is None else size for rss, size in fair)
            self._shared_until = now + 1.0
        return quick - self._shared

    def _rest(self, used: dict[Cause, float], now: float) -> float:
        """Seconds until the next look: sooner when a limit is near at the present speed."""
        then, before = self._last
        passed = max(now - then, 1e-6)
        bounds = self._bounds()
        rest = min(EVERY_S, max(bounds["wall"] - used["wall"], 0.001))
        for cause in ("memory", "log", "processes"):
            speed = (used[cause] - before.get(cause, 0.0)) / passed
            if speed > 0 and (bounds[cause] - used[cause]) / speed < 2 * EVERY_S:
                return min(rest, HASTE_S)
        return rest
