"""Pods as machines: what to ask RunPod for, in which order, and what a pod's state means.

Takes settings and a `Client`; gives a `Provider` for agent/machines/. One kind of GPU and one place a request: failing
over is ours.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from agent.errors import UserError, did_you_mean
from agent.machines.billing import RUNPOD, Rules
from agent.machines.records import Address, Bill, Candidate, NoCapacity, Seen, SeenState
from agent.machines.renting import wall_clock
from agent.machines.storage import Charged, Stored
from agent.runners.rented import deadman
from agent.runners.runpod.client import Client, GpuType, Pod, Volume
from agent.runners.runpod.settings import Settings

NAME = "runpod"
_STATES: dict[str, SeenState] = {
    "PROVISIONING": "starting",
    "STARTING": "starting",
    "RUNNING": "running",
    "EXITED": "ended",
    "ERROR": "ended",
    "TERMINATED": "ended",
}
# In turn: the pod's own command and key, the same over REST, and at last its first process, whose end stops a pod.
END = """\
runpodctl remove pod "$RUNPOD_POD_ID" || runpodctl pod delete "$RUNPOD_POD_ID" || \
curl -fsS -X DELETE -H "Authorization: Bearer $RUNPOD_API_KEY" "https://api.runpod.io/v2/pods/$RUNPOD_POD_ID"
sleep 20; kill -TERM 1; sleep 10; kill -KILL -1
"""
_STOCK = {"HIGH": 0, "MEDIUM": 1, "LOW": 2, None: 3, "NONE": 4}


@dataclass(frozen=True)
class Pods:
    """RunPod as one who rents machines out."""

    client: Client
    settings: Settings
    public_key: str
    name: str = NAME
    rules: Rules = RUNPOD
    clock: Callable[[], datetime] = wall_clock

    def create(self, candidate: Candidate, name: str, until: datetime) -> Seen:
        lease_s = (until - self.clock()).total_seconds()
        return self._seen(self.client.create(body(self.settings, self.public_key, candidate, name, until, lease_s)))

    def look(self, provider_id: str) -> Seen | None:
        pod = self.client.pod(provider_id)
        return None if pod is None or pod.status == "TERMINATED" else self._seen(pod)

    def list(self, prefix: str) -> "list[Seen]":
        found = self.client.pods(prefix)
        return [self._seen(pod) for pod in found if pod.name.startswith(prefix) and pod.status != "TERMINATED"]

    def delete(self, provider_id: str) -> None:
        self.client.delete(provider_id)

    def stored(self) -> Sequence[Stored]:
        """The network volume, where the settings name one."""
        if self.settings.volume is None:
            return []
        volume = volume_of(self.settings, self.client.volumes())
        words = f"network volume of {volume.size} GB"
        usd = self.rules.volume_per_hour(volume.size, fast=volume.type == "HIGH_PERFORMANCE")
        return [Stored(volume.id, words, volume.dataCenter, usd)]

    def charged(self, ids: Collection[str], since: datetime) -> tuple[datetime, Sequence[Charged]]:
        hour = self.clock().replace(minute=0, second=0, microsecond=0)
        start = since.replace(minute=0, second=0, microsecond=0)
        bill = [record for one in sorted(ids) for record in self.client.billed_volumes(start, self.clock(), one)]
        found = [Charged(one.networkVolumeId, one.startTime, one.endTime, one.totalAmount) for one in bill]
        return hour - timedelta(seconds=self.rules.bill_s.value), found

    def bill(self, since: datetime) -> Bill:
        """By the hour: what ended is final when its hour is over, and a while more."""
        now = self.clock()
        usd: dict[str, float] = {}
        for record in self.client.billed(since, now):
            usd[record.podId] = usd.get(record.podId, 0.0) + record.totalAmount
        hour = now.replace(minute=0, second=0, microsecond=0)
        return Bill(hour - timedelta(seconds=self.rules.bill_s.value), usd)

    def _seen(self, pod: Pod) -> Seen:
        direct = pod.ssh.direct
        disk = self.rules.disk_per_hour(self.settings.disk_gb if pod.disk is None else pod.disk)
        return Seen(
            provider_id=pod.id,
            name=pod.name,
            state=_STATES.get(pod.status, "starting"),  # a word that is new says at least that it is there
            words=pod.status,
            usd_per_hour=pod.cost + disk,
            kind=pod.gpu.id if pod.gpu else "",
            gpus=pod.gpu.count if pod.gpu else 0,
            place=pod.dataCenterId or "",
            address=Address(direct.host, direct.port, direct.username) if direct else None,
            created=pod.createdAt,
        )


def body(
    settings: Settings, public_key: str, candidate: Candidate, name: str, until: datetime, lease_s: float
) -> dict[str, Any]:
    """The request for one pod."""
    timer = deadman.timer(name, int(until.timestamp()), int(lease_s), end=END)
    made: dict[str, Any] = {
        "name": name,
        "image": settings.image,
        "gpu": {"id": candidate.kind, "count": candidate.gpus},
        "cloud": settings.cloud,
        "disk": settings.disk_gb,
        "ports": ["22/tcp"],
        "startSsh": True,
        "args": beside(settings.start),
        "env": {"PUBLIC_KEY": public_key, "CADDIE_TIMER": timer},
    }
    if candidate.place:
        made["dataCenterIds"] = [candidate.place]
    if settings.volume:
        made["mounts"] = {"network": [{"volumeId": settings.volume, "path": settings.volume_path}]}
    return made


def beside(command: str) -> str:
    """A pod's arguments: the timer, which its environment holds, beside what the image starts."""
    return f"""bash -c 'sh -c "$CADDIE_TIMER" >/dev/null 2>&1 & exec {command}'"""


def candidates(
    settings: Settings,
    gpus: int,
    catalogue: Sequence[GpuType],
    volumes: Sequence[Volume] = (),
    avoid: Collection[tuple[str, str]] = (),
    *,
    rules: Rules = RUNPOD,
) -> list[Candidate]:
    """The cheapest first; what was no good lately (`avoid`: kind and place) and what is out of stock at the end.

    Raises:
        UserError: the settings name what is not there.
        NoCapacity: no machine is large enough.
    """
    known = {one.id: one for one in catalogue}
    for kind in settings.gpu:
        if kind not in known:
            raise UserError(f"RunPod has no GPU {kind!r}.{did_you_mean(kind, known)} There are: {', '.join(known)}")
    places = _places(settings, volumes)
    disk = rules.disk_per_hour(settings.disk_gb)
    found: list[tuple[tuple[bool, bool, float, int, int], Candidate]] = []
    for rank, kind in enumerate(settings.gpu):
        one = known[kind]
        price, most = (one.price.secure, one.maxCount.secure)
        if settings.cloud == "COMMUNITY":
            price, most = (one.price.community, one.maxCount.community)
        if most < gpus:
            continue
        stock = {place.id: place.availability for place in one.dataCenters}
        for place in places:
            level = stock.get(place, "NONE" if stock else one.availability) if place else one.availability
            order = ((kind, place) in avoid, level == "NONE", price, rank, _STOCK[level])
            found.append((order, Candidate(kind, gpus, place, price * gpus + disk)))
    if not found:
        raise NoCapacity(f"no machine of {', '.join(settings.gpu)} with {gpus} GPUs ({settings.cloud.lower()} cloud)")
    return [candidate for _, candidate in sorted(found, key=lambda pair: pair[0])]


def _places(settings: Settings, volumes: Sequence[Volume]) -> tuple[str, ...]:
    if settings.volume is None:
        return settings.data_centers or ("",)
    place = volume_of(settings, volumes).dataCenter
    if settings.data_centers and place not in settings.data_centers:
        raise UserError(f"volume {settings.volume} lies in {place}, which is not among data_centers")
    return (place,)


def volume_of(settings: Settings, volumes: Sequence[Volume]) -> Volume:
    """Raises UserError: there is no such one."""
    found = next((one for one in volumes if one.id == settings.volume), None)
    if found is None:
        names = ", ".join(f"{one.id} ({one.name})" for one in volumes) or "none"
        raise UserError(f"RunPod has no network volume {settings.volume!r}; there are: {names}")
    return found
