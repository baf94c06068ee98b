"""What a Slurm job runs on its node: makes the order into a spec for this node, and is the run's shepherd.

Takes a job folder with order.json, where.json and code/; leaves what every shepherd leaves. By hand, within a job:
python -I -m agent.runners.slurm.batch FOLDER
"""

import json
import os
import platform
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from agent import hardware, own_process
from agent.job import lock
from agent.job.folder import JobPaths
from agent.job.reading import read_small, there
from agent.job.writing import write_aside
from agent.runners import shepherd
from agent.runners.order import Here, Order, spec_of
from agent.runners.slurm import listing, proven
from agent.strict import strict
from sandbox.walls import tried

WHERE, BEGAN, TAKEN = "where.json", "began", "taken"
COPY_WITHIN_S = 3600.0
TAKEN_WITHIN_S = 600.0  # from the word that its time is over; a grace time is part of it
_SHA = re.compile(r"[0-9a-f]{64}")  # what we have sent is named by its content


class WrongNode(Exception):
    """The node can't run it; another one may."""


@dataclass(frozen=True)
class Where:
    """What the controller knows of the cluster, and the node must."""

    corpus: str  # as the node sees it
    copied: bool  # to the node's own disk, under `scratch`
    scratch: str
    device: str  # part of the name that its GPUs must have
    reference: str  # "" without
    nodes: str  # where it is kept what came of trying each node's walls

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Began:
    """The first thing that a job says."""

    node: str
    boot: str  # changes when the node is started again
    job: str
    restarts: str
    gpus: tuple[str, ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def main(folder: str) -> int:
    paths = JobPaths(Path(folder))
    if not there(paths.order):
        print("nobody wants this job any more")
        return 0
    if shepherd.had_its_run(paths):
        print("already: this job has had its run")  # Slurm queued it again
        return 0
    try:
        order = Order.from_json(read_small(paths.order) or "")
        where = strict(Where, read_small(paths.folder / WHERE) or "")
        gpus = own_gpus(os.environ, order.limited.hardware.gpus, where.device or order.limited.hardware.device)
        write_aside(paths.folder / BEGAN, began(os.environ, gpus).to_json())
        tried_s = proven.require(Path(where.nodes), node(), order.minimum, Path(where.scratch), str(own_process.ROOT))
        here = Here(corpus(where), tuple(gpu.minor for gpu in gpus), env_of(gpus), tried(), taken_up=True)
        write_aside(paths.spec, spec_of(referring(order, where), here, paths.folder).to_json())
    except (WrongNode, proven.Failed, ValueError, OSError) as error:
        if isinstance(error, WrongNode):
            proven.refuse(Path(where.nodes), node(), proven.WRONG_S)
        print(f"lost: {error}", flush=True)
        shepherd.write_last(paths, paths.lost, json.dumps({"reason": f"{node()}: {error}"[:2000]}))
        return 1
    heard = listen()
    rc = shepherd.main(folder, own_core(), before_s=tried_s)
    if there(paths.paused):
        return _await_the_end(paths)
    if signal.SIGTERM in heard():
        # The candidate may have got it too, and died of it before its shepherd could end it.
        shepherd.write_last(paths, paths.folder / TAKEN, "")
    return rc


def _await_the_end(paths: JobPaths) -> int:
    """Slurm queues a job again that it ended itself, not one that seems to be done."""
    mine = read_small(paths.paused)
    time.sleep(TAKEN_WITHIN_S)
    if mine is not None and read_small(paths.paused) == mine:  # else another node has gone on with it
        shepherd.write_last(paths, paths.lost, json.dumps({"reason": f"{node()}: told to end, and not taken away"}))
    return 1


def listen() -> Callable[[], bytes]:
    """What gives the numbers of all signals that have come since, whoever handled them."""
    out, into = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(into, warn_on_full_buffer=False)

    def heard() -> bytes:
        try:
            return os.read(out, 65536)
        except BlockingIOError:
            return b""

    return heard


def own_gpus(env: Mapping[str, str], needed: int, device: str) -> tuple[hardware.Gpu, ...]:
    """The GPUs that Slurm gave to this job. Raises WrongNode: too few, or of another kind."""
    if not needed:
        return ()
    numbers = {int(part) for part in env.get("SLURM_JOB_GPUS", "").split(",") if part.isdecimal()}
    seen = hardware.gpus()
    # Where the cluster hides the GPUs of others, those that are seen are ours, whatever their numbers.
    ours = seen if len(seen) == needed else tuple(gpu for gpu in seen if gpu.minor in numbers)
    if len(ours) != needed:
        listed = ", ".join(f"{gpu.minor}: {gpu.name}" for gpu in seen) or "none"
        raise WrongNode(f"needs {needed} GPUs, and has {len(ours)} (SLURM_JOB_GPUS: {sorted(numbers)}; seen: {listed})")
    if odd := [gpu.name for gpu in ours if device not in gpu.name]:
        raise WrongNode(f"needs GPUs of the kind {device!r}, and has {odd[0]}")
    return ours


def env_of(gpus: tuple[hardware.Gpu, ...]) -> dict[str, str]:
    if not gpus:
        return {}
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(gpu.uuid for gpu in gpus)}


def own_core() -> str:
    """The core to be pinned to, where Slurm keeps jobs to cores of their own; "": it does not say which is free."""
    usable = os.sched_getaffinity(0)
    return str(min(usable)) if len(usable) < (os.cpu_count() or 1) else ""


def began(env: Mapping[str, str], gpus: tuple[hardware.Gpu, ...]) -> Began:
    names = tuple(gpu.name for gpu in gpus)
    job, restarts = env.get("SLURM_JOB_ID", ""), env.get("SLURM_RESTART_COUNT", "0")
    return Began(node(), shepherd.boot()[:13], job, restarts, names)


def node() -> str:
    return proven.name_of(os.environ, platform.node())


def referring(order: Order, where: Where) -> Order:
    """Earlier scores lie where the controller has put them."""
    reference = order.auditing.reference
    if reference is None:
        return order
    return replace(order, auditing=replace(order.auditing, reference=replace(reference, path=where.reference)))


def corpus(where: Where) -> Path:
    """The folder to read data from: the shared one, or this node's copy, which its first job makes."""
    source = Path(where.corpus)
    if not where.copied:
        return source
    root = Path(where.scratch) / f"caddie-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    if root.is_symlink() or root.lstat().st_uid != os.getuid():
        raise WrongNode(f"{root} belongs to somebody else")
    sha = source.name if _SHA.fullmatch(source.name) else listing.sha(source)
    copy = root / sha
    held = lock.hold(root / f"{sha}.lock", patience_s=COPY_WITHIN_S)
    if held is None:
        raise WrongNode(f"another job has not copied {source} within {COPY_WITHIN_S:g} s")
    try:
        if not copy.is_dir():
            _copy(source, copy, sha)
    finally:
        os.close(held)
    return copy


def _copy(source: Path, copy: Path, sha: str) -> None:
    aside = copy.with_name(f".tmp-{copy.name}")
    shutil.rmtree(aside, ignore_errors=True)  # of a job that was killed
    try:
        shutil.copytree(source, aside)
        if (found := listing.sha(aside)) != sha:
            raise WrongNode(f"the copy of {source} is not what it should be: {found[:12]}, not {sha[:12]}")
        aside.rename(copy)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
