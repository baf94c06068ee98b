"""Where no machine is asked for again at once: those that were there lately were not good enough.

Takes a `Renter`; gives kinds of GPU, each with its place.
"""

from datetime import timedelta

from agent.machines import book
from agent.machines.renting import Renter

REMEMBERED_S = 86400.0


def avoided(one: Renter) -> set[tuple[str, str]]:
    """The next machine there may be the same: its address is not known before."""
    with one.store.read() as reads:
        machines = book.turned_down(reads, one.provider.name, one.clock() - timedelta(seconds=REMEMBERED_S))
    return {(machine.kind, machine.place) for machine in machines if machine.place}
