"""The real `claude` and `codex` as the researcher through `agent mcp`, against a stand-in of their providers.

`make clis` runs them.
What their model calls comes to our server, and what it proposes enters the campaign like any other idea.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agent.llm import Call
from agent.store import open_store
from tests.clis import BIN, KEY, needs_clis
from tests.e2e import world
from tests.standin import results, standin, told, tools
from tests.standin_wires import Reply

pytestmark = needs_clis
REPOSITORY = Path(__file__).parents[1]
IDEA = world.idea("wider", ('"width": 4', '"width": 8'))


class Client(NamedTuple):
    command: tuple[str, ...]
    space: str
    """What a tool of our server is called after, in the client's requests."""
    wait: Call
    """What its model can call while our server starts."""


CLIENTS = {
    "claude": Client(
        (
            *("claude", "-p", "Have an idea.", "--model", "claude-sonnet-4-5", "--max-turns", "6"),
            *("--mcp-config", ".mcp.json", "--strict-mcp-config", "--allowedTools"),
            "mcp__caddie__status,mcp__caddie__propose,WaitForMcpServers",
        ),
        "mcp__caddie__",
        Call("w", "WaitForMcpServers", {}),
    ),
    "codex": Client(
        (
            *("codex", "exec", "--skip-git-repo-check", "-m", "gpt-5"),
            *("-c", 'mcp_servers.caddie.default_tools_approval_mode="approve"', "Have an idea."),
        ),
        "mcp__caddie/",
        Call("w", "list_mcp_resources", {"server": "caddie"}),
    ),
}


def settings(client: str, home: Path, root: Path, url: str) -> Mapping[str, str]:
    """Where it asks for answers; and that the person trusts the workspace, or its servers are not started."""
    if client == "claude":
        return {
            "ANTHROPIC_API_KEY": KEY,
            "ANTHROPIC_BASE_URL": url,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
    folder = home / ".codex"
    folder.mkdir()
    provider = f'[model_providers.standin]\nname = "standin"\nbase_url = "{url}/v1"\nenv_key = "OPENAI_API_KEY"\n'
    trust = f'[projects."{root}"]\ntrust_level = "trusted"\n'
    (folder / "config.toml").write_text(f'model_provider = "standin"\n{provider}wire_api = "responses"\n{trust}')
    return {"OPENAI_API_KEY": KEY, "CODEX_HOME": str(folder)}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_has_an_idea_and_the_campaign_gets_it(tmp_path: Path, name: str) -> None:
    client = CLIENTS[name]
    root = world.make_workspace(tmp_path / "work")
    world.open_campaign(root, planner="mcp").store.close()
    environ = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    connect = [sys.executable, "-m", "agent.cli", "connect", name, "--write"]
    subprocess.run(connect, cwd=root, env=environ, check=True, capture_output=True)

    def model(body: dict[str, Any]) -> Reply:
        names, given = tools(body), results(body)
        if not any(one.startswith(client.space) for one in names):  # it is starting, or this is a side question
            wait = (replace(client.wait, id=f"w{len(given)}"),) if client.wait.name in names else ()
            return Reply("One moment.", calls=wait if len(given) < 30 else ())
        if "toy-1" not in "\n".join(given):
            return Reply("Let me see.", calls=(Call("c1", f"{client.space}status", {}),))
        if not any("requires approval" in one or "p2" in one for one in given):
            idea = {name: IDEA[name] for name in ("title", "hypothesis", "edits", "kind")}
            return Reply("An idea.", calls=(Call("c2", f"{client.space}propose", idea),))
        return Reply("Done.")

    with standin(model) as server:
        environ |= settings(name, tmp_path, root, server.url)
        ended = subprocess.run(
            client.command, cwd=root, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240
        )
        seen = "\n".join(told(one.body) + "\n".join(results(one.body)) for one in server.asked)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    store = open_store(root / "runs.db", create=False)
    with store.read() as reads:
        ideas = reads.proposals(1)[1:]
    store.close()
    assert [(one.title, one.state) for one in ideas] == [("wider", "drafted")], seen[-3000:] + ended.stderr[-2000:]
    assert ideas[0].planner.startswith("mcp")
    assert "toy-1" in seen  # what `status` answered came back to the model
