"""Until when a machine is paid, and whether it knows: how long leases are, when one is too short, how it gets longer.

Takes what all slots share, and a slot's machine; gives the machine with more of its time reserved.
"""

from collections.abc import Sequence

from agent.errors import BudgetExceeded, CaddieError
from agent.machines import caps
from agent.machines.records import Candidate, Full, Machine, SpentToday
from agent.machines.renting import want
from agent.machines.tending import due, prolong
from agent.runners.rented.desk import Desk
from agent.runners.rented.terms import Terms

SPARE_S = 600.0  # that a lease must have left when a run's own time is over


def lengths(terms: Terms, run_s: float) -> tuple[float, ...]:
    """Seconds for which a machine may be rented that is to do this run first, the liked ones first."""
    least = terms.provision_s + terms.port_s + run_s + SPARE_S
    return max(terms.lease_hours * 3600, least), least


class Paid:
    """Of the machine of one slot."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._told = False

    def booked(self, candidates: Sequence[Candidate], run_s: float, slot: str) -> Machine:
        """One in the book for as long as it should be, or else for as long as this run needs it. Raises what `want`
        does."""
        self._told = False
        try:
            return self._wanted(candidates, run_s, slot)
        except Full:
            if not self._desk.make_room():
                raise
            return self._wanted(candidates, run_s, slot)

    def _wanted(self, candidates: Sequence[Candidate], run_s: float, slot: str) -> Machine:
        desk, wrong = self._desk, list[CaddieError]()
        facts = {"slot": slot, "system": desk.rental.terms.system}
        for seconds in lengths(desk.rental.terms, run_s):
            try:
                return want(desk.renter, desk.campaign_id, candidates, seconds, run_s, facts)
            except (BudgetExceeded, SpentToday) as error:
                wrong.append(error)
        raise wrong[-1]

    def lasts(self, machine: Machine, run_s: float) -> bool:
        """Whether there is enough of its time for a run, or there may be: some can't be given more."""
        return not (self._desk.rental.fixed and due(machine, self._desk.renter.clock(), run_s + SPARE_S))

    def allowed(self, machine: Machine, run_s: float) -> None:
        """Raises BudgetExceeded where a run may not cost as much as this one does there at worst."""
        one = self._desk.renter
        caps.below("a run", one.limits.usd_per_run, one.provider.rules.cost(machine.usd_per_hour, run_s))

    def reserved(self, machine: Machine, run_s: float) -> Machine:
        """With enough of its time reserved; it has to be told. Raises BudgetExceeded, SpentToday."""
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
