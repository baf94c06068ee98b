"""The controller's side of the queue: a Runner whose slots are those of the workers that are there.

Takes orders, laid out in the store for whichever worker comes first; gives states from the store's rows, which it reads
for all jobs at once, and job folders filled as mirrors. Which worker has a run is the worker's to choose.
"""

import contextlib
import hashlib
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from agent.errors import InfraError, MissingError
from agent.job.folder import JobPaths, JobResult, JobState, Loss, Progress
from agent.job.reading import there
from agent.records import Campaign
from agent.runners import LATER
from agent.runners.far.mirror import beat, lose
from agent.runners.order import Order, placed
from agent.runners.progress import progress
from agent.runners.queue import cargo, mirror, rebuild
from agent.runners.queue.hardware import fits, gpus_of
from agent.runners.results import order_of, result_of
from agent.store import Store, blobs, lease, printed, queue, workers
from agent.store.queue import IN_FLIGHT, JobRow
from agent.store.workers import Worker
from agent.track import Track
from agent.workspace import jobs_folder
from sandbox import BoxName, Level, Policy
from sandbox.policy import LEVELS, reaches

LOOK_S = 0.5  # between two looks at the store
LOGS_S = 5.0  # between two looks for what was printed
_RUN = re.compile(r"r(\d{1,12})")
_ONE = re.compile(r"\.w(\d{1,9})$")  # at the end of a slot that means one worker


class QueueRunner:
    def __init__(self, name: str, store: Store, track: Track, ahead: int = 1, workspace: Path | None = None) -> None:
        """`workspace`: where folders are made anew of runs that another machine's controller has laid out."""
        self._name, self._store, self._track, self._ahead = name, store, track, ahead
        self._workspace = workspace
        self._own: Store | None = store  # until the controller's takes its place
        self._lock = threading.Lock()
        self._open: dict[int, Path] = {}
        self._rows: dict[int, JobRow] = {}
        self._workers: list[Worker] = []
        self._classes: dict[str, str] = {}  # by the word that stands for each in names of slots
        self._looked = self._logged = -1e9
        self._refused: set[str] = set()
        if not self._fitting() and not self._ever():
            raise MissingError(
                f"no worker that can run track {track.name} is there. On each machine that shall work: "
                f"agent work --track {track.name} --store URL"
            )

    def opened(self, store: Store, campaign: Campaign) -> None:
        """From now on all is read and written through the controller's own store. Runs that a controller elsewhere laid
        out are found as if they had been laid out here."""
        if self._own is not None and self._own is not store:
            self._own.close()
        self._own, self._store = None, store
        if self._workspace is not None:
            rebuild.folders(store, campaign, jobs_folder(self._workspace, campaign.name), self._name)

    def close(self) -> None:
        if self._own is not None:
            self._own.close()

    # ------------------------------------------------------------ what is there

    @property
    def slots(self) -> tuple[str, ...]:
        """As many of each hardware class as its workers have, and some more, whose runs wait for the next free one."""
        have: Counter[str] = Counter()
        for worker in self._taking():
            for kind, count in worker.kinds.items() if worker.state == "working" else ():
                have[kind] += count if fits(self._track, kind) else 0
        return tuple(
            f"{self._name}/{self._word(kind)}.{number}"
            for kind, count in sorted(have.items())
            for number in range(count + self._ahead if count else 0)
        )

    @property
    def notes(self) -> tuple[str, ...]:
        found = self._taking()
        names = ", ".join(sorted({worker.name for worker in found})[:10])
        return (f"{sum(worker.slots for worker in found)} slots of {len(found)} workers: {names}",)

    def hardware_class(self, slot: str) -> str:
        word = slot.rpartition("/")[2].partition(".")[0]
        if word not in self._classes:
            self._look()
            with self._store.read() as reads:
                for kind in workers.classes(reads.connection):
                    self._word(kind)
        try:
            return self._classes[word]
        except KeyError as error:
            raise InfraError(f"slot {slot}: no worker has ever had such a one") from error

    def lease(self, slot: str) -> str:
        """A worker's, from its start to its end."""
        one = _only(slot)
        return LATER if one is None else self._lease(one)

    def refuse(self, lease: str, reason: str) -> None:
        """It takes no further job, of any campaign, until its person starts it again."""
        for worker in self._workers if lease not in self._refused else ():
            if self._lease(worker.id) == lease:
                with self._store.share() as shared:
                    workers.refuse(shared, worker.id, reason)
                self._refused.add(lease)

    def began_on(self, folder: Path) -> str:
        with self._store.read() as reads:
            row = queue.look(reads.connection, [_run_id(folder)]).get(_run_id(folder))
        return "" if row is None or not row.began or row.worker_id is None else self._lease(row.worker_id)

    def pinned(self, seen: Callable[[], Sequence[str]]) -> dict[str, str]:
        need = self._track.gpus(self._track.decision.rung)
        return {
            self._lease(worker.id): f"{self._name}/{self._word(kind)}.w{worker.id}"
            for worker in self._taking()
            for kind in worker.kinds
            if worker.state == "working" and fits(self._track, kind) and gpus_of(kind) in (0, need)
        }

    def _lease(self, worker_id: int) -> str:
        return f"{self._name}/w{worker_id}"

    def far(self, slot: str) -> bool:
        return True

    def price(self, slot: str) -> float:
        return 0.0  # who runs a worker pays for its machine

    def env(self, slot: str) -> dict[str, str]:
        return {}

    def gpus(self, slot: str) -> tuple[int, ...]:
        return ()

    def size(self, slot: str) -> int | None:
        return gpus_of(self.hardware_class(slot)) or None

    def spare(self, slot: str) -> float | None:
        return None

    def level(self, policy: Policy) -> Level:
        """The least that a run may find: that of the weakest worker which takes such runs."""
        found = self._taking() or self._strong(self._ever()) or self._ever()
        return min((_level(worker) for worker in found), key=LEVELS.index, default="base")

    def box(self) -> BoxName:
        return ""

    # ------------------------------------------------------------ jobs

    def submit(self, order: Order, folder: Path, slot: str) -> None:
        placed(folder, order)
        paths = JobPaths(folder)
        files = {f"{paths.code.name}/{name}": data for name, data in cargo.load(paths.code).items()}
        if order.auditing.reference is not None:
            path = folder.parent / order.auditing.reference.path
            try:
                files["reference"] = path.read_bytes()
            except OSError as error:
                raise InfraError(f"the scores to audit r{order.run_id} by can't be sent: {error}") from error
        inputs = {name: self._put(data) for name, data in files.items()}
        with self._store.write() as tx:
            run = tx.run(order.run_id)
            campaign = tx.campaign_by_id(run.campaign_id)
            lease.require(tx.connection, f"campaign {campaign.name}")
            queue.offer(
                tx,
                run_id=run.id,
                order=order.to_json(),
                inputs=inputs,
                hardware_class=run.hardware_class,
                data_sha=campaign.data_sha,
                minimum=order.minimum,
                gpus=gpus_of(run.hardware_class),
                wall_s=order.wall_s,
                only=_only(slot),
            )
        with self._lock:
            self._open[run.id] = folder

    def poll(self, folder: Path) -> JobState:
        paths, run_id = JobPaths(folder), _run_id(folder)
        if there(paths.lost) or not folder.is_dir():
            return "lost"
        if there(paths.result):
            return "done"
        row = self._row(run_id, folder)
        if row is None:
            return "lost"  # it was never laid out
        if row.state in IN_FLIGHT:
            return "running" if row.state == "running" else "starting"
        try:
            with self._store.read() as reads:
                if row.state == "done":
                    mirror.result(reads.connection, folder, row)
                    return "done"
                with contextlib.suppress(InfraError):  # why it was lost counts more than the end of its log
                    mirror.rest(reads.connection, folder, row)
            lose(folder, Loss(row.began, row.seconds, row.reason, row.machine))
        except InfraError as error:
            lose(folder, Loss(True, row.seconds, str(error)))
        return "lost"

    def ended(self, folders: Collection[Path]) -> set[Path]:
        return {folder for folder in folders if self.poll(folder) in ("done", "lost")}

    def progress(self, folder: Path) -> Progress | None:
        return progress(folder)

    def cancel(self, folder: Path) -> None:
        run_id = _run_id(folder)
        ended = JobResult(run_id, "cancelled", "cancelled before a worker took it", (), 0.0, (), False)
        with self._store.write() as tx:
            queue.ask_to_end(tx, run_id, ended.to_json())

    def collect(self, folder: Path) -> JobResult:
        return result_of(folder)

    def loss(self, folder: Path) -> Loss:
        with self._store.read() as reads:
            row = queue.look(reads.connection, [_run_id(folder)]).get(_run_id(folder))
        if row is None:
            return Loss(False, 0.0, "it was never laid out for a worker")
        return Loss(row.began, min(row.seconds, order_of(folder).wall_s), row.reason, row.machine)

    def sweep(self, jobs_root: Path) -> list[int]:
        """Workers end what they left behind themselves."""
        return []

    # ------------------------------------------------------------ how

    def _put(self, data: bytes) -> str:
        sha = hashlib.sha256(data).hexdigest()
        with self._store.read() as reads:
            if blobs.has(reads.connection, sha):
                return sha
        with self._store.share() as shared:
            return blobs.put(shared, data)

    def _row(self, run_id: int, folder: Path) -> JobRow | None:
        with self._lock:
            self._open.setdefault(run_id, folder)
            known = run_id in self._rows
        self._look(now=not known)
        with self._lock:
            return self._rows.get(run_id)

    def _fitting(self) -> list[Worker]:
        self._look()
        return [worker for worker in self._workers if not worker.refused and self._fits(worker)]

    def _fits(self, worker: Worker) -> bool:
        return any(fits(self._track, kind) for kind in worker.kinds)

    def _taking(self) -> list[Worker]:
        """Those of them whose walls are strong enough for whatever the track runs. Where none ever were, all: they take
        what changes nothing but knobs."""
        found = self._fitting()
        return self._strong(found) or ([] if self._strong(self._ever()) else found)

    def _strong(self, found: Sequence[Worker]) -> list[Worker]:
        return [worker for worker in found if reaches(_level(worker), self._track.sandbox.minimum)]

    def _ever(self) -> list[Worker]:
        """Those that fit and are gone: others like them may come."""
        with self._store.read() as reads:
            found = workers.everyone(reads.connection)
        return [worker for worker in found if self._fits(worker)]

    def _look(self, now: bool = False) -> None:
        """Reads what is known of all jobs and workers, unless that was done just now."""
        with self._lock:
            if not now and time.monotonic() < self._looked + LOOK_S:
                return
            self._looked = time.monotonic()
            with self._store.share() as shared:
                queue.expire(shared)
            with self._store.read() as reads:
                self._workers = workers.alive(reads.connection)
                self._rows = queue.look(reads.connection, self._open) if self._open else {}
            self._mirror(self._rows)
            for run_id, row in self._rows.items():
                if row.state not in IN_FLIGHT:
                    self._open.pop(run_id, None)

    def _mirror(self, rows: Mapping[int, JobRow]) -> None:
        """What runs looks here as it does on its worker; logs come less often."""
        running = [row for row in rows.values() if row.state == "running"]
        for row in running:
            beat(self._open[row.run_id], row.beat)
        if not running or time.monotonic() < self._logged + LOGS_S:
            return
        self._logged = time.monotonic()
        with self._store.read() as reads:
            ends = printed.ends(reads.connection, [row.id for row in running])
            for row in running:
                mirror.logs(reads.connection, self._open[row.run_id], row, ends)

    def _word(self, hardware_class: str) -> str:
        word = hashlib.sha256(hardware_class.encode()).hexdigest()[:6]
        self._classes[word] = hardware_class
        return word


def _run_id(folder: Path) -> int:
    found = _RUN.fullmatch(folder.name)
    if found is None:
        raise InfraError(f"{folder} is no job folder of a run")
    return int(found[1])


def _only(slot: str) -> int | None:
    """The worker that it means; None: any."""
    found = _ONE.search(slot)
    return None if found is None else int(found[1])


def _level(worker: Worker) -> Level:
    return next((level for level in LEVELS if level == worker.level), "base")
