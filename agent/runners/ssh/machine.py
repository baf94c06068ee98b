"""One far machine made ready for runs: reached, known, with our code on it and an attendant that looks after jobs.

Takes the link to it; gives `Machine`, whose calls may be made again after any failure. Whoever rents machines makes one
of these of what the provider says (address, port, user, key), under a name that is the machine's alone.
"""

import asyncio
import contextlib
import dataclasses
import json
import os
import struct
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TypeVar

from agent import own_process
from agent.errors import InfraError
from agent.runners.far.environment import Environment, Kit, There, kit, named, pins
from agent.runners.ssh import depot
from agent.runners.ssh.answers import MOST_FRAME, Dead, Facts, Looked, Seen, Settings
from agent.runners.ssh.attendant import judging_tree
from agent.runners.ssh.depot import How, Tree
from agent.runners.ssh.hosts import SshHost
from agent.runners.ssh.link import Done, Process, Refused, Unreachable, Wire, broken
from agent.runners.turns import MOST_WHO
from agent.strict import strict
from agent.track import Track

T = TypeVar("T")
ANSWER_S = 60.0
TOGETHER_S = 0.02
END_S = 30.0
START_S = 180.0  # Python, our modules, and a look at walls and GPUs
ATTENDANT = own_process.code("agent.runners.ssh.attendant")
JUDGING = own_process.code("agent.runners.ssh.start_scoring")
# Our code lies in a folder of its own there; nothing else of that machine is imported before it.
MODULE = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module(sys.argv.pop(1), run_name='__main__')"
)
BLOCK = 1 << 18


@dataclasses.dataclass(frozen=True)
class Failed:
    error: str


class Machine:
    """All of its methods run in the event loop of its link."""

    def __init__(self, link: Wire, jobs: str, track: Track) -> None:
        """`jobs`: the folder there of this controller's jobs, from our own; `track`: what runs need."""
        self.host = link.host
        self.link = link
        self.facts: Facts | None = None
        self.root = ""
        self.sent = 0  # bytes of blobs
        self._jobs, self._track = jobs, track
        self._python = self.host.python
        self._kit: Kit | None = None
        self._attendant: Process | None = None
        self._turn = asyncio.Lock()
        self._laying = asyncio.Lock()
        self._said_at = 0.0
        self._laid: dict[str, str] = {}
        self._retired = False
        self._wanted: dict[str, Mapping[str, int]] = {}
        self._looking: asyncio.Future[Looked] | None = None

    async def ready(self) -> Facts:
        """What the machine is, once it can take jobs.

        Raises:
            Unreachable: not now; ask again.
            Refused: the person must act.
            InfraError: the machine can't run what the track asks for.
        """
        async with self._turn:
            if self._retired:
                raise Unreachable(f"{self.host.name} ({self.host.address}) was given back, or is gone")
            if self._attendant is None or self.facts is None:
                await self._prepare()
            assert self.facts is not None
            return self.facts

    async def ask(self, kind: type[T], do: str, **words: object) -> T:
        """One question to the attendant, whose answer is of this kind."""
        await self.ready()
        async with self._turn:
            if self._attendant is None:
                raise Unreachable(f"{self.host.name}: the link broke")
            try:
                async with asyncio.timeout(ANSWER_S):
                    _write(self._attendant, {"do": do, **words})
                    told = await _read(self._attendant)
                return _told(kind, told, self.host)
            except (OSError, TimeoutError, asyncio.IncompleteReadError, broken()) as error:
                self._broken()
                raise Unreachable(f"{self.host.name}: {error or 'no answer'}") from error

    async def send(self, blobs: Mapping[str, Path]) -> None:
        self.sent += await depot.send(self.link, blobs)

    def soon(self) -> float:
        """A moment from now by the machine's own clock: what comes there later has lain on the way."""
        assert self.facts is not None
        return self.facts.clock + time.monotonic() - self._said_at + START_S

    async def end(self, job: str) -> bool:
        """Whether nothing of a job runs there any more, after a moment in which it is ended and its folder goes."""
        deadline = time.monotonic() + END_S
        while not (await self.ask(Dead, "end", job=job)).dead:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.5)
        return True

    async def look(self, job: str, known: Mapping[str, int]) -> Seen:
        """How a job is, and what its logs have beyond what is known. Questions of one moment go together."""
        self._wanted[job] = known
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look())
        looked = await asyncio.shield(self._looking)
        return looked.jobs.get(job, Seen("running", {}, None))  # where the answer had no room: next time

    async def _look(self) -> Looked:
        await asyncio.sleep(TOGETHER_S)
        wanted, self._wanted, self._looking = self._wanted, {}, None
        return await self.ask(Looked, "look", jobs=wanted)

    async def lay(self, tree: Tree, how: How, folder: str = "") -> str:
        """Its folder there, sent and laid once. `folder`: below another one than the machine's own."""
        async with self._laying:
            if tree.name not in self._laid:
                self.sent += await depot.send(self.link, tree.blobs(), folder)
                self._laid[tree.name] = await depot.lay(self.link, tree, how, folder=folder)
            return self._laid[tree.name]

    async def fetch(self, path: str, to: Path, most: int) -> None:
        """A file of a job there, as a new plain file here. What broke off goes on where it broke.

        Raises:
            InfraError: it is no plain file, or bigger than it may be.
        """
        aside = to.with_name(f".far-{to.name}")
        at = aside.lstat().st_size if aside.is_file() and not aside.is_symlink() else 0
        process = await self.link.open(*depot.command(self.host, "get", f"{self._jobs}/{path}", str(at), str(most)))
        broke = f"{path} did not come"
        try:
            async with self._spoken(broke):
                size = depot.answer(await process.stdout.readline(), self.host).get("size")
            if not isinstance(size, int) or not at <= size <= most:
                aside.unlink(missing_ok=True)
                raise InfraError(f"{self.host.name}: {path} has no size that can be believed")
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_APPEND
            with os.fdopen(os.open(aside, flags, 0o600), "ab") as file:
                while at < size:
                    async with self._spoken(broke):
                        data = await process.stdout.read(min(BLOCK, size - at))
                    if not data:
                        raise Unreachable(f"{self.host.name}: {path} broke off at byte {at:,}")
                    file.write(data)
                    at += len(data)
            aside.replace(to)
        finally:
            process.close()

    async def judge(self, header: Mapping[str, object], texts: list[bytes], before: Callable[[], None]) -> str:
        """Starts a scoring job there; gives who has its slot, where it was not started for that. The texts are never
        written to its disk. `before`: called when it may begin."""
        code = depot.own_code(judging=True)
        await self.send(code.blobs())
        tree = await depot.lay(self.link, code, "anew", judging_tree(str(header["job"])))
        process = await self.link.open(self._python, "-I", "-c", JUDGING, tree, self.root, self._jobs)
        head = json.dumps({**header, "sizes": [len(text) for text in texts]}).encode()
        broke = "the judge was not started"
        try:
            for text in (struct.pack(">I", len(head)) + head, *texts):
                for at in range(0, len(text), BLOCK):
                    async with self._spoken(broke):
                        process.stdin.write(text[at : at + BLOCK])
                        await process.stdin.drain()
            before()
            async with self._spoken(broke, START_S):
                process.stdin.write_eof()
                told = depot.answer(await process.stdout.readline(), self.host)
        finally:
            process.close()
        return str(told.get("taken", ""))[:MOST_WHO]

    async def module(self, name: str, *words: str, within_s: float) -> Done:
        """A module of ours, run there by itself."""
        tree = await self.lay(depot.own_code(judging=False), "copy")
        return await self.link.run(self.host.python, "-I", "-c", MODULE, tree, name, *words, within_s=within_s)

    async def close(self) -> None:
        self._broken()
        await self.link.close()

    async def retire(self) -> None:
        """It is not there any more: whoever waits for it hears so, and what answers at its address is another one."""
        self._retired = True
        await self.close()

    async def _prepare(self) -> None:
        told = await depot.call(self.link, "hello")
        there = _there(told)
        if there is None or there.python < (3, 11):
            raise Refused(
                f"{self.host.name}: {self.host.python} is Python {told.get('python')}; runs need 3.11 or newer"
            )
        self._python = self.host.python
        lacks = told.get("lacks")
        if self.host.environment is not None:
            lacks = await self._equip(self.host.environment, there)
        if not isinstance(lacks, list) or lacks:
            raise Refused(
                f"{self.host.name}: {self._python} lacks {lacks}, which every run needs; install there what Caddie "
                "needs, or name another `python`, or an `environment` with them, in runners.toml"
            )
        self.root = str(told.get("root"))
        tree = await self.lay(depot.own_code(judging=False), "copy")
        track, host = self._track.model_dump_json(), self.host
        settings = Settings(self.root, self._jobs, track, host.slots, host.gpus, host.shelf)
        process = await self.link.open(
            self._python, "-I", "-c", ATTENDANT, tree, json.dumps(dataclasses.asdict(settings))
        )
        try:
            async with asyncio.timeout(START_S):
                facts = _told(Facts, await _read(process), self.host)
        except InfraError:
            process.close()
            raise
        except (OSError, TimeoutError, asyncio.IncompleteReadError, broken()) as error:
            said = await _last(process)
            process.close()
            raise Unreachable(f"{self.host.name}: nothing came of our code there: {said or error}") from error
        self.facts, self._said_at = facts, time.monotonic()
        self._attendant = process

    async def _equip(self, environment: Environment, there: There) -> object:
        """Sees to it that runs have the packages of a lock; what they lack of those that every run needs."""
        told = await depot.call(self.link, "hello", *named(pins(environment.lock), there))
        if told.get("others") == []:
            return told.get("lacks")
        if self._kit is None:  # wheels may be big: they are read once
            self._kit = await asyncio.to_thread(kit, environment, there)
        await self.send(self._kit.blobs())
        self._python = await depot.equip(self.link, self._kit)
        return (await depot.call(self.link, "hello", python=self._python)).get("lacks")

    @contextlib.asynccontextmanager
    async def _spoken(self, broke: str, within_s: float = ANSWER_S) -> AsyncIterator[None]:
        """What is said and heard over the link. Raises Unreachable, and drops the link."""
        try:
            async with asyncio.timeout(within_s):
                yield
        except (OSError, TimeoutError, broken()) as error:
            self.link.drop()
            raise Unreachable(f"{self.host.name}: {broke}: {error or 'no answer'}") from error

    def _broken(self) -> None:
        if self._attendant is not None:
            self._attendant.close()
            self._attendant = None
        self.link.drop()


def _there(told: Mapping[str, object]) -> There | None:
    """What the machine says that it is."""
    version, machine = told.get("python"), told.get("machine")
    if not isinstance(version, list) or len(version) != 2 or not all(type(part) is int for part in version):
        return None
    return There((version[0], version[1]), machine if isinstance(machine, str) else "")


def _write(process: Process, asked: Mapping[str, object]) -> None:
    data = json.dumps(asked).encode()
    process.stdin.write(struct.pack(">I", len(data)) + data)


async def _read(process: Process) -> str:
    (size,) = struct.unpack(">I", await process.stdout.readexactly(4))
    if size > MOST_FRAME:
        raise OSError("an answer is longer than it may be")
    return (await process.stdout.readexactly(size)).decode("utf-8", "replace")


def _told(kind: type[T], text: str, host: SshHost) -> T:
    """Raises InfraError for what could not be done there, OSError for what is no answer."""
    try:
        return strict(kind, text)
    except ValueError as error:
        try:
            words = strict(Failed, text).error[:1000]
        except ValueError:
            raise OSError(f"no answer in our words: {error}") from error
        raise InfraError(f"{host.name}: {words}") from error


async def _last(process: Process) -> str:
    """The last line that it printed as an error."""
    try:
        async with asyncio.timeout(2):
            lines = (await process.stderr.read(65536)).decode("utf-8", "replace").strip().splitlines()
    except (OSError, TimeoutError, broken()):
        return ""
    return lines[-1][:500] if lines else ""
