"""A stand-in for Modal: the services of the SDK's own protobufs on a port of this machine, for the real client.

A sandbox is a folder and the processes that were started in it; time is what `advance` and the making of sandboxes add.
What the bill says comes from the request of each sandbox and how long it was there. Faults can be put before and after
any call.
"""

import asyncio
import base64
import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from grpclib import GRPCError, Status
from grpclib.server import Server, Stream
from modal_proto import api_grpc, api_pb2, task_command_router_grpc
from modal_proto import task_command_router_pb2 as router_pb2

Fault = Literal["no answer", "lost", "nothing left", "refused", "unknown token"]
GPU_HOUR, CORE_HOUR, GB_HOUR = 3.95, 0.142, 0.0242
MADE_S = 1.0  # which is billed: no sandbox was there for no time
BEGAN = datetime(2026, 11, 1, 20, 0, tzinfo=UTC)
_STATUS = api_pb2.GenericResult


@dataclass
class Exec:
    """A command in a sandbox, and all that it said."""

    process: asyncio.subprocess.Process
    said: dict[int, bytearray]
    open: set[int]
    taken: int = 0
    hearing: tuple[asyncio.Task[None], ...] = ()
    news: asyncio.Condition = field(default_factory=asyncio.Condition)


@dataclass
class Box:
    """One sandbox."""

    id: str
    number: int
    app_id: str
    definition: Any
    tags: dict[str, str]
    created: float
    folder: Path
    ended: float | None = None
    status: int = 0
    execs: dict[str, Exec] = field(default_factory=dict)

    @property
    def task(self) -> str:
        return f"ta-{self.id}"


class StandIn:
    """Runs in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.boxes: dict[str, Box] = {}
        self.apps: dict[str, str] = {}
        self.seen: list[str] = []  # names of calls
        self.faults: list[tuple[str, Fault]] = []  # of the next call of that name: before it, or after it ("lost")
        self.storm: Callable[[str], Fault | None] = lambda call: None
        self.waiting_s = 0.0  # before a sandbox has a place to run
        self.volumes: set[str] = set()
        self._ahead = 0.0
        self._keys: dict[str, Any] = {}
        self._numbers = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(20)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def clock(self) -> datetime:
        return BEGAN + timedelta(seconds=self._now())

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self._ahead += seconds
        self._call(self._keep_time())

    def living(self) -> list[Box]:
        self._call(self._keep_time())
        return [box for box in self.boxes.values() if box.ended is None]

    def billed(self) -> float:
        return sum(self._usd(box, box.created, self._now()) for box in self.boxes.values())

    def kill(self, box: Box) -> None:
        """It ends by itself, whatever for."""
        self._call(self._over(box, _STATUS.GENERIC_STATUS_FAILURE))

    def forget(self) -> None:
        """As if nothing had been rented yet."""
        assert self.living() == []
        self.boxes.clear()

    def close(self) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    # ---------------------------------------------------------------- in the thread

    def _call(self, what: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(30)

    def _now(self) -> float:
        return self._ahead

    async def _start(self) -> int:
        services = [_whole(_Control, api_grpc.ModalClientBase)(self), _whole(_Router, _ROUTER)(self)]
        self._server = Server(services)
        await self._server.start("127.0.0.1", 0)
        sockets = self._server._server.sockets  # type: ignore[union-attr]
        return int(sockets[0].getsockname()[1])

    async def _stop(self) -> None:
        for box in self.boxes.values():
            await self._over(box, _STATUS.GENERIC_STATUS_TERMINATED)
        self._server.close()
        await self._server.wait_closed()

    async def _keep_time(self) -> None:
        for box in self.boxes.values():
            if box.ended is None and self._now() - box.created >= box.definition.timeout_secs:
                await self._over(box, _STATUS.GENERIC_STATUS_TIMEOUT, box.created + box.definition.timeout_secs)

    async def _over(self, box: Box, status: int, at: float | None = None) -> None:
        if box.ended is not None:
            return
        box.ended, box.status = self._now() if at is None else at, status
        for pid in _in(box):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def _usd(self, box: Box, since: float, until: float) -> float:
        asked = box.definition.resources
        hour = asked.gpu_config.count * GPU_HOUR + asked.milli_cpu / 1000 * CORE_HOUR + asked.memory_mb / 1024 * GB_HOUR
        there = min(until, box.ended if box.ended is not None else until) - max(since, box.created)
        return max(0.0, there) * hour / 3600

    def box(self, sandbox_id: str) -> Box:
        if sandbox_id not in self.boxes:
            raise GRPCError(Status.NOT_FOUND, f"no sandbox {sandbox_id}")
        return self.boxes[sandbox_id]

    def of_task(self, task_id: str) -> Box:
        box = self.box(task_id.removeprefix("ta-"))
        if box.ended is not None:
            raise GRPCError(Status.NOT_FOUND, "its container is gone")
        return box

    def made(self, app_id: str, definition: Any, tags: dict[str, str], *, gpu: bool) -> Box:
        if any(box.app_id == app_id and box.definition.name == definition.name for box in self._there()):
            raise GRPCError(Status.ALREADY_EXISTS, f"there is a sandbox {definition.name}")
        # The client tells the two kinds of sandboxes by the form of their ids.
        number = next(self._numbers)
        box_id = f"sb-{number:022d}" if gpu else f"sb-v2-{number}"
        folder = self.folder / box_id
        folder.mkdir(parents=True)
        self.boxes[box_id] = box = Box(box_id, number, app_id, definition, tags, self._now(), folder)
        self._ahead += MADE_S
        return box

    def _there(self) -> list[Box]:
        return [box for box in self.boxes.values() if box.ended is None]


_ROUTER = task_command_router_grpc.TaskCommandRouterBase
Calls = Stream[Any, Any]


class _Control:
    """What the client asks the control plane. Sandboxes with and without GPUs have calls of their own."""

    def __init__(self, stand: StandIn) -> None:
        self.stand = stand

    async def ClientHello(self, stream: Calls) -> None:
        await self._answer(stream, lambda asked: api_pb2.ClientHelloResponse())

    async def AuthTokenGet(self, stream: Calls) -> None:
        body = base64.urlsafe_b64encode(json.dumps({"exp": int(time.time()) + 3600}).encode()).rstrip(b"=").decode()
        await self._answer(stream, lambda asked: api_pb2.AuthTokenGetResponse(token=f"e30.{body}.e30"))

    async def EnvironmentGetOrCreate(self, stream: Calls) -> None:
        known = api_pb2.EnvironmentMetadata(
            name="main", settings=api_pb2.EnvironmentSettings(image_builder_version="2025.06")
        )
        await self._answer(
            stream, lambda asked: api_pb2.EnvironmentGetOrCreateResponse(environment_id="en-1", metadata=known)
        )

    async def AppGetOrCreate(self, stream: Calls) -> None:
        def done(asked: Any) -> Any:
            app_id = self.stand.apps.setdefault(asked.app_name, f"ap-{len(self.stand.apps):022d}")
            return api_pb2.AppGetOrCreateResponse(app_id=app_id)

        await self._answer(stream, done)

    async def ImageGetOrCreate(self, stream: Calls) -> None:
        result = _STATUS(status=_STATUS.GENERIC_STATUS_SUCCESS)
        await self._answer(stream, lambda asked: api_pb2.ImageGetOrCreateResponse(image_id="im-1", result=result))

    async def VolumeGetOrCreate(self, stream: Calls) -> None:
        def done(asked: Any) -> Any:
            if asked.deployment_name not in self.stand.volumes:
                raise GRPCError(Status.NOT_FOUND, f"no volume {asked.deployment_name}")
            return api_pb2.VolumeGetOrCreateResponse(volume_id=f"vo-{asked.deployment_name}")

        await self._answer(stream, done)

    async def SandboxCreate(self, stream: Calls) -> None:
        def done(asked: Any) -> Any:
            box = self.stand.made(asked.app_id, asked.definition, _tags(asked.tags), gpu=True)
            return api_pb2.SandboxCreateResponse(sandbox_id=box.id)

        await self._answer(stream, done)

    async def SandboxCreateV2(self, stream: Calls) -> None:
        def done(asked: Any) -> Any:
            box = self.stand.made(asked.app_id, asked.definition, _tags(asked.tags), gpu=False)
            return api_pb2.SandboxCreateV2Response(sandbox_id=box.id, task_id=box.task)

        await self._answer(stream, done)

    async def SandboxGetTaskId(self, stream: Calls) -> None:
        def done(asked: Any) -> Any:
            box = self.stand.box(asked.sandbox_id)
            if box.ended is not None:
                return api_pb2.SandboxGetTaskIdResponse(task_result=_result(box))
            late = self.stand._now() - box.created < self.stand.waiting_s
            return api_pb2.SandboxGetTaskIdResponse(task_id=None if late else box.task)

        await self._answer(stream, done)

    SandboxGetTaskIdV2 = SandboxGetTaskId

    async def SandboxWait(self, stream: Calls) -> None:
        def done(asked: Any) -> Any:
            return api_pb2.SandboxWaitResponse(result=_result(self.stand.box(asked.sandbox_id)))

        await self._answer(stream, done)

    SandboxWaitV2 = SandboxWait

    async def SandboxTagsGet(self, stream: Calls) -> None:
        def done(asked: Any) -> Any:
            tags = self.stand.box(asked.sandbox_id).tags.items()
            return api_pb2.SandboxTagsGetResponse(
                tags=[api_pb2.SandboxTag(tag_name=name, tag_value=value) for name, value in tags]
            )

        await self._answer(stream, done)

    SandboxTagsGetV2 = SandboxTagsGet

    async def SandboxList(self, stream: Calls) -> None:
        def done(asked: Any) -> Any:
            wanted = _tags(asked.tags).items()
            boxes = [
                box
                for box in self.stand._there()
                if wanted <= box.tags.items()
                and asked.app_id in ("", box.app_id)
                # Pages of one, from the newest: the time of the last one is where the next page begins.
                and (not asked.before_timestamp or _moment(box) < asked.before_timestamp)
            ]
            page = [api_pb2.SandboxInfo(id=box.id, created_at=_moment(box)) for box in sorted(boxes, key=_moment)[-1:]]
            return api_pb2.SandboxListResponse(sandboxes=page)

        await self._answer(stream, done)

    SandboxListV2 = SandboxList

    async def SandboxTerminate(self, stream: Calls) -> None:
        async def done(asked: Any) -> Any:
            await self.stand._over(self.stand.box(asked.sandbox_id), _STATUS.GENERIC_STATUS_TERMINATED)
            return api_pb2.SandboxTerminateResponse()

        await self._answer(stream, done)

    SandboxTerminateV2 = SandboxTerminate

    async def TaskGetCommandRouterAccess(self, stream: Calls) -> None:
        def done(asked: Any) -> Any:
            self.stand.of_task(asked.task_id)
            return api_pb2.TaskGetCommandRouterAccessResponse(url=self.stand.url, jwt="e30.e30.e30")

        await self._answer(stream, done)

    async def SandboxGetCommandRouterAccess(self, stream: Calls) -> None:
        def done(asked: Any) -> Any:
            self.stand.of_task(asked.sandbox_id)
            return api_pb2.SandboxGetCommandRouterAccessResponse(url=self.stand.url, jwt="e30.e30.e30")

        await self._answer(stream, done)

    async def WorkspaceNameLookup(self, stream: Calls) -> None:
        await self._answer(stream, lambda asked: api_pb2.WorkspaceNameLookupResponse(workspace_name="lab"))

    async def WorkspaceBillingReport(self, stream: Calls) -> None:
        asked = await stream.recv_message()
        self.stand.seen.append("WorkspaceBillingReport")
        start, end = asked.start_timestamp.seconds, asked.end_timestamp.seconds
        start -= start % 3600
        for begin in range(start, end - 3599, 3600):
            since = begin - BEGAN.timestamp()
            for box in self.stand.boxes.values():
                if usd := self.stand._usd(box, since, min(since + 3600, self.stand._now())):
                    item = api_pb2.WorkspaceBillingReportItem(object_id=box.app_id, cost=repr(usd))
                    item.interval.seconds = begin
                    await stream.send_message(item)

    async def _answer(self, stream: Calls, done: Callable[[Any], Any]) -> None:
        """What is asked twice under one key is done once, as the real one does."""
        stand, call = self.stand, str(stream._method_name).rpartition("/")[2]  # type: ignore[attr-defined]
        asked = await stream.recv_message()
        stand.seen.append(call)
        await stand._keep_time()
        fault = next((fault for name, fault in stand.faults if name == call), None) or stand.storm(call)
        if (call, fault) in stand.faults:
            stand.faults.remove((call, fault))
        if fault is not None and fault != "lost":
            raise GRPCError(*_FAULTS[fault])
        key = str((stream.metadata or {}).get("x-idempotency-key", ""))
        if key in stand._keys:
            answer = stand._keys[key]
        else:
            answer = done(asked)
            if asyncio.iscoroutine(answer):
                answer = await answer
            if key:
                stand._keys[key] = answer
        if fault == "lost":
            raise GRPCError(Status.UNAVAILABLE, "the answer is lost")
        await stream.send_message(answer)


class _Router:
    """What the client asks the machine of a sandbox: commands, and what goes in and out of them."""

    def __init__(self, stand: StandIn) -> None:
        self.stand = stand

    async def TaskExecStart(self, stream: Calls) -> None:
        asked = await self._asked(stream)
        box = self.stand.of_task(asked.task_id)
        if asked.exec_id not in box.execs:
            env = {"PATH": os.environ["PATH"], "HOME": str(box.folder), "STANDIN_BOX": str(box.folder)}
            process = await asyncio.create_subprocess_exec(
                *asked.command_args,
                cwd=asked.workdir or box.folder,
                env=env,
                start_new_session=True,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            box.execs[asked.exec_id] = one = Exec(process, {0: bytearray(), 1: bytearray()}, {0, 1})
            pipes = process.stdout, process.stderr
            one.hearing = tuple(asyncio.create_task(_hear(one, n, pipe)) for n, pipe in enumerate(pipes))
        await stream.send_message(router_pb2.TaskExecStartResponse())

    async def TaskExecStdioRead(self, stream: Calls) -> None:
        asked = await self._asked(stream)
        one, number, at = self._exec(asked), int(asked.file_descriptor), int(asked.offset)
        while True:
            async with one.news:
                while len(one.said[number]) <= at and number in one.open:
                    await one.news.wait()
                data = bytes(one.said[number][at : at + 65536])
            if not data:
                return
            at += len(data)
            await stream.send_message(router_pb2.TaskExecStdioReadResponse(data=data))

    async def TaskExecStdinWrite(self, stream: Calls) -> None:
        asked = await self._asked(stream)
        one = self._exec(asked)
        pipe = one.process.stdin
        assert pipe is not None
        data = asked.data[max(0, one.taken - asked.offset) :]
        try:
            pipe.write(data)
            await pipe.drain()
            one.taken += len(data)
            if asked.eof:
                pipe.close()
        except (BrokenPipeError, ConnectionResetError):
            raise GRPCError(Status.FAILED_PRECONDITION, "its stdin is closed") from None
        await stream.send_message(router_pb2.TaskExecStdinWriteResponse())

    async def TaskExecWait(self, stream: Calls) -> None:
        one = self._exec(await self._asked(stream))
        await one.process.wait()
        await stream.send_message(router_pb2.TaskExecWaitResponse(**_exit(one)))

    async def TaskExecPoll(self, stream: Calls) -> None:
        one = self._exec(await self._asked(stream))
        over = one.process.returncode is not None
        await stream.send_message(router_pb2.TaskExecPollResponse(**(_exit(one) if over else {})))

    async def _asked(self, stream: Calls) -> Any:
        asked = await stream.recv_message()
        call = str(stream._method_name).rpartition("/")[2]  # type: ignore[attr-defined]
        self.stand.seen.append(call)
        await self.stand._keep_time()
        return asked

    def _exec(self, asked: Any) -> Exec:
        found = self.stand.of_task(asked.task_id).execs.get(asked.exec_id)
        if found is None:
            raise GRPCError(Status.NOT_FOUND, "no such command")
        return found


_FAULTS: dict[Fault, tuple[Status, str]] = {
    "no answer": (Status.UNAVAILABLE, "not now"),
    "nothing left": (Status.RESOURCE_EXHAUSTED, "all GPUs are taken"),
    "refused": (Status.PERMISSION_DENIED, "this account may not"),
    "unknown token": (Status.UNAUTHENTICATED, "token validation failed"),
}


async def _hear(one: Exec, number: int, pipe: asyncio.StreamReader | None) -> None:
    assert pipe is not None
    while True:
        data = await pipe.read(65536)
        async with one.news:
            if data:
                one.said[number] += data
            else:
                one.open.discard(number)
            one.news.notify_all()
        if not data:
            return


def _exit(one: Exec) -> dict[str, int]:
    code = one.process.returncode or 0
    return {"code": code} if code >= 0 else {"signal": -code}


def _in(box: Box) -> list[int]:
    """Every process of a sandbox, whoever started it: the container ends with all of them."""
    found, own = [], str(box.folder).encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                said = (entry / "environ").read_bytes() + b"\0" + (entry / "cmdline").read_bytes()
                where = str((entry / "cwd").readlink())
            except OSError:
                continue
            if own in said or where.startswith(str(box.folder)):
                found.append(int(entry.name))
    return found


def _moment(box: Box) -> float:
    """No two are of one moment."""
    return BEGAN.timestamp() + box.created + box.number * 1e-3


def _tags(tags: Any) -> dict[str, str]:
    return {tag.tag_name: tag.tag_value for tag in tags}


def _result(box: Box) -> Any:
    return None if box.ended is None else _STATUS(status=box.status, exitcode=1)  # type: ignore[arg-type]


def _whole(part: type, base: type) -> Any:
    """A service of which only some calls are there: the others say so."""

    async def missing(self: object, stream: Calls) -> None:
        await stream.recv_message()
        raise GRPCError(Status.UNIMPLEMENTED, f"{stream._method_name} is not stood in for")  # type: ignore[attr-defined]

    names = [name for name in base.__abstractmethods__ if not hasattr(part, name)]  # type: ignore[attr-defined]
    return type(part.__name__, (part, base), dict.fromkeys(names, missing))
