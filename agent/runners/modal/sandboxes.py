"""Sandboxes as machines: what is asked of Modal, and what is known of a sandbox by its tags.

Takes settings and an `Account`; gives a `Provider` for agent/machines/. Modal gives a sandbox neither a price nor, by
itself, a line in the bill: the price is in its tags, and each one has an app of its own, whose line it is. Its id here
is APP/SANDBOX.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.machines import book
from agent.machines.billing import MODAL, Rules
from agent.machines.records import Address, BadRequest, Bill, Candidate, NoCapacity, Seen
from agent.machines.renting import wall_clock
from agent.runners.modal.account import APP, Account, Box, Late, Wanted
from agent.runners.modal.settings import LONGEST_HOURS, Settings

NAME = "modal"
INSTALL, NAMED = "caddie", "caddie-name"  # tags: of which database it is, and its whole name
LONGEST_S = int(LONGEST_HOURS * 3600)


@dataclass(frozen=True)
class Sandboxes:
    """Modal as one who rents machines out."""

    account: Account
    settings: Settings
    name: str = NAME
    rules: Rules = MODAL
    clock: Callable[[], datetime] = wall_clock

    def create(self, candidate: Candidate, name: str, until: datetime) -> Seen:
        left_s = math.floor((until - self.clock()).total_seconds())
        wanted = request(self.settings, candidate, name, left_s)
        try:
            return seen(self.account.create(wanted, self.settings.provision_s))
        except Late as error:
            for one in self.list(name):
                self.delete(one.provider_id)
            if self.list(name):
                raise
            raise NoCapacity(f"no capacity: no place to run within {self.settings.provision_s:.0f} s") from error

    def look(self, provider_id: str) -> Seen | None:
        """One that ended costs nothing more: it is gone."""
        box = self.account.look(provider_id.rpartition("/")[2])
        return None if box is None else seen(box)

    def list(self, prefix: str) -> "list[Seen]":
        said = book.named(prefix)
        install = said.install if said else prefix.removeprefix("caddie-").removesuffix("-")
        tags = {INSTALL: install, **({NAMED: prefix} if said else {})}
        return [one for one in map(seen, self.account.found(tags)) if one.name.startswith(prefix)]

    def delete(self, provider_id: str) -> None:
        self.account.end(provider_id.rpartition("/")[2])

    def bill(self, since: datetime) -> Bill:
        """By the hour: what ended is final when its hour is over, and a while more. Should the bill not name apps, as
        Modal's documentation says it does, nothing is taken for free."""
        hour = self.clock().replace(minute=0, second=0, microsecond=0)
        by_app = self.account.billed(since.replace(minute=0, second=0, microsecond=0), hour)
        return Bill(hour - timedelta(seconds=self.rules.bill_s.value), OfSandboxes(by_app), whole=False)


class OfSandboxes(Mapping[str, float]):
    """Dollars by app, asked for by the id of a sandbox in it."""

    def __init__(self, by_app: Mapping[str, float]) -> None:
        self._by_app = by_app

    def __getitem__(self, provider_id: str) -> float:
        return self._by_app[provider_id.partition("/")[0]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_app)

    def __len__(self) -> int:
        return len(self._by_app)


def candidates(settings: Settings, gpus: int) -> list[Candidate]:
    """One for each region, in the order of the settings."""
    price = settings.usd_per_hour(gpus)
    return [Candidate(settings.gpu, gpus, region, price) for region in settings.regions or ("",)]


def request(settings: Settings, candidate: Candidate, name: str, left_s: int) -> Wanted:
    """Raises BadRequest where its time is none that a sandbox can have."""
    said = book.named(name)
    if said is None:
        raise ValueError(f"{name!r} is no name of a machine")
    if not 0 < left_s <= LONGEST_S:
        raise BadRequest(f"a sandbox of Modal lives for at most {LONGEST_HOURS:.0f} hours: lease_hours is too much")
    tags = {
        INSTALL: said.install,
        NAMED: name,
        "caddie-gpu": candidate.kind,
        "caddie-gpus": str(candidate.gpus),
        "caddie-region": candidate.place,
        "caddie-usd": repr(candidate.usd_per_hour),
    }
    return Wanted(
        name=name,
        tags={key: value for key, value in tags.items() if value},
        gpu=f"{candidate.kind}:{candidate.gpus}" if candidate.gpus else "",
        region=candidate.place,
        image=settings.image,
        packages=settings.packages,
        volumes=settings.volumes,
        cores=settings.cores,
        memory_mb=math.ceil(settings.memory_gb * 1024),
        timeout_s=left_s,
    )


def seen(box: Box) -> Seen:
    """Tags that somebody changed by hand say nothing: its price is then what the book says."""
    tags = box.tags
    return Seen(
        provider_id=f"{tags.get(APP, '')}/{box.sandbox_id}",
        name=tags.get(NAMED, ""),
        state="running",
        words="running",
        usd_per_hour=_price(tags.get("caddie-usd", "")),
        kind=tags.get("caddie-gpu", ""),
        gpus=int(tags["caddie-gpus"]) if tags.get("caddie-gpus", "").isdecimal() else 0,
        place=tags.get("caddie-region", ""),
        address=Address(box.sandbox_id, 0, ""),  # no network leads there: Modal runs commands in it
    )


def _price(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        return 0.0
    return found if math.isfinite(found) and found > 0 else 0.0
