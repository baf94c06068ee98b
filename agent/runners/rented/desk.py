"""What all slots of one runner share: whom they rent from, on whose money, and what keeps all of them from it.

`slots` says which there are; each has a `keeper`.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from agent.errors import BudgetExceeded, UserError
from agent.machines.records import BadRequest, Candidate, Machine
from agent.machines.renting import Renter
from agent.runners.rented.rental import Rental
from agent.runners.ssh.hosts import SshHost
from agent.runners.ssh.link import Done
from agent.runners.ssh.runner import SshRunner

COMMAND_S = 60.0  # for a short command on a machine


@dataclass
class Desk:
    renter: Renter
    campaign_id: int
    rental: Rental
    ssh: SshRunner
    """Over which jobs go to machines that are there."""
    candidates: Callable[[str, int], list[Candidate]]
    """Of a kind, with so many GPUs."""
    turn: Callable[[str, int], str]
    """The kind that jobs to come ask for, as this one is not to be had; empty: there is no other."""
    make_room: Callable[[], bool]
    """Ends an idle machine, as no more of them may be; whether one went."""
    unfit: Callable[[str, str, int], str]
    """Why a machine of this name is not of the kind and size that was asked for; nothing where it is."""
    admit: Callable[[Machine, int], str]
    """Why a new machine of so many GPUs is not good enough, found out on it; nothing where it is."""
    fault: UserError | BudgetExceeded | BadRequest | None = None
    """What a person must mend before any slot can rent again."""
    starts: threading.Lock = field(default_factory=threading.Lock)
    """One at a time writes down what it will ask for, and makes room for it; asking may take a while, and waits for
    nobody."""

    def host(self, machine: Machine, gpus: int) -> SshHost:
        """As what `ssh` knows a machine."""
        facts, terms = machine.facts, self.rental.terms
        return SshHost(
            name=machine.name,  # no other machine ever has it: its host key is pinned under it
            address=str(facts["host"]),
            port=int(str(facts["port"])),
            user=str(facts["user"]),
            key=self.rental.key(),
            python=terms.python,
            folder=terms.folder,
            shelf=terms.shelf,
            each=gpus or None,
            slots=1,
            price=machine.usd_per_hour,
        )

    def rearm(self, machine: Machine) -> None:
        """The machine is told until when it is paid. Raises InfraError where it does not hear."""

        def shell(command: str) -> Done:
            return self.ssh.machines.on(
                machine.name, lambda there: there.link.run("sh", "-c", command, within_s=COMMAND_S), 2 * COMMAND_S
            )

        until, created = datetime.fromisoformat(machine.until), datetime.fromisoformat(machine.created)
        left = min(until - self.renter.clock(), until - created)  # our clock may have been set back since
        self.rental.rearm(machine, left.total_seconds(), shell)
