"""Backends that failed lately, and how long each is left alone.

Takes failures by name; gives the seconds that are left of a rest, and what a person must mend before it is of use.
"""

from collections.abc import Callable
from dataclasses import dataclass

from agent.errors import CaddieError, InfraError

PAUSE_S = 30.0  # after a failure, twice as long after each further one
MOST_PAUSE_S = 3600.0


@dataclass(frozen=True)
class _Rest:
    """How a backend fared lately."""

    failures: int = 0  # in a row
    until: float = 0.0
    fault: CaddieError | None = None  # what a person must mend


class Rests:
    """`clock`: seconds that only grow."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._rests: dict[str, _Rest] = {}

    def resting(self, name: str) -> float:
        """For how many seconds still."""
        return max(0.0, self._of(name).until - self._clock())

    def fault(self, name: str) -> CaddieError | None:
        return self._of(name).fault

    def failed(self, name: str, error: CaddieError) -> None:
        """One that rests already is asked for its jobs many times a minute: only the first failure counts."""
        if self.resting(name):
            return
        failures = self._of(name).failures
        pause_s = min(MOST_PAUSE_S, PAUSE_S * 2 ** min(failures, 20))
        fault = None if isinstance(error, InfraError) else error
        self._rests[name] = _Rest(failures + 1, self._clock() + pause_s, fault)

    def went_well(self, name: str) -> None:
        self._rests.pop(name, None)

    def _of(self, name: str) -> _Rest:
        return self._rests.get(name, _Rest())
