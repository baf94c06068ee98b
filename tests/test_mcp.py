"""The MCP server as clients use it: the official SDK's client over stdio, hostile ones, and one whose idea runs."""

import asyncio
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.types import Implementation

from agent.loop import Loop
from agent.mcp.proposing import MOST_WAITING, planner_name
from agent.planner.clients import HOW
from agent.records import Proposal
from agent.store import Store, open_store
from agent.store.schema import campaigns
from agent.store.talks import conversations_of
from tests.e2e import world
from tests.filling import add_base, add_campaign, add_idea
from tests.fixture_campaign import build

T = TypeVar("T")
REPOSITORY = Path(__file__).parents[1]
OURS = ("status", "context", "skills", "lineage", "review", "propose")
SHARED = ("read_skill", "read_script", "query", "show_diff", "show_proposal", "read_log", "compare_runs", "check_edits")
SCRIPT = 'TINY = {\n    "num_layers": 3,\n    "matrix_lr": 0.02,\n    "seed": 1,\n}\nprint(TINY)\n'
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


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fixture's campaign in a git repository whose commit is the script of all that have one."""
    root = tmp_path_factory.mktemp("made") / "a workspace"
    store = build(root)
    (root / "trainer").mkdir()
    (root / "trainer" / "train_gpt.py").write_text(SCRIPT)
    (root / "skills").symlink_to(REPOSITORY / "skills")
    (root / ".gitignore").write_text("runs.db*\n.caddie/\n")
    world.git(root, "init", "-q")
    world.git(root, "add", ".")
    world.git(root, "commit", "-q", "-m", "Start")
    sha = world.git(root, "rev-parse", "HEAD").strip()
    with store.write() as tx:
        for one in tx.proposals(1):
            if one.commit is not None:
                tx.update_proposal(one.id, commit=sha)
        tx.connection.execute(campaigns.update().values(base_commit=sha))
        answered = tx.proposals(1, {"awaiting_review"})
        assert len(answered) == 2
    store.close()
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "a workspace", symlinks=True))


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    opened = open_store(root / "runs.db", create=False)
    yield opened
    opened.close()


def of_clients(store: Store) -> list[Proposal]:
    with store.read() as reads:
        return [one for one in reads.proposals(1) if one.planner.startswith("mcp")]


@pytest.mark.parametrize("mode", ["legacy", "auto"])
def test_tools_resources_and_the_prompt_are_listed(root: Path, mode: str) -> None:
    """By clients that shake hands and by those of the newer protocol."""

    async def work(at: Served) -> None:
        tools = {tool.name: tool for tool in (await at.client.list_tools()).tools}
        assert set(tools) == {*OURS, *SHARED}
        assert all(tool.description and tool.input_schema["type"] == "object" for tool in tools.values())
        writing = {name for name, tool in tools.items() if not (tool.annotations and tool.annotations.read_only_hint)}
        assert writing == {"propose"}
        schema = tools["propose"].input_schema
        assert schema["required"] == ["title", "edits"] and "source" in schema["properties"]
        assert "base" not in schema["properties"]["kind"]["enum"]
        assert tools["review"].input_schema["properties"] == {}
        resources = (await at.client.list_resources()).resources
        assert len(resources) >= 20 and "skill://muon" in {str(one.uri) for one in resources}
        read = await at.client.read_resource("skill://muon")
        assert "## In short" in read.contents[0].text  # type: ignore[union-attr]
        for uri in ("skill://moun", "skill://../notes", "file:///etc/passwd"):
            with pytest.raises(MCPError) as error:
                await at.client.read_resource(uri)
            assert "no skill" in str(error.value) or "resources are skills" in str(error.value)
        assert [one.name for one in (await at.client.list_prompts()).prompts] == ["research"]
        prompt = await at.client.get_prompt("research")
        text = prompt.messages[0].content.text  # type: ignore[union-attr]
        assert "researcher of campaign tiny-1" in text and "You can't approve anything" in text

    served(root, work, mode=mode)


def test_what_stands_in_the_store_is_told(root: Path) -> None:
    async def work(at: Served) -> None:
        status = await at.said("status")
        assert "tiny-1: nobody runs it" in status and "36 ideas, 64 runs, 3 accepted" in status
        assert "matrix_lr = 0.03" in await at.said("lineage") and "p6" in await at.said("lineage", proposal="p6")
        assert "- muon: " in await at.said("skills")
        context = await at.said("context")
        assert '"matrix_lr": 0.02' in context and "num_layers = 5 and no memory for it" in context
        assert "Do not propose them again" in context and len(context) < 3 * 25_000
        assert "What is known" in await at.said("read_skill", name="muon")
        assert '"num_layers": 3' in await at.said("read_script")
        assert "p26" in await at.said("query", sql="SELECT 'p' || proposal_id AS p FROM heads")
        assert "+++ b/trainer/train_gpt.py" in await at.said("show_diff", proposal="p6")
        assert "no memory for it" in await at.said("show_proposal", proposal="p13")
        assert "step:150/300" in await at.said("read_log", run="r65")
        assert "tie the heads of layers 2 and 3  [touches scoring code]" in await at.said("review")
        for text in (status, context):
            assert "\x1b" not in text and "\x07" not in text and "\u202e" not in text

    served(root, work)


def test_an_idea_becomes_a_drafted_proposal_and_its_origin_is_on_record(root: Path, store: Store) -> None:
    async def work(at: Served) -> str:
        return await at.said("propose", **IDEA, expected_gain=0.01, evidence=["r12"], source="p26")

    said = served(root, work, name="Claude Code\n\x1b[31m" + "x" * 500)
    (one,) = of_clients(store)
    assert f"p{one.id} is written down" in said and "agent resume" in said
    assert one.state == "drafted" and one.planner.startswith("mcp:Claude-Code-") and len(one.planner) <= 44
    assert (one.source_id, one.baseline_id, one.mode, one.kind) == (26, 26, "exploit", "optimiser")
    assert (one.expected_gain, one.evidence) == (0.01, ("r12",))
    with store.read() as reads:
        (talk,) = conversations_of(reads, one.id)
    assert (talk.what, talk.planner, talk.outcome) == ("mcp", one.planner, f"p{one.id}") and talk.ended
    assert planner_name("\n") == planner_name("") == "mcp"


HOSTILE: tuple[tuple[dict[str, Any], str], ...] = (
    ({}, "title is missing"),
    ({**IDEA, "edits": "x" * 10_000_000}, "edits"),
    ({**IDEA, "edits": 7}, "edits"),
    ({**IDEA, "edits": None}, "edits"),
    ({**IDEA, "title": ["a"]}, "title"),
    ({**IDEA, "titel": "a"}, "Did you mean 'title'"),
    ({**IDEA, "kind": "base"}, "kind"),
    ({**IDEA, "kind": "magic"}, "kind"),
    ({**IDEA, "expected_gain": float("nan")}, "expected_gain"),
    ({**IDEA, "expected_gain": float("inf")}, "expected_gain"),
    ({**IDEA, "expected_gain": "0.1"}, "expected_gain"),
    ({**IDEA, "confidence": 2}, "confidence"),
    ({**IDEA, "expected_bytes": 10**30}, "expected_bytes"),
    ({**IDEA, "risk": ["r" * 501]}, "risk"),
    ({**IDEA, "rung": "fnial"}, "no rung 'fnial'"),
    ({**IDEA, "source": "p9999"}, "no proposal p9999"),
    ({**IDEA, "source": "'; DROP TABLE runs"}, "is not a proposal"),
    ({**IDEA, "source": "r12"}, "is a run"),
    ({**IDEA, "edits": "nothing"}, "SEARCH"),
    ({**IDEA, "edits": edit(old='"matrix_lr": 0.99')}, "matrix_lr"),
    ({**IDEA, "edits": edit(path="runs.db")}, "runs.db"),
    ({**IDEA, "edits": edit(path="../../etc/passwd")}, "passwd"),
    ({**IDEA, "edits": edit(new='"matrix_lr": (')}, "trainer/train_gpt.py"),
    ({**IDEA, "edits": edit(new='"matrix_lr": 0.02,  # a comment')}, "changes nothing"),
    ({**IDEA, "edits": edit(new='"matrix_lr": 0.0\0')}, "NUL"),
)


def test_hostile_ideas_are_refused_in_words_and_nothing_is_written(root: Path, store: Store) -> None:
    async def work(at: Served) -> list[str]:
        said = [await at.refused("propose", **arguments) for arguments, _ in HOSTILE]
        assert "campaign tiny-1" in (await at.client.get_prompt("research")).messages[0].content.text  # type: ignore[union-attr]
        return said

    for said, (_, words) in zip(served(root, work), HOSTILE, strict=True):
        assert words in said and len(said) < 3000, (words, said[:300])
        assert "fault of Caddie's" not in said
    assert of_clients(store) == []


def test_hostile_calls_of_other_tools_are_answered(root: Path, store: Store) -> None:
    async def work(at: Served) -> None:
        for name, arguments, words in (
            ("status", {"verbose": True}, "no argument 'verbose'"),
            ("lineage", {"proposal": 6}, "proposal"),
            ("lineage", {"proposal": "p" * 10_000_000}, "proposal"),
            ("query", {"sql": "DELETE FROM runs"}, "only SELECT"),
            (
                "query",
                {"sql": "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c) SELECT max(n) FROM c"},
                "longer",
            ),
            ("read_script", {"path": "../runs.db"}, "not an editable file"),
            ("read_skill", {"name": "../../etc"}, "no skill"),
            ("propse", {}, "Did you mean 'propose'"),
            ("approve", {"proposals": ["p1"]}, "no tool"),
        ):
            said = await at.refused(name, **arguments)  # type: ignore[arg-type]
            assert words in said and len(said) < 1000 and "fault of Caddie's" not in said
        assert "36 ideas" in await at.said("status")

    served(root, work)


def test_nothing_is_approved_through_the_server_unless_a_person_said_so(root: Path, store: Store) -> None:
    with store.write() as tx:
        other = add_idea(tx, add_base(tx, add_campaign(tx, "other")))
        tx.move(other.id, "awaiting_review")

    def waiting() -> list[int]:
        with store.read() as reads:
            return [one.id for one in reads.proposals(1, {"awaiting_review"})]

    before = waiting()
    assert len(before) == 2
    first, second = (f"p{one}" for one in before)

    async def may_not(at: Served) -> None:
        listed = await at.said("review")
        assert first in listed and second in listed and "agent review" in listed
        for action in ("approve", "reject"):
            assert "no argument" in await at.refused("review", action=action, proposals=[first])

    served(root, may_not, "--campaign", "tiny-1")
    assert waiting() == before

    async def may(at: Served) -> None:
        foreign = f"p{other.id}"
        assert "another campaign" in await at.refused("review", action="approve", proposals=[first, foreign])
        assert "another campaign" in await at.refused("propose", **IDEA, source=foreign)
        assert "which?" in await at.refused("review", action="approve")
        assert "p1 doesn't wait" in await at.refused("review", action="approve", proposals=[first, "p1"])
        assert await at.said("review", action="approve", proposals=[first]) == f"{first} approved"
        assert await at.said("review", action="reject", proposals=[second], comment="no") == f"{second} declined"

    served(root, may, "--may-approve", "--campaign", "tiny-1", name="codex")
    with store.read() as reads:
        notes = [reads.reviews(one)[-1] for one in before]
    assert [(note.action, note.who, note.comment) for note in notes] == [
        ("approve", "mcp:codex", ""),
        ("reject", "mcp:codex", "no"),
    ]


def test_no_key_is_written_down_for_a_client(root: Path, store: Store) -> None:
    key = "sk-proj-abcdefghijklmnop0123"

    async def work(at: Served) -> str:
        return await at.said("propose", **{**IDEA, "hypothesis": f"with {key}", "evidence": [key]})

    served(root, work)
    (one,) = of_clients(store)
    assert (one.hypothesis, one.evidence) == ("with [redacted]", ("[redacted]",))


def test_ideas_without_end_have_to_wait(root: Path, store: Store) -> None:
    async def work(at: Served) -> str:
        for n in range(MOST_WAITING):
            await at.said("propose", **{**IDEA, "edits": edit(new=f'"matrix_lr": 0.1{n}')})
        return await at.refused("propose", **{**IDEA, "edits": edit(new='"matrix_lr": 0.2')})

    assert "8 ideas of clients wait already" in served(root, work)
    assert len(of_clients(store)) == MOST_WAITING


def test_without_a_campaign_the_tools_say_how_to_start_one(root: Path, store: Store, tmp_path: Path) -> None:
    async def none(at: Served) -> None:
        assert len((await at.client.list_tools()).tools) == len(OURS) + len(SHARED)
        assert (await at.client.list_resources()).resources == []
        for name in ("status", "context", "query"):
            said = await at.refused(name, **({"sql": "SELECT 1"} if name == "query" else {}))
            assert "agent start" in said

    empty = tmp_path / "empty"
    empty.mkdir()
    served(empty, none)

    async def finished(at: Served) -> None:
        assert "agent start --planner mcp" in await at.said("status")
        assert "is finished" in await at.refused("propose", **IDEA)
        assert "36" in await at.said("query", sql="SELECT count(*) - 1 FROM proposals")

    with store.write() as tx:
        tx.end_campaign(1, "finished", "the budget is spent")
    served(root, finished)

    async def unknown(at: Served) -> None:
        assert "Did you mean 'tiny-1'" in await at.refused("status")

    served(root, unknown, "--campaign", "tiny-l")


GREETING = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "raw", "version": "1"},
    },
}


def test_broken_lines_end_nothing_and_stdout_is_the_protocols_alone(root: Path) -> None:
    """Not JSON, not JSON-RPC, not UTF-8, not the end; and at the end of the input the server ends."""
    call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "status", "arguments": {}}}
    lines = [
        b"{",
        b"",
        b"[]",
        b'{"jsonrpc": "2.0"}',
        b"\xff\xfe\x00",
        json.dumps(GREETING).encode(),
        b'{"jsonrpc": "2.0", "method": "notifications/initialized"}',
        b'{"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": 7}',
        b'{"jsonrpc": "2.0", "id": 4, "method": "no/such"}',
        b'{"jsonrpc": "2.0", "id": 6, "method": "tools/call", "params": {"name": 3}}',
        b'{"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "\\ud800"}}',
        b"x" * 5_000_000,
        json.dumps(call).encode(),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "agent.cli", "mcp"],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin", "HOME": str(root)},
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(b"\n".join(lines) + b"\n")
        process.stdin.flush()
        found: list[dict[str, Any]] = []
        while not any(one.get("id") == 2 for one in found):
            row = process.stdout.readline()
            assert row, process.stderr.read() if process.stderr else ""
            found.append(json.loads(row))
        process.stdin.close()
        rest = process.stdout.read()
        assert rest == b"" and process.wait(10) == 0
    finally:
        process.kill()
    assert all(one["jsonrpc"] == "2.0" for one in found)
    answer = next(one for one in found if one.get("id") == 2)["result"]
    assert "36 ideas" in answer["content"][0]["text"] and not answer.get("isError")
    errors = {one["id"]: one["error"]["code"] for one in found if "error" in one}
    assert errors == {4: -32601, 6: -32602}  # the SDK says nothing to what is no message at all


def test_an_idea_of_a_client_runs_and_ends_in_a_final_state(tmp_path: Path) -> None:
    """The loop works here, the client in a thread of its own, the server in its process; the planner is `mcp` alone."""
    where = world.make_workspace(tmp_path / "work")
    setting = world.open_campaign(where, planner="mcp", review="risky")
    said: list[str] = []

    async def research(at: Served) -> None:
        await until(at, "status", lambda text: f"ideas    waits for those of clients; {HOW}" in text)
        better = world.idea("wider", ('"width": 4', '"width": 6'), expected_gain=0.05)
        assert "applies and compiles" in await at.said("check_edits", edits=better["edits"])
        said.append(await at.said("propose", **better))
        proposal = said[-1].split()[0]
        said.append(await until(at, "show_proposal", lambda text: "state: promoted" in text, proposal=proposal))
        said.append(await at.refused("propose", **better))
        free = world.idea(
            "free",
            ("print(KNOBS)", "print(KNOBS, 1)"),
            script=setting.repo.files("caddie/toy-1", ["train.py"])["train.py"],
        )
        waits = (await at.said("propose", **free)).split()[0]
        said.append(await until(at, "review", lambda text: waits in text))

    client = threading.Thread(target=served, args=(where, research), daemon=True)
    until_s = time.monotonic() + WITHIN_S

    def show() -> None:
        if not client.is_alive() or time.monotonic() > until_s:
            with setting.store.write() as tx:
                tx.ask(setting.campaign.id, "drain")

    client.start()
    Loop(setting, show).run()
    client.join(WITHIN_S)
    assert len(said) == 4, said
    with setting.store.read() as reads:
        made = [one for one in reads.proposals(setting.campaign.id) if one.planner == "mcp:Claude-Code"]
    assert [(one.title, one.state) for one in made] == [("wider", "promoted"), ("free", "awaiting_review")]
    assert "written down" in said[0] and "is already applied" in said[2]


async def until(at: Served, tool: str, seen: Callable[[str], bool], **arguments: object) -> str:
    deadline = time.monotonic() + WITHIN_S
    while not seen(text := await at.said(tool, **arguments)):
        assert time.monotonic() < deadline, text
        await asyncio.sleep(0.2)
    return text
