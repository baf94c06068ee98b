"""What a far machine's attendant is started with, and what it answers: records that both sides know.

A machine that is hostile may send anything: whoever reads one of these takes it with `strict`.
"""

from dataclasses import dataclass, field

from agent.job.folder import JobState, Loss
from sandbox import BoxName

MOST_FRAME = 32_000_000


@dataclass(frozen=True)
class Settings:
    """What it is started with."""

    root: str  # our folder there
    jobs: str  # of this controller, from the root
    track: str  # as JSON: what hardware its runs need
    slots: int | None = None
    gpus: tuple[int, ...] | None = None
    shelf: str = ""  # of training data, where it is not in `root`


@dataclass(frozen=True)
class Facts:
    """What the machine is."""

    hardware_class: str
    slots: int
    level: str
    box: str
    notes: tuple[str, ...]
    gpus: tuple[str, ...]
    boot: str
    clock: float  # its seconds, when it said this
    environment: str  # sha256 of its Python and of all packages that its runs have


@dataclass(frozen=True)
class Nothing:
    """It was done."""


@dataclass(frozen=True)
class Dead:
    dead: bool


@dataclass(frozen=True)
class Jobs:
    jobs: tuple[str, ...]
    taken: dict[str, str] = field(default_factory=dict)  # numbers of slots on which somebody's run is, and whose


@dataclass(frozen=True)
class Share:
    """Of the machine, what a slot is."""

    gpus: tuple[int, ...]
    env: dict[str, str]
    box: BoxName
    core: int | None
    alone: tuple[str, ...] = ()  # what nobody else may have meanwhile
    taken: str = ""  # who has some of it now


@dataclass(frozen=True)
class Seen:
    """One job."""

    state: JobState
    logs: dict[str, str]  # what is new of each, in base64
    beat: str | None
    result: str | None = None
    measure: str | None = None
    spec: str | None = None
    reference: bool = False
    loss: Loss | None = None
    waits: str = ""  # why it has not begun


@dataclass(frozen=True)
class Looked:
    jobs: dict[str, Seen]
