"""What an attempt is, and the lists of all of them.

An attempt is a function of the `Spec`. If it returns, it got through; if the kernel refuses it (OSError) or it
sees for itself that it did not (`Refused`), it was denied. What arrives outside is confirmed by the harness.
"""

from collections.abc import Callable
from dataclasses import dataclass

from .spec import Spec

Try = Callable[[Spec], int | None]


class Refused(Exception):
    """The call worked but nothing was reached."""


class Absent(Exception):
    """This machine has nothing to try it on."""


@dataclass(frozen=True)
class Attempt:
    name: str
    area: str  # the module that it is in
    tries: str  # what, in one sentence
    walls: frozenset[str]  # each of which denies it, as far as that is certain
    do: Try


ATTEMPTS: dict[str, Attempt] = {}  # one session is enough
LEAVE: dict[str, Attempt] = {}  # what one session leaves ...
FIND: dict[str, Attempt] = {}  # ... and a later one finds
BOMBS: dict[str, Attempt] = {}  # each needs a run of its own


def attempt(tries: str, *walls: str, into: dict[str, Attempt] = ATTEMPTS) -> Callable[[Try], Try]:
    """Register a function under its name."""

    def register(do: Try) -> Try:
        add(do.__name__, do, tries, *walls, into=into)
        return do

    return register


def add(name: str, do: Try, tries: str, *walls: str, into: dict[str, Attempt] = ATTEMPTS) -> None:
    """Register one of several that a function makes."""
    if name in into:
        raise ValueError(f"two attempts are called {name}")
    into[name] = Attempt(name, do.__module__.rpartition(".")[2], tries, frozenset(walls), do)
