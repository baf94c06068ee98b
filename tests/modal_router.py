"""What the client asks the machine of a sandbox: commands, and what goes in and out of them."""

import asyncio
import os
from typing import TYPE_CHECKING, Any

from grpclib import GRPCError, Status
from grpclib.server import Stream
from modal_proto import task_command_router_pb2 as router_pb2

from tests.modal_boxes import Exec

if TYPE_CHECKING:
    from tests.modal_standin import StandIn

Calls = Stream[Any, Any]


class Router:
    """What the client asks the machine of a sandbox: commands, and what goes in and out of them."""

    def __init__(self, stand: "StandIn") -> None:
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
        await self.stand.keep_time()
        return asked

    def _exec(self, asked: Any) -> Exec:
        found = self.stand.of_task(asked.task_id).execs.get(asked.exec_id)
        if found is None:
            raise GRPCError(Status.NOT_FOUND, "no such command")
        return found


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
