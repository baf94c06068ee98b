"""All jobs of one cluster, moved on step by step in one thread: sent, found again, looked at, brought home.

Takes job folders; changes nothing but them and the cluster. One squeue and one look at the folders for all jobs
together, every few seconds, however many there are.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.errors import CaddieError, InfraError
from agent.job.reading import there
from agent.runners.results import order_of
from agent.runners.slurm import next_step
from agent.runners.slurm.commands import PREFIX, Row, Slurm
from agent.runners.slurm.depot import Depot, Look
from agent.runners.slurm.held import Held, rows_of
from agent.runners.slurm.mirror import Mirror, Note, Unreadable
from agent.runners.slurm.next_step import Known
from agent.runners.slurm.placing import AT_ONCE, Placing, key_of
from agent.runners.slurm.sending import batch_log
from agent.runners.slurm.settings import Settings
from agent.strict import from_json

GATHER_S = 0.3  # what is submitted within this time may become one array
REMIND_S = 15.0


class Watch:
    def __init__(self, settings: Settings, slurm: Slurm, depot: Depot, placing: Placing) -> None:
        self._settings, self._slurm, self._depot, self._placing = settings, slurm, depot, placing
        self._jobs: dict[Path, Held] = {}
        self._roots: list[Path] = []
        self._dropped: list[str] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._broken: BaseException | None = None
        self._thread: threading.Thread | None = None
        self.waited_s = 0.0
        """How long the job has waited in the queue that waits longest, as it was seen at the last look. One that is
        for a node alone tells nothing of others."""

    # ------------------------------------------------------------ from the loop's thread

    def take(self, folder: Path) -> None:
        """A job to care for, whatever state it is in; one that is known stays as it is.

        Raises:
            CaddieError: nobody watches any more.
        """
        if self._broken is not None:
            raise CaddieError(f"the thread that watches the cluster has ended: {self._broken}") from self._broken
        with self._lock:
            if folder in self._jobs or (mirror := Mirror(folder)).over:
                return
            try:
                self._jobs[folder] = Held(mirror, order_of(folder), mirror.note())
            except InfraError as error:
                mirror.doubt()
                mirror.lose(str(error))
                return
        self._go()

    def holds(self, folder: Path) -> bool:
        """Whether it is not over, as far as is known."""
        with self._lock:
            return folder in self._jobs

    def sweep(self, jobs_root: Path) -> None:
        with self._lock:
            self._roots.append(jobs_root)
        self._go()

    def hurry(self) -> None:
        self._wake.set()

    def close(self) -> None:
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=30.0)

    def _go(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"slurm {self._settings.folder}", daemon=True)
            self._thread.start()
        self._wake.set()

    # ------------------------------------------------------------ in its own

    def _run(self) -> None:
        try:
            while not self._closing:
                if self._wake.wait(self._settings.every_s):
                    self._wake.clear()
                    time.sleep(GATHER_S)
                try:
                    self._tick()
                except (InfraError, OSError) as error:  # the next look may do better
                    self._say(str(error))
        except CaddieError as error:  # a person must act; the loop hears of it at its next question
            self._broken = error
        except BaseException as error:
            self._broken = error
            raise

    def _tick(self) -> None:
        """One look at everything. What can't be done now is done at a later one."""
        with self._lock:
            jobs = [*self._jobs.values()]
        for job in jobs:
            if not job.mirror.folder.is_dir():  # somebody has taken it away; the next sweep clears up
                self._forget(job)
        jobs = [job for job in jobs if job.mirror.folder.is_dir()]
        self._begin([job for job in jobs if job.note is None])
        queue = self._slurm.queue()
        self._clear(queue)
        placed = {str(n): job for n, job in enumerate(jobs) if job.note is not None}
        looks = self._depot.look({n: job.mirror.wanted(job.placed) for n, job in placed.items()})
        again = [job for n, job in placed.items() if n in looks and self._move(job, queue, looks[n])]
        waits = [job.waited_s for job in placed.values() if job.waited_s and not job.alone]
        self.waited_s = max(waits, default=0.0)
        self._placing.again(again)
        self._forget_those_over(again)
        self._drop()

    def _say(self, words: str) -> None:
        with self._lock:
            jobs = [*self._jobs.values()]
        for job in jobs:
            job.mirror.say(words)

    def _begin(self, jobs: Sequence[Held]) -> None:
        for job in jobs:
            if there(job.mirror.paths.cancel):
                job.mirror.cancelled(job.order.run_id, job.order.wall_s)
        self._placing.begin([job for job in jobs if not job.mirror.over])
        self._forget_those_over(jobs)
        if len(jobs) > AT_ONCE:
            self._wake.set()

    def _forget_those_over(self, jobs: Sequence[Held]) -> None:
        for job in jobs:
            if job.mirror.over:
                self._forget(job)

    def _move(self, job: Held, queue: Mapping[str, Sequence[Row]], look: Look) -> bool:
        """Gives whether it must be submitted again."""
        try:
            rows = rows_of(job.placed, queue)
            if rows.double:
                self._slurm.cancel(rows.double)
            return self._carry_out(job, rows.own, look)
        except Unreadable as error:
            job.mirror.doubt()
            self._lose(job, str(error))
        except (InfraError, OSError) as error:
            job.mirror.say(str(error))
        return False

    def _carry_out(self, job: Held, row: Row | None, look: Look) -> bool:
        job.mirror.take(look, job.most_log)
        known = job.known(row, look)
        step = next_step.step(known, self._settings.settle_s)
        if row is None and step.do in ("lose", "cancelled") and job.slurm_id:
            # Before it is given up, it is asked for by itself: a queue may have been cut short.
            row = self._slurm.job(job.slurm_id, job.placed.name)
            known = job.known(row, look)
            step = next_step.step(known, self._settings.settle_s)
        if step.do == "ask" and row is not None:
            self._remind(job, row)
        elif step.do == "remove" and row is not None:
            self._slurm.cancel([row.id])
        elif step.do == "finish":
            self._finish(job, known)
        elif step.do == "lose":
            self._take_back(row)
            away = next_step.taken_away(known)
            self._lose(job, self._why(job, step.why, look), doubt=not look.there, machine=away)
        elif step.do == "cancelled":
            job.mirror.cancelled(job.order.run_id, job.order.wall_s)
            self._end(job)
        return step.do == "submit"

    def _remind(self, job: Held, row: Row) -> None:
        if time.monotonic() - job.reminded_at > REMIND_S:
            self._depot.mark([f"{job.placed.folder}/cancel"])
            self._slurm.ask_to_end([row.id])
            job.reminded_at = time.monotonic()

    def _finish(self, job: Held, known: Known) -> None:
        result = job.mirror.bring(self._depot, job.placed, job.order)
        self._take_back(known.row)
        if next_step.is_lost(result.outcome, known):
            state = "Slurm has forgotten it" if known.row is None else f"Slurm says {known.row.state}"
            why = f"the cluster ended it ({state}): {result.reason}"
            self._lose(job, why, doubt=result.ran, machine=next_step.taken_away(known))
            return
        job.mirror.finish(result)
        self._end(job)

    def _take_back(self, row: Row | None) -> None:
        """What Slurm has queued once more."""
        if row is not None and row.stage != "over":
            self._slurm.cancel([row.id])

    def _why(self, job: Held, words: str, look: Look) -> str:
        """In the words of who knows best: the shepherd, or the batch script where our code never came to speak."""
        note = job.placed
        if "lost.json" in look.marks:
            text = self._depot.fetch(note.folder, {"lost.json": 10_000}, {}).get("lost.json", b"")
            try:
                return str(from_json(text.decode("utf-8", "replace"))["reason"])[:2000]  # type: ignore[index]
            except (ValueError, KeyError, TypeError):
                return "it was lost on its node; why can't be read"
        if look.marks:
            return words
        folder, _, name = batch_log(note).rpartition("/")
        said = self._depot.fetch(folder, {name: 1_000_000}, {}).get(name, b"").decode("utf-8", "replace")
        last = [line for line in said.splitlines() if line.strip()][-1:]
        return f"{words}; the job's output ends with: {last[0][:300]}" if last else words

    def _lose(self, job: Held, why: str, *, doubt: bool = False, machine: bool = False) -> None:
        """`doubt`: whether candidate code may have run though nothing here says so; `machine`: see `Loss`."""
        if doubt:
            job.mirror.doubt()
        job.mirror.lose(why, job.order.wall_s, machine=machine)
        self._end(job)

    def _end(self, job: Held) -> None:
        """Nothing more is to be done for it; its folder is not needed any more."""
        self._forget(job)
        self._dropped += [job.placed.folder, batch_log(job.placed)]

    def _forget(self, job: Held) -> None:
        with self._lock:
            self._jobs.pop(job.mirror.folder, None)

    def _drop(self) -> None:
        if self._dropped:
            self._depot.drop(self._dropped)
            self._dropped = []

    def _clear(self, queue: Mapping[str, Sequence[Row]]) -> None:
        """What is on the cluster under a campaign's key, and no job of it here knows of."""
        with self._lock:
            roots = [*self._roots]
        for root in roots:
            self._clear_one(root, queue)
            with self._lock:
                self._roots.remove(root)

    def _clear_one(self, root: Path, queue: Mapping[str, Sequence[Row]]) -> None:
        folders = [folder for folder in root.iterdir() if folder.is_dir()] if root.is_dir() else []
        notes = [note for mirror in map(Mirror, folders) if not mirror.over and (note := _note(mirror)) is not None]
        names = {note.name for note in notes}
        mine = f"{PREFIX}{key_of(root)}-"
        stray = [row for rows in queue.values() for row in rows if row.name.startswith(mine) and row.name not in names]
        if live := [row.id for row in stray if row.stage != "over"]:
            self._slurm.cancel(live)
        far = f"{self._depot.folder}/jobs/{key_of(root)}"
        kept = {path.rpartition("/")[2] for note in notes for path in (note.folder, batch_log(note))}
        self._dropped += [f"{far}/{name}" for name in self._depot.names(far) if name not in kept]


def _note(mirror: Mirror) -> Note | None:
    """One that can't be read is none: whoever asks for its job hears that it is lost."""
    try:
        return mirror.note()
    except InfraError:
        return None
