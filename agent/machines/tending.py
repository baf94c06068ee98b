"""Looks after a machine that is there: when it can be used, when it is in trouble, when its time runs out.

Takes a `Renter` and a machine; gives it as it is now. One look each; whoever rents calls this every few seconds.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.machines import book
from agent.machines.records import Machine, Seen
from agent.machines.renting import Renter, identified, is_new, price, shut, there
from agent.store.rows import iso

SEEN_S = 300.0  # between two notes that a machine was there


@dataclass(frozen=True)
class Patience:
    """How long a machine may take, in seconds."""

    provision_s: float = 900.0
    """From asking for it to its running."""
    port_s: float = 300.0
    """From its running to its being reachable."""


def tend(renter: Renter, machine: Machine, patience: Patience) -> Machine:
    """Its state brought up to date; ended where it is of no use.

    Raises:
        InfraError: the provider does not answer; nothing was changed then.
        BudgetExceeded, SpentToday: it is dearer than it was said to be, and was given back.
    """
    if machine.over or machine.state == "wanted":
        return machine
    if machine.state == "closing":
        return shut(renter, machine.id, machine.reason)
    if not machine.provider_id:
        machine = identified(renter, machine)
    if machine.over or not machine.provider_id:
        return machine
    seen = there(renter, machine)
    if seen is None:
        new = machine.state == "creating" and is_new(machine, renter.clock())
        return machine if new else _vanished(renter, machine)
    if seen.usd_per_hour > machine.usd_per_hour:
        machine = price(renter, machine.id, seen)
    at = renter.clock()
    news = _news(machine, seen, at)
    if news:
        with renter.store.write() as tx:
            machine = book.learnt(tx, machine.id, news)
    if why := trouble(machine, seen, at, patience):
        return shut(renter, machine.id, why)
    address = seen.address
    if machine.state == "creating" and seen.state == "running" and address is not None:
        facts = {"host": address.host, "port": address.port, "user": address.user}
        with renter.store.write() as tx:
            return book.live(tx, machine.id, facts, at)
    return machine


def trouble(machine: Machine, seen: Seen, at: datetime, patience: Patience) -> str:
    """Why it is of no use; nothing where it is, or may yet be."""
    if seen.state == "ended":
        return f"ended by itself: {seen.words}"
    if at >= datetime.fromisoformat(machine.until):
        return "its time is over"
    if machine.state != "creating":
        return ""
    if seen.state == "starting" and _since(machine.created, at) > patience.provision_s:
        return f"still {seen.words} after {patience.provision_s:.0f} s"
    running = machine.facts.get("running")
    if seen.state != "running" or seen.address is not None or not isinstance(running, str):
        return ""
    if _since(running, at) > patience.port_s:
        return f"runs, and can't be reached after {patience.port_s:.0f} s: it has no public port"
    return ""


def _news(machine: Machine, seen: Seen, at: datetime) -> dict[str, object]:
    """Since when it runs, and when it was seen last: a clock that says less than that was set back."""
    news: dict[str, object] = {}
    if seen.state == "running" and "running" not in machine.facts:
        news["running"] = iso(at)
    if _since(machine.seen, at) >= SEEN_S:
        news["seen"] = iso(at)
    return news


def due(machine: Machine, at: datetime, ahead_s: float) -> bool:
    """Whether its time runs out within so many seconds."""
    return datetime.fromisoformat(machine.until) - at <= timedelta(seconds=ahead_s)


def prolong(renter: Renter, machine: Machine, seconds: float) -> Machine:
    """More is reserved, so that it may live for so long from now. Raises BudgetExceeded, SpentToday. The machine itself
    has to be told afterwards."""
    at = renter.clock()
    with renter.store.write() as tx:
        until = at + timedelta(seconds=seconds)
        return book.prolong(tx, machine.id, until, rules=renter.provider.rules, limits=renter.limits, at=at)


def _vanished(renter: Renter, machine: Machine) -> Machine:
    with renter.store.write() as tx:
        book.closing(tx, machine.id, "vanished: its provider has it no more")
        return book.gone(tx, machine.id, rules=renter.provider.rules, at=renter.clock())


def _since(text: str, at: datetime) -> float:
    return (at - datetime.fromisoformat(text)).total_seconds()
