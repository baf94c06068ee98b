"""One machine that works for a store: takes jobs by lease, runs them behind its own walls, hands in what came of them.

Takes a store, a runner of this machine and a folder. It needs no controller to be there, and none needs its address.
A lease is what makes a job its own: without one for too long (the network is gone, the machine slept, the process was
stopped) it ends what it runs, and what it would still hand in is refused by the store.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from agent.errors import InfraError, StoreError
from agent.interrupts import interruptible
from agent.job.removal import remove
from agent.runners import Runner
from agent.runners.far.mirror import LOGS, put
from agent.runners.order import Order, place
from agent.runners.queue import cargo, held, outcome
from agent.runners.queue.choosing import Choosing
from agent.runners.queue.corpora import Corpora
from agent.runners.queue.held import Job, Noted
from agent.runners.queue.mirror import MOST_LOG, PIECE
from agent.runners.queue.telling import Tell, Told, What
from agent.store import Store, blobs, printed, queue, workers
from agent.store.queue import Answer, Held, Sign, Taken, Wanted
from agent.store.turns import Waiting

LOOK_S = 0.2  # between two looks at what runs
ASK_S = 1.0  # between two looks for jobs
LEASE_S = 30.0
MIND_S = 0.5  # between two looks at how long the store has been silent
SIGN_S = 3.0  # between two signs of life, and no more than a sixth of a lease
MOST_PIECES = MOST_LOG // PIECE
CODE, REFERENCE = "code/", "reference"


@dataclass(frozen=True)
class Me:
    """What a worker says of itself."""

    name: str
    host: str
    pid: int
    hardware_class: str
    level: str
    levels: tuple[str, ...]
    """Of walls that it can promise."""


class Worker:
    """`folder`: its own, beside the data; `lease_s`: how long it may be silent."""

    def __init__(
        self, store: Store, runner: Runner, folder: Path, corpora: Corpora, me: Me, tell: Tell, lease_s: float = LEASE_S
    ) -> None:
        self._store, self._runner, self._folder, self._corpora, self._me = store, runner, folder, corpora, me
        self._tell, self._lease_s = tell, lease_s
        self._choosing = Choosing(runner)
        self._jobs: dict[Path, Job] = {}
        self._kept: tuple[Waiting, Taken] | None = None  # a job that GPUs are kept free for
        self._id = 0
        self._interrupts = 0
        self._sign_due = self._ask_due = 0.0
        self._silent_since = _now()
        self._trouble = ""

    def run(self) -> None:
        """Until it is interrupted: once, and it finishes what it has; twice, and it ends that."""
        with self._interruptible(), self._minded():
            self._come()
            try:
                while not self._interrupts or self._jobs:
                    self.turn()
                    time.sleep(LOOK_S)
            finally:
                self._go()

    def turn(self) -> None:
        """One look at everything; a store that can't be reached is tried again at the next."""
        try:
            self._keep()
            for job in [job for job in self._jobs.values() if not job.over]:
                self._look_at(job)
            if self._interrupts and self._kept is not None:
                (_, taken), self._kept = self._kept, None
                self._lose(taken.held, taken.run_id, "it is leaving", 0.0, began=False)
            if not self._interrupts and _now() >= self._ask_due:
                self._take()
            self._trouble = ""
        except StoreError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                self._say("unreachable", f"The store can't be reached, trying on: {error}")
            self._sign_due = 0.0
        if _now() > self._silent_since + self._lease_s:
            self._give_up()
        for job in [job for job in self._jobs.values() if job.over]:
            self._look_at(job)  # which needs no store

    # ------------------------------------------------------------ leases

    def _come(self) -> None:
        me = self._me
        with self._store.share() as shared:
            self._id = workers.register(
                shared,
                name=me.name,
                host=me.host,
                pid=me.pid,
                hardware_class=me.hardware_class,
                slots=self._choosing.at_once,
                level=me.level,
                lease_s=self._lease_s,
                kinds=self._choosing.kinds,
            )
        self._silent_since = _now()
        kinds = ", ".join(f"{count} slots of {kind}" for kind, count in self._choosing.kinds.items())
        self._say("working", f"Worker {me.name}: {kinds}, walls: {me.level}. Ctrl-C ends it.")
        for folder in sorted(self._folder.glob("jobs/r*")):
            noted = held.noted(folder)
            if noted is None or noted.slot not in self._runner.slots:
                self._runner.cancel(folder)
            self._jobs[folder] = Job(folder, noted or Noted(0, 0, 0, ""), over=noted is None)
        self._runner.sweep(self._folder / "jobs")

    def _go(self) -> None:
        try:
            with self._store.share() as shared:
                workers.leave(shared, self._id)
        except StoreError as error:
            self._say("unreachable", f"The store was not told that this worker left: {error}")

    def _keep(self) -> None:
        """Signs of life, a few in each lease."""
        if _now() < self._sign_due:
            return
        mine = [job for job in self._jobs.values() if not job.over]
        kept = [Sign(self._kept[1].held, 0.0, "")] if self._kept is not None else []
        with self._store.share() as shared:
            answer = queue.signs(
                shared,
                self._id,
                [*(job.sign() for job in mine), *kept],
                lease_s=self._lease_s,
                draining=self._interrupts > 0,
            )
        self._silent_since = _now()
        self._sign_due = _now() + min(SIGN_S, self._lease_s / 6)
        self._obey(answer, mine)
        for job in mine:
            if not job.over:
                self._send_logs(job, most=1)

    def _obey(self, answer: Answer, mine: list[Job]) -> None:
        if self._kept is not None and self._kept[1].held.job_id in answer.lost:
            self._kept = None
        for job in mine:
            if job.held.job_id in answer.lost:
                self._say("lost", f"r{job.noted.run_id}: its lease is over, so it is ended here", job.noted.run_id)
                job.over = True
            job.asked = job.asked or job.held.job_id in answer.cancelled

    def _give_up(self) -> None:
        """Nobody has heard of this worker for a whole lease: what it runs counts as lost by now."""
        self._kept = None
        for job in self._jobs.values():
            job.over = True

    @contextmanager
    def _minded(self) -> Iterator[None]:
        """In a thread of its own, because a link to the store that is half open keeps `turn` waiting: what runs is
        ended all the same."""
        gone = threading.Event()

        def mind() -> None:
            while not gone.wait(MIND_S):
                if _now() > self._silent_since + self._lease_s:
                    for job in list(self._jobs.values()):
                        job.over = True
                        self._runner.cancel(job.folder)

        thread = threading.Thread(target=mind, name="worker", daemon=True)
        thread.start()
        try:
            yield
        finally:
            gone.set()
            thread.join()

    # ------------------------------------------------------------ jobs

    def _look_at(self, job: Job) -> None:
        if (job.over or job.asked or self._interrupts > 1) and not job.cancelled:
            job.cancelled = True
            self._runner.cancel(job.folder)
        state = self._runner.poll(job.folder)
        if state not in ("done", "lost"):
            return
        if not job.over:
            self._hand_in(job, state == "done")
        self._forget(job)

    def _hand_in(self, job: Job, done: bool) -> None:
        if not done:
            loss = self._runner.loss(job.folder)
            self._lose(job.held, job.noted.run_id, loss.reason, loss.slot_s, began=True)
            return
        try:
            found = self._runner.collect(job.folder)
            outputs = outcome.outputs(job.folder, found)
        except InfraError as error:
            self._lose(job.held, job.noted.run_id, str(error), 0.0, began=True)
            return
        if found.outcome == "cancelled" and not job.asked:
            words = f"worker {self._me.name} was told to stop"
            self._lose(job.held, job.noted.run_id, words, found.slot_s, began=True, told=True)
            return
        self._send_logs(job)
        with self._store.share() as shared:
            shas = {name: blobs.put(shared, data) for name, data in outputs.items()}
            taken = queue.finish(shared, job.held, result=found.to_json(), outputs=shas, seconds=found.slot_s)
        words = found.outcome if taken else "came too late, so it was refused"
        self._say("ended" if taken else "refused", f"r{job.noted.run_id}: {words}", job.noted.run_id)

    def _lose(self, lease: Held, run_id: int, reason: str, seconds: float, *, began: bool, told: bool = False) -> None:
        with self._store.share() as shared:
            queue.lose(shared, lease, reason=f"on {self._me.name}: {reason}", seconds=seconds, began=began, told=told)
        self._say("lost", f"r{run_id}: lost: {reason}", run_id)

    def _send_logs(self, job: Job, most: int = MOST_PIECES) -> None:
        """What was printed since, `most` pieces of each log; first it is asked what the store has of it."""
        for name in LOGS:
            for _ in range(most):
                at = job.sent.get(name, -1)
                piece = cargo.read_end(job.folder, name, at, PIECE) if at >= 0 else b""
                if at >= 0 and not piece:
                    break
                with self._store.share() as shared:
                    end = printed.add(shared, job.held, name, at, piece)
                if end is None:
                    return
                job.sent[name] = end

    def _forget(self, job: Job) -> None:
        remove(job.folder)
        self._jobs.pop(job.folder, None)

    # ------------------------------------------------------------ taking

    def _take(self) -> None:
        self._ask_due = _now() + ASK_S
        busy = {job.noted.slot: job.left_s() for job in self._jobs.values()}
        wanted = Wanted(tuple(self._choosing.kinds), self._corpora.shas, self._me.levels)
        if not self._choosing.free(busy):
            return
        with self._store.share() as shared:
            queue.expire(shared)
            waiting = queue.waiting(shared, self._id, wanted, len(self._runner.slots))
            found = self._choosing.choose(waiting, busy, None if self._kept is None else self._kept[0])
            taken = queue.take(shared, self._id, {**found.starts, **found.holds}, lease_s=self._lease_s)
        if self._kept is not None and (slot := found.starts.get(self._kept[0].job_id)) is not None:
            (_, mine), self._kept = self._kept, None
            taken.append(replace(mine, slot=slot))
        for one in taken:
            if one.held.job_id in found.holds:
                self._keep_for(one, waiting)
            else:
                self._start(one)
        if not taken and not waiting:
            self._learn(wanted)
        elif taken or found.starts:  # where another was quicker, there may be more
            self._ask_due = 0.0

    def _keep_for(self, taken: Taken, waiting: list[Waiting]) -> None:
        """Its turn has come, and its GPUs are not free yet: no other worker is to keep some for it too."""
        self._kept = next(one for one in waiting if one.job_id == taken.held.job_id), taken
        self._say("waits", f"r{taken.run_id} waits for slot {taken.slot}", taken.run_id)

    def _start(self, taken: Taken) -> None:
        folder = self._folder / "jobs" / f"r{taken.run_id}"
        job = Job(folder, Noted(taken.held.job_id, taken.held.token, taken.run_id, taken.slot))
        try:
            order = self._place(folder, taken)
            held.note(folder, job.noted)
        except (InfraError, OSError, ValueError) as error:
            if folder not in self._jobs:
                remove(folder)
            self._lose(taken.held, taken.run_id, str(error), 0.0, began=False)
            return
        with self._store.share() as shared:
            begun = queue.begin(shared, taken.held, lease_s=self._lease_s)
        if not begun:
            remove(folder)
            return
        self._jobs[folder] = job
        self._say("began", f"r{taken.run_id} in slot {taken.slot}", taken.run_id)
        try:
            self._runner.submit(order, folder, taken.slot)
        except InfraError as error:
            self._lose(taken.held, taken.run_id, str(error), 0.0, began=True)
            job.over = True

    def _place(self, folder: Path, taken: Taken) -> Order:
        """The job folder, with the order as it reads on this machine."""
        order = Order.from_json(taken.order)
        if order.run_id != taken.run_id:
            raise InfraError(f"the order of r{taken.run_id} is of r{order.run_id}")
        if folder in self._jobs:
            raise InfraError(f"an earlier try of r{taken.run_id} is not ended here yet")
        remove(folder)
        with self._store.read() as reads:
            files = {name: blobs.get(reads.connection, sha) for name, sha in taken.inputs.items()}
        reference = order.auditing.reference
        if reference is not None:
            name = f"references/{reference.sha256[:16]}.npz"
            if REFERENCE not in files:
                raise InfraError(f"the scores to audit r{taken.run_id} by did not come with it")
            put(self._folder, name, files[REFERENCE])
            there = replace(reference, path=f"../{name}")
            order = replace(order, auditing=replace(order.auditing, reference=there))
        code = {name.removeprefix(CODE): data for name, data in files.items() if name.startswith(CODE)}
        place(folder, order, lambda into: cargo.unload(into, code))
        return order

    def _learn(self, wanted: Wanted) -> None:
        """Data of campaigns that this worker could work for, had it their data."""
        with self._store.read() as reads:
            campaigns = [reads.campaign_by_id(one) for one in queue.data_wanted(reads.connection, wanted)]
        for campaign in campaigns:
            self._corpora.look_into(campaign)

    def _say(self, what: What, text: str, run_id: int | None = None) -> None:
        self._tell(Told(what, text, run_id))

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Ctrl-C once: finish what runs. Twice, a SIGTERM, or a terminal that is closed: end it."""

        def interrupt(number: int, frame: FrameType | None) -> None:
            self._interrupts += 1 if number == signal.SIGINT else 2
            self._sign_due = 0.0
            what = "finishing what runs, taking nothing more; Ctrl-C again ends it"
            self._say("stopping", "ending what runs" if self._interrupts > 1 else what)

        with interruptible(interrupt):
            yield


def _now() -> float:
    """Seconds that go on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
