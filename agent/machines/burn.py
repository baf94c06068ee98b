"""What is rented now, and what that costs an hour: for `agent status` and `agent machines`.

Takes the book; gives `Burn` and words. Reads the database only: nobody is asked.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from agent.machines import book
from agent.machines.records import Machine
from agent.records import Balance
from agent.store import Reads
from agent.store.schema.rented import STORAGE


@dataclass(frozen=True)
class Burn:
    """Money that goes now."""

    machines: int
    usd_per_hour: float  # of the volumes that their data lie on, too
    until: str  # the last machine ends by itself then; empty: there is none


def burn(reads: Reads, campaign_id: int | None = None) -> Burn:
    there = [one for one in book.everyone(reads, campaign_id=campaign_id) if one.state != "wanted"]
    ending = [one.until for one in there if not one.provider.endswith(STORAGE)]
    return Burn(len(ending), sum(one.usd_per_hour for one in there), max(ending, default=""))


def words(now: Burn, balance: Balance) -> str:
    """Empty where nothing is or was rented."""
    spent, held, cap = balance.settled.usd, balance.reserved.usd, balance.caps.usd
    if not now.machines and not now.usd_per_hour and not spent and not held:
        return ""
    rate = "none rented now"
    if now.machines or now.usd_per_hour:
        rate = f"{now.machines or 'no machine'} rented, {now.usd_per_hour:.2f} $ an hour"
    ends = f", the last ends by itself at {_clock(now.until)}" if now.until else ""
    of = "" if cap is None else f" of {cap:.2f} $"
    return f"{rate}{ends}; {spent:.2f} $ spent" + (f" + {held:.2f} $ reserved" if held else "") + of


def table(machines: list[Machine]) -> str:
    if not machines:
        return "nothing is rented"
    lines = []
    for one in machines:
        cost = f"{one.usd_per_hour:6.2f} $/h" if not one.over else f"{_dollars(one.billed_usd):>9}"
        when = f"until {_clock(one.until)}" if not one.over else f"ended {_clock(one.ended or '')}"
        what = f"{one.gpus} x {one.kind}" + (f" in {one.place}" if one.place else "")
        why = one.refused or one.reason
        lines.append(
            f"m{one.id:<4} {one.state:<9}{cost}  {when}  {what}  {one.provider} {one.provider_id or '-'}"
            + (f"  ({why})" if why else "")
        )
    return "\n".join(lines)


def _dollars(usd: float | None) -> str:
    return "not billed" if usd is None else f"{usd:.2f} $"


def _clock(text: str) -> str:
    if not text:
        return "-"
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%m-%d %H:%M UTC")
