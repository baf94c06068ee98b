"""Until when a machine is paid, and whether it knows: how long leases are, when one is too short, how it gets longer.

Takes what all slots share, and a slot's machine; gives the machine with more of its time reserved.
"""

from agent.machines.records import Machine
from agent.machines.tending import due, prolong
from agent.runners.rented.desk import Desk
from agent.runners.rented.rental import Terms

SPARE_S = 600.0  # that a lease must have left when a run's own time is over


def lease_s(terms: Terms, run_s: float) -> float:
    """For how long a machine is rented that is to do this run first."""
    return max(terms.lease_hours * 3600, terms.provision_s + run_s + SPARE_S)


class Paid:
    """Of the machine of one slot."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._told = False

    def anew(self) -> None:
        """It is another machine."""
        self._told = False

    def lasts(self, machine: Machine, run_s: float) -> bool:
        """Whether there is enough of its time for a run, or there may be: some can't be given more."""
        return not (self._desk.rental.fixed and due(machine, self._desk.renter.clock(), run_s + SPARE_S))

    def reserved(self, machine: Machine, run_s: float) -> Machine:
        """With enough of its time reserved; it has to be told. Raises BudgetExceeded."""
        seconds = run_s + SPARE_S
        if self._desk.rental.fixed or not due(machine, self._desk.renter.clock(), seconds):
            return machine
        self._told = False
        return prolong(self._desk.renter, machine, seconds)

    def tell(self, machine: Machine) -> None:
        """Sees to it that the machine knows. Raises InfraError: it does not hear now."""
        if not self._told:
            self._desk.rearm(machine)
            self._told = True
