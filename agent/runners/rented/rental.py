"""What one who rents machines out is for a runner: `Rental`, of one table of runners.toml.

Takes nothing but what its package is made of; asks nobody before `renter`. Who makes machines and ends them is the
`Provider` in the `Renter` that it gives.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from agent.machines.records import Candidate, Machine
from agent.machines.renting import Renter
from agent.runners.rented.terms import Terms
from agent.runners.ssh.hosts import SshHost
from agent.runners.ssh.link import Done, Wire
from agent.runners.ssh.pins import Pins
from agent.store import Store

Shell = Callable[[str], Done]


class Rental(Protocol):
    @property
    def terms(self) -> Terms: ...

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of GPU, the liked one first."""
        ...

    @property
    def note(self) -> str:
        """What a person should know before anything is rented."""
        ...

    @property
    def fixed(self) -> bool:
        """Whether a machine's time stays as it was made, and `rearm` does nothing."""
        ...

    def device(self, kind: str) -> str:
        """What a GPU of this kind calls itself: its hardware class, before there is a machine."""
        ...

    def price(self, kind: str, gpus: int) -> float | None:
        """Dollars for an hour of one machine, where that is known without asking."""
        ...

    def renter(self, store: Store) -> Renter:
        """Raises MissingError, UserError: nobody can be asked."""
        ...

    def key(self) -> Path | None:
        """What opens its machines, where a key does."""
        ...

    def candidates(self, one: Renter, kind: str, gpus: int) -> list[Candidate]:
        """What to ask for, the best first.

        Raises:
            NoCapacity: there is no such machine.
            UserError: the settings name what is not there.
            InfraError: the provider does not answer.
        """
        ...

    def link(self, host: SshHost, pins: Pins) -> Wire:
        """How a machine is reached; asked for after `renter`."""
        ...

    def rearm(self, machine: Machine, seconds: float, shell: Shell) -> None:
        """From now on the machine ends by itself in so many seconds. `shell`: a command there. Raises InfraError."""
        ...

    def hurry(self) -> None:
        """No machine is wanted any more: whoever asks for one now does not wait for it, where that may take long."""
        ...

    def close(self) -> None: ...
