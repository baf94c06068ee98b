"""A stand-in for Modal: the services of the SDK's own protobufs on a port of this machine, for the real client.

A sandbox is a folder and the processes that were started in it; time is what `advance` and the making of sandboxes add.
What the bill says comes from the request of each sandbox and how long it was there. Faults can be put before and after
any call.
"""

import asyncio
import itertools
import os
import signal
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from grpclib import GRPCError, Status
from grpclib.server import Server
from modal_proto import api_grpc, task_command_router_grpc

from tests.modal_boxes import BEGAN, STATUS, Box, processes_of
from tests.modal_control import Control, Fault
from tests.modal_router import Calls, Router

GPU_HOUR, CORE_HOUR, GB_HOUR = 3.95, 0.142, 0.0242
MADE_S = 1.0  # which is billed: no sandbox was there for no time


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
        self.keys: dict[str, Any] = {}
        self._numbers = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(20)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def clock(self) -> datetime:
        return BEGAN + timedelta(seconds=self.now())

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self._ahead += seconds
        self._call(self.keep_time())

    def living(self) -> list[Box]:
        self._call(self.keep_time())
        return [box for box in self.boxes.values() if box.ended is None]

    def billed(self) -> float:
        return sum(self.usd(box, box.created, self.now()) for box in self.boxes.values())

    def kill(self, box: Box) -> None:
        """It ends by itself, whatever for."""
        self._call(self.over(box, STATUS.GENERIC_STATUS_FAILURE))

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

    def now(self) -> float:
        return self._ahead

    async def _start(self) -> int:
        services = [_whole(Control, api_grpc.ModalClientBase)(self), _whole(Router, _ROUTER)(self)]
        self._server = Server(services)
        await self._server.start("127.0.0.1", 0)
        sockets = self._server._server.sockets  # type: ignore[union-attr]
        return int(sockets[0].getsockname()[1])

    async def _stop(self) -> None:
        for box in self.boxes.values():
            await self.over(box, STATUS.GENERIC_STATUS_TERMINATED)
        self._server.close()
        await self._server.wait_closed()

    async def keep_time(self) -> None:
        for box in self.boxes.values():
            if box.ended is None and self.now() - box.created >= box.definition.timeout_secs:
                await self.over(box, STATUS.GENERIC_STATUS_TIMEOUT, box.created + box.definition.timeout_secs)

    async def over(self, box: Box, status: int, at: float | None = None) -> None:
        if box.ended is not None:
            return
        box.ended, box.status = self.now() if at is None else at, status
        for pid in processes_of(box):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def usd(self, box: Box, since: float, until: float) -> float:
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
        if any(box.app_id == app_id and box.definition.name == definition.name for box in self.there()):
            raise GRPCError(Status.ALREADY_EXISTS, f"there is a sandbox {definition.name}")
        # The client tells the two kinds of sandboxes by the form of their ids.
        number = next(self._numbers)
        box_id = f"sb-{number:022d}" if gpu else f"sb-v2-{number}"
        folder = self.folder / box_id
        folder.mkdir(parents=True)
        self.boxes[box_id] = box = Box(box_id, number, app_id, definition, tags, self.now(), folder)
        self._ahead += MADE_S
        return box

    def there(self) -> list[Box]:
        return [box for box in self.boxes.values() if box.ended is None]


_ROUTER = task_command_router_grpc.TaskCommandRouterBase


def _whole(part: type, base: type) -> Any:
    """A service of which only some calls are there: the others say so."""

    async def missing(self: object, stream: Calls) -> None:
        await stream.recv_message()
        raise GRPCError(Status.UNIMPLEMENTED, f"{stream._method_name} is not stood in for")  # type: ignore[attr-defined]

    names = [name for name in base.__abstractmethods__ if not hasattr(part, name)]  # type: ignore[attr-defined]
    return type(part.__name__, (part, base), dict.fromkeys(names, missing))
