"""What is said of rented machines: frozen records, the protocol of whoever rents them out, and what can go wrong.

The errors are named by who must act. `agent/machines/book.py` keeps the records, `sweep.py` and `renting.py` act on
them through a `Provider`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from agent.errors import CaddieError, InfraError, UserError
from agent.machines.billing import Rules

MachineState = Literal["wanted", "creating", "live", "closing", "gone", "refused"]
OVER: tuple[MachineState, ...] = ("gone", "refused")
SeenState = Literal["starting", "running", "ended"]


@dataclass(frozen=True)
class Machine:
    """One machine from the moment it is wanted to its last bill."""

    id: int
    campaign_id: int
    name: str  # at the provider: caddie-INSTALL-cCAMPAIGN-mID
    backend: str  # the runner it is rented for, as its settings are called
    provider: str
    provider_id: str  # empty until the provider has said it
    kind: str  # of GPU, as the provider calls it
    gpus: int
    place: str
    usd_per_hour: float  # all of it, its disk included
    state: MachineState
    reason: str
    refused: str  # why it was found not to be good enough; empty: it was not
    entry_id: int | None
    until: str  # when it ends by itself, and what is reserved ends
    created: str
    live: str | None
    ended: str | None
    billed_usd: float | None
    facts: Mapping[str, object] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        return self.state in OVER

    @property
    def seen(self) -> str:
        """When it was there for sure, as the book says."""
        return str(self.facts.get("seen", self.live or self.created))

    @property
    def asked(self) -> str:
        """When its provider was asked for it last."""
        return str(self.facts.get("asked", self.created))


@dataclass(frozen=True)
class Candidate:
    """One thing to ask a provider for."""

    kind: str
    gpus: int
    place: str  # empty: wherever
    usd_per_hour: float


@dataclass(frozen=True)
class Limits:
    """What a person allows beside the campaign's own cap, in dollars. None: no such limit."""

    usd_per_run: float | None = None  # the worst case of one run
    usd_per_lease: float | None = None
    usd_per_day: float | None = None  # of all campaigns of this database, in any 24 hours
    most: int = 8  # machines of one table of runners.toml at once, of all campaigns


@dataclass(frozen=True)
class Address:
    """How to reach a machine over ssh."""

    host: str
    port: int
    user: str


@dataclass(frozen=True)
class Seen:
    """A machine as its provider shows it now."""

    provider_id: str
    name: str
    state: SeenState
    words: str  # the provider's own word for it
    usd_per_hour: float
    kind: str = ""
    gpus: int = 0
    place: str = ""
    address: Address | None = None
    created: datetime | None = None  # where the provider says it


@dataclass(frozen=True)
class Bill:
    """Dollars by the provider's id of a machine; final for what had ended before `until`."""

    until: datetime
    usd: Mapping[str, float]
    whole: bool = True
    """Whether what it does not name cost nothing. If not, what was set aside for that stays so."""


class Provider(Protocol):
    """Whoever rents machines out. What it raises is below."""

    @property
    def name(self) -> str: ...

    @property
    def rules(self) -> Rules: ...

    def create(self, candidate: Candidate, name: str, until: datetime) -> Seen:
        """One request, and no second one: whoever asks knows what was written down before."""
        ...

    def look(self, provider_id: str) -> Seen | None:
        """None: there is no such machine any more, as the provider itself says."""
        ...

    def list(self, prefix: str) -> list[Seen]:
        """All machines whose name begins so, in whatever state."""
        ...

    def delete(self, provider_id: str) -> None:
        """Ask for its end; one that is gone already is no error."""
        ...

    def bill(self, since: datetime) -> Bill: ...


class NoCapacity(InfraError):
    """The provider has none of this now: the next candidate, or later."""


class NotForUs(InfraError):
    """The account may not have this one: the next candidate."""


class Waiting(InfraError):
    """Too many requests; `retry_after` seconds are asked for."""

    def __init__(self, words: str, retry_after: float) -> None:
        super().__init__(words)
        self.retry_after = retry_after


class Full(Waiting):
    """As many machines as there may be are there."""


class SpentToday(Waiting):
    """As many dollars as may be spent in a day are spent or set aside."""


class Unclear(InfraError):
    """The provider failed, or its answer was lost: what was asked for may have been done all the same."""


class Unreached(Unclear):
    """There was no connection over which anything could have been asked for."""


class CutOff(Unclear):
    """Nobody waits for the answer any more: it is not asked again."""


class NoBalance(UserError):
    """The person must pay: no machine can be had before."""


class KeyRefused(UserError):
    """The person must give a key that is valid and may do this."""


class BadRequest(CaddieError):
    """What was asked for can't be: the settings, or Caddie itself, must change. Asking again is no use."""
