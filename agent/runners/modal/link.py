"""Commands in a sandbox, through Modal: the link to a machine that no network leads to.

Takes a machine whose address is the id of a sandbox, and an `Account`; gives a `Wire` of agent/runners/ssh/, over which
the same code prepares machines, sends, and looks after jobs. What goes wrong is an OSError, as of any broken link.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from agent.runners.modal.account import Account
from agent.runners.ssh.hosts import SshHost
from agent.runners.ssh.link import Done, Unreachable, finish

if TYPE_CHECKING:
    import modal

CHUNK = 1 << 20  # bytes of stdin in one request
UNDER_WAY = 4 << 20
MOST_LINE = 1 << 20
CLOSE_S = 5.0


class Reader:
    """What a process says, asked for as it is read: what nobody reads stays there."""

    def __init__(self, stream: Any) -> None:
        self._parts: AsyncIterator[bytes] = aiter(stream)
        self._held = bytearray()
        self._over = False

    async def read(self, n: int = -1, /) -> bytes:
        while not self._over and (n < 0 or not self._held):
            await self._more()
        return self._take(len(self._held) if n < 0 else n)

    async def readline(self) -> bytes:
        while (at := self._held.find(b"\n")) < 0 and not self._over:
            if len(self._held) > MOST_LINE:
                raise OSError("a line is longer than it may be")
            await self._more()
        return self._take(at + 1 if at >= 0 else len(self._held))

    async def readexactly(self, n: int, /) -> bytes:
        while len(self._held) < n:
            if self._over:
                raise asyncio.IncompleteReadError(self._take(n), n)
            await self._more()
        return self._take(n)

    async def _more(self) -> None:
        with _as_broken_link():
            try:
                self._held += await anext(self._parts)
            except StopAsyncIteration:
                self._over = True

    def _take(self, n: int) -> bytes:
        taken = bytes(self._held[:n])
        del self._held[:n]
        return taken


class Writer:
    """What a process is told: sent in the background, in order."""

    def __init__(self, stream: Any, under_way: "set[asyncio.Task[None]]") -> None:
        self._stream, self._under_way = stream, under_way
        self._held = bytearray()
        self._end = self._ended = False
        self._sending: asyncio.Task[None] | None = None

    def write(self, data: bytes, /) -> None:
        self._held += data
        self._soon()

    def write_eof(self) -> None:
        self._end = True
        self._soon()

    async def drain(self) -> None:
        while len(self._held) > UNDER_WAY and self._sending is not None and not self._sending.done():
            await asyncio.wait([self._sending], timeout=0.05)
        if self._sending is not None and self._sending.done():
            self._sending.result()

    def _soon(self) -> None:
        if self._sending is None or (self._sending.done() and self._sending.exception() is None):
            self._sending = asyncio.get_running_loop().create_task(self._send())
            self._under_way.add(self._sending)
            self._sending.add_done_callback(self._sent)

    def _sent(self, task: "asyncio.Task[None]") -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # `drain` says so, to whoever still wants to know

    async def _send(self) -> None:
        with _as_broken_link():
            while self._held or (self._end and not self._ended):
                data = bytes(self._held[:CHUNK])
                del self._held[:CHUNK]
                self._stream.write(data)
                if self._end and not self._held:
                    self._ended = True
                    self._stream.write_eof()
                await self._stream.drain.aio()


class Process:
    """Ends with its stdin: Modal has no other way to end one."""

    def __init__(self, process: Any, under_way: "set[asyncio.Task[None]]") -> None:
        self._process = process
        self.stdin = Writer(process.stdin, under_way)
        self.stdout, self.stderr = Reader(process.stdout), Reader(process.stderr)

    async def wait(self) -> int:
        with _as_broken_link():
            return int(await self._process.wait.aio())

    def close(self) -> None:
        self.stdin.write_eof()


class SandboxLink:
    """All of its methods run in one event loop."""

    def __init__(self, host: SshHost, account: Account) -> None:
        self.host = host
        self._account = account
        self._sandbox: modal.Sandbox | None = None
        self._under_way: set[asyncio.Task[None]] = set()

    async def open(self, *words: str) -> Process:
        """Raises Unreachable: it can't be started now, or never more."""
        try:
            async with asyncio.timeout(self.host.connect_s):
                with _as_broken_link():
                    sandbox = self._sandbox = self._sandbox or await self._account.sandbox(self.host.address)
                    if sandbox.returncode is not None:
                        raise OSError("it is over")
                    return Process(await sandbox.exec.aio(*words, text=False), self._under_way)
        except (OSError, TimeoutError) as error:
            self.drop()
            raise Unreachable(f"{self.host.name}: {error or 'no answer'}") from error

    async def run(self, *words: str, stdin: bytes = b"", within_s: float = 60.0) -> Done:
        process = await self.open(*words)
        return await finish(self, process, process.wait, stdin, within_s)

    def drop(self) -> None:
        self._sandbox = None

    async def close(self) -> None:
        """Processes whose end is under way still hear of it."""
        self.drop()
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=CLOSE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


@contextlib.contextmanager
def _as_broken_link() -> Iterator[None]:
    import modal

    try:
        yield
    except (modal.exception.Error, ValueError) as error:  # of a stream that is closed already the SDK says ValueError
        raise OSError((str(error) or type(error).__name__)[:300]) from error
