"""The ledger: GPU-seconds, dollars and tokens are reserved at their worst case before they are spent.

Takes a transaction of the store (`Tx`) and amounts; gives ids of entries. The sum of settled and reserved
never passes a cap. The sums stand in the campaign's row, so a reservation costs the same after a million;
`audit` adds up the entries again. Amounts are kept as multiples of 2^-20 s and 2^-30 dollars, so that sums of
them are exact, in whatever order they are added and taken away.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import RowMapping, bindparam, func, select, update

from agent.errors import BudgetExceeded
from agent.records import Amount
from agent.store import rows, statements
from agent.store.reads import Reads
from agent.store.rows import now
from agent.store.schema import campaigns, ledger
from agent.store.writes import Tx

What = Literal["run", "hold", "planner", "machine"]
EntryState = Literal["reserved", "settled", "released"]

_GRAIN = {"gpu_s": 2.0**20, "usd": 2.0**30, "llm_usd": 2.0**30, "llm_tokens": 1.0, "llm_calls": 1.0}
# Callers multiply and divide floats: a thousandth of a second or a millionth of a dollar is no difference.
_SAME = {"gpu_s": 1e-3, "usd": 1e-6, "llm_usd": 1e-6, "llm_tokens": 0.0, "llm_calls": 0.0}
_NOTHING = Amount()
_COLUMNS = [f"{prefix}_{name}" for prefix in ("reserved", "settled") for name in _GRAIN]
_SUMS = (
    update(campaigns)
    .where(campaigns.c.id == bindparam("campaign_id"))
    .values({column: campaigns.c[column] + bindparam(f"more_{column}") for column in _COLUMNS})
)
_ENTRY = select(ledger).where(ledger.c.id == bindparam("entry_id"))
_OF_RUN = (
    select(ledger)
    .where(ledger.c.run_id == bindparam("run_id"), ledger.c.state == "reserved")
    .order_by(ledger.c.id.desc())
    .limit(1)
)
_HOLDS = (
    select(ledger)
    .where(ledger.c.proposal_id == bindparam("proposal_id"), ledger.c.what == "hold", ledger.c.state == "reserved")
    .order_by(ledger.c.id)
)
_NAMES = {
    "gpu_s": "GPU-seconds",
    "usd": "dollars",
    "llm_usd": "dollars for models",
    "llm_tokens": "tokens",
    "llm_calls": "calls of models",
}


@dataclass(frozen=True)
class Entry:
    """One line of the ledger."""

    id: int
    campaign_id: int
    what: What
    state: EntryState
    proposal_id: int | None
    run_id: int | None
    hold_id: int | None  # the hold it was drawn from
    reserved: Amount  # of a hold: what is left of it
    settled: Amount
    reason: str
    created: str
    closed: str | None


def reserve(
    tx: Tx,
    campaign_id: int,
    amount: Amount,
    what: What,
    *,
    proposal_id: int | None = None,
    run_id: int | None = None,
) -> int:
    """Sets the worst case aside. Raises BudgetExceeded, and changes nothing, when a cap would be passed."""
    wanted = _grained(amount)
    _within_caps(tx, campaign_id, wanted)
    values = {
        "campaign_id": campaign_id,
        "what": what,
        "state": "reserved",
        "created": now(),
        "proposal_id": proposal_id,
        "run_id": run_id,
        **rows.amount_columns(wanted, "reserved"),
    }
    entry_id = _insert(tx, values)
    _add(tx, campaign_id, wanted)
    return entry_id


def resize(tx: Tx, entry_id: int, amount: Amount) -> None:
    """The worst case became another one. Raises BudgetExceeded, and changes nothing, when a cap would be passed."""
    found = _open(tx, entry_id)
    wanted = _grained(amount)
    more = _plus(wanted, _minus(found.reserved))
    _within_caps(tx, found.campaign_id, more)
    statements.change(tx.connection, ledger, entry_id, rows.amount_columns(wanted, "reserved"))
    _add(tx, found.campaign_id, more)


def settle(tx: Tx, entry_id: int, amount: Amount) -> None:
    """What it really cost. More than was reserved is an error: then the limit was no limit."""
    _settle(tx, _open(tx, entry_id), amount)


def settle_run(tx: Tx, run_id: int, amount: Amount) -> None:
    """The same of what is set aside for a run."""
    found = entry_of_run(tx, run_id)
    if found is None:
        raise ValueError(f"nothing is set aside for r{run_id}")
    _settle(tx, found, amount)


def settle_beyond(tx: Tx, entry_id: int, amount: Amount) -> None:
    """What somebody else charged although the worst case was less: it is spent, whatever a cap says."""
    found = _open(tx, entry_id)
    spent = _grained(amount)
    _close(tx, entry_id, {"state": "settled", "reason": "over its worst case", **rows.amount_columns(spent, "settled")})
    _add(tx, found.campaign_id, _minus(found.reserved), spent)


def amend(tx: Tx, entry_id: int, amount: Amount, reason: str) -> None:
    """What was settled turned out to cost something else: whoever charged it said so afterwards."""
    found = entry(tx, entry_id)
    if found.state != "settled":
        raise ValueError(f"entry {entry_id} is {found.state}, not settled")
    spent = _grained(amount)
    values = {"reason": reason, **rows.amount_columns(spent, "settled")}
    statements.change(tx.connection, ledger, entry_id, values)
    _add(tx, found.campaign_id, _NOTHING, _plus(spent, _minus(found.settled)))


def release(tx: Tx, entry_id: int, reason: str) -> None:
    """What was set aside and not spent goes back; of a hold, what is left of it."""
    found = _open(tx, entry_id)
    _close(tx, entry_id, {"state": "released", "reason": reason})
    _add(tx, found.campaign_id, _minus(found.reserved))


def let_go(tx: Tx, proposal_id: int, reason: str) -> None:
    """Gives back what was set aside for a proposal."""
    for hold in holds(tx, proposal_id):
        release(tx, hold.id, reason)


def draw(tx: Tx, hold_id: int, amount: Amount, run_id: int) -> int:
    """Moves part of a hold to a run's own reservation: the sum stays, so no cap is asked again."""
    hold = _open(tx, hold_id)
    if hold.what != "hold":
        raise ValueError(f"entry {hold_id} is no hold")
    wanted = _part(hold, _grained(amount), "drawn")
    left = _plus(hold.reserved, _minus(wanted))
    change = update(ledger).where(ledger.c.id == hold_id).values(rows.amount_columns(left, "reserved"))
    tx.connection.execute(change)
    values = {
        "campaign_id": hold.campaign_id,
        "what": "run",
        "state": "reserved",
        "created": now(),
        "hold_id": hold_id,
        "proposal_id": hold.proposal_id,
        "run_id": run_id,
        **rows.amount_columns(wanted, "reserved"),
    }
    return _insert(tx, values)


def entry(reads: Reads, entry_id: int) -> Entry:
    return _entry(reads.connection.execute(_ENTRY, {"entry_id": entry_id}).mappings().one())


def entry_of_run(tx: Reads, run_id: int) -> Entry | None:
    """The run's reservation that is not settled or released yet."""
    row = tx.connection.execute(_OF_RUN, {"run_id": run_id}).mappings().one_or_none()
    return None if row is None else _entry(row)


def holds(tx: Reads, proposal_id: int) -> list[Entry]:
    """What is still set aside for a proposal, oldest first."""
    return [_entry(row) for row in tx.connection.execute(_HOLDS, {"proposal_id": proposal_id}).mappings()]


def open_entries(reads: Reads, campaign_id: int) -> list[Entry]:
    """All that is reserved now: after a crash, each of these needs its run looked at."""
    query = select(ledger).where(ledger.c.campaign_id == campaign_id, ledger.c.state == "reserved")
    return [_entry(row) for row in reads.connection.execute(query.order_by(ledger.c.id)).mappings()]


def covers(entry: Entry, amount: Amount) -> bool:
    """Whether so much can still be taken of it."""
    return all(getattr(amount, name) <= getattr(entry.reserved, name) + same for name, same in _SAME.items())


def audit(reads: Reads, campaign_id: int) -> list[str]:
    """Adds up all entries again; says where the sums that are kept differ. Empty: the ledger is exact."""
    balance = reads.balance(campaign_id)
    return list(_differences(reads, campaign_id, balance.settled, balance.reserved))


def _within_caps(tx: Tx, campaign_id: int, wanted: Amount) -> None:
    balance = tx.balance(campaign_id)
    for name in _NAMES:
        cap = getattr(balance.caps, name)
        settled, reserved, more = (getattr(one, name) for one in (balance.settled, balance.reserved, wanted))
        if cap is not None and more > 0 and settled + reserved + more > cap:
            raise BudgetExceeded(
                f"{more:.6g} more {_NAMES[name]} would pass the cap of {cap:.6g}: "
                f"{settled:.6g} are spent and {reserved:.6g} reserved"
            )


def _differences(reads: Reads, campaign_id: int, settled: Amount, reserved: Amount) -> Iterator[str]:
    for prefix, state, kept in (("settled", "settled", settled), ("reserved", "reserved", reserved)):
        columns = [ledger.c[f"{prefix}_{name}"] for name in _GRAIN]
        query = select(*(func.coalesce(func.sum(column), 0) for column in columns))
        row = reads.connection.execute(query.where(ledger.c.campaign_id == campaign_id, ledger.c.state == state)).one()
        for name, total in zip(_GRAIN, row, strict=True):
            if float(total) != getattr(kept, name):
                said = getattr(kept, name)
                yield f"{prefix} {name}: the entries add up to {float(total)}, the campaign says {said}"


def _grained(amount: Amount) -> Amount:
    values: dict[str, float] = {}
    for name, grain in _GRAIN.items():
        value = getattr(amount, name)
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"{name} is {value}")
        values[name] = round(value * grain) / grain
    return _amount(values)


def _amount(values: dict[str, float]) -> Amount:
    whole = {name: int(values[name]) for name in ("llm_tokens", "llm_calls")}
    return Amount(values["gpu_s"], values["usd"], values["llm_usd"], **whole)


def _plus(one: Amount, other: Amount) -> Amount:
    return _amount({name: getattr(one, name) + getattr(other, name) for name in _GRAIN})


def _minus(one: Amount) -> Amount:
    return _amount({name: -getattr(one, name) for name in _GRAIN})


def _part(entry: Entry, amount: Amount, done: str) -> Amount:
    """What is taken of an entry, never more than there is. Raises ValueError where rounding does not explain it."""
    taken = {}
    for name, same in _SAME.items():
        wanted, there = getattr(amount, name), getattr(entry.reserved, name)
        if wanted > there + same:
            raise ValueError(f"entry {entry.id}: {wanted} {name} {done} of {there} left")
        taken[name] = min(wanted, there)
    return _amount(taken)


def _add(tx: Tx, campaign_id: int, reserved: Amount, settled: Amount = _NOTHING) -> None:
    """Moves the sums in the campaign's row."""
    columns = {**rows.amount_columns(reserved, "reserved"), **rows.amount_columns(settled, "settled")}
    tx.connection.execute(_SUMS, {"campaign_id": campaign_id, **{f"more_{k}": v for k, v in columns.items()}})


def _insert(tx: Tx, values: Mapping[str, object]) -> int:
    return statements.add(tx.connection, ledger, values)


def _settle(tx: Tx, found: Entry, amount: Amount) -> None:
    if found.what == "hold":
        raise ValueError(f"entry {found.id} is a hold: draw from it, or release it")
    spent = _part(found, _grained(amount), "spent")
    _close(tx, found.id, {"state": "settled", **rows.amount_columns(spent, "settled")})
    _add(tx, found.campaign_id, _minus(found.reserved), spent)


def _close(tx: Tx, entry_id: int, values: dict[str, object]) -> None:
    statements.change(tx.connection, ledger, entry_id, {**values, "closed": now()})


def _open(tx: Tx, entry_id: int) -> Entry:
    row = statements.row(tx.connection, ledger, entry_id)
    if row is None:
        raise ValueError(f"no entry {entry_id} in the ledger")
    if row["state"] != "reserved":
        raise ValueError(f"entry {entry_id} is {row['state']} already")
    return _entry(row)


def _entry(row: RowMapping) -> Entry:
    same = (
        "id",
        "campaign_id",
        "what",
        "state",
        "proposal_id",
        "run_id",
        "hold_id",
        "reason",
        "created",
        "closed",
    )
    return Entry(
        **{name: row[name] for name in same},
        reserved=rows.amount(row, "reserved"),
        settled=rows.amount(row, "settled"),
    )
