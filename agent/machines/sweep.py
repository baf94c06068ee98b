"""Compares the book with what the provider has: adopts, ends what nobody wants, settles from the bill.

Takes a `Renter` and the campaigns that go on; gives what was found and done, in words. Every start runs it first;
`agent machines reap` does too, with --dry-run it only says what it would do.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from agent.errors import CaddieError, InfraError
from agent.machines import book, storage
from agent.machines.billing import CHANGES_S, DIFFERENT_USD, NAMED_S
from agent.machines.records import Bill, Machine, Seen
from agent.machines.renting import Renter, by_name, is_new, shut
from agent.store import Reads
from agent.store.lease import holder

Do = Literal["adopt", "close", "orphan", "again", "never", "vanished"]


@dataclass(frozen=True)
class Action:
    """One difference between the book and the provider, and what is done about it."""

    do: Do
    words: str
    machine: Machine | None = None
    seen: Seen | None = None


class Beyond(NamedTuple):
    """What the list does not show."""

    seen: list[Seen]  # and is there all the same
    left: dict[int, str]  # ids of rows about which nothing is done, and why


@dataclass(frozen=True)
class Swept:
    """What a sweep did, or would do, and what it could not."""

    actions: tuple[Action, ...]
    failed: tuple[str, ...] = ()
    settled_usd: float = 0.0

    @property
    def orphans(self) -> tuple[Action, ...]:
        return tuple(one for one in self.actions if one.do in ("orphan", "again", "close"))


def sweep(renter: Renter, keep: Collection[int] = (), making: Collection[int] = (), *, dry_run: bool = False) -> Swept:
    """`keep`: campaigns that this controller goes on with; those of other living controllers are left alone, and so
    are machines that this one is asking for now (`making`).

    Raises:
        InfraError, UserError: the provider does not answer, or not to us; nothing was done then.
    """
    listed = renter.provider.list(_home(renter))
    with renter.store.read() as reads:
        everything = book.everyone(reads)
        rows = [one for one in everything if one.provider == renter.provider.name]
        busy = _busy(reads, {one.campaign_id for one in everything}) - set(keep)
        over = _over_of(reads, renter.provider.name, listed)
        originals = book.originals(reads, renter.home)
    mine = [one for one in rows if one.backend == renter.backend and one.campaign_id not in busy]
    beyond = _beyond(renter, [one for one in mine if one.id not in making], listed, originals)
    rows = [one for one in rows if one.id not in beyond.left]
    listed = [*listed, *beyond.seen]
    actions = differences(rows, over, listed, renter.backend, set(keep), busy, making, renter.clock())
    failed = list(beyond.left.values())
    if dry_run:
        return Swept(tuple(actions), tuple(failed))
    done = []
    for one in actions:
        if why := _act(renter, one):
            failed.append(why)
        else:
            done.append(one)
    try:
        storage.sweep(renter, busy | set(keep))
        settled = settle(renter) + storage.settle(renter)
    except CaddieError as error:
        settled = 0.0
        failed.append(f"bill of {renter.provider.name}: {error}")
    return Swept(tuple(done), tuple(failed), settled)


def differences(
    rows: Sequence[Machine],
    over: dict[str, Machine],
    listed: Iterable[Seen],
    backend: str,
    keep: Collection[int],
    busy: Collection[int],
    making: Collection[int],
    at: datetime,
) -> list[Action]:
    """`rows` are not over; `over`: rows of listed machines that are; `busy`: campaigns that others run; `making`: rows
    that somebody sees to."""
    ids = {one.provider_id: one for one in rows if one.provider_id}
    unnamed = {one.name: one for one in rows if not one.provider_id}
    found: list[Action] = []
    there: set[int] = set()
    for seen in listed:
        row = ids.get(seen.provider_id) or unnamed.pop(seen.name, None)
        if row is None:
            found.append(_unknown(seen, over.get(seen.provider_id)))
            continue
        there.add(row.id)
        if row.campaign_id in busy or row.id in making:
            continue
        if not row.provider_id:
            found.append(Action("adopt", f"m{row.id}: {seen.provider_id} was made, its id not written down", row, seen))
        if why := _unwanted(row, keep, at):
            found.append(Action("close", f"m{row.id} ({seen.provider_id}): {why}", row, seen))
    for row in rows:
        left_alone = row.campaign_id in busy or row.id in making
        if row.id not in there and row.backend == backend and not left_alone:
            found += _not_there(row, at)
    return found


def settle(renter: Renter) -> float:
    """Settles what is over from the provider's bill; gives the dollars that were settled or changed.

    Raises:
        InfraError: there is no bill to be had now.
    """
    at = renter.clock()
    with renter.store.read() as reads:
        waiting = book.unbilled(reads, renter.provider.name, at - timedelta(seconds=CHANGES_S))
    mine = [one for one in waiting if one.backend == renter.backend]
    if not mine:
        return 0.0
    bill = renter.provider.bill(min(datetime.fromisoformat(one.created) for one in mine))
    total = 0.0
    for one in mine:
        if one.ended is None or datetime.fromisoformat(one.ended) > bill.until:
            continue
        if one.provider_id not in bill.usd and not _free(one, bill):
            continue
        usd = bill.usd.get(one.provider_id, 0.0)
        if one.billed_usd is None or abs(one.billed_usd - usd) >= DIFFERENT_USD:
            with renter.store.write() as tx:
                book.settle(tx, one.id, usd)
            total += usd
    return total


def _free(machine: Machine, bill: Bill) -> bool:
    """Whether one that the bill does not name was free. One that worked was not: the bill is late, a day at most."""
    assert machine.ended is not None
    ended = datetime.fromisoformat(machine.ended)
    worked = machine.live is not None and datetime.fromisoformat(machine.live) < ended
    return bill.whole and not (worked and bill.until - ended < timedelta(seconds=NAMED_S))


def _home(renter: Renter) -> str:
    with renter.store.write() as tx:
        return book.prefix(tx, renter.home)


def _beyond(renter: Renter, rows: Sequence[Machine], listed: Sequence[Seen], originals: Mapping[str, str]) -> Beyond:
    """Of rows that the list lacks: lists are late, and what was rented before the database came to lie here goes by
    other names. Where it still lies there too, this is a copy, and its machines are the other's."""
    ids, names = {one.provider_id for one in listed}, {one.name for one in listed}
    found = Beyond([], {})
    for row in rows:
        if row.state == "wanted" or row.provider_id in ids or (not row.provider_id and row.name in names):
            continue
        try:
            seen = renter.provider.look(row.provider_id) if row.provider_id else by_name(renter, row.name)
        except InfraError as error:
            found.left[row.id] = f"m{row.id}: {error}"
            continue
        said = book.named(row.name)
        place = originals.get(said.install) if said else None
        if seen is not None and place is not None:
            found.left[row.id] = f"m{row.id} ({seen.provider_id}): is rented by {place}, of which this is a copy"
        elif seen is not None:
            found.seen.append(seen)
    return found


def _busy(reads: Reads, campaign_ids: Collection[int]) -> set[int]:
    """Campaigns with a living controller."""
    names = {one: reads.campaign_by_id(one).name for one in campaign_ids}
    return {one for one, name in names.items() if holder(reads.connection, f"campaign {name}") is not None}


def _over_of(reads: Reads, provider: str, listed: Iterable[Seen]) -> dict[str, Machine]:
    found = [book.by_provider_id(reads, provider, one.provider_id) for one in listed]
    return {one.provider_id: one for one in found if one is not None and one.over}


def _unknown(seen: Seen, over: Machine | None) -> Action:
    if over is not None:
        return Action("again", f"m{over.id} ({seen.provider_id}) is {over.state} here, and still there", over, seen)
    return Action("orphan", f"{seen.provider_id} ({seen.name}, {seen.words}): not in the book", None, seen)


def _unwanted(row: Machine, keep: Collection[int], at: datetime) -> str:
    if row.state == "closing":
        return f"was to end: {row.reason}"
    if datetime.fromisoformat(row.until) <= at:
        return "its time is over"
    if row.campaign_id not in keep:
        return "nobody runs its campaign"
    return ""


def _not_there(row: Machine, at: datetime) -> list[Action]:
    if row.state == "wanted":
        return [Action("never", f"m{row.id}: was never asked for", row)]
    if is_new(row, at) and (row.state == "creating" or not row.provider_id):
        return []
    if row.provider_id:
        return [Action("vanished", f"m{row.id} ({row.provider_id}): its provider has it no more", row)]
    return [Action("never", f"m{row.id}: was asked for and never seen", row)]


def _act(renter: Renter, action: Action) -> str:
    """Gives why it could not be done; nothing where it was."""
    try:
        _do(renter, action)
    except CaddieError as error:
        return f"{action.words}: {error}"
    return ""


def _do(renter: Renter, action: Action) -> None:
    row, seen, at = action.machine, action.seen, renter.clock()
    if action.do == "orphan":
        assert seen is not None
        with renter.store.write() as tx:
            who = _campaign(tx, seen), renter.backend, renter.provider.name
            row = book.found(tx, *who, seen, rules=renter.provider.rules, at=at)
    assert row is not None
    if action.do == "adopt":
        assert seen is not None
        with renter.store.write() as tx:
            book.created(tx, row.id, seen.provider_id, seen.place)
    elif action.do == "never":
        with renter.store.write() as tx:
            book.never_came(tx, row.id, action.words, at)
    elif action.do == "vanished":
        with renter.store.write() as tx:
            book.closing(tx, row.id, "vanished: its provider has it no more")
            book.gone(tx, row.id, rules=renter.provider.rules, at=at)
    else:
        if action.do == "again":
            with renter.store.write() as tx:
                book.back(tx, row.id)
        after = shut(renter, row.id, action.words)
        if not after.over:
            raise InfraError("it was asked to end and is still there; the next sweep tries again")


def _campaign(reads: Reads, seen: Seen) -> int:
    """Whose money it was: as its name says, where there is such a campaign; the newest one's else."""
    known = [one.id for one in reads.campaigns()]
    said = book.named(seen.name)
    return said.campaign_id if said is not None and said.campaign_id in known else known[-1]
