"""The job folder: what it holds, what is asked of it and what came of it, as JSON both ways.

Takes a folder; gives `JobPaths` (the one owner of every file name), `JobSpec`, `JobResult`, `Progress`,
`Loss` and `create`. Standard library only, because the shepherd loads it.
"""

import json
import secrets
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from agent.errors import InfraError
from agent.records import Outcome
from agent.strict import strict
from sandbox.limits import Exit, Limits
from sandbox.policy import Policy

MOST_BEAT = 200_000  # bytes of a heartbeat: 1,000 processes need a fifth
FOREVER_S = 1e9
JobState = Literal["starting", "running", "done", "lost"]
PhaseName = Literal["train", "judge"]


@dataclass(frozen=True)
class JobPaths:
    """Every file name of a job folder."""

    folder: Path

    @property
    def order(self) -> Path:
        """What is asked, in words that every machine understands."""
        return self.folder / "order.json"

    @property
    def spec(self) -> Path:
        """The order as the machine that runs it has made it out."""
        return self.folder / "spec.json"

    @property
    def placed(self) -> Path:
        """Which of several runners has the job: there before it is handed over."""
        return self.folder / "placed.json"

    @property
    def lock(self) -> Path:
        """Held by flock for the shepherd's life."""
        return self.folder / "lock"

    @property
    def waits(self) -> Path:
        """There while no shepherd was sent for yet, as somebody else's run is on what the job's slot has."""
        return self.folder / "waits.json"

    @property
    def spawned(self) -> Path:
        """Touched whenever a shepherd is sent for."""
        return self.folder / "spawned"

    @property
    def pid(self) -> Path:
        """The shepherd that holds the lock: pid, start, boot."""
        return self.folder / "pid.json"

    @property
    def started(self) -> Path:
        """There before any candidate code starts."""
        return self.folder / "started"

    @property
    def paused(self) -> Path:
        """There while a training that was interrupted waits for another machine: what it has used."""
        return self.folder / "paused.json"

    @property
    def heartbeat(self) -> Path:
        """A `Heartbeat`, every second."""
        return self.folder / "heartbeat.json"

    @property
    def cancel(self) -> Path:
        """Asks the shepherd to end the job."""
        return self.folder / "cancel"

    @property
    def result(self) -> Path:
        return self.folder / "result.json"

    @property
    def lost(self) -> Path:
        """A tombstone: no shepherd may take this job up again."""
        return self.folder / "lost.json"

    @property
    def measure(self) -> Path:
        """The judge session's answer."""
        return self.folder / "measure.json"

    @property
    def reference(self) -> Path:
        """Nats of every token, which the judge keeps for the audits of later runs."""
        return self.folder / "reference.npz"

    @property
    def code(self) -> Path:
        return self.folder / "code"

    @property
    def out(self) -> Path:
        """The candidate's one writable folder."""
        return self.folder / "out"

    @property
    def train_log(self) -> Path:
        return self.folder / "train.log"

    @property
    def score_log(self) -> Path:
        return self.folder / "score.log"

    @property
    def shepherd_log(self) -> Path:
        return self.folder / "shepherd.log"


@dataclass(frozen=True)
class Phase:
    """One command of a job, hostile until proven otherwise; only our own judge is bound by no policy."""

    name: PhaseName
    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    limits: Limits
    policy: Policy | None
    log: str  # name of the log file in the job folder


@dataclass(frozen=True)
class JobSpec:
    run_id: int
    phases: tuple[Phase, ...]
    artifact: str | None  # relative to out/
    core: int | None  # None: the runner pins it to its slot's core
    wall_s: float  # the whole job, clean-up included: what was reserved
    checkpoint: str | None = None  # relative to out/; None: a training that is interrupted can't go on

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "JobSpec":
        return strict(cls, text)


@dataclass(frozen=True)
class PhaseResult:
    name: PhaseName
    exit: Exit


@dataclass(frozen=True)
class JobResult:
    run_id: int
    outcome: Outcome
    reason: str
    phases: tuple[PhaseResult, ...]
    slot_s: float  # what the slot was occupied for; never above the spec's wall_s
    walls: tuple[str, ...]
    ran: bool  # candidate code had started

    def phase(self, name: PhaseName) -> Exit | None:
        return next((phase.exit for phase in self.phases if phase.name == name), None)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "JobResult":
        return strict(cls, text)


@dataclass(frozen=True)
class Loss:
    """What is known of a job that was lost: the machine failed, not the idea."""

    ran: bool  # True unless it is certain that no candidate code started
    slot_s: float
    reason: str
    machine: bool = False
    """Whether its machine is gone, or none was to be had, as whoever rents or reaches them knows; nobody takes a
    machine's own word for it."""


@dataclass(frozen=True)
class Progress:
    """Where a running job is. The candidate printed these numbers: show them, decide nothing by them."""

    step: int | None
    steps: int | None
    loss: float | None
    elapsed_s: float
    phase: PhaseName
    cpu_s: float = 0.0  # counted by the shepherd
    trained_s: float | None = None  # by the script's own clock, which its start does not count for
    share: float | None = None  # of the whole, where a log counts that instead of steps


@dataclass(frozen=True)
class Heartbeat:
    """A sign of life of the shepherd, every second."""

    at: str  # ISO-8601
    boot: str  # names the machine's present life: process ids mean nothing in the next one
    phase: PhaseName
    seconds: float  # since the job took its slot
    root: int  # process id of the command, and id of its session
    processes: dict[str, int]  # process id -> start, of the whole tree
    cpu_s: float = 0.0  # of the phase, so far


def strict_heartbeat(text: str | None) -> Heartbeat | None:
    """A heartbeat, or None if there is none that can be read."""
    if text is None or len(text) > MOST_BEAT:
        return None
    try:
        beat = strict(Heartbeat, text)
    except ValueError:
        return None
    return beat if 0 <= beat.seconds < FOREVER_S and 0 <= beat.cpu_s < FOREVER_S else None


def create(folder: Path, spec: JobSpec, fill: Callable[[Path], None]) -> bool:
    """Make a job folder in one step; False if it was there. `fill` writes the code into the folder it gets."""
    return make(folder, JobPaths(folder).spec.name, spec.to_json(), fill)


def make(folder: Path, name: str, text: str, fill: Callable[[Path], None]) -> bool:
    """As `create` does, around one file that says what the job is.

    A kill half-way leaves only a folder with a `.tmp-` name, which nobody reads.
    """
    if folder.exists():
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = JobPaths(folder.with_name(f".tmp-{folder.name}-{secrets.token_hex(4)}"))
    aside.folder.mkdir(mode=0o700)
    try:
        aside.code.mkdir()
        aside.out.mkdir()
        fill(aside.code)
        (aside.folder / name).write_text(text, "utf-8")
        aside.folder.rename(folder)
    except FileExistsError:
        return False
    except OSError as error:
        if folder.exists():  # somebody else was first
            return False
        raise InfraError(f"can't make job folder {folder}: {error}") from error
    finally:
        shutil.rmtree(aside.folder, ignore_errors=True)
    return True
