"""A stand-in for RunPod's REST interface, version 2: the states of a pod, its bill, and all that can go wrong.

runpod_served.py serves it on a loopback port; it owns its clock (`advance`), so that nobody waits. Where the
provider's description is at hand (`SPEC`), every request and every answer is held against it.
"""

import itertools
import json
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.runpod_described import SPEC, description
from tests.runpod_pods import (
    ACTIONS,
    DISK_PER_HOUR,
    H100,
    PLACES,
    PRICES,
    QUICK,
    START,
    Course,
    StandPod,
    floor,
    moment,
    one_of,
    place,
    problem,
    until_of,
    volumes_billed,
)

__all__ = ["H100", "KEY", "PLACES", "QUICK", "Course", "Fault", "StandIn"]

KEY = "rpa_test0123456789abcdefghijklmnop"
Fault = Literal["429", "500", "500 done", "lost", "lost done", "silent", "garbage", "redirect", "404"]


class StandIn:
    """The account, its pods, its clock, and what goes wrong next."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.port = 0
        self.schemas = description() if SPEC.is_file() else None
        self.forget()

    def forget(self) -> None:
        """A new account, in which nothing goes wrong."""
        self.at = START
        self.real = False  # whether its clock is everybody's
        self.pods: dict[str, StandPod] = {}
        self.balance = 1000.0
        self.none_left: set[tuple[str, str]] = set()  # (kind, place); place "" is anywhere
        self.forbidden: set[str] = set()
        self.rule: str = ""  # a rule that every request breaks
        self.faults: deque[tuple[str, Fault]] = deque()  # (method, fault), taken one by one
        self.storm: Callable[[str, str], Fault | None] = lambda method, path: None
        self.courses: deque[Course] = deque()
        self.usual = Course()
        """Of the pods that come when none of those is left."""
        self.hidden_s = 0.0  # so long after it was made, a pod is in no list
        self.dying_s = 0.0  # so long a pod is still there after its end was accepted
        self.late_s = 0.0  # so old is the newest that the bill of volumes tells of
        self.retry_after = "7"  # seconds, as a 429 says
        self.ssh: tuple[str, int, str] = ("127.0.0.1", 22, "root")
        self.volumes = [{"id": "vol1", "name": "data", "size": 50, "dataCenter": "EU-RO-1", "type": "STANDARD"}]
        self.timers: Callable[[StandPod], float | None] = until_of
        self.seen: list[tuple[str, str]] = []
        self.wrong: list[str] = []  # what the description of the interface does not allow
        self._ids = itertools.count(1)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def clock(self) -> datetime:
        return self.at

    def advance(self, seconds: float) -> None:
        with self.lock:
            self.at += timedelta(seconds=seconds)
            self._age()

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def living(self) -> list[StandPod]:
        with self.lock:
            self._age()
            return [pod for pod in self.pods.values() if pod.ended is None]

    def billed(self, pod_id: str | None = None) -> float:
        """Dollars up to now."""
        with self.lock:
            self._age()
            return sum(
                pod.cost(START - timedelta(days=1), self.at, self.at)
                for pod in self.pods.values()
                if pod_id in (None, pod.id)
            )

    def _age(self) -> None:
        """Pods that ended by themselves since it was looked last, each at its own moment."""
        for pod in self.pods.values():
            moments = []
            if pod.ended is not None:
                continue
            if pod.course.vanished is not None:
                moments.append(pod.made + timedelta(seconds=pod.course.vanished))
            if (timer := self.timers(pod)) is not None and pod.status(self.at) not in ("EXITED", "ERROR"):
                moments.append(datetime.fromtimestamp(timer, UTC))
            if moments and min(moments) <= self.at:
                pod.end(max(pod.made, min(moments)))
            for when in (pod.course.exited, pod.course.error):
                if when is not None and pod.age(self.at) >= when:
                    pod.unbill(pod.made + timedelta(seconds=when))

    # -- what is served

    async def handle(self, request: Request) -> Response:
        method, path = request.method, request.url.path
        with self.lock:
            if self.real:
                self.at = datetime.now(UTC)
            self.seen.append((method, path))
            fault = self._fault(method, path)
        if fault is not None:
            return await self._go_wrong(fault, request)
        return await self._answer(request)

    def _fault(self, method: str, path: str) -> Fault | None:
        if self.faults and self.faults[0][0] in (method, "*"):
            return self.faults.popleft()[1]
        return self.storm(method, path)

    async def _go_wrong(self, fault: Fault, request: Request) -> Response:
        if fault == "429":
            return problem(429, "Too Many Requests", "rate limit exceeded", {"Retry-After": self.retry_after})
        if fault.endswith("done"):
            await self._answer(request)
        if fault.startswith("lost"):
            return Response(b"{", headers={"Content-Length": "2"})  # the connection breaks before the second byte
        if fault == "silent":
            while (await request.receive())["type"] != "http.disconnect":  # never an answer
                pass
        if fault == "404":
            return problem(404, "Not Found", "pod not found")
        if fault == "garbage":
            return Response(b'{"pods": [{"id": 7}]}', media_type="application/json")
        if fault == "redirect":
            return Response(status_code=302, headers={"Location": "http://127.0.0.1:9/"})
        return problem(500, "Internal Server Error", "upstream failed")

    async def _answer(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return self._checked(request, problem(401, "Unauthorized", "missing bearer token"))
        body = await request.body()
        with self.lock:
            self._age()
            response = self._route(request, body)
        response.headers["RateLimit-Policy"] = '"minute";q=60;w=60'
        return self._checked(request, response)

    def _route(self, request: Request, body: bytes) -> Response:
        method, path = request.method, request.url.path
        given = request.query_params.multi_items()
        if self.schemas is not None and (errors := self.schemas.query(method.lower(), path, given)):
            return problem(422, "Unprocessable Entity", "request validation failed", errors=errors)
        parts = path.strip("/").split("/")[1:]
        if parts[0] == "pods":
            return self._pods(method, parts[1:], request, body)
        if parts[:2] == ["billing", "pods"]:
            return self._billing(request)
        if parts[:2] == ["billing", "network-volumes"]:
            return volumes_billed(self.volumes, request.query_params, self.at - timedelta(seconds=self.late_s))
        if parts[0] == "network-volumes":
            return one_of(self.volumes, parts[1:], "networkVolumes")
        if parts[:2] == ["catalog", "gpus"]:
            return self._gpus(request, parts[2:])
        return one_of([place(one) for one in PLACES], parts[2:], "dataCenters")

    def _pods(self, method: str, parts: list[str], request: Request, body: bytes) -> Response:
        if not parts and method == "POST":
            return self._create(body)
        if not parts:
            old = [pod for pod in self.pods.values() if pod.ended is None and pod.age(self.at) >= self.hidden_s]
            return JSONResponse({"pods": [self._shown(pod) for pod in old]})
        pod = self.pods.get(parts[0])
        if pod is None or pod.ended is not None:
            return problem(404, "Not Found", "pod not found")
        if parts[1:] == ["action"]:
            return self._act(pod, body)
        if method == "DELETE":
            if self.dying_s:
                pod.course.vanished = min(pod.course.vanished or 1e9, pod.age(self.at) + self.dying_s)
            else:
                pod.end(self.at)
            return Response(status_code=204)
        return JSONResponse(self._shown(pod))

    def _create(self, body: bytes) -> Response:
        asked = self._body("CreatePodRequest", body)
        if isinstance(asked, Response):
            return asked
        gpu = asked.get("gpu")
        if gpu is None or ("cpu" in asked):
            return problem(400, "Bad Request", "exactly one of gpu or cpu must be set")
        if asked.get("templateId"):
            return problem(404, "Not Found", "template not found")
        kind, count, places = gpu["id"], gpu.get("count", 1), asked.get("dataCenterIds") or [""]
        if gpu.get("allowedCudaVersions") and gpu.get("minCudaVersion"):
            return problem(400, "Bad Request", "allowedCudaVersions and minCudaVersion exclude each other")
        mounts = asked.get("mounts") or {}
        if mounts.get("persistent") and mounts.get("network"):
            return problem(400, "Bad Request", "persistent and network mounts exclude each other")
        for mount in mounts.get("network", []):
            there = {one["id"]: one["dataCenter"] for one in self.volumes}
            if there.get(mount["volumeId"]) is None or places not in ([""], [there[mount["volumeId"]]]):
                return problem(400, "Bad Request", "network volume not found in this data center")
        if self.rule:
            return problem(400, "Bad Request", self.rule)
        if kind in self.forbidden:
            return problem(403, "Forbidden", "this account has no access to this pool")
        if self.balance <= self.billed():
            return problem(402, "Payment Required", "insufficient balance")
        secure, community, most = PRICES.get(kind, (0.0, 0.0, 0))
        free = [one for one in places if (kind, one) not in self.none_left and (kind, "") not in self.none_left]
        if count > most or not free:
            return problem(
                400, "Bad Request", "There are no longer any instances available with the requested specifications."
            )
        course = self.courses.popleft() if self.courses else self.usual
        each = community if asked.get("cloud") == "COMMUNITY" else secure
        price = each * count * course.dearer
        pod = StandPod(f"pod{next(self._ids):06d}", asked, course, self.at, price, free[0] or PLACES[0])
        pod.spans.append((self.at, None, price + DISK_PER_HOUR * asked.get("disk", 50)))
        self.pods[pod.id] = pod
        return JSONResponse(self._shown(pod), 201)

    def _act(self, pod: StandPod, body: bytes) -> Response:
        asked = self._body("PodActionRequest", body)
        if isinstance(asked, Response):
            return asked
        action = asked["action"]
        if action not in ACTIONS[pod.status(self.at)]:
            return problem(409, "Conflict", f"{action} is not valid now")
        if action == "terminate":
            pod.end(self.at)
            return Response(status_code=204)
        if action == "stop":
            pod.stopped = self.at
            pod.unbill(self.at)
        elif action == "start":
            pod.stopped, pod.course = None, Course()
            pod.spans.append((self.at, None, pod.price))
        return JSONResponse(self._shown(pod))

    def _shown(self, pod: StandPod) -> dict[str, Any]:
        status, asked = pod.status(self.at), pod.body
        direct = None
        port = pod.course.port
        if status == "RUNNING" and port is not None and pod.age(self.at) >= port and "22/tcp" in asked.get("ports", []):
            host, number, user = self.ssh
            direct = {"host": host, "port": number, "username": user, "command": f"ssh {user}@{host} -p {number}"}
        return {
            "id": pod.id,
            "name": asked["name"],
            "image": asked.get("image", ""),
            "args": asked.get("args", ""),
            "disk": asked.get("disk", 50),
            "ports": asked.get("ports", []),
            "env": asked.get("env", {}),
            "registry": asked.get("registry"),
            "status": status,
            "actions": ACTIONS[status],
            "mounts": asked.get("mounts", {}),
            "gpu": {"id": asked["gpu"]["id"], "count": asked["gpu"].get("count", 1)},
            "cloud": asked.get("cloud", "SECURE"),
            "dataCenterId": pod.place,
            "cudaVersion": None,
            "ssh": {"proxy": None, "direct": direct},
            "template": None,
            "cost": 0.0 if status in ("EXITED", "ERROR", "TERMINATED") else pod.price,
            "locked": False,
            "globalNetworking": {"enabled": False},
            "runtime": {} if status == "RUNNING" else None,
            "createdAt": moment(pod.made),
            "startedAt": None,
        }

    def _gpus(self, request: Request, parts: list[str]) -> Response:
        count, available = int(request.query_params.get("count", "1")), "include" in request.query_params
        found = []
        for kind, (secure, community, most) in PRICES.items():
            one: dict[str, Any] = {
                "id": kind,
                "name": kind.removeprefix("NVIDIA "),
                "pool": None,
                "manufacturer": "NVIDIA",
                "memory": 80,
                "secure": True,
                "community": True,
                "price": {"secure": secure, "community": community},
                "maxCount": {"secure": most, "community": most},
            }
            if available:
                stock = {p: "NONE" if self._none(kind, p) or count > most else "HIGH" for p in PLACES}
                one["availability"] = "HIGH" if "HIGH" in stock.values() else "NONE"
                one["dataCenters"] = [{"id": p, "name": p, "availability": level} for p, level in stock.items()]
            found.append(one)
        return one_of(found, parts, "gpus")

    def _none(self, kind: str, where: str) -> bool:
        return (kind, "") in self.none_left or (kind, where) in self.none_left

    def _billing(self, request: Request) -> Response:
        query = request.query_params
        size = {"hour": 3600, "day": 86400}.get(query.get("bucketSize", "day"), 86400)
        try:
            start = datetime.fromisoformat(query.get("startTime", moment(self.at - timedelta(days=30))))
            end = datetime.fromisoformat(query.get("endTime", moment(self.at)))
        except ValueError:
            return problem(422, "Unprocessable Entity", "no date-time")
        first = floor(start, size)
        records = []
        while first < end:
            last = first + timedelta(seconds=size)
            for pod in self.pods.values():
                usd = pod.cost(first, last, self.at)
                if usd and query.get("podId") in (None, pod.id):
                    amounts = {"totalAmount": usd, "gpuAmount": usd, "cpuAmount": 0.0, "diskAmount": 0.0}
                    records.append({"startTime": moment(first), "endTime": moment(last), "podId": pod.id, **amounts})
            first = last
        totals = {"totalAmount": sum(one["totalAmount"] for one in records), "gpuAmount": 0.0, "cpuAmount": 0.0}
        window = {
            "startTime": moment(floor(start, size)),
            "endTime": moment(end),
            "bucketSize": "hour" if size == 3600 else "day",
        }
        metadata = {
            "query": window,
            "recordCount": len(records),
            "uniquePodCount": len({one["podId"] for one in records}),
            "totals": {**totals, "diskAmount": 0.0},
        }
        return JSONResponse({"records": records, "metadata": metadata})

    def _body(self, schema: str, body: bytes) -> dict[str, Any] | Response:
        try:
            asked = json.loads(body)
        except ValueError:
            return problem(422, "Unprocessable Entity", "no JSON")
        if self.schemas is not None and (errors := self.schemas.errors(schema, asked)):
            return problem(422, "Unprocessable Entity", "request validation failed", errors=errors)
        assert isinstance(asked, dict)
        return asked

    def _checked(self, request: Request, response: Response) -> Response:
        if self.schemas is not None:
            method, path = request.method.lower(), request.url.path
            self.wrong += self.schemas.answer(method, path, response)
        return response
