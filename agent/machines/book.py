"""The book of rented machines: what is written down before each step towards a machine, and after it.

Takes a transaction of the store; gives `Machine`s. A machine's worst case, until the time at which it ends by itself,
is in the ledger before its provider hears of it, and more is reserved before that time is moved. Whoever finds the
book after a crash knows every machine that may exist: by its id, or by its name.
"""

import re
import secrets
from collections.abc import Collection, Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sqlalchemy import RowMapping, select

from agent import budget
from agent.errors import BudgetExceeded, UserError
from agent.machines import caps
from agent.machines.billing import Rules
from agent.machines.homes import lies_there, moved
from agent.machines.records import OVER, Candidate, Limits, Machine, Seen
from agent.records import Amount
from agent.store import Reads, Tx, statements
from agent.store.rows import iso, now
from agent.store.schema import installs, machines

_NAME = re.compile(r"caddie-([0-9a-f]{8})-c(\d{1,9})-m(\d{1,9})")
_m = machines.c


class Named(NamedTuple):
    """What the name of a machine says."""

    install: str
    campaign_id: int
    machine_id: int


def named(name: str) -> Named | None:
    found = _NAME.fullmatch(name)
    return Named(found[1], int(found[2]), int(found[3])) if found else None


def prefix(tx: Tx, home: str) -> str:
    """What the names of all machines of this database begin with; drawn once for each place it lies at, and taken along
    where it is moved."""
    query = select(installs.c.id, installs.c.home, installs.c.name).order_by(installs.c.id.desc())
    places = tx.connection.execute(query).all()
    known = next((one.name for one in places if one.home == home), None)
    if known is None and (was := next((one for one in places if moved(one.home, home)), None)) is not None:
        statements.change(tx.connection, installs, was.id, {"home": home})
        known = was.name
    if known is None:
        known = secrets.token_hex(4)
        statements.add(tx.connection, installs, {"name": known, "home": home, "created": now()})
    return f"caddie-{known}-"


def originals(reads: Reads, home: str) -> dict[str, str]:
    """By what the names of its machines begin with: where a database lies of which this one, at `home`, is a copy."""
    places = reads.connection.execute(select(installs.c.name, installs.c.home))
    return {one.name: one.home.rpartition(" ")[0] for one in places if one.home != home and lies_there(one.home)}


def want(
    tx: Tx,
    campaign_id: int,
    backend: str,
    provider: str,
    candidates: Collection[Candidate],
    lease_s: float,
    run_s: float,
    *,
    rules: Rules,
    limits: Limits,
    home: str,
    at: datetime,
    facts: Mapping[str, object],
) -> Machine:
    """Sets the worst case of the dearest candidate aside; `run_s`: the longest run that it is rented for.

    Raises, and changes nothing:
        BudgetExceeded: any cap would be passed.
        SpentToday: that of a day would be.
        Full: as many machines as may be are there.
    """
    dearest = max(candidates, key=lambda one: one.usd_per_hour)
    until = at + timedelta(seconds=lease_s)
    usd = rules.worst(dearest.usd_per_hour, lease_s)
    caps.below("a run", limits.usd_per_run, rules.cost(dearest.usd_per_hour, run_s))
    caps.below("a lease", limits.usd_per_lease, usd)
    caps.below_day(tx, limits, usd, at)
    caps.room(tx, limits, backend)
    entry_id = budget.reserve(tx, campaign_id, Amount(usd=usd), "machine")
    values = {
        "campaign_id": campaign_id,
        "backend": backend,
        "provider": provider,
        "kind": dearest.kind,
        "gpus": dearest.gpus,
        "place": dearest.place,
        "usd_per_hour": dearest.usd_per_hour,
        "state": "wanted",
        "entry_id": entry_id,
        "until": iso(until),
        "created": iso(at),
        "facts": {"run_s": run_s, **facts},
    }
    machine_id = statements.add(tx.connection, machines, values)
    return _change(tx, machine_id, name=f"{prefix(tx, home)}c{campaign_id}-m{machine_id}")


def creating(tx: Tx, machine_id: int, candidate: Candidate, at: datetime) -> Machine:
    """The intent: from now on this candidate may exist under the machine's name."""
    was = get(tx, machine_id)
    if was.state not in ("wanted", "creating") or was.provider_id:
        raise ValueError(f"machine m{machine_id} is {was.state}")
    return _change(tx, machine_id, state="creating", facts={**was.facts, "asked": iso(at)}, **vars(candidate))


def created(tx: Tx, machine_id: int, provider_id: str, place: str) -> Machine:
    """The provider's id, in the moment in which it is known."""
    was = get(tx, machine_id)
    if was.provider_id not in ("", provider_id):
        raise ValueError(f"machine m{machine_id} is {was.provider_id} already")
    return _change(tx, machine_id, provider_id=provider_id, place=place or was.place)


def priced(tx: Tx, machine_id: int, usd_per_hour: float, *, rules: Rules, limits: Limits, at: datetime) -> Machine:
    """Its provider asks for more than it was thought to cost: more is set aside. Raises what `want` does."""
    was = get(tx, machine_id)
    if usd_per_hour <= was.usd_per_hour:
        return was
    usd = rules.worst(usd_per_hour, (_at(was.until) - _at(was.created)).total_seconds())
    caps.below("a run", limits.usd_per_run, rules.cost(usd_per_hour, float(str(was.facts.get("run_s", 0.0)))))
    caps.below("a lease", limits.usd_per_lease, usd)
    caps.below_day(tx, limits, usd - budget.entry(tx, _entry(was)).reserved.usd, at)
    budget.resize(tx, _entry(was), Amount(usd=usd))
    return _change(tx, machine_id, usd_per_hour=usd_per_hour)


def live(tx: Tx, machine_id: int, facts: Mapping[str, object], at: datetime) -> Machine:
    """It can be used; `facts` say how it is reached."""
    was = get(tx, machine_id)
    return _change(tx, machine_id, state="live", live=was.live or iso(at), facts={**was.facts, **facts})


def learnt(tx: Tx, machine_id: int, facts: Mapping[str, object]) -> Machine:
    """What more is known of its hardware."""
    return _change(tx, machine_id, facts={**get(tx, machine_id).facts, **facts})


def lease(machine_id: int) -> str:
    """As runs and spot checks name a machine, from its renting to its return."""
    return f"m{machine_id}"


def prolong(tx: Tx, machine_id: int, until: datetime, *, rules: Rules, limits: Limits, at: datetime) -> Machine:
    """Reserves more; only then may the machine itself hear of its new time. Raises BudgetExceeded, SpentToday."""
    was = get(tx, machine_id)
    if until <= _at(was.until):
        return was
    held = budget.entry(tx, _entry(was)).reserved.usd
    usd = rules.worst(was.usd_per_hour, (until - _at(was.created)).total_seconds())
    caps.below("a lease", limits.usd_per_lease, usd)
    caps.below_day(tx, limits, usd - held, at)
    budget.resize(tx, _entry(was), Amount(usd=max(usd, held)))
    return _change(tx, machine_id, until=iso(until))


def never_came(tx: Tx, machine_id: int, reason: str, at: datetime) -> Machine:
    """The provider never made it, as it said itself or as its list shows: what was set aside goes back."""
    was = get(tx, machine_id)
    if was.over:
        return was
    if was.provider_id:
        raise ValueError(f"machine m{machine_id} is {was.provider_id} at {was.provider}: it did come to be")
    budget.release(tx, _entry(was), reason)
    return _change(tx, machine_id, state="gone", reason=reason, ended=iso(at), billed_usd=0.0)


def closing(tx: Tx, machine_id: int, reason: str, *, refused: str = "") -> Machine:
    """It is to end; it stays so until its provider shows that it has. `refused`: it was not good enough."""
    was = get(tx, machine_id)
    if was.state == "closing" or was.over:
        return was
    return _change(tx, machine_id, state="closing", reason=reason, refused=refused or was.refused)


def gone(tx: Tx, machine_id: int, *, rules: Rules, at: datetime) -> Machine:
    """The provider has it no more. What is set aside shrinks to what it can have cost; the bill settles it.

    This machine's clock may have been set meanwhile. By some minutes: the rules' margin is kept. Back beyond the last
    time that the machine was seen: it says nothing, and nothing shrinks.
    """
    was = get(tx, machine_id)
    if was.over:
        return was
    entry = budget.entry(tx, _entry(was))
    if entry.state == "reserved" and at >= _at(was.seen):
        usd = rules.worst(was.usd_per_hour, (at - _at(was.created)).total_seconds())
        budget.resize(tx, entry.id, Amount(usd=min(entry.reserved.usd, usd)))
    return _change(tx, machine_id, state="refused" if was.refused else "gone", ended=iso(at))


def back(tx: Tx, machine_id: int) -> Machine:
    """The provider has it after all: it is to end once more."""
    return _change(tx, machine_id, state="closing", ended=None, reason="it was gone, and there it is again")


def settle(tx: Tx, machine_id: int, usd: float) -> Machine:
    """What the provider charged, whatever was set aside for it; once more where it says something else later."""
    was = get(tx, machine_id)
    entry = budget.entry(tx, _entry(was))
    if entry.state == "reserved" and usd <= entry.reserved.usd:
        budget.settle(tx, entry.id, Amount(usd=usd))
    elif entry.state == "reserved":
        budget.settle_beyond(tx, entry.id, Amount(usd=usd))
    else:
        budget.amend(tx, entry.id, Amount(usd=usd), "the provider's bill changed")
    return _change(tx, machine_id, billed_usd=usd)


def found(tx: Tx, campaign_id: int, backend: str, provider: str, seen: Seen, *, rules: Rules, at: datetime) -> Machine:
    """A machine that nobody wrote down: it is paid for since it was made, so it gets its row and its entry, and is to
    end. What it can have cost is set aside as far as there is money; its bill is paid whatever a cap says."""
    made = at if seen.created is None else min(at, seen.created.astimezone(UTC))
    usd = rules.worst(seen.usd_per_hour, (at - made).total_seconds())
    try:
        entry_id = budget.reserve(tx, campaign_id, Amount(usd=usd), "machine")
    except BudgetExceeded:
        entry_id = budget.reserve(tx, campaign_id, Amount(), "machine")
    values = {
        "campaign_id": campaign_id,
        "name": seen.name,
        "backend": backend,
        "provider": provider,
        "provider_id": seen.provider_id,
        "kind": seen.kind,
        "gpus": seen.gpus,
        "place": seen.place,
        "usd_per_hour": seen.usd_per_hour,
        "state": "closing",
        "reason": "an orphan: its provider had it, and nobody had written it down",
        "entry_id": entry_id,
        "until": iso(at),
        "created": iso(made),
        "facts": {},
    }
    return get(tx, statements.add(tx.connection, machines, values))


def get(reads: Reads, machine_id: int) -> Machine:
    row = statements.row(reads.connection, machines, machine_id)
    if row is None:
        raise UserError(f"no machine m{machine_id}; `agent machines` lists them")
    return _machine(row)


def everyone(
    reads: Reads, *, campaign_id: int | None = None, backend: str | None = None, over: bool = False
) -> list[Machine]:
    """Those that are not over, oldest first; with `over` all."""
    query = select(machines).order_by(_m.id)
    if not over:
        query = query.where(_m.state.not_in(OVER))
    if campaign_id is not None:
        query = query.where(_m.campaign_id == campaign_id)
    if backend is not None:
        query = query.where(_m.backend == backend)
    return [_machine(row) for row in reads.connection.execute(query).mappings()]


def by_provider_id(reads: Reads, provider: str, provider_id: str) -> Machine | None:
    query = select(machines).where(_m.provider == provider, _m.provider_id == provider_id).order_by(_m.id.desc())
    row = reads.connection.execute(query.limit(1)).mappings().first()
    return _machine(row) if row else None


def unbilled(reads: Reads, provider: str, since: datetime) -> list[Machine]:
    """Those that are over and not settled, and those that ended since then: a bill may still change."""
    query = select(machines).where(
        _m.provider == provider,
        _m.provider_id != "",
        _m.state.in_(OVER),
        (_m.billed_usd.is_(None)) | (_m.ended >= iso(since)),
    )
    return [_machine(row) for row in reads.connection.execute(query.order_by(_m.id)).mappings()]


def unsettled(reads: Reads, provider: str) -> list[Machine]:
    """Those that are over and whose bill has not come."""
    query = select(machines).where(_m.provider == provider, _m.state.in_(OVER), _m.billed_usd.is_(None))
    return [_machine(row) for row in reads.connection.execute(query.order_by(_m.id)).mappings()]


def turned_down(reads: Reads, provider: str, since: datetime) -> list[Machine]:
    """Those that were found not to be good enough since then."""
    query = select(machines).where(_m.provider == provider, _m.refused != "", _m.created >= iso(since))
    return [_machine(row) for row in reads.connection.execute(query.order_by(_m.id)).mappings()]


def _change(tx: Tx, machine_id: int, **values: object) -> Machine:
    before = get(tx, machine_id)
    statements.change(tx.connection, machines, machine_id, values)
    after = get(tx, machine_id)
    if after.state != before.state:
        what = f"m{machine_id} {after.state}: {after.gpus} x {after.kind} {after.place} {after.reason}".rstrip()
        tx.add_event(after.campaign_id, "machine", what)
    return after


def _entry(machine: Machine) -> int:
    assert machine.entry_id is not None  # only a row that was half written by hand has none
    return machine.entry_id


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _machine(row: RowMapping) -> Machine:
    return Machine(**{field.name: row[field.name] for field in fields(Machine)})
