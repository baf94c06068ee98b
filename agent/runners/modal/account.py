"""A person's account at Modal, through the official SDK: sandboxes made, found, looked at and ended, and their bill.

Takes tokens; gives plain records. All of it runs in one thread, each call within a time; what goes wrong is one of the
errors of agent/machines/records.py, named by who must act. The SDK itself repeats what may be repeated.
"""

import asyncio
import os
import warnings
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from agent.errors import CaddieError, MissingError, to_install
from agent.machines.records import BadRequest, CutOff, KeyRefused, NoCapacity, NotForUs, Unclear
from agent.runners.ssh.link import Thread

if TYPE_CHECKING:
    import modal

T = TypeVar("T")
ID, SECRET = "MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"
APP = "caddie-app"  # the tag that says in which app a sandbox lies: the SDK does not
ANSWER_S = 60.0
_NO_MORE = "no sandbox is waited for any more"
END_S = 20.0
SLEEP = ("sleep", "infinity")  # what a sandbox does of itself: it is there until its time is over


class Late(Unclear):
    """There was no answer in time."""


@dataclass(frozen=True)
class Box:
    """A sandbox, as whoever made it named it."""

    sandbox_id: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Wanted:
    """A sandbox to be made, in an app of its own."""

    name: str
    tags: Mapping[str, str]
    gpu: str  # kind:count; empty: none
    region: str
    image: str
    packages: tuple[str, ...]
    volumes: Mapping[str, str]
    cores: float
    memory_mb: int
    timeout_s: int


class Account:
    def __init__(self, token_id: str, token_secret: str, *, answer_s: float = ANSWER_S) -> None:
        """Asks nobody yet."""
        try:
            import modal
        except ModuleNotFoundError as error:
            raise MissingError(f"sandboxes of Modal need its SDK: {to_install('modal')}") from error
        self._modal = modal
        # A sandbox lies in an app of its own, for its bill: all of them are only found in the whole environment.
        warnings.filterwarnings("ignore", message=".*Listing Sandboxes without an `app_id`")
        self._tokens, self._answer_s = (token_id, token_secret), answer_s
        self._thread: Thread | None = None
        self._client: modal.Client | None = None
        self._no_more = False
        self._waiting: set[asyncio.Task[Box]] = set()

    def create(self, wanted: Wanted, within_s: float) -> Box:
        """Waits until it has a place to run, or nobody wants one any more. In doubt (`Unclear`) there may be one."""
        if self._no_more:
            raise CutOff(_NO_MORE)
        return self._within(within_s, self._unless_no_more(self._create(wanted)))

    def hurry(self) -> None:
        """No sandbox is waited for any more."""
        self._no_more = True
        if self._thread is not None:
            for task in list(self._waiting):
                self._thread.loop.call_soon_threadsafe(task.cancel)

    def found(self, tags: Mapping[str, str]) -> list[Box]:
        """Those that are not over and have these tags."""
        return self._within(self._answer_s, self._found(tags))

    def look(self, sandbox_id: str) -> Box | None:
        """None: it has ended, or there never was such a one."""
        return self._within(self._answer_s, self._look(sandbox_id))

    def end(self, sandbox_id: str) -> None:
        """One that is over already is no error."""
        self._within(self._answer_s, self._end(sandbox_id))

    def billed(self, since: datetime, until: datetime) -> dict[str, float]:
        """Dollars by app, of the whole hours in between."""
        return self._within(self._answer_s, self._billed(since, until))

    def close(self) -> None:
        if self._thread is not None:
            thread, self._thread, client, self._client = self._thread, None, self._client, None

            async def last() -> None:
                if client is not None:
                    await client.close.aio()

            thread.close(last())

    async def client(self) -> "modal.Client":
        if self._client is None:
            self._client = await self._modal.Client.from_credentials.aio(*self._tokens)
        return self._client

    async def sandbox(self, sandbox_id: str) -> "modal.Sandbox":
        """For commands in it, in whatever event loop."""
        return await self._modal.Sandbox.from_id.aio(sandbox_id, client=await self.client())

    # ---------------------------------------------------------------- in the thread

    async def _unless_no_more(self, what: Coroutine[Any, Any, Box]) -> Box:
        task = asyncio.create_task(what)
        self._waiting.add(task)
        if self._no_more:  # since it was asked for
            task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            if self._no_more:
                raise CutOff(_NO_MORE) from None
            raise
        finally:
            self._waiting.discard(task)

    async def _create(self, wanted: Wanted) -> Box:
        modal, client = self._modal, await self.client()
        app = await modal.App.lookup.aio(wanted.name, client=client, create_if_missing=True)
        tags = {**wanted.tags, APP: str(app.app_id)}
        image = modal.Image.from_registry(wanted.image).pip_install(*wanted.packages)
        sandbox = await modal.Sandbox.create.aio(
            *SLEEP,
            app=app,
            name=wanted.name,
            tags=tags,
            image=image,
            timeout=wanted.timeout_s,
            gpu=wanted.gpu or None,
            region=wanted.region or None,
            cpu=(wanted.cores, wanted.cores),
            memory=(wanted.memory_mb, wanted.memory_mb),
            block_network=True,
            volumes={path: modal.Volume.from_name(name) for path, name in wanted.volumes.items()},
            client=client,
        )
        return Box(sandbox.object_id, tags)

    async def _found(self, tags: Mapping[str, str]) -> list[Box]:
        client = await self.client()
        return [await _box(one) async for one in self._modal.Sandbox.list.aio(tags=dict(tags), client=client)]

    async def _look(self, sandbox_id: str) -> Box | None:
        try:
            sandbox = await self._modal.Sandbox.from_id.aio(sandbox_id, client=await self.client())
            return None if sandbox.returncode is not None else await _box(sandbox)
        except self._modal.exception.NotFoundError:
            return None

    async def _end(self, sandbox_id: str) -> None:
        try:
            sandbox = await self._modal.Sandbox.from_id.aio(sandbox_id, client=await self.client())
            if sandbox.returncode is None:
                await sandbox.terminate.aio()
        except self._modal.exception.NotFoundError:
            return

    async def _billed(self, since: datetime, until: datetime) -> dict[str, float]:
        workspace = self._modal.Workspace.from_context(client=await self.client())
        usd: dict[str, float] = {}
        for item in await workspace.billing.report.aio(
            start=since.astimezone(UTC), end=until.astimezone(UTC), resolution="h"
        ):
            usd[item.object_id] = usd.get(item.object_id, 0.0) + float(item.cost)
        return usd

    def _within(self, seconds: float, what: Coroutine[Any, Any, T]) -> T:
        if self._thread is None:
            self._thread = Thread("modal")

        async def run() -> T:
            async with asyncio.timeout(seconds):
                return await what

        try:
            return self._thread.wait(run(), seconds + END_S)
        except TimeoutError as error:
            raise Late(f"Modal gave no answer within {seconds:.0f} s") from error
        except self._modal.exception.Error as error:
            raise self._meaning(error) from error

    def _meaning(self, error: Exception) -> CaddieError:
        wrong, words = self._modal.exception, (str(error) or type(error).__name__)[:1000]
        for secret in self._tokens:
            words = words.replace(secret, "***")
        if isinstance(error, wrong.AuthError):
            return KeyRefused(
                f"Modal does not know the token in {ID} and {SECRET}: {words}. `modal token new` makes one"
            )
        if isinstance(error, wrong.PermissionDeniedError):
            return NotForUs(f"Modal refuses this to the account: {words}")
        if isinstance(error, wrong.ResourceExhaustedError):
            return NoCapacity(f"no capacity: {words}")
        if isinstance(error, wrong.InvalidError | wrong.NotFoundError | wrong.ImageBuildError | wrong.VersionError):
            return BadRequest(f"Modal can't do what was asked for: {words}")
        return Unclear(f"Modal failed, or its answer was lost: {words}")  # a name that is taken is such an answer


async def _box(sandbox: "modal.Sandbox") -> Box:
    return Box(sandbox.object_id, await sandbox.get_tags.aio())


def account(environ: Mapping[str, str] = os.environ) -> Account:
    """Raises MissingError without tokens or without the SDK."""
    tokens = [environ.get(name, "").strip() for name in (ID, SECRET)]
    if not all(tokens):
        raise MissingError(f"sandboxes of Modal need a token in the environment: export {ID}=... {SECRET}=...")
    return Account(*tokens)
