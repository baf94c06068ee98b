"""Where runs execute: one protocol, spoken by every runner.

Takes orders and folders; gives states and results. A job is a folder, so any controller can pick it up.
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeGuard, TypeVar, runtime_checkable

from agent.job.folder import JobResult, JobState, Loss, Progress
from sandbox.policy import BoxName, Level, Policy

if TYPE_CHECKING:
    from agent.runners.order import Order


class Runner(Protocol):
    """Submit, poll, cancel, collect."""

    @property
    def slots(self) -> tuple[str, ...]:
        """As they are now: rented ones come and go."""
        ...

    def hardware_class(self, slot: str) -> str:
        """Scores are never compared across two of these."""
        ...

    def price(self, slot: str) -> float:
        """Dollars for an hour of the slot; 0.0 where nobody pays."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of the machine before anything is started on it."""
        ...

    def env(self, slot: str) -> dict[str, str]:
        """What a run in this slot must know to find its share of the machine."""
        ...

    def gpus(self, slot: str) -> tuple[int, ...]:
        """Numbers of the slot's GPUs as the system's device nodes have them."""
        ...

    def spare(self, slot: str) -> float | None:
        """The part of an empty slot's core that other work leaves; takes a moment. None: it can't be told."""
        ...

    def level(self, policy: Policy) -> Level:
        """How strong the walls are that it puts up around a run; found out once, before there are threads."""
        ...

    def box(self) -> BoxName:
        """How bubblewrap is known to work there, after `level` was asked."""
        ...

    def submit(self, order: "Order", folder: Path, slot: str) -> None:
        """Start the job once; one that was started already is adopted. Its order and code are there (see `place`).

        Raises:
            InfraError: the machine can't start it, or the folder holds another job.
        """
        ...

    def poll(self, folder: Path) -> JobState:
        """`lost` is final: from then on no shepherd will take the job up."""
        ...

    def progress(self, folder: Path) -> Progress | None: ...

    def cancel(self, folder: Path) -> None:
        """Ask the job to end: `poll` says `done` soon, with outcome `cancelled` unless it was faster."""
        ...

    def collect(self, folder: Path) -> JobResult:
        """The result of a job that is `done`.

        Raises:
            InfraError: it is not done, or its result can't be read.
        """
        ...

    def loss(self, folder: Path) -> Loss:
        """What is known of a job that is `lost`."""
        ...

    def sweep(self, jobs_root: Path) -> list[int]:
        """End what dead shepherds left behind; gives the ids of the processes that were ended."""
        ...


NEW = "new"
LATER = "later"
T = TypeVar("T")
_SPEAKS: dict[tuple[type, type], bool] = {}


def speaks(runner: object, protocol: type[T]) -> TypeGuard[T]:
    """Whether it has what the protocol asks for. Python looks long for what is not there, so it is asked once of a kind
    of runner."""
    asked = type(runner), protocol
    if asked not in _SPEAKS:
        _SPEAKS[asked] = isinstance(runner, protocol)
    return _SPEAKS[asked]


@runtime_checkable
class Leases(Protocol):
    """A runner that can tell its machines apart."""

    def lease(self, slot: str) -> str:
        """Of the slot's machine: from its renting to its return, or from one start of it to the next. `NEW`: one that
        comes when a run waits for it. `LATER`: which it is, is found when a run begins. A rented one's is its number in
        the book, such as m12."""
        ...

    def refuse(self, lease: str, reason: str) -> None:
        """It is not what it was: it takes no further run, and one that is rented is given back. Safe to call again."""
        ...


@runtime_checkable
class Late(Protocol):
    """A runner whose jobs get their machine when they begin. It tells leases, too."""

    def began_on(self, folder: Path) -> str:
        """The lease that the job is or was on; empty: it has not begun, or nobody can tell."""
        ...

    def pinned(self, seen: Callable[[], Sequence[str]]) -> dict[str, str]:
        """Slots that mean one machine alone, by its lease: of machines that are there, as far as the runner knows.
        `seen`: leases that runs were on which wait for their verdict, the newest last."""
        ...


def began_on(runner: Runner, folder: Path) -> str:
    return runner.began_on(folder) if speaks(runner, Late) else ""


def pinned(runner: Runner, seen: Callable[[], Sequence[str]]) -> dict[str, str]:
    return runner.pinned(seen) if speaks(runner, Late) else {}


def lease_of(runner: Runner, slot: str) -> str:
    """Empty where the runner can't tell: all its machines of a class then count as one."""
    return runner.lease(slot) if speaks(runner, Leases) else ""


def rents(runner: Runner) -> bool:
    """Whether its slots cost money that nobody has paid yet."""
    return bool(getattr(runner, "rents", False))


def classes(runner: Runner) -> tuple[str, ...]:
    """The hardware classes of its slots, in their order."""
    return tuple(dict.fromkeys(runner.hardware_class(slot) for slot in runner.slots))


@runtime_checkable
class Sized(Protocol):
    """A runner that knows how many GPUs a slot has, and not yet which."""

    def size(self, slot: str) -> int | None: ...


def size_of(runner: Runner, slot: str) -> int | None:
    """How many GPUs a slot has. None: it does not say, so it is taken to have those of a deciding run."""
    return len(runner.gpus(slot)) or (runner.size(slot) if speaks(runner, Sized) else None)


@runtime_checkable
class Queues(Protocol):
    """A runner whose jobs may have to wait before they start."""

    def wait_s(self, slot: str) -> float:
        """What a job that is handed over now is expected to wait, by what is known of others; asks nobody."""
        ...


@runtime_checkable
class Waits(Protocol):
    """A runner whose jobs may have to wait for another campaign's."""

    def waits(self, folder: Path) -> str:
        """Why the job has not begun, or its scoring has not; empty: it waits for nobody."""
        ...


def waits(runner: Runner, folder: Path) -> str:
    return runner.waits(folder) if speaks(runner, Waits) else ""


@runtime_checkable
class Far(Protocol):
    """A runner of whose runs only what came of them is written here."""

    def far(self, slot: str) -> bool:
        """Whether a run in this slot writes elsewhere."""
        ...


def written_here(runner: Runner, slots: Collection[str]) -> int:
    """In how many of these slots a run writes all that it writes on this machine's disk."""
    if not speaks(runner, Far):
        return len(slots)
    return sum(not runner.far(slot) for slot in slots)


@runtime_checkable
class Ends(Protocol):
    """A runner that knows which of its jobs are over without looking at each."""

    def ended(self, folders: Collection[Path]) -> set[Path]:
        """Those of the folders whose job is `done` or `lost`, as far as is known now; never waits."""
        ...


def ended(runner: Runner, folders: Collection[Path]) -> set[Path]:
    """Those of the folders whose job is over."""
    if speaks(runner, Ends):
        return runner.ended(folders)
    return {folder for folder in folders if runner.poll(folder) in ("done", "lost")}
