"""`agent mcp` in a process of its own, and the official SDK's client that works with it over stdio."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mcp import Client, StdioServerParameters
from mcp.types import Implementation

from agent.store.schema import campaigns
from tests.fixture_campaign import build
from tests.fixture_workspace import commit

T = TypeVar("T")
REPOSITORY = Path(__file__).parents[1]
WITHIN_S = 60.0


def edit(old: str = '"matrix_lr": 0.02', new: str = '"matrix_lr": 0.03', path: str = "trainer/train_gpt.py") -> str:
    return f"{path}\n<<<<<<< SEARCH\n    {old},\n=======\n    {new},\n>>>>>>> REPLACE\n"


IDEA = {"title": "a higher rate", "hypothesis": "it is too low", "edits": edit(), "kind": "optimiser"}


@dataclass
class Served:
    """One server, as a test speaks with it."""

    client: Client

    async def call(self, name: str, /, **arguments: object) -> tuple[str, bool]:
        """What the tool said, and whether it failed."""
        result = await self.client.call_tool(name, arguments)
        return "".join(block.text for block in result.content if block.type == "text"), bool(result.is_error)

    async def said(self, name: str, /, **arguments: object) -> str:
        text, failed = await self.call(name, **arguments)
        assert not failed, text
        return text

    async def refused(self, name: str, /, **arguments: object) -> str:
        text, failed = await self.call(name, **arguments)
        assert failed, text
        return text


def served(
    where: Path, work: Callable[[Served], Awaitable[T]], *args: str, name: str = "Claude Code", mode: str = "legacy"
) -> T:
    """Starts `agent mcp` in a folder and lets a client of the SDK work with it."""
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "agent.cli", "mcp", *args],
        cwd=where,
        env={"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
    )

    async def session() -> T | Exception:
        async with Client(command, mode=mode, client_info=Implementation(name=name, version="1")) as client:
            try:
                return await work(Served(client))
            except Exception as error:  # told outside: within, the SDK's task groups would wrap it
                return error

    found = asyncio.run(asyncio.wait_for(session(), 120))
    if isinstance(found, Exception):
        raise found
    return found


def workspace(root: Path) -> Path:
    """The fixture's campaign in a git repository whose commit is the script of all that have one."""
    root.mkdir()
    (root / "skills").symlink_to(REPOSITORY / "skills")
    with closing(build(root)) as store:
        sha = commit(root)
        with store.write() as tx:
            for one in tx.proposals(1):
                if one.commit is not None:
                    tx.update_proposal(one.id, commit=sha)
            tx.connection.execute(campaigns.update().values(base_commit=sha))
            answered = tx.proposals(1, {"awaiting_review"})
            assert len(answered) == 2
    return root


async def until(at: Served, tool: str, seen: Callable[[str], bool], **arguments: object) -> str:
    deadline = time.monotonic() + WITHIN_S
    while not seen(text := await at.said(tool, **arguments)):
        assert time.monotonic() < deadline, text
        await asyncio.sleep(0.2)
    return text
