"""What a machine showed of itself: frozen records, and the strict reading of their JSON.

Loads nothing that a shepherd does not load: this runs there too. What arrives here was written by a machine of somebody
else's, so it is of bounded size, has no key that is not ours, and its numbers are finite and possible.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, is_dataclass

from agent.strict import strict
from sandbox.policy import Level

VERSION = 1
MOST_BYTES = 400_000
MOST_WORD = 400  # characters of one text
NO_TIME = "there was no time left for it"  # why a part never began


@dataclass(frozen=True)
class Gpu:
    """None: the driver does not say it."""

    index: int
    uuid: str
    name: str
    driver: str
    memory_mb: float | None
    used_mb: float | None
    sm_mhz: float | None
    sm_max_mhz: float | None
    memory_mhz: float | None
    memory_max_mhz: float | None
    power_limit_w: float | None
    power_default_w: float | None
    celsius: float | None
    ecc: str
    ecc_errors: float | None  # uncorrected, since the driver was loaded
    slowed_by: tuple[str, ...]  # what holds its clocks down now
    others: int  # processes of others on it


@dataclass(frozen=True)
class Link:
    """Between two GPUs."""

    a: int
    b: int
    kind: str  # as the driver draws it: NV18, PIX, PHB, SYS; empty: it was not drawn
    gb_s: float | None  # of a copy; None: it was not tried


@dataclass(frozen=True)
class Step:
    """A fixed piece of work, the same on every machine."""

    device: str  # cuda, or cpu for one thread of it
    ms: float  # the median time; on several GPUs, of the slowest
    spread: float  # between the quartiles, as a share of the median
    repeats: int
    cpu_ms: float  # processor time of the median one
    each_ms: tuple[float, ...]  # by GPU
    loaded: tuple[Gpu, ...]  # the GPUs while they worked


@dataclass(frozen=True)
class Disk:
    write_mb_s: float | None
    read_mb_s: float | None  # with what the system remembers of it dropped first
    free_mb: float


@dataclass(frozen=True)
class File:
    path: str  # from the data's folder
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Data:
    files: tuple[File, ...]  # those that were read to their end
    left: int  # that were not
    mb_s: float | None  # None: nothing was read


@dataclass(frozen=True)
class Environment:
    python: str
    torch: str  # empty: there is none
    system: str
    packages: dict[str, str]
    sha256: str  # of all that


@dataclass(frozen=True)
class Walls:
    """Around code that nobody has read."""

    level: Level
    names: tuple[str, ...]
    tried: int
    known: tuple[str, ...]  # attempts that are known to get through there
    unknown: tuple[str, ...]  # and those that should not


@dataclass(frozen=True)
class Host:
    cpu: str
    cores: int
    memory_mb: int
    boot: str  # changes when it is started again
    machine: str  # a digest by which it is known again


@dataclass(frozen=True)
class Record:
    """A part that is None did not finish, or does not apply; `unfinished` says which, and why."""

    version: int
    seconds: float
    unfinished: dict[str, str]
    host: Host | None
    gpus: tuple[Gpu, ...] | None
    links: tuple[Link, ...] | None
    step: Step | None
    disk: Disk | None
    data: Data | None
    environment: Environment | None
    walls: Walls | None


def to_json(record: Record) -> str:
    return json.dumps(asdict(record))


def read(text: str) -> Record:
    """Raises ValueError for what is no record, whoever wrote it."""
    if len(text) > MOST_BYTES:
        raise ValueError(f"its record has {len(text):,} characters; {MOST_BYTES:,} are the most")
    record = strict(Record, text)
    if record.version != VERSION:
        raise ValueError(f"its record is of version {record.version}, and this is {VERSION}: the code there is another")
    for value in _leaves(record):
        if isinstance(value, str) and len(value) > MOST_WORD:
            raise ValueError(f"a text of {len(value):,} characters in its record")
        if isinstance(value, int | float) and value < 0:
            raise ValueError(f"a number below nothing in its record: {value}")
    if record.step is not None and min(record.step.ms, *record.step.each_ms, record.step.ms) <= 0:
        raise ValueError("its record says that work took no time")
    return record


def _leaves(value: object) -> Iterator[object]:
    if is_dataclass(value):
        for field in fields(value):
            yield from _leaves(getattr(value, field.name))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _leaves(item)
    elif isinstance(value, tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value
