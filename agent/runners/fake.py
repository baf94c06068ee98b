"""Runs without running: each has its result at once, a function of the script's knobs and the seed.

Takes job folders and writes the same files as a shepherd and a judge session do, so that a whole campaign, its
crashes and its resumes can be rehearsed in seconds. Ships with Caddie, because a rehearsal is how a new planner or rule
is tried.
"""

import ast
import hashlib
import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent import training
from agent.job.folder import JobPaths, JobResult, JobState, Loss, PhaseResult, Progress
from agent.job.writing import write_aside
from agent.judge.task import Audit, Clocks, Manifest, Measured, no_score
from agent.records import Outcome
from agent.runners.order import Order, placed
from agent.runners.results import result_of
from agent.script import syntax
from sandbox import BoxName, Level, Policy
from sandbox.limits import Exit

BYTES = 100_000  # of the imagined validation text
DOCUMENTS = 40
Knobs = Mapping[str, int | float | str]


@dataclass(frozen=True)
class Imagined:
    """What a run would have come to."""

    bpb: float
    artifact_bytes: int
    seconds: float = 40.0
    outcome: Outcome = "ok"
    share: float = field(default=1.0, repr=False)
    """Of its core: less where other work was in the way."""


Imagine = Callable[[Knobs, int], Imagined]


def imagine(knobs: Knobs, seed: int) -> Imagined:
    """The default world: wider is better but bigger, there is a best rate, fewer bits are smaller and worse."""
    width, rate, bits = (float(knobs.get(name, value)) for name, value in (("width", 4), ("rate", 0.1), ("bits", 8)))
    noise = random.Random(f"noise/{seed}/{sorted(knobs.items())}").gauss(0.0, 0.01)
    bpb = 2.0 - 0.1 * math.log2(width / 4) + 0.05 * math.log(rate / 0.2) ** 2 + 0.004 * (8 - bits) ** 2 / 4 + noise
    outcome: Outcome = "crashed" if knobs.get("crash") else "ok"
    return Imagined(bpb, round(100 * width * bits / 8), outcome=outcome)


class FakeRunner:
    """Like a runner in all that the loop can see.

    `seconds`: how long a result is kept back, of real time. `table`: the dict of the script that holds its knobs.
    `name`: of the backend that it plays, and of the class of its machines.
    """

    notes = ()

    def __init__(
        self,
        slots: int = 1,
        seconds: float = 0.0,
        world: Imagine = imagine,
        table: str = "KNOBS",
        *,
        name: str = "fake",
        usd_per_hour: float = 0.0,
    ) -> None:
        self.slots = tuple(f"{name}/{n}" for n in range(slots))
        self._name, self._usd_per_hour = name, usd_per_hour
        self._seconds = seconds
        self._world = world
        self._table = table

    def hardware_class(self, slot: str) -> str:
        return self._name

    def price(self, slot: str) -> float:
        return self._usd_per_hour

    def env(self, slot: str) -> dict[str, str]:
        return {}

    def gpus(self, slot: str) -> tuple[int, ...]:
        return ()

    def spare(self, slot: str) -> float | None:
        return None

    def level(self, policy: Policy) -> Level:
        return "namespaces"

    def box(self) -> BoxName:
        return ""

    def submit(self, order: Order, folder: Path, slot: str) -> None:
        paths = JobPaths(folder)
        if paths.result.exists():
            return
        placed(folder, order)
        code = training.script_file(order.limited, paths.code).read_bytes()
        run = self._world(read_knobs(code, self._table), order.seed)
        self._write(paths, order, run, hashlib.sha256(code).hexdigest(), len(code))

    def poll(self, folder: Path) -> JobState:
        try:
            done_at = JobPaths(folder).result.stat().st_mtime + self._seconds
        except FileNotFoundError:
            return "lost"
        return "done" if self._seconds == 0 or time.time() >= done_at else "running"

    def progress(self, folder: Path) -> Progress | None:
        return None

    def cancel(self, folder: Path) -> None:
        """What is imagined can't be stopped; it is over at once anyway."""

    def collect(self, folder: Path) -> JobResult:
        return result_of(folder)

    def loss(self, folder: Path) -> Loss:
        return Loss(False, 0.0, "never started")

    def sweep(self, jobs_root: Path) -> list[int]:
        return []

    def _write(self, paths: JobPaths, order: Order, run: Imagined, code_sha: str, code_bytes: int) -> None:
        seconds = min(run.seconds, order.wall_s)
        digest = hashlib.sha256(repr(run).encode()).hexdigest()
        measured = replace(self._measured(run, digest), code_sha=code_sha, code_bytes=code_bytes)
        if measured.status == "ok":
            measured = replace(measured, audit=_audited(order, run.bpb))
        write_aside(paths.measure, measured.to_json(), durable=False)
        ended = Exit(
            rc=0, signal=None, cause="exited", wall_s=seconds * 0.9, cpu_s=seconds * 0.9 * run.share, peak_mb=300.0
        )
        if run.outcome != "ok":
            ended = replace(ended, rc=1)
        judged = () if run.outcome != "ok" else (PhaseResult("judge", replace(ended, cpu_s=seconds * 0.05)),)
        result = JobResult(
            run_id=order.run_id,
            outcome=run.outcome,
            reason="" if run.outcome == "ok" else "train: ended with exit code 1",
            phases=(PhaseResult("train", ended), *judged),
            slot_s=seconds,
            walls=("fake",),
            ran=True,
        )
        write_aside(paths.result, result.to_json(), durable=False)

    def _measured(self, run: Imagined, digest: str) -> Measured:
        if run.outcome != "ok":
            return no_score("failed", "nothing was trained")
        nats = run.bpb * math.log(2) * BYTES
        draw = random.Random(digest)
        parts = [draw.uniform(0.5, 1.5) for _ in range(DOCUMENTS)]
        return replace(
            no_score("ok", ""),
            nats=nats,
            tokens=BYTES // 3,
            bytes=BYTES,
            doc_nats=tuple(nats * part / sum(parts) for part in parts),
            manifest=Manifest(1024, 256, "none", "fp32"),
            clocks=Clocks(0.1, 0.1, 1.0, 1.5, 1.4, 0.2, 0.2, 2.0),
            artifact_bytes=run.artifact_bytes,
            artifact_sha=digest,
            peak_mb=300.0,
        )


def _audited(order: Order, bpb: float) -> Audit:
    """As strong as the judge was asked for."""
    return Audit(6000, "fake", 1e-6, 1e-6, "full") if order.auditing.full(bpb) else Audit(64, "fake", 1e-6, 1e-6)


def read_knobs(script: str | bytes, name: str = "KNOBS") -> Knobs:
    """The literals of a dict at module level; nothing is executed."""
    text = script if isinstance(script, str) else script.decode("utf-8", "replace")
    table = syntax.read("the script", text).tables.get(name)
    found = ast.literal_eval(table) if table else {}
    return {str(name): value for name, value in found.items()}
