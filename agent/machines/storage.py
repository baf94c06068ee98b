"""What is kept between machines costs too: a network volume is billed for every hour, whether a machine uses it or not.

Takes a `Renter` whose provider can say what its machines' data lie on; a campaign pays for it from its start to its
end, in the same book and ledger as machines: reserved for a day ahead, settled from the provider's bill. A volume that
several campaigns of a store use at once is paid by the first of them. Nothing here makes or deletes a volume.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol, runtime_checkable

from agent import budget
from agent.machines import book, caps
from agent.machines.billing import CHANGES_S, DIFFERENT_USD, NAMED_S
from agent.machines.records import Machine
from agent.machines.renting import Renter
from agent.records import Amount
from agent.store import Tx, statements
from agent.store.rows import iso
from agent.store.schema import machines
from agent.store.schema.rented import STORAGE

AHEAD_S = 86400.0  # for which is set aside
DUE_S = 43200.0  # before that time is over more is set aside
UNTOLD_S = 60.0  # of which a bill may say nothing: moments are rounded


@dataclass(frozen=True)
class Stored:
    """One volume that machines of a table use."""

    id: str
    words: str
    place: str
    usd_per_hour: float


@dataclass(frozen=True)
class Charged:
    """Dollars for a volume between two moments, as the provider billed them."""

    id: str
    start: datetime
    end: datetime
    usd: float


class Share(NamedTuple):
    """Of a bill, what one campaign pays."""

    usd: float
    untold_s: float  # of its time, of which the bill says nothing


@runtime_checkable
class Stores(Protocol):
    """A provider at which data lie."""

    def stored(self) -> Sequence[Stored]:
        """Raises UserError, InfraError."""
        ...

    def charged(self, ids: Collection[str], since: datetime) -> tuple[datetime, Sequence[Charged]]:
        """The bill of these volumes, whichever the settings name now, and until when it is final. Raises InfraError."""
        ...


def keep(renter: Renter, campaign_id: int) -> None:
    """Sees to it that what lies there is paid; called now and then.

    Raises:
        BudgetExceeded: the campaign can't pay for it any longer; SpentToday: nor can it today.
        UserError, InfraError: the provider does not say what lies there.
    """
    if not isinstance(renter.provider, Stores):
        return
    for stored in renter.provider.stored():
        at = renter.clock()
        with renter.store.write() as tx:
            row = next((one for one in _open(tx, renter) if one.provider_id == stored.id), None)
            if row is None:
                _begin(tx, renter, campaign_id, stored, at)
            elif row.campaign_id == campaign_id and _until(row) - at < timedelta(seconds=DUE_S):
                until = at + timedelta(seconds=AHEAD_S)
                book.prolong(tx, row.id, until, rules=renter.provider.rules, limits=renter.limits, at=at)


def end(renter: Renter, campaigns: Collection[int], reason: str) -> None:
    """These campaigns pay for nothing that lies there any longer."""
    if not isinstance(renter.provider, Stores):
        return
    with renter.store.write() as tx:
        for row in _open(tx, renter):
            if row.campaign_id in campaigns:
                at = min(renter.clock(), _until(row))  # a controller that was killed has paid until then, and no more
                book.closing(tx, row.id, reason)
                book.gone(tx, row.id, rules=renter.provider.rules, at=at)


def sweep(renter: Renter, others: Collection[int]) -> None:
    """What campaigns paid that nobody runs ends. `others`: those that go on."""
    with renter.store.read() as reads:
        left = {one.campaign_id for one in book.everyone(reads, backend=_backend(renter))} - set(others)
    if left:
        end(renter, left, "nobody runs its campaign")


def settle(renter: Renter) -> float:
    """Settles what is over from the bill, once it tells of all of its time, or a day later; gives the dollars that were
    settled or changed. Raises InfraError."""
    if not isinstance(renter.provider, Stores):
        return 0.0
    since = renter.clock() - timedelta(seconds=CHANGES_S)
    with renter.store.read() as reads:
        waiting = [one for one in book.unbilled(reads, _provider(renter), since) if one.backend == _backend(renter)]
    if not waiting:
        return 0.0
    volumes = {one.provider_id for one in waiting}
    final, bill = renter.provider.charged(volumes, min(_at(one.created) for one in waiting))
    total = 0.0
    for one in waiting:
        if one.ended is None or (age := (final - _at(one.ended)).total_seconds()) < 0:
            continue
        found = share(one, bill)
        if found.untold_s > UNTOLD_S and age < NAMED_S:
            continue
        if one.billed_usd is None or abs(one.billed_usd - found.usd) >= DIFFERENT_USD:
            with renter.store.write() as tx:
                book.settle(tx, one.id, found.usd)
            total += found.usd
    return total


def share(row: Machine, bill: Iterable[Charged]) -> Share:
    """What of the bill falls into the time that a campaign paid for it."""
    assert row.ended is not None
    start, over = _at(row.created), _at(row.ended)
    usd, told_s = 0.0, 0.0
    for one in bill:
        if one.id == row.provider_id and one.end > one.start:
            both = max(0.0, (min(over, one.end) - max(start, one.start)).total_seconds())
            usd += one.usd * both / (one.end - one.start).total_seconds()
            told_s += both
    return Share(usd, max(0.0, (over - start).total_seconds() - told_s))


def _begin(tx: Tx, renter: Renter, campaign_id: int, stored: Stored, at: datetime) -> None:
    usd = renter.provider.rules.worst(stored.usd_per_hour, AHEAD_S)
    caps.below_day(tx, renter.limits, usd, at)
    values = {
        "campaign_id": campaign_id,
        "name": "",
        "backend": _backend(renter),
        "provider": _provider(renter),
        "provider_id": stored.id,
        "kind": stored.words,
        "gpus": 0,
        "place": stored.place,
        "usd_per_hour": stored.usd_per_hour,
        "state": "live",
        "entry_id": budget.reserve(tx, campaign_id, Amount(usd=usd), "machine"),
        "until": iso(at + timedelta(seconds=AHEAD_S)),
        "created": iso(at),
        "live": iso(at),
        "facts": {},
    }
    row_id = statements.add(tx.connection, machines, values)
    tx.add_event(campaign_id, "machine", f"m{row_id} live: {stored.words} is paid for as long as this campaign runs")


def _open(tx: Tx, renter: Renter) -> Sequence[Machine]:
    return book.everyone(tx, backend=_backend(renter))


def _backend(renter: Renter) -> str:
    """No runner has this name, so that nobody takes a volume for a machine of his."""
    return f"{renter.backend}{STORAGE}"


def _provider(renter: Renter) -> str:
    return f"{renter.provider.name}{STORAGE}"


def _until(row: Machine) -> datetime:
    return _at(row.until)


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
