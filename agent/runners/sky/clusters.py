"""Clusters of one machine as machines: what is asked of SkyPilot, in which order, and what a cluster's state means.

Takes settings and an `Account`; gives a `Provider` for agent/machines/. One kind of GPU in one region a request:
failing over is ours. A cluster's id is its name, which no other one ever has. What failed is looked for and ended
before anything else is asked for: SkyPilot leaves what it could not make ready.
"""

import math
import shlex
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.errors import CaddieError, UserError, did_you_mean
from agent.machines.billing import SKY, Rules
from agent.machines.records import Bill, Candidate, NoCapacity, Seen, SeenState, Unclear
from agent.machines.renting import wall_clock
from agent.runners.rented import deadman
from agent.runners.sky.account import Account, Cluster, Late, Offer, Wanted
from agent.runners.sky.settings import Settings

NAME = "sky"
MOST_ASKED = 12  # candidates of one request: each may take a minute to say no
_STATES: dict[str, SeenState] = {
    "INIT": "starting",  # or not well: whoever works there finds out over ssh
    "PENDING": "starting",
    "UP": "running",
    "AUTOSTOPPING": "ended",
    "STOPPED": "ended",
}
# Beside SkyPilot's own switch: a machine that is off is billed for its disk alone by most clouds, not by all.
END = "sudo -n shutdown -h now || sudo -n poweroff || kill -TERM 1; sleep 60\n"


@dataclass(frozen=True)
class Clusters:
    """SkyPilot as one who rents machines out."""

    account: Account
    settings: Settings
    public_key: str
    name: str = NAME
    rules: Rules = SKY
    clock: Callable[[], datetime] = wall_clock

    def create(self, candidate: Candidate, name: str, until: datetime) -> Seen:
        """Waits until it is ready and its end is set, or it is clear that nothing is there."""
        wanted = request(self.settings, self.public_key, candidate, name, until, self.clock())
        try:
            self.account.launch(wanted, self.settings.provision_s)
        except CaddieError as error:
            if isinstance(error, Unclear) and not isinstance(error, Late):
                raise  # it may be there: whoever asked looks for it
            self._end_what_is_left(name, error)
            if isinstance(error, Late):
                late = f"no capacity: not ready within {self.settings.provision_s:.0f} s"
                raise NoCapacity(late) from error
            raise
        made = self.look(name)
        if made is None:
            raise Unclear(f"SkyPilot made {name}, and does not show it")
        return made

    def look(self, provider_id: str) -> Seen | None:
        return next((self._seen(one) for one in self.account.clusters([provider_id])), None)

    def list(self, prefix: str) -> "list[Seen]":
        names = [one.name for one in self.account.clusters(ask_clouds=False) if one.name.startswith(prefix)]
        return [self._seen(one) for one in self.account.clusters(names)] if names else []

    def delete(self, provider_id: str) -> None:
        self.account.end(provider_id)

    def bill(self, since: datetime) -> Bill:
        """What SkyPilot reckons, by its catalogue's prices, and the disk beside it: no cloud's own bill is asked for.
        What it has no price for is not free."""
        now = self.clock()
        days = math.ceil((now - since).total_seconds() / 86400) + 1
        disk = self.rules.disk_per_hour(self.settings.disk_gb)
        usd = {
            name: cost.usd + disk * cost.seconds / 3600
            for name, cost in self.account.costs(days).items()
            if cost.usd > 0
        }
        return Bill(now - timedelta(seconds=self.rules.bill_s.value), usd, whole=False)

    def _end_what_is_left(self, name: str, error: CaddieError) -> None:
        """Raises Unclear where it can't be told that nothing is left."""
        if self.account.clusters([name]):
            self.account.end(name)
            if self.account.clusters([name]):
                raise Unclear(f"{error}; what is left of {name} did not end yet") from error

    def _seen(self, one: Cluster) -> Seen:
        disk = self.rules.disk_per_hour(self.settings.disk_gb)
        return Seen(
            provider_id=one.name,
            name=one.name,
            state=_STATES.get(one.status, "starting"),
            words=one.status,
            usd_per_hour=one.usd_per_hour + disk if one.usd_per_hour else 0.0,
            kind=one.kind,
            gpus=one.gpus,
            place=one.place,
            address=one.address,
            created=one.launched,
        )


def candidates(
    settings: Settings,
    kind: str,
    gpus: int,
    catalogue: Sequence[Offer],
    avoid: Collection[tuple[str, str]] = (),
    *,
    rules: Rules = SKY,
) -> list[Candidate]:
    """One for each region, the cheapest first; where one was no good lately (`avoid`: kind and place), at the end.

    Prices of spot machines move: what is set aside is the price without that.

    Raises:
        UserError: the settings ask for what is not there.
    """
    mine = [one for one in catalogue if one.kind == kind and one.gpus == gpus]
    clouds = ", ".join(settings.clouds)
    if not mine:
        kinds = {one.kind for one in catalogue}
        hint = did_you_mean(kind, kinds) or f" With so many there are: {', '.join(sorted(kinds)) or 'none'}."
        raise UserError(f"SkyPilot's catalogue has no {gpus} x {kind} in {clouds}.{hint}")
    regions = {one.lower() for one in settings.regions}
    placed = [one for one in mine if not regions or one.region.lower() in regions]
    if not placed:
        known = {one.region for one in mine}
        raise UserError(
            f"none of {', '.join(settings.regions)} has {gpus} x {kind}.{did_you_mean(settings.regions[0], known)} "
            f"Regions in {clouds} that do: {', '.join(sorted(known))}"
        )
    priced = [(price, one) for one in placed if (price := one.spot_usd if settings.spot else one.usd) is not None]
    if not priced:
        raise UserError(f"{gpus} x {kind} is not to be had as spot there: leave spot out of runners.toml")
    most = settings.usd_per_hour
    if most is not None and (least := min(price for price, _ in priced)) > most:
        raise UserError(f"{gpus} x {kind} costs {least:.2f} $ an hour or more, and usd_per_hour allows {most:.2f}")
    cheapest: dict[str, tuple[float, Offer]] = {}
    for price, one in sorted(priced, key=lambda pair: pair[0]):
        if most is None or price <= most:
            cheapest.setdefault(f"{one.cloud}/{one.region}", (price, one))
    disk = rules.disk_per_hour(settings.disk_gb)
    order = sorted(cheapest.items(), key=lambda item: ((kind, item[0]) in avoid, item[1][0]))
    return [Candidate(kind, gpus, place, max(price, one.usd) + disk) for place, (price, one) in order[:MOST_ASKED]]


def request(
    settings: Settings, public_key: str, candidate: Candidate, name: str, until: datetime, now: datetime
) -> Wanted:
    """SkyPilot counts from when the cluster is ready, so its switch is set so early that it can't be late; as soon as
    we are there the time is set anew."""
    left_s = (until - now).total_seconds()
    timer = deadman.timer(name, int(until.timestamp()), int(left_s), end=END)
    return Wanted(
        name=name,
        place=candidate.place,
        kind=candidate.kind,
        gpus=candidate.gpus,
        spot=settings.spot,
        most_usd=settings.usd_per_hour,
        disk_gb=settings.disk_gb,
        image=settings.image,
        setup=setup(public_key, timer, settings.setup),
        minutes=minutes(left_s - settings.provision_s),
    )


def minutes(seconds: float) -> int:
    """As its switch is told; it looks once a minute, and nothing is 0."""
    return max(1, math.floor(seconds / 60))


def setup(public_key: str, timer: str, rest: str) -> str:
    """For a shell on the machine: our timer first, then our key, then what the person wants."""
    return f"""\
nohup setsid sh -c {shlex.quote(timer)} </dev/null >/dev/null 2>&1 &
(umask 077; mkdir -p ~/.ssh; touch ~/.ssh/authorized_keys)
key={shlex.quote(public_key)}
grep -qxF "$key" ~/.ssh/authorized_keys || printf '\\n%s\\n' "$key" >>~/.ssh/authorized_keys
{rest}
"""
