"""Rents a machine and gives it back: each step is in the book before the provider hears of it.

Takes a `Renter` (book, provider, limits, clock); gives `Machine`s. What came of a request whose answer
was lost is looked for by name, and nothing is asked for again before it is known that nothing did.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from agent.errors import BudgetExceeded, CaddieError, InfraError, StoreError
from agent.machines import book
from agent.machines.records import (
    BadRequest,
    Candidate,
    CutOff,
    Limits,
    Machine,
    NoCapacity,
    NotForUs,
    Provider,
    Seen,
    SpentToday,
    Unclear,
    Unreached,
    Waiting,
)
from agent.store import Store

TRIES = 4  # of one request whose answer is lost, or that is told to wait
BACKOFF_S = 2.0
LONGEST_WAIT_S = 120.0
NO_FACTS: Mapping[str, object] = {}
LOST_S = 600.0  # so long after it was asked for, a machine that no list shows was never made
# Providers say in words only that they have none left; any other refusal of all candidates is about what was asked.
_NONE_LEFT = re.compile(
    r"\b(instances?|machines?|gpus?|capacity|stock)\b.*\bavailab|\bno\b.*\bcapacity|\bavailab", re.I
)


def wall_clock() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Renter:
    """Who rents: the book it writes, whom it rents from, and within which limits."""

    store: Store
    provider: Provider
    backend: str
    home: str
    limits: Limits
    clock: Callable[[], datetime] = wall_clock
    sleep: Callable[[float], None] = time.sleep


def rent(
    renter: Renter, campaign_id: int, candidates: Sequence[Candidate], lease_s: float, run_s: float = 0.0
) -> Machine:
    """The first candidate that is to be had; it is being made, and has its id. Raises what `want` and `make` do."""
    return make(renter, want(renter, campaign_id, candidates, lease_s, run_s), candidates)


def want(
    renter: Renter,
    campaign_id: int,
    candidates: Sequence[Candidate],
    lease_s: float,
    run_s: float = 0.0,
    facts: Mapping[str, object] = NO_FACTS,
) -> Machine:
    """A machine in the book, and nobody asked for it yet; see `book.want`.

    Raises:
        BudgetExceeded, SpentToday: a cap would be passed.
        Full: as many machines as may be are there.
    """
    with renter.store.write() as tx:
        return book.want(
            tx,
            campaign_id,
            renter.backend,
            renter.provider.name,
            candidates,
            lease_s,
            run_s,
            rules=renter.provider.rules,
            limits=renter.limits,
            home=renter.home,
            at=renter.clock(),
            facts=facts,
        )


def make(renter: Renter, machine: Machine, candidates: Sequence[Candidate]) -> Machine:
    """Asks for what was wanted, one candidate after the other.

    Raises:
        BudgetExceeded, SpentToday: it is dearer than a cap allows.
        NoCapacity: nobody has one now.
        NoBalance, KeyRefused, BadRequest: a person must act.
        InfraError: the provider does not answer; the book remembers what it was asked for.
        StoreError: the book can't be written; what was asked for may be there.
    """
    try:
        seen = _first(renter, machine, candidates)
    except (Unclear, StoreError):
        raise  # it may be there: whoever has its name looks for it
    except CaddieError as error:
        with renter.store.write() as tx:
            book.never_came(tx, machine.id, str(error), renter.clock())
        raise
    return price(renter, machine.id, seen)


def price(renter: Renter, machine_id: int, seen: Seen) -> Machine:
    """What it costs as its provider says now. Raises BudgetExceeded or SpentToday, and gives it back, where that passes
    a cap."""
    rules, limits = renter.provider.rules, renter.limits
    try:
        with renter.store.write() as tx:
            return book.priced(tx, machine_id, seen.usd_per_hour, rules=rules, limits=limits, at=renter.clock())
    except (BudgetExceeded, SpentToday) as error:
        shut(renter, machine_id, f"dearer than it was said to be: {error}")
        raise


def shut(renter: Renter, machine_id: int, reason: str, *, refused: str = "") -> Machine:
    """Ends a machine; it is `closing` until its provider shows that it is gone, and the next try goes on from there."""
    with renter.store.write() as tx:
        was = book.get(tx, machine_id)
        if was.state == "wanted" and not was.provider_id:  # nobody was asked for it
            return book.never_came(tx, machine_id, reason, renter.clock())
        machine = book.closing(tx, machine_id, reason, refused=refused)
    if machine.over:
        return machine
    try:
        if not machine.provider_id:
            machine = identified(renter, machine)
        if machine.over or not machine.provider_id:
            return machine
        renter.provider.delete(machine.provider_id)
        if there(renter, machine) is not None:
            return machine
    except InfraError:
        return machine
    with renter.store.write() as tx:
        return book.gone(tx, machine_id, rules=renter.provider.rules, at=renter.clock())


def _first(renter: Renter, machine: Machine, candidates: Sequence[Candidate]) -> Seen:
    refusals: list[InfraError] = []
    for candidate in candidates:
        try:
            return _create(renter, machine, candidate)
        except (NoCapacity, NotForUs) as refusal:
            refusals.append(refusal)
    said = str(refusals[-1])
    if all(isinstance(one, NotForUs) for one in refusals):
        raise BadRequest(f"the account may have none of what was asked for; the last answer: {said}")
    if any(isinstance(one, NotForUs) or _NONE_LEFT.search(str(one)) for one in refusals):
        raise NoCapacity(f"none of {len(candidates)} candidates is to be had now; the last answer: {said}")
    raise BadRequest(
        f"each of {len(candidates)} candidates was refused, so what is wrong is what was asked for: {said}. "
        "Check image, disk, volume and data centres in runners.toml"
    )


def _create(renter: Renter, machine: Machine, candidate: Candidate) -> Seen:
    """One candidate, until there is a clear answer. The id is stored before anything else is done.

    Once an answer was lost, nothing is asked for again: lists are late, so both may be made, and there is money set
    aside for one.
    """
    said: CaddieError = InfraError("nobody was asked")
    for attempt in range(TRIES):
        _asking(renter, machine, candidate)
        try:
            seen = renter.provider.create(candidate, machine.name, datetime.fromisoformat(machine.until))
        except Waiting as error:
            said = error
            renter.sleep(min(LONGEST_WAIT_S, max(0.0, error.retry_after)))
            continue
        except Unreached as error:
            said = error
            renter.sleep(BACKOFF_S * 2**attempt)
            continue
        except CutOff:
            raise
        except Unclear as error:
            _asking(renter, machine, candidate)  # it may have come at the end of a long wait
            seen = _all_the_same(renter, machine, error)
        with renter.store.write() as tx:
            book.created(tx, machine.id, seen.provider_id, seen.place)
        return seen
    raise InfraError(f"{renter.provider.name} took none of {TRIES} requests for a machine: {said}")


def _all_the_same(renter: Renter, machine: Machine, doubt: Unclear) -> Seen:
    """What was made although its answer was lost. Raises Unclear while no list shows it."""
    for attempt in range(TRIES):
        renter.sleep(BACKOFF_S * 2**attempt)
        try:
            made = by_name(renter, machine.name)
        except CaddieError as refusal:
            raise Unclear(f"{doubt}; then {refusal}") from refusal
        if made is not None:
            return made
    raise Unclear(f"{renter.provider.name} gave no clear answer to a request for a machine, and shows none: {doubt}")


def _asking(renter: Renter, machine: Machine, candidate: Candidate) -> None:
    """By how long ago it was asked for last, it is known that it never came."""
    with renter.store.write() as tx:
        book.creating(tx, machine.id, candidate, renter.clock())


def identified(renter: Renter, machine: Machine) -> Machine:
    """One whose id nobody has said, looked for by its name: with its id where it is there, over where it was never
    made, else as it was. Raises InfraError."""
    seen, at = by_name(renter, machine.name), renter.clock()
    if seen is None and is_new(machine, at):
        return machine
    with renter.store.write() as tx:
        if seen is None:
            return book.never_came(tx, machine.id, "was asked for and never seen", at)
        return book.created(tx, machine.id, seen.provider_id, seen.place)


def there(renter: Renter, machine: Machine) -> Seen | None:
    """The machine of this id, where its provider shows one: by the id, or else in its list. Neither alone says that
    nothing is there, as either may be wrong for a moment. Raises InfraError."""
    if (seen := renter.provider.look(machine.provider_id)) is not None:
        return seen
    listed = renter.provider.list(machine.name)
    return next((one for one in listed if one.provider_id == machine.provider_id), None)


def is_new(machine: Machine, at: datetime) -> bool:
    """Whether it may yet come to show, though nothing shows it now."""
    return (at - datetime.fromisoformat(machine.asked)).total_seconds() < LOST_S


def by_name(renter: Renter, name: str) -> Seen | None:
    """The machine that goes by this name, where its provider shows one. Raises Unclear where it shows nothing."""
    try:
        return next((one for one in renter.provider.list(name) if one.name == name), None)
    except Waiting as error:
        renter.sleep(min(LONGEST_WAIT_S, max(0.0, error.retry_after)))
    try:
        return next((one for one in renter.provider.list(name) if one.name == name), None)
    except Waiting as error:
        raise Unclear(f"{renter.provider.name} does not show its machines now: {error}") from error
