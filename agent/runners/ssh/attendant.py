"""Looks after the jobs on a far machine, for as long as a link lasts; without it they go on by themselves.

Runs there, from the tree of our code: takes questions on stdin, gives answers on stdout, each a frame of JSON with its
length before it. All that it does may be done again: a job is made and started once, whoever asks how often.
"""

import base64
import contextlib
import hashlib
import json
import os
import struct
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from agent import devices, hardware, packages, reach
from agent.errors import CaddieError, InfraError
from agent.job import lock
from agent.job.folder import JobPaths
from agent.job.reading import read_small, there
from agent.job.removal import remove
from agent.runners import leftovers, turns
from agent.runners.far.mirror import LOGS
from agent.runners.local import LocalRunner
from agent.runners.order import Order, place
from agent.runners.shepherd import boot
from agent.runners.ssh import far
from agent.runners.ssh.answers import (
    MOST_FRAME,
    Dead,
    Facts,
    Jobs,
    Looked,
    Nothing,
    Seen,
    Settings,
    Share,
)
from agent.strict import strict
from agent.track import Track

MOST_LOG = 1 << 18  # bytes of one log in one answer


class Attendant:
    def __init__(self, settings: Settings) -> None:
        self._root = Path(settings.root)
        self._jobs = self._root / settings.jobs
        self._jobs.mkdir(parents=True, exist_ok=True, mode=0o700)
        shelf = Path(settings.shelf).expanduser().resolve() if settings.shelf else self._root
        (shelf / "trees").mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (self._root, self._root / "trees", self._jobs.parent, self._jobs, shelf, shelf / "trees"):
            passable(folder)
        track = Track.model_validate_json(settings.track)
        each = track.hardware.gpus
        found = tuple(g for g in hardware.matching(track) if settings.gpus is None or g.minor in settings.gpus)
        if each and not settings.slots and len(found) < each:
            raise InfraError(f"a run needs {each} GPUs, there are {len(found)} that fit")
        slots = settings.slots or (len(found) // each if each else 1)
        self._runner = LocalRunner(slots, found, each) if each else LocalRunner(slots, turns=turns.of(self._root, ()))
        level = self._runner.level(reach.asked(track, self._root))
        if each:
            devices.require(track, self._runner)
        above = (*self._root.parents, *shelf.parents)
        closed = [str(folder) for folder in above if not folder.stat().st_mode & 0o001]
        alike = f"runs there can't be users of their own: nobody else gets through {closed[0]}" if closed else ""
        self.facts = Facts(
            self._runner.hardware_class(self._runner.slots[0]),
            slots,
            level,
            self._runner.box(),
            (*self._runner.notes, *([alike] if alike and os.getuid() == 0 else [])),
            tuple(gpu.name for gpu in found),
            boot(),
            time.monotonic(),
            packages.digest(),
        )

    def begin(self, job: str, order: str, code: Mapping[str, str], data: str, slot: int, before: float) -> Nothing:
        """Makes the job folder of blobs and sends a shepherd, unless both were done before."""
        folder, asked = self._folder(job), Order.from_json(order)
        refuse(folder, before)

        def fill(into: Path) -> None:
            for path, sha in code.items():
                lay_blob(self._root, sha, into, path)

        place(folder, asked, fill)
        begun(folder).touch()
        passable(folder)
        self._runner.start(asked, folder, self._runner.slots[slot], Path(data))
        return Nothing()

    def look(self, jobs: Mapping[str, Mapping[str, int]]) -> Looked:
        """The state of each job, and of its logs what comes after the byte that is known; of as many jobs as one answer
        has room for."""
        found: dict[str, Seen] = {}
        room = MOST_FRAME // 2
        for job, known in jobs.items():
            if room > 0:
                found[job] = self._seen(self._folder(job), known)
                room -= len(json.dumps(asdict(found[job])))
        return Looked(found)

    def cancel(self, job: str) -> Nothing:
        self._runner.cancel(self._folder(job))
        return Nothing()

    def end(self, job: str) -> Dead:
        """Nothing of it runs when this is over, and nothing of it ever will; its folder goes."""
        folder = self._folder(job)
        if folder.is_dir():
            self._runner.cancel(folder)
        dead = not lock.held(JobPaths(folder).lock)
        if dead:
            leftovers.end(folder.parent)
            remove(folder)
            begun(folder).unlink(missing_ok=True)
            remove(self._root / "trees" / judging_tree(job))
        return Dead(dead)

    def dead(self, job: str) -> Dead:
        """Whether nothing of a job runs any more; what is left over is ended first."""
        folder = self._folder(job)
        if lock.held(JobPaths(folder).lock):
            return Dead(False)
        leftovers.end(folder.parent)
        return Dead(leftovers.end(folder.parent) == [])

    def slot(self, number: int) -> Share:
        """What the process that judges adds to an order for this slot."""
        name = self._runner.slots[number]
        runner = self._runner
        share = runner.gpus(name), runner.env(name), runner.box(), runner.core(name)
        return Share(*share, runner.alone(name), runner.taken(name))

    def there(self) -> Jobs:
        """The jobs of this controller that have a folder, and which slots have a run, of whatever campaign."""
        taken = {str(n): by for n, slot in enumerate(self._runner.slots) if (by := self._runner.taken(slot))}
        return Jobs(tuple(sorted(path.name for path in self._jobs.iterdir() if not path.name.startswith("."))), taken)

    def sweep(self) -> Nothing:
        self._runner.sweep(self._jobs)
        return Nothing()

    def _seen(self, folder: Path, known: Mapping[str, int]) -> Seen:
        paths = JobPaths(folder)
        state = self._runner.poll(folder)
        logs = {}
        for name in LOGS:
            data = _from(folder / name, known[name]) if name in known else b""
            if data:
                logs[name] = base64.b64encode(data).decode("ascii")
        seen = Seen(state, logs, _small(paths.heartbeat), waits=self._runner.waits(folder))
        if state == "lost":
            return replace(seen, loss=self._runner.loss(folder))
        if state != "done":
            return seen
        return replace(
            seen,
            result=_small(paths.result),
            measure=_small(paths.measure),
            spec=_small(paths.spec),
            reference=there(paths.reference),
        )

    def _folder(self, job: str) -> Path:
        if "/" in job or job.startswith("."):
            raise ValueError(f"{job!r} is no name of a job")
        return self._jobs / job


def lay_blob(root: Path, sha: str, into: Path, path: str) -> None:
    """A copy of a blob, every byte of which is checked once more."""
    target = far.inside(into, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    far.copy(far.blob(root, sha), target, sha)


def _small(path: Path) -> str | None:
    """A text that has room in an answer, which a candidate may have written; None: it has none, or there is none."""
    text = read_small(path)
    return text if text is not None and len(json.dumps(text)) < MOST_FRAME // 8 else None


def begun(folder: Path) -> Path:
    """Beside the job's folder, which a candidate might take away to be run again."""
    return folder.with_name(f".begun.{folder.name}")


def refuse(folder: Path, before: float) -> None:
    """Raises InfraError for a job that may not begin now: a question may have lain on the way for hours."""
    if there(begun(folder)) and not folder.is_dir():
        raise InfraError("its folder was taken away after it had begun")
    if time.monotonic() > before and not folder.is_dir():
        raise InfraError("it came too late to be begun")


def judging_tree(job: str) -> str:
    """The code that scores a job: laid for it alone, and taken away with it."""
    return f"judging-{hashlib.sha256(job.encode()).hexdigest()}"


def passable(folder: Path) -> None:
    """Where the login is root each run is a user of its own, who has to get to his files, and sees no others by it."""
    if os.getuid() == 0:
        folder.chmod(0o711)


def _from(path: Path, offset: int) -> bytes:
    """What a log has from a byte on; no link is followed, no pipe waited for."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.pread(fd, MOST_LOG, offset)
    except OSError:
        return b""
    finally:
        os.close(fd)


def read_frame() -> dict[str, Any] | None:
    head = sys.stdin.buffer.read(4)
    if len(head) < 4:
        return None
    (size,) = struct.unpack(">I", head)
    data = sys.stdin.buffer.read(size)
    return json.loads(data) if len(data) == size else None


def write_frame(answer: Mapping[str, Any]) -> None:
    data = json.dumps(answer).encode()
    sys.stdout.buffer.write(struct.pack(">I", len(data)) + data)
    sys.stdout.buffer.flush()


def main(text: str) -> int:
    try:
        attendant = Attendant(strict(Settings, text))
    except (CaddieError, ValueError, OSError) as error:
        write_frame({"error": str(error)[:2000]})
        return 1
    write_frame(asdict(attendant.facts))
    with contextlib.suppress(BrokenPipeError):
        while (asked := read_frame()) is not None:
            try:
                write_frame(asdict(getattr(attendant, _verb(asked.pop("do")))(**asked)))
            except (CaddieError, ValueError, OSError, TypeError) as error:
                write_frame({"error": f"{type(error).__name__}: {error}"[:2000]})
    return 0


def _verb(name: object) -> str:
    if name not in ("begin", "look", "cancel", "end", "dead", "slot", "there", "sweep"):
        raise ValueError(f"{name!r} is nothing that is done here")
    return str(name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
