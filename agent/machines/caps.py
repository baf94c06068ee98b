"""What a person allows beside a campaign's own cap: dollars for a run, for a lease and for a day, and machines at once.

Takes the store's rows and `Limits`; all campaigns of a store count together. Dollars are those of all who rent out,
machines those of one table of runners.toml.
"""

from datetime import datetime, timedelta

from sqlalchemy import func, select

from agent.errors import BudgetExceeded
from agent.machines.records import OVER, Full, Limits, SpentToday
from agent.store import Reads
from agent.store.rows import iso
from agent.store.schema import ledger, machines

_m = machines.c


def below(what: str, cap: float | None, usd: float) -> None:
    """Raises BudgetExceeded."""
    if cap is not None and usd > cap:
        raise BudgetExceeded(f"{what} may cost {cap:.2f} $, and this one {usd:.2f} $ at worst")


def below_day(reads: Reads, limits: Limits, more: float, at: datetime) -> None:
    """Raises SpentToday, and BudgetExceeded where no other day is better."""
    if limits.usd_per_day is None or more <= 0:
        return
    so_far = day_usd(reads, at)
    if so_far + more > limits.usd_per_day:
        words = (
            f"{more:.2f} $ more would pass the cap of {limits.usd_per_day:.2f} $ a day: "
            f"{so_far:.2f} $ are spent or reserved"
        )
        raise BudgetExceeded(words) if more > limits.usd_per_day else SpentToday(words, retry_after=600.0)


def room(reads: Reads, limits: Limits, backend: str) -> None:
    """Raises Full: as many machines of this table of runners.toml as may be are there, whichever campaign's."""
    there = count(reads, backend)
    if there >= limits.most:
        raise Full(f"{there} machines of {backend} are rented, and {limits.most} may be at once", retry_after=60.0)


def count(reads: Reads, backend: str) -> int:
    """How many are not over, whichever campaign's."""
    there = _m.state.not_in(OVER) & (_m.backend == backend)
    query = select(func.count()).select_from(machines).where(there)
    return int(reads.connection.execute(query).scalar_one())


def day_usd(reads: Reads, at: datetime) -> float:
    """Dollars of what ended in the 24 hours before, and all that is set aside now."""
    spent = (_m.ended >= iso(at - timedelta(days=1))) & (ledger.c.state == "settled")
    dollars = func.sum(ledger.c.settled_usd).filter(spent)
    held = func.sum(ledger.c.reserved_usd).filter(ledger.c.state == "reserved")
    query = select(func.coalesce(dollars, 0.0) + func.coalesce(held, 0.0)).join_from(
        machines, ledger, ledger.c.id == _m.entry_id
    )
    return float(reads.connection.execute(query.where((ledger.c.state == "reserved") | spent)).scalar_one())
