"""The MCP server as its clients use it: the SDK's own over stdio, and hostile ones. Ideas: test_mcp_proposing.py."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import MCPError

from agent.store import Store, open_store
from tests.filling import add_base, add_campaign, add_idea
from tests.serving import IDEA, REPOSITORY, Served, served, workspace

OURS = ("status", "context", "skills", "lineage", "review", "propose")
SHARED = ("read_skill", "read_script", "query", "show_diff", "show_proposal", "read_log", "compare_runs", "check_edits")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return workspace(tmp_path_factory.mktemp("made") / "a workspace")


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    opened = open_store(root / "runs.db", create=False)
    yield opened
    opened.close()


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


def marked(listed: str, name: str) -> str:
    """As the list of those that wait names it."""
    return next(word for word in listed.split() if word.startswith(f"{name}@"))


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
        foreign, seen = f"p{other.id}", marked(await at.said("review"), first)
        assert "another campaign" in await at.refused("review", action="approve", proposals=[seen, f"{foreign}@1"])
        assert "another campaign" in await at.refused("propose", **IDEA, source=foreign)
        assert "which?" in await at.refused("review", action="approve")
        assert "p1 doesn't wait" in await at.refused("review", action="approve", proposals=[seen, "p1@1"])
        assert "say which diff" in await at.refused("review", action="approve", proposals=[seen, first])
        with store.write() as tx:  # as a new head does
            tx.update_proposal(before[0], patch_id="f" * 40)
        assert "look again" in await at.refused("review", action="approve", proposals=[seen])
        seen = marked(await at.said("review"), first)
        assert await at.said("review", action="approve", proposals=[seen]) == f"{first} approved"
        assert await at.said("review", action="reject", proposals=[second], comment="no") == f"{second} declined"

    served(root, may, "--may-approve", "--campaign", "tiny-1", name="codex")
    with store.read() as reads:
        notes = [reads.reviews(one)[-1] for one in before]
    assert [(note.action, note.who, note.comment) for note in notes] == [
        ("approve", "mcp:codex", ""),
        ("reject", "mcp:codex", "no"),
    ]


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
