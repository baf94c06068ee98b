"""Runs on this machine: a pinned core or some GPUs a slot, each run held by a shepherd process of its own.

Takes job folders; every controller that comes later finds them as they are.
"""

import contextlib
import errno
import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from agent import own_process
from agent.errors import InfraError, UserError
from agent.hardware import Gpu
from agent.job import lock
from agent.job.folder import JobPaths, JobResult, JobSpec, JobState, Loss, Progress
from agent.job.reading import read_small, there
from agent.job.writing import write_aside
from agent.runners import cores, leftovers, stopped, used
from agent.runners.order import Here, Order, corpus_beside, placed, spec_of
from agent.runners.progress import progress
from agent.runners.results import result_of
from agent.runners.shepherd import boot
from agent.runners.turns import GPUS, TAKEN_S, Taken, Turns, who, words
from agent.strict import from_json, strict
from sandbox import BoxName, Level, Policy, in_force
from sandbox.child import open_log
from sandbox.walls import strongest, tried

SHEPHERD = own_process.code("agent.runners.shepherd")
# A shepherd that was sent for and has not come by then never will.
COME_WITHIN_S = 30.0
NO_LOCK = (errno.ELOOP, errno.EISDIR, errno.ENXIO)  # a link, a folder or a socket lies in its place
UNREADABLE = "the machine took it away without a word"


@dataclass(frozen=True)
class Waits:
    """What a job waits for that nobody holds yet."""

    alone: tuple[str, ...]  # what it will have for itself
    core: int | None
    by: str  # who has it now


class LocalRunner:
    def __init__(
        self,
        slots: int,
        gpus: tuple[Gpu, ...] = (),
        gpus_per_slot: int = 0,
        sizes: tuple[int, ...] = (),
        turns: Turns | None = None,
    ) -> None:
        """Without GPUs a slot is a core; else `gpus_per_slot` of those that are given.

        `sizes`: of further slots, which are of the same GPUs as those. `turns`: where runs of several campaigns take
        turns on one core; left out, both are on it at once. A GPU never has two runs.
        """
        self._turns = GPUS if gpus_per_slot else turns
        self._shepherds: dict[Path, subprocess.Popen[bytes]] = {}
        self._gpus_per_slot = gpus_per_slot
        self.slots = tuple(f"local/{n}" for n in range(slots))
        self.notes: tuple[str, ...] = ()
        self._level: Level | None = None
        if gpus_per_slot:
            if slots * gpus_per_slot > len(gpus):
                needed = f"{slots * gpus_per_slot} GPUs, this machine has {len(gpus)}"
                raise UserError(f"--slots {slots}: needs {needed} that the track can use")
            self._shared_out = _shared_out(gpus[: slots * gpus_per_slot], gpus_per_slot, sizes)
            self.slots = tuple(self._shared_out)
            return
        self._cores, shared = cores.claim(slots)
        self._class = f"cpu/{cores.cpu_name()}/1-thread"
        if shared:
            names = ", ".join(map(str, shared))
            self.notes = (f"Another campaign's runs are pinned to core {names} too: both will take longer.",)

    def hardware_class(self, slot: str) -> str:
        return f"cuda/{self._of(slot)[0].name}/{len(self._of(slot))}" if self._gpus_per_slot else self._class

    def price(self, slot: str) -> float:
        return 0.0

    def lease(self, slot: str) -> str:
        """One for this machine until it is started again."""
        return f"local/{boot()[:13]}"

    def refuse(self, lease: str, reason: str) -> None:
        """Nobody takes it back: its person has to see what is wrong with it."""

    def env(self, slot: str) -> dict[str, str]:
        if not self._gpus_per_slot:
            return {}
        # By name: behind walls a run sees its own GPUs alone, and counts them from 0.
        return {
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
            "CUDA_VISIBLE_DEVICES": ",".join(gpu.uuid for gpu in self._of(slot)),
        }

    def gpus(self, slot: str) -> tuple[int, ...]:
        return tuple(gpu.minor for gpu in self._of(slot)) if self._gpus_per_slot else ()

    def _of(self, slot: str) -> tuple[Gpu, ...]:
        return self._shared_out[slot]

    def core(self, slot: str) -> int | None:
        """A GPU run needs its processor threads; only runs that are timed on a core of their own are pinned to it."""
        return None if self._gpus_per_slot else self._cores[self.slots.index(slot)]

    def alone(self, slot: str) -> tuple[str, ...]:
        """What no other campaign's run may have while one of this slot does."""
        if self._turns is None:
            return ()
        return tuple(gpu.uuid for gpu in self._of(slot)) if self._gpus_per_slot else (f"core-{self.core(slot)}",)

    def taken(self, slot: str) -> str:
        """Whose run is on it, of whatever campaign; empty: nobody's."""
        return "" if self._turns is None else self._turns.by(self.alone(slot))

    def wait_s(self, slot: str) -> float:
        return TAKEN_S if self.taken(slot) else 0.0

    def waits(self, folder: Path) -> str:
        waits = _waits(JobPaths(folder))
        return "" if waits is None else words(waits.by)

    def spare(self, slot: str) -> float | None:
        return None if self._gpus_per_slot else cores.spare(self._cores[self.slots.index(slot)])

    def level(self, policy: Policy) -> Level:
        if self._level is None:
            self._level = strongest(policy).level
        return self._level

    def box(self) -> BoxName:
        return tried()

    def submit(self, order: Order, folder: Path, slot: str) -> None:
        self.start(order, folder, slot, corpus_beside(order, folder))

    def start(self, order: Order, folder: Path, slot: str, corpus: Path) -> None:
        """As `submit`, with a corpus that lies elsewhere."""
        placed(folder, order)
        paths = JobPaths(folder)
        if not there(paths.spec):
            here = Here(corpus, self.gpus(slot), self.env(slot), self.box())
            try:
                write_aside(paths.spec, spec_of(order, here, folder).to_json())
            except OSError as error:
                raise InfraError(f"can't write {paths.spec}: {error}") from error
        self.hold(order.run_id, folder, slot)

    def hold(self, run_id: int, folder: Path, slot: str) -> None:
        """Send a shepherd for a job whose spec is in its folder, unless it has one or is over."""
        paths = JobPaths(folder)
        try:
            found = JobSpec.from_json(read_small(paths.spec) or "")
        except ValueError as error:
            raise InfraError(f"{folder} does not hold the job of r{run_id}: {error}") from error
        if found.run_id != run_id:
            raise InfraError(f"{folder} does not hold the job of r{run_id}, but of r{found.run_id}")
        if there(paths.lost) or there(paths.result) or lock.held(paths.lock):
            return
        self._begin(paths, Waits(self.alone(slot), self.core(slot), ""))

    def poll(self, folder: Path) -> JobState:
        """The lock comes before the result: a candidate may have written one while its shepherd lives."""
        paths = JobPaths(folder)
        _unlock(folder)
        if there(paths.lost):
            return "lost"
        if lock.held(paths.lock) or self._lives(folder):
            stopped.end(paths)
            return "running" if there(paths.heartbeat) else "starting"
        if there(paths.result):
            return "done"
        if not folder.is_dir():
            return "lost"
        if (waits := _waits(paths)) is not None:
            try:
                self._begin(paths, waits)
            except InfraError:  # no room, no process: it waits on, and what is looked at with it knows nothing of it
                with contextlib.suppress(InfraError):
                    _wait(paths, waits)
            return "starting"
        if not there(paths.pid) and self._on_its_way(paths):
            return "starting"
        return self._give_up(paths)

    def progress(self, folder: Path) -> Progress | None:
        return progress(folder)

    def cancel(self, folder: Path) -> None:
        paths = JobPaths(folder)
        if not folder.is_dir():
            return
        with contextlib.suppress(FileExistsError):
            paths.cancel.touch(exist_ok=False)  # which follows no link
        try:
            held = lock.hold(paths.lock, patience_s=0.0)
        except OSError as error:
            if error.errno not in NO_LOCK:
                raise
            return  # its shepherd sees that its lock is gone, and without one `poll` gives the job up
        if held is None:  # its shepherd looks for the file
            return
        try:
            if not there(paths.result) and not there(paths.lost):
                self._write_cancelled(paths)
        finally:
            os.close(held)

    def collect(self, folder: Path) -> JobResult:
        return result_of(folder)

    def loss(self, folder: Path) -> Loss:
        """Doubt counts as `ran`: dying, or taking the job folder along, must be no way to draw again."""
        paths = JobPaths(folder)
        whole = there(paths.spec) and there(paths.lock)
        ran = not whole or there(paths.started) or there(paths.heartbeat)
        return Loss(ran, used.seconds(paths, ran), _last_words(paths))

    def sweep(self, jobs_root: Path) -> list[int]:
        return leftovers.end(jobs_root)

    def _begin(self, paths: JobPaths, share: Waits) -> None:
        """Send a shepherd, unless somebody else's run is on the job's share of the machine: then it waits, and each
        `poll` tries again."""
        held: list[int] = []
        try:
            if self._turns is not None:
                held = self._turns.take(share.alone, who(paths.folder))
            self._send(paths, share.core, held)
        except Taken as taken:
            if share.by != str(taken):
                _wait(paths, Waits(share.alone, share.core, str(taken)))
        finally:
            for file in held:
                os.close(file)

    def _send(self, paths: JobPaths, core: int | None, turns: Sequence[int]) -> None:
        folder, pinned_to = paths.folder.resolve(), "" if core is None else str(core)
        try:
            write_aside(paths.spawned, "", durable=False)
            paths.waits.unlink(missing_ok=True)  # before: a shepherd that was sent for once is not sent for again
            with os.fdopen(open_log(paths.shepherd_log), "ab") as log:
                self._shepherds[paths.folder] = subprocess.Popen(
                    own_process.command(SHEPHERD, str(folder), pinned_to, ",".join(map(str, turns))),
                    pass_fds=turns,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=own_process.ENV,
                    cwd="/",
                    start_new_session=True,
                )
        except OSError as error:
            raise InfraError(f"can't start a shepherd for {folder}: {error}") from error

    def _on_its_way(self, paths: JobPaths) -> bool:
        times = [path.lstat().st_mtime for path in (paths.spec, paths.spawned) if there(path)]
        sent = max(times, default=0.0)
        return abs(time.time() - sent) < COME_WITHIN_S

    def _give_up(self, paths: JobPaths) -> JobState:
        """With the lock in hand, so that it is final: a shepherd that comes later finds the tombstone."""
        try:
            held = lock.hold(paths.lock, patience_s=0.0)
        except OSError as error:
            if error.errno not in NO_LOCK:
                raise
            return _bury(paths)  # no shepherd can take it
        if held is None:
            return "starting"
        try:
            return _bury(paths)
        finally:
            os.close(held)

    def _write_cancelled(self, paths: JobPaths) -> None:
        """Nobody holds the job, so nobody else will answer."""
        ran = there(paths.started)
        try:
            run_id = _whose(paths)
        except ValueError:
            _bury(paths)
            return
        result = JobResult(
            run_id=run_id,
            outcome="cancelled",
            reason="cancelled while nobody held it",
            phases=(),
            slot_s=used.seconds(paths, ran),
            walls=in_force(),
            ran=ran,
        )
        write_aside(paths.result, result.to_json())

    def _lives(self, folder: Path) -> bool:
        """Whether the shepherd that we sent is there, whatever the folder says; reaps it if it is not."""
        shepherd = self._shepherds.get(folder)
        if shepherd is None or shepherd.poll() is None:
            return shepherd is not None
        del self._shepherds[folder]
        return False


def _whose(paths: JobPaths) -> int:
    """Raises ValueError where the folder does not say which run it is for."""
    if not there(paths.spec):  # cut off before it was made out
        return Order.from_json(read_small(paths.order) or "").run_id
    return JobSpec.from_json(read_small(paths.spec) or "").run_id


def _waits(paths: JobPaths) -> Waits | None:
    """What a job waits for. One that had a shepherd waits for nothing, whatever its folder says."""
    text = None if there(paths.pid) or there(paths.lock) else read_small(paths.waits)
    try:
        return None if text is None else strict(Waits, text)
    except ValueError:
        return None


def _wait(paths: JobPaths, waits: Waits) -> None:
    try:
        write_aside(paths.waits, json.dumps(asdict(waits)))
    except OSError as error:
        raise InfraError(f"can't write {paths.waits}: {error}") from error


def _shared_out(gpus: tuple[Gpu, ...], per_slot: int, sizes: tuple[int, ...]) -> dict[str, tuple[Gpu, ...]]:
    """GPUs by slot: local/0 is the first slot of the usual size, local/gpus-0-7 one of another size."""
    found = {f"local/{n}": gpus[first : first + per_slot] for n, first in enumerate(range(0, len(gpus), per_slot))}
    for size in sizes:
        for first in range(0, len(gpus) - size + 1, size):
            last = first + size - 1
            name = f"local/gpus-{first}-{last}" if size > 1 else f"local/gpu-{first}"
            if size != per_slot:
                found[name] = gpus[first : last + 1]
    return found


def _bury(paths: JobPaths) -> JobState:
    """What has no shepherd and no result never will have one."""
    if there(paths.result):
        return "done"
    if not there(paths.lost):
        write_aside(paths.lost, json.dumps({"reason": "its shepherd died, or never came"}))
    return "lost"


def _unlock(folder: Path) -> None:
    """A candidate may have taken our rights to its job folder."""
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK) and not folder.is_symlink():
        with contextlib.suppress(OSError):
            folder.chmod(0o700)


def _last_words(paths: JobPaths) -> str:
    try:
        return str(from_json(read_small(paths.lost) or "")["reason"])[:2000]  # type: ignore[index]
    except (ValueError, KeyError, TypeError):
        return UNREADABLE
