"""The connection to one machine: made when it is needed, used by all, made again when it breaks.

Takes an `SshHost` and the folder of pinned host keys; gives `Link`, whose calls run in the event loop of `Thread`.
Nobody else's settings count: no ssh configuration is read, and no agent is forwarded.
"""

import asyncio
import shlex
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from agent.errors import InfraError, MissingError, UserError, to_install
from agent.runners.ssh.hosts import SshHost
from agent.runners.ssh.pins import Pins

if TYPE_CHECKING:
    import asyncssh

T = TypeVar("T")
BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 15.0, 30.0)
MOST_ERROR = 2000
MOST_SAID = 16_000_000  # bytes of what a command may answer
AGAIN_S = 1.0  # after which a task that was told to end is told again
ENDING_S = 10.0  # for all of them


class Unreachable(InfraError):
    """The link is down: what runs there goes on, and the link is tried again."""


class Refused(UserError):
    """The person must act: another host key, no key of ours that is taken, no Python there."""


class Done(NamedTuple):
    rc: int
    out: bytes
    err: str


class Reader(Protocol):
    """What a far process says."""

    async def read(self, n: int = -1, /) -> bytes: ...

    async def readline(self) -> bytes: ...

    async def readexactly(self, n: int, /) -> bytes: ...


class Writer(Protocol):
    """What it is told: sent as it is written, and `drain` waits while too much is under way."""

    def write(self, data: bytes, /) -> None: ...

    async def drain(self) -> None: ...

    def write_eof(self) -> None: ...


class Process(Protocol):
    """A process on the machine. A link that breaks is an OSError, or what `broken` says."""

    @property
    def stdin(self) -> Writer: ...

    @property
    def stdout(self) -> Reader: ...

    @property
    def stderr(self) -> Reader: ...

    def close(self) -> None: ...


class Wire(Protocol):
    """How a machine is reached: over ssh as below, or by whatever else its provider has."""

    @property
    def host(self) -> SshHost: ...

    async def open(self, *words: str) -> Process: ...

    async def run(self, *words: str, stdin: bytes = b"", within_s: float = 60.0) -> Done: ...

    def drop(self) -> None: ...

    async def close(self) -> None: ...


def broken() -> type[Exception]:
    """What asyncssh raises when a link breaks; where nobody uses it, nothing does."""
    asyncssh = sys.modules.get("asyncssh")
    return OSError if asyncssh is None else asyncssh.Error


class Thread:
    """An event loop in a thread of its own, for callers that have none."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def start(self, what: Coroutine[Any, Any, T]) -> "asyncio.Future[T]":
        return asyncio.run_coroutine_threadsafe(what, self.loop)  # type: ignore[return-value]

    def wait(self, what: Coroutine[Any, Any, T], within_s: float | None = None) -> T:
        return asyncio.run_coroutine_threadsafe(what, self.loop).result(within_s)

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Ends what runs in it, then does one last thing. Who is told to end in the moment in which what he waited for
        came may not hear it (Python's `wait_for`), so he is told again."""

        async def end() -> None:
            deadline = self.loop.time() + ENDING_S
            while (tasks := asyncio.all_tasks() - {asyncio.current_task()}) and self.loop.time() < deadline:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks, timeout=AGAIN_S)
            await last

        self.wait(end(), 2 * ENDING_S)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)


class Link:
    """One machine's connection. All of its methods run in the event loop."""

    def __init__(self, host: SshHost, pins: Pins) -> None:
        self.host = host
        self._pins = pins
        self._open: asyncssh.SSHClientConnection | None = None
        self._making = asyncio.Lock()
        self._failed = 0
        self._not_before = 0.0
        self._last_error = ""
        self.connections = 0

    async def connection(self) -> "asyncssh.SSHClientConnection":
        """The open connection, or a new one.

        Raises:
            Unreachable: there is none now; after a failure the next try is put off a little longer each time.
            Refused: the person must act.
        """
        async with self._making:
            if self._open is not None and not self._open.is_closed():
                return self._open
            loop = asyncio.get_running_loop()
            if loop.time() < self._not_before:
                raise Unreachable(f"{self.host.name} can't be reached: {self._last_error}")
            try:
                self._open = await self._connect()
            except Unreachable as error:
                self._last_error = str(error)
                self._not_before = loop.time() + BACKOFF_S[min(self._failed, len(BACKOFF_S) - 1)]
                self._failed += 1
                raise
            self._failed, self._not_before = 0, 0.0
            self.connections += 1
            return self._open

    async def open(self, *words: str) -> "asyncssh.SSHClientProcess[bytes]":
        """A process there, its pipes in bytes. The shell there sees one command, every word quoted."""
        connection = await self.connection()
        import asyncssh

        try:
            return await asyncio.wait_for(
                connection.create_process(shlex.join(words), encoding=None, term_type=None), self.host.connect_s
            )
        except (asyncssh.Error, OSError, TimeoutError) as error:
            self.drop()
            raise Unreachable(f"{self.host.name}: {_words(error)}") from error

    async def run(self, *words: str, stdin: bytes = b"", within_s: float = 60.0) -> Done:
        """A short command, to its end."""
        process = await self.open(*words)

        async def end() -> int | None:
            await process.wait_closed()
            return process.returncode

        return await finish(self, process, end, stdin, within_s)

    def drop(self) -> None:
        """What was half open is closed, so that the next call makes a new one."""
        if self._open is not None:
            self._open.abort()
            self._open = None

    async def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    async def _connect(self) -> "asyncssh.SSHClientConnection":
        try:
            import asyncssh
        except ModuleNotFoundError as error:
            raise MissingError(f"machines over ssh need asyncssh: {to_install('remote')}") from error
        host, pins = self.host, self._pins
        changed = False

        class Pinned(asyncssh.SSHClient):
            def validate_host_public_key(self, name: str, address: str, port: int, key: "asyncssh.SSHKey") -> bool:
                nonlocal changed
                changed = not pins.holds(host.name, key.export_public_key().decode("ascii").strip())
                return not changed

        try:
            return await asyncio.wait_for(
                asyncssh.connect(
                    host.address,
                    host.port,
                    username=host.user,
                    client_keys=[str(host.key)] if host.key else (),
                    client_factory=Pinned,
                    known_hosts=([], [], []),
                    config=[],
                    agent_forwarding=False,
                    keepalive_interval=host.keepalive_s,
                    keepalive_count_max=3,
                    connect_timeout=host.connect_s,
                    login_timeout=host.connect_s,
                    **({"agent_path": None} if host.key else {}),
                ),
                2 * host.connect_s,
            )
        except asyncssh.HostKeyNotVerifiable as error:
            if not changed:
                raise Unreachable(f"{host.name}: {_words(error)}") from error
            raise Refused(
                f"{host.name} ({host.address}:{host.port}) has another host key than at first: it is another machine, "
                f"or somebody is in between. If you know that it was set up anew, remove {pins.file(host.name)}"
            ) from error
        except asyncssh.PermissionDenied as error:
            with_key = f" with {host.key}" if host.key else ""
            raise Refused(f"{host.name} does not let {host.user} in{with_key}: {_words(error)}") from error
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, FileNotFoundError) as error:
            raise Refused(f"{host.name}: the key {host.key} can't be used: {_words(error)}") from error
        except (asyncssh.Error, OSError, TimeoutError) as error:
            raise Unreachable(f"{host.name} ({host.address}:{host.port}): {_words(error)}") from error


async def finish(
    link: Wire, process: Process, end: Callable[[], Awaitable[int | None]], stdin: bytes, within_s: float
) -> Done:
    """All that a command says, once it was told all that it is to hear. `end` waits for its exit, where there is one.

    Raises Unreachable, and drops the link.
    """
    try:
        async with asyncio.timeout(within_s):
            process.stdin.write(stdin)
            process.stdin.write_eof()
            out, err = await asyncio.gather(read_most(process.stdout, MOST_SAID), read_most(process.stderr, 65536))
            rc = await end()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, broken()) as error:
        link.drop()
        raise Unreachable(f"{link.host.name}: {_words(error)}") from error
    finally:
        process.close()
    if rc is None:
        raise Unreachable(f"{link.host.name}: the link broke under a command")
    return Done(rc, out, err.decode("utf-8", "replace")[-MOST_ERROR:])


async def read_most(stream: Reader, most: int) -> bytes:
    """All that comes, and no more than may come."""
    parts: list[bytes] = []
    while data := await stream.read(65536):
        parts.append(data)
        most -= len(data)
        if most < 0:
            raise OSError("it says more than it may")
    return b"".join(parts)


def _words(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:300]
