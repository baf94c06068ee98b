"""What an hour of a machine costs, before there is one: slots are chosen by it.

Takes a `Rental`; gives dollars, as the provider said last, and what it has to offer.
"""

import contextlib
from collections.abc import Iterable

from agent.errors import CaddieError
from agent.machines.records import Candidate
from agent.machines.renting import Renter
from agent.runners.rented.rental import Rental
from agent.runners.rented.slots import Named

UNKNOWN_USD = 20.0  # of a GPU whose price nobody said: more than any that is listed


class Prices:
    def __init__(self, rental: Rental) -> None:
        self._rental = rental
        self._said: dict[tuple[str, int], float] = {}

    def of(self, kind: str, gpus: int) -> float:
        known = self._said.get((kind, gpus), self._rental.price(kind, gpus))
        return UNKNOWN_USD * max(1, gpus) if known is None else known

    def ask(self, one: Renter, slots: Iterable[Named]) -> None:
        """Once, before anything is rented. Who gives no answer now is asked again when it is."""
        for kind, gpus in {(slot.kind, slot.gpus) for slot in slots}:
            if self._rental.price(kind, gpus) is None:
                with contextlib.suppress(CaddieError):
                    self.candidates(one, kind, gpus)

    def candidates(self, one: Renter, kind: str, gpus: int) -> list[Candidate]:
        """What to ask for; see `Rental.candidates`."""
        found = self._rental.candidates(one, kind, gpus)
        self._said[kind, gpus] = min(candidate.usd_per_hour for candidate in found)
        return found
