"""All jobs of one cluster, moved on step by step in one thread: sent, found again, looked at, brought home.

Takes mirrors of jobs; changes nothing but them and the cluster. One squeue and one look at the folders for all jobs
together, every few seconds, however many there are.
"""

import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.errors import InfraError
from agent.runners.job import from_json
from agent.runners.order import Order
from agent.runners.reading import there
from agent.runners.slurm import judging
from agent.runners.slurm.commands import Refused, Row, Slurm
from agent.runners.slurm.depot import Depot, Look
from agent.runners.slurm.judging import Known
from agent.runners.slurm.mirror import Mirror, Note, Unreadable
from agent.runners.slurm.sending import Sender, batch_log
from agent.runners.slurm.settings import Settings
from sandbox.limits import MB

GATHER_S = 0.3  # what is submitted within this time may become one array
ASK_EVERY_S = 15.0


@dataclass
class Job:
    """What the thread remembers of a job; all of it can be found out again."""

    mirror: Mirror
    order: Order
    note: Note | None
    since: float
    """When it came into this thread's hands, or Slurm was asked to take it."""
    asked_at: float | None = None
    asked_last: float = 0.0
    over_at: float | None = None
    beat: bytes = b""
    beat_at: float = field(default_factory=time.monotonic)

    @property
    def most_log(self) -> int:
        return (self.order.limited.limits.log_mb + 1) * MB


class Watch:
    def __init__(self, settings: Settings, slurm: Slurm, depot: Depot, sender: Sender, key: str) -> None:
        self._settings, self._slurm, self._depot, self._sender, self._key = settings, slurm, depot, sender, key
        self._jobs: dict[Path, Job] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._broken: BaseException | None = None
        self._sweep: Path | None = None
        self._thread: threading.Thread | None = None

    # ------------------------------------------------------------ from the loop's thread

    def take(self, folder: Path) -> None:
        """A job to care for, whatever state it is in; one that is known stays as it is."""
        if self._broken is not None:
            raise InfraError(f"the thread that watches the cluster has ended: {self._broken}") from self._broken
        mirror = Mirror(folder)
        with self._lock:
            if folder in self._jobs or mirror.over:
                return
            self._jobs[folder] = Job(mirror, mirror.order(), mirror.note(), time.monotonic())
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"slurm {self._settings.folder}", daemon=True)
                self._thread.start()
        self._wake.set()

    def hurry(self) -> None:
        self._wake.set()

    def sweep(self, jobs_root: Path) -> None:
        with self._lock:
            self._sweep = jobs_root

    def close(self) -> None:
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=30.0)

    # ------------------------------------------------------------ in its own

    def _run(self) -> None:
        try:
            while not self._closing:
                if self._wake.wait(self._settings.every_s):
                    self._wake.clear()
                    time.sleep(GATHER_S)
                self.tick()
        except BaseException as error:
            self._broken = error
            raise

    def tick(self) -> None:
        """One look at everything. What can't be done now is done at a later one."""
        with self._lock:
            jobs, root = [*self._jobs.values()], self._sweep
        try:
            self._submit([job for job in jobs if job.note is None])
            rows = self._slurm.queue()
            if root is not None:
                self._clear(root, rows)
                self._sweep = None
            placed = {str(n): job for n, job in enumerate(jobs) if job.note is not None}
            looks = self._depot.look({n: job.mirror.wanted(_note(job)) for n, job in placed.items()})
        except InfraError as error:
            for job in jobs:
                job.mirror.say(str(error))
            return
        again = [job for n, job in placed.items() if n in looks and self._move(job, rows, looks[n])]
        self._resubmit(again)

    def _move(self, job: Job, rows: dict[str, list[Row]], look: Look) -> bool:
        """Gives whether it must be submitted again."""
        try:
            return self._carry_out(job, _own_row(job, rows, self._slurm), look)
        except Unreadable as error:
            job.mirror.doubt()
            self._lose(job, str(error))
        except InfraError as error:
            job.mirror.say(str(error))
        return False

    def _carry_out(self, job: Job, row: Row | None, look: Look) -> bool:
        job.mirror.take(look, job.most_log)
        known = self._known(job, row, look)
        step = judging.step(known, self._settings.settle_s)
        if step.do == "ask" and time.monotonic() - job.asked_last > ASK_EVERY_S:
            job.asked_last = time.monotonic()
            self._depot.mark([f"{_note(job).folder}/cancel"])
            self._slurm.ask_to_end([row.id] if row else [])
        elif step.do == "remove" and row is not None:
            self._slurm.cancel([row.id])
        elif step.do == "finish":
            self._finish(job, None if row is None else row.state, known.asked)
        elif step.do == "lose":
            if row is not None and row.stage != "over":
                self._slurm.cancel([row.id])
            if "lost.json" in look.marks:
                self._lose(job, self._last_words(job))
            else:
                said = "" if look.marks else self._said(job)
                self._lose(job, f"{step.why}{said}", doubt=not look.there)
        elif step.do == "cancelled":
            self._end(job)
            job.mirror.cancelled(job.order.run_id, job.order.wall_s)
        return step.do == "submit"

    def _known(self, job: Job, row: Row | None, look: Look) -> Known:
        now = time.monotonic()
        if look.beat != job.beat:
            job.beat, job.beat_at = look.beat, now
        if row is not None and row.stage != "over":
            job.over_at = None
        elif job.over_at is None:
            job.over_at = now
        asked = there(job.mirror.paths.cancel)
        if asked and job.asked_at is None:
            job.asked_at = now
        if row is not None and not _note(job).job:
            job.note = replace(_note(job), job=row.id.split("_")[0])
            job.mirror.write_note(job.note)
        return Known(
            row=row,
            look=look,
            submitted=bool(_note(job).job),
            asked=asked,
            asked_s=now - (job.asked_at or now),
            over_s=min(now - (job.over_at or now), now - job.since),
            silent_s=now - job.beat_at,
        )

    def _finish(self, job: Job, state: str | None, asked: bool) -> None:
        mirror, note = job.mirror, _note(job)
        mirror.rest_of_logs(self._depot, note, job.most_log)
        result = mirror.bring(self._depot, note, job.order)
        if judging.is_lost(result.outcome, state, asked):
            if result.ran:
                mirror.doubt()
            self._lose(job, f"the cluster ended it ({state or 'forgotten'}): {result.reason}")
            return
        mirror.finish(result)
        self._end(job)

    def _said(self, job: Job) -> str:
        """By the batch script, where our own code never came to say anything."""
        text = (self._depot.fetch(batch_log(_note(job)), 100_000) or b"").decode("utf-8", "replace")
        lines = [line for line in text.splitlines() if line.strip()]
        return f"; the job's output ends with: {lines[-1][:300]}" if lines else ""

    def _last_words(self, job: Job) -> str:
        text = self._depot.fetch(f"{_note(job).folder}/lost.json", 10_000) or b""
        try:
            return str(from_json(text.decode("utf-8", "replace"))["reason"])[:2000]  # type: ignore[index]
        except (ValueError, KeyError, TypeError):
            return "it was lost on its node, which can't be read why"

    def _lose(self, job: Job, why: str, *, doubt: bool = False) -> None:
        if doubt:
            job.mirror.doubt()
        job.mirror.lose(why)
        self._end(job)

    def _end(self, job: Job) -> None:
        """Nothing more is to be done for it; its folder is not needed any more."""
        with self._lock:
            self._jobs.pop(job.mirror.folder, None)
        try:
            self._depot.drop([_note(job).folder, batch_log(_note(job))])
        except InfraError as error:
            job.mirror.say(str(error))  # the next sweep does it

    # ------------------------------------------------------------ submitting

    def _submit(self, jobs: Sequence[Job]) -> None:
        """Notes first: what Slurm is asked for can be found again by its name."""
        groups: dict[object, list[Job]] = defaultdict(list)
        for job in jobs:
            if there(job.mirror.paths.cancel):
                job.mirror.cancelled(job.order.run_id, job.order.wall_s)
                with self._lock:
                    self._jobs.pop(job.mirror.folder, None)
                continue
            groups[self._sender.alike(job.order, job.mirror.folder)].append(job)
        for group in groups.values():
            token = secrets.token_hex(4)
            name = f"caddie-{self._key}-r{group[0].order.run_id}-{token}"
            for index, job in enumerate(group):
                folder = f"{self._depot.folder}/jobs/{self._key}/r{job.order.run_id}-{token}"
                self._sender.send(job.order, job.mirror.folder, folder)
                job.note = Note(name, folder, index if len(group) > 1 else -1)
                job.mirror.write_note(job.note)
            self._ask(group)

    def _resubmit(self, jobs: Sequence[Job]) -> None:
        groups: dict[str, list[Job]] = defaultdict(list)
        for job in jobs:
            groups[_note(job).name].append(job)
        for group in groups.values():
            for job in group:
                self._sender.send(job.order, job.mirror.folder, _note(job).folder)
            self._ask(group)

    def _ask(self, group: Sequence[Job]) -> None:
        for job in group:
            job.since = time.monotonic()
        try:
            id = self._sender.submit([(job.order, _note(job)) for job in group])
        except InfraError as error:
            # Refused: there is none; else perhaps there is one, which the queue will tell by its name.
            for job in group:
                job.mirror.say(str(error) if isinstance(error, Refused) else f"not sure: {error}")
            return
        for job in group:
            job.note = replace(_note(job), job=id)
            job.mirror.write_note(job.note)

    # ------------------------------------------------------------ sweeping

    def _clear(self, root: Path, rows: dict[str, list[Row]]) -> None:
        """What is on the cluster under our key, and no job here knows of."""
        folders = [folder for folder in root.iterdir() if folder.is_dir()] if root.is_dir() else []
        kept = [note for mirror in map(Mirror, folders) if not mirror.over and (note := mirror.note()) is not None]
        names, far = {note.name for note in kept}, {note.folder.rpartition("/")[2] for note in kept}
        prefix = f"caddie-{self._key}-"
        ours = [row for group in rows.values() for row in group if row.name.startswith(prefix)]
        if stray := [row.id for row in ours if row.name not in names and row.stage != "over"]:
            self._slurm.cancel(stray)
        own = f"{self._depot.folder}/jobs/{self._key}"
        logs = {batch_log(note).rpartition("/")[2] for note in kept}
        if old := [f"{own}/{name}" for name in self._depot.names(own) if name not in far | logs]:
            self._depot.drop(old)


def _note(job: Job) -> Note:
    assert job.note is not None
    return job.note


def _own_row(job: Job, rows: dict[str, list[Row]], slurm: Slurm) -> Row | None:
    """The row of this job. Where Slurm has it twice, because an answer of its got lost, the later one is taken back."""
    note = _note(job)
    index = None if note.index < 0 else note.index
    mine = [row for row in rows.get(note.name, []) if row.place == index]
    order = {"running": 0, "ending": 1, "waiting": 2, "held": 3, "over": 4}
    mine.sort(key=lambda row: (order[row.stage], int(row.id.split("_")[0])))
    if double := [row.id for row in mine[1:] if row.stage in ("waiting", "held")]:
        slurm.cancel(double)
    return mine[0] if mine else None
