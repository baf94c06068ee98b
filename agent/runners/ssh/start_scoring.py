"""Starts the scoring of a job on the far machine that trained it, once nothing of the training runs any more; or of an
artifact that was trained elsewhere.

Runs there, from a tree of our code that came after the training was over. Takes on stdin what is asked, then the
texts; these are kept in memory that no path on a disk leads to, by the process that holds the job, and go with it.
Prints one line: that the job has begun, or why not.
"""

import hashlib
import os
import struct
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from agent.errors import CaddieError, InfraError
from agent.job import lock
from agent.job.folder import JobPaths, create
from agent.job.reading import read_plain
from agent.job.writing import write_aside
from agent.judge.phase import Texts
from agent.judge.texts import Documents
from agent.runners import leftovers, shepherd, turns
from agent.runners.order import Here, Order, spec_of
from agent.runners.ssh import far
from agent.runners.ssh.attendant import begun, lay_blob, passable, refuse
from agent.runners.ssh.far import say
from agent.strict import strict
from sandbox import BoxName
from sandbox.limits import MB


@dataclass(frozen=True)
class Asked:
    """What is asked, before the texts."""

    job: str  # of the scoring
    trained: str  # the job whose artifact is scored; "": one that was sent
    order: str
    code: dict[str, str]
    artifact: str  # its sha256, as it came to the controller
    documents: Documents | None
    hidden: Documents | None
    reference: bool  # whether the scores of a baseline come after the documents
    gpus: tuple[int, ...]
    env: dict[str, str]
    box: BoxName
    core: int | None
    before: float  # by the clock of this machine: later it does not begin
    sizes: tuple[int, ...]
    alone: tuple[str, ...] = ()  # what nobody else may have meanwhile


def main(root: str, jobs: str) -> int:
    try:
        (size,) = struct.unpack(">I", sys.stdin.buffer.read(4))
        asked = strict(Asked, sys.stdin.buffer.read(size).decode())
        folder = Path(root) / jobs / asked.job
        if asked.trained:
            _refuse_living(folder.with_name(asked.trained))
        held = [_held(n) for n in asked.sizes]
        if folder.exists():
            say({"begun": "before"})
            return 0
        refuse(folder, asked.before)
        order = Order.from_json(asked.order)
        turns.of(Path(root), asked.gpus).take(asked.alone, turns.who(folder))  # for the life of this process
        _make(folder, Path(root), asked, order)
        begun(folder).touch()
    except turns.Taken as taken:
        say({"taken": str(taken)})
        return 0
    except (CaddieError, ValueError, OSError, struct.error) as error:
        say({"error": f"{type(error).__name__}: {error}"[:1000]})
        return 1
    if os.fork():
        say({"begun": "now"})
        return 0
    return _hold(folder, asked, order, held)


def _refuse_living(trained: Path) -> None:
    if lock.held(JobPaths(trained).lock):
        raise InfraError("the training still runs")
    leftovers.end(trained.parent)
    if leftovers.end(trained.parent):
        raise InfraError("something of the training still runs")


def _held(size: int) -> int:
    """The next bytes of stdin, in memory alone."""
    fd = os.memfd_create("caddie", os.MFD_CLOEXEC)
    left = size
    while left:
        data = sys.stdin.buffer.read(min(left, 1 << 20))
        if not data:
            raise InfraError("the texts broke off")
        os.write(fd, data)
        left -= len(data)
    return fd


def _make(folder: Path, root: Path, asked: Asked, order: Order) -> None:
    """The job folder: the code, and the artifact, which must be the one that the controller has."""
    track = order.limited
    if asked.trained:
        trained = JobPaths(folder.with_name(asked.trained))
        artifact = read_plain(trained.out, track.script.artifact, track.limits.disk_mb * MB)
    else:
        artifact = far.blob(root, asked.artifact).read_bytes()
    if hashlib.sha256(artifact).hexdigest() != asked.artifact:
        raise InfraError("the artifact there is not the one that was fetched")

    def fill(code: Path) -> None:
        for path, sha in asked.code.items():
            lay_blob(root, sha, code, path)
        target = JobPaths(code.parent).out / track.script.artifact
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(artifact)

    # It is made out by the process that holds the texts: their paths have its number in them.
    empty = replace(order, phases=())
    create(folder, spec_of(empty, Here(root), folder), fill)
    passable(folder)


def _hold(folder: Path, asked: Asked, order: Order, held: list[int]) -> int:
    """The shepherd of the job, in this process: as long as it lives, the texts can be read through it."""
    os.setsid()
    paths = JobPaths(folder)
    null = os.open(os.devnull, os.O_RDWR)
    log = os.open(paths.shepherd_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    for fd, onto in ((null, 0), (log, 1), (log, 2)):
        os.dup2(fd, onto)
    texts = [f"/proc/{os.getpid()}/fd/{fd}" for fd in held]
    place = iter(texts)
    documents = replace(asked.documents, path=next(place)) if asked.documents else None
    hidden = replace(asked.hidden, path=next(place)) if asked.hidden else None
    auditing = order.auditing
    if auditing.reference is not None:
        known = replace(auditing.reference, path=next(place)) if asked.reference else None
        auditing = replace(auditing, reference=known)
    here = Here(Path("/"), asked.gpus, asked.env, asked.box, Texts(documents, hidden))
    write_aside(paths.spec, spec_of(replace(order, auditing=auditing), here, folder).to_json())
    os.environ.clear()
    return shepherd.main(str(folder), "" if asked.core is None else str(asked.core))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
