"""What a person sets that counts for every machine that is rented: `Terms`, on which the settings of a provider build.

Takes a table of runners.toml, as pydantic reads it; gives one frozen model of it.
"""

import hashlib
from abc import abstractmethod
from typing import Annotated

from pydantic import Field, StringConstraints

from agent.fields import Table
from agent.machines.records import Limits

Dollars = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=7 * 86400, allow_inf_nan=False)]


class Terms(Table):
    lease_hours: float = Field(4.0, gt=0, le=72)
    """A machine ends by itself after this, unless it is at work and more is reserved for it."""
    idle_s: Seconds = 300.0
    """A machine without work is given back after this."""
    provision_s: Seconds = 900.0
    """One that is not ready by then is given back, and the next candidate asked for."""
    port_s: Seconds = 300.0
    """So is one that is ready and can't be reached, or in which nothing can be started."""
    usd_per_run: Dollars | None = None
    usd_per_lease: Dollars | None = None
    usd_per_day: Dollars | None = None
    python: Annotated[str, StringConstraints(pattern=r"^[\w./-]+$")] = "python3"
    """3.11 or newer, with the packages that the track's script and the judge need."""
    folder: Annotated[str, StringConstraints(pattern=r"^[\w./-]+$")] = ".caddie"
    """Where Caddie keeps its files on a machine, from its user's home."""

    @property
    def shelf(self) -> str:
        """Where training data are kept, if a disk of the provider is there for them. Empty: in `folder`."""
        return ""

    @property
    @abstractmethod
    def most(self) -> int:
        """Machines at once. Their key is named by what the provider calls a machine."""

    @property
    @abstractmethod
    def made_of(self) -> tuple[str, ...]:
        """What decides which packages a machine has, beside its Python."""

    @property
    def system(self) -> str:
        """Machines of one system have the same packages."""
        return hashlib.sha256(repr((self.python, *self.made_of)).encode()).hexdigest()[:12]

    @property
    def limits(self) -> Limits:
        return Limits(self.usd_per_run, self.usd_per_lease, self.usd_per_day, self.most)


class KeyedTerms(Terms):
    """Of machines that a key opens."""

    ssh_key: str = ""
    """A private key, whose other half (the file beside it, with .pub) is let into the machines. Empty: one that is made
    for this workspace and opens nothing else."""
