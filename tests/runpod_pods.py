"""The pods of the stand-in for RunPod, what becomes of each, and the shapes of its answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.responses import JSONResponse, Response

START = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)
DISK_PER_HOUR = 0.10 / 730
VOLUME_PER_HOUR = 0.07 / 730  # a GB
H100 = "NVIDIA H100 80GB HBM3"
PRICES = {H100: (3.49, 2.69, 8), "NVIDIA H100 PCIe": (2.89, 2.39, 8), "NVIDIA H200": (4.59, 3.59, 8)}
PLACES = ("US-TX-3", "EU-RO-1", "US-KS-2")
ACTIONS = {
    "PROVISIONING": ["stop", "terminate"],
    "STARTING": ["stop", "terminate"],
    "RUNNING": ["stop", "restart", "terminate"],
    "EXITED": ["start", "terminate"],
    "ERROR": ["start", "terminate"],
    "TERMINATED": [],
}


@dataclass
class Course:
    """What will become of a pod, in seconds after it was made. None: never."""

    starting: float | None = 10.0
    running: float | None = 40.0
    port: float | None = 50.0
    exited: float | None = None
    error: float | None = None
    vanished: float | None = None
    dearer: float = 1.0  # it costs so many times the list price


QUICK = Course(starting=0, running=0, port=0)


@dataclass
class StandPod:
    id: str
    body: dict[str, Any]
    course: Course
    made: datetime
    price: float
    place: str
    spans: list[tuple[datetime, datetime | None, float]] = field(default_factory=list)  # billed times, $/h
    ended: datetime | None = None
    stopped: datetime | None = None

    def age(self, at: datetime) -> float:
        return (at - self.made).total_seconds()

    def end(self, at: datetime) -> None:
        self.ended = at
        self.unbill(at)

    def unbill(self, at: datetime) -> None:
        """Nothing is billed any more."""
        self.spans = [(start, end if end is not None else max(start, at), usd) for start, end, usd in self.spans]

    def cost(self, start: datetime, end: datetime, now: datetime) -> float:
        """Dollars between two moments, as far as they are past."""
        total = 0.0
        for first, last, usd in self.spans:
            seconds = (min(end, last or now, now) - max(start, first)).total_seconds()
            total += max(0.0, seconds) * usd / 3600
        return total

    def status(self, at: datetime) -> str:
        course, age = self.course, self.age(at)
        if self.ended is not None:
            return "TERMINATED"
        for word, moment in (("ERROR", course.error), ("EXITED", course.exited)):
            if moment is not None and age >= moment:
                return word
        if self.stopped is not None:
            return "EXITED"
        if course.running is not None and age >= course.running:
            return "RUNNING"
        return "STARTING" if course.starting is not None and age >= course.starting else "PROVISIONING"


def until_of(pod: StandPod) -> float | None:
    """When the timer that a pod was started with ends it, as its text says."""
    for line in pod.body.get("env", {}).get("CADDIE_TIMER", "").splitlines():
        if line.startswith("[ ") and "-lt $own" in line:
            return float(line.split()[1])
    return None


def problem(
    status: int, title: str, detail: str, headers: dict[str, str] | None = None, errors: list[str] | None = None
) -> Response:
    said: dict[str, Any] = {"title": title, "status": status, "detail": detail}
    if errors:
        said["errors"] = errors
    return JSONResponse(said, status, headers, media_type="application/problem+json")


def one_of(found: list[dict[str, Any]], parts: list[str], name: str) -> Response:
    """The list, or the one of this id."""
    if not parts:
        return JSONResponse({name: found})
    one = next((one for one in found if one["id"] == parts[0]), None)
    return JSONResponse(one) if one else problem(404, "Not Found", "resource not found")


def volumes_billed(volumes: list[dict[str, Any]], query: Mapping[str, str], now: datetime) -> Response:
    """What each volume costs: by the hour or the day, whether a pod uses it or not."""
    size = {"hour": 3600, "day": 86400}.get(query.get("bucketSize", "day"), 86400)
    wanted = query.get("networkVolumeId")
    try:
        start = datetime.fromisoformat(query.get("startTime", moment(now - timedelta(days=2))))
        end = min(now, datetime.fromisoformat(query.get("endTime", moment(now))))
    except ValueError:
        return problem(422, "Unprocessable Entity", "no date-time")
    first, records = floor(start, size), []
    while first < end:
        last = first + timedelta(seconds=size)
        for one in volumes if wanted is None else [one for one in volumes if one["id"] == wanted]:
            usd = one["size"] * VOLUME_PER_HOUR * (min(last, now) - first).total_seconds() / 3600
            amounts = {"totalAmount": usd, "standardAmount": usd, "highPerformanceAmount": 0.0}
            at = {"startTime": moment(first), "endTime": moment(last)}
            records.append({**at, "networkVolumeId": one["id"], **amounts})
        first = last
    usd = sum(one["totalAmount"] for one in records)
    window = {
        "startTime": moment(floor(start, size)),
        "endTime": moment(max(end, floor(start, size))),
        "bucketSize": "hour" if size == 3600 else "day",
        "networkVolumeId": wanted,
    }
    metadata = {
        "query": window,
        "recordCount": len(records),
        "uniqueNetworkVolumeCount": len({one["networkVolumeId"] for one in records}),
        "totals": {"totalAmount": usd, "standardAmount": usd, "highPerformanceAmount": 0.0},
    }
    return JSONResponse({"records": records, "metadata": metadata})


def place(name: str) -> dict[str, Any]:
    region = "EUROPE" if name.startswith("EU") else "NORTH_AMERICA"
    return {
        "id": name,
        "name": name,
        "region": region,
        "networkVolumeTypes": ["STANDARD"],
        "compliance": [],
        "globalNetwork": False,
    }


def moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def floor(at: datetime, seconds: int) -> datetime:
    return datetime.fromtimestamp(at.timestamp() // seconds * seconds, UTC)
