"""What the client asks Modal itself: of the account, its sandboxes and their bill."""

import asyncio
import base64
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from grpclib import GRPCError, Status
from modal_proto import api_pb2

from tests.modal_boxes import BEGAN, STATUS, Box
from tests.modal_router import Calls

if TYPE_CHECKING:
    from tests.modal_standin import StandIn

Fault = Literal["no answer", "lost", "nothing left", "refused", "unknown token"]


class Control:
    """What the client asks the control plane. Sandboxes with and without GPUs have calls of their own."""

    def __init__(self, stand: "StandIn") -> None:
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
        result = STATUS(status=STATUS.GENERIC_STATUS_SUCCESS)
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
            late = self.stand.now() - box.created < self.stand.waiting_s
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
                for box in self.stand.there()
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
            await self.stand.over(self.stand.box(asked.sandbox_id), STATUS.GENERIC_STATUS_TERMINATED)
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
                if usd := self.stand.usd(box, since, min(since + 3600, self.stand.now())):
                    item = api_pb2.WorkspaceBillingReportItem(object_id=box.app_id, cost=repr(usd))
                    item.interval.seconds = begin
                    await stream.send_message(item)

    async def _answer(self, stream: Calls, done: Callable[[Any], Any]) -> None:
        """What is asked twice under one key is done once, as the real one does."""
        stand, call = self.stand, str(stream._method_name).rpartition("/")[2]  # type: ignore[attr-defined]
        asked = await stream.recv_message()
        stand.seen.append(call)
        await stand.keep_time()
        fault = next((fault for name, fault in stand.faults if name == call), None) or stand.storm(call)
        if (call, fault) in stand.faults:
            stand.faults.remove((call, fault))
        if fault is not None and fault != "lost":
            raise GRPCError(*_FAULTS[fault])
        key = str((stream.metadata or {}).get("x-idempotency-key", ""))
        if key in stand.keys:
            answer = stand.keys[key]
        else:
            answer = done(asked)
            if asyncio.iscoroutine(answer):
                answer = await answer
            if key:
                stand.keys[key] = answer
        if fault == "lost":
            raise GRPCError(Status.UNAVAILABLE, "the answer is lost")
        await stream.send_message(answer)


_FAULTS: dict[Fault, tuple[Status, str]] = {
    "no answer": (Status.UNAVAILABLE, "not now"),
    "nothing left": (Status.RESOURCE_EXHAUSTED, "all GPUs are taken"),
    "refused": (Status.PERMISSION_DENIED, "this account may not"),
    "unknown token": (Status.UNAUTHENTICATED, "token validation failed"),
}


def _moment(box: Box) -> float:
    """No two are of one moment."""
    return BEGAN.timestamp() + box.created + box.number * 1e-3


def _tags(tags: Any) -> dict[str, str]:
    return {tag.tag_name: tag.tag_value for tag in tags}


def _result(box: Box) -> Any:
    return None if box.ended is None else STATUS(status=box.status, exitcode=1)  # type: ignore[arg-type]
