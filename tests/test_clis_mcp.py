"""The real `claude` as the researcher through `agent mcp`, against a stand-in of its provider: `make clis`.

What its model calls comes to our server, and what it proposes enters the campaign like any other idea.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from agent.llm import Call
from agent.store import open_store
from tests.e2e import world
from tests.standin import results, standin, told, tools
from tests.standin_wires import Reply
from tests.test_clis import BIN, KEY, pytestmark  # noqa: F401  (they run under the same conditions)

REPOSITORY = Path(__file__).parents[1]
IDEA = world.idea("wider", ('"width": 4', '"width": 8'))


ALLOWED = "mcp__caddie__status,mcp__caddie__propose,WaitForMcpServers"
COMMAND = (
    *("claude", "-p", "Have an idea.", "--model", "claude-sonnet-4-5", "--max-turns", "6"),
    *("--mcp-config", ".mcp.json", "--strict-mcp-config", "--allowedTools", ALLOWED),
)


def test_a_client_has_an_idea_and_the_campaign_gets_it(tmp_path: Path) -> None:
    root = world.make_workspace(tmp_path / "work")
    world.open_campaign(root, planner="mcp").store.close()
    environ = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(REPOSITORY),
        "ANTHROPIC_API_KEY": KEY,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    connect = [sys.executable, "-m", "agent.cli", "connect", "claude", "--write"]
    subprocess.run(connect, cwd=root, env=environ, check=True, capture_output=True)

    def model(body: dict[str, Any]) -> Reply:
        names, given = tools(body), results(body)
        ours = [name for name in names if name.startswith("mcp__caddie__")]
        if not ours:  # the server is still starting, or it is a side question of the client's own
            wait = (Call(f"w{len(given)}", "WaitForMcpServers", {}),) if "WaitForMcpServers" in names else ()
            return Reply("One moment.", calls=wait)
        if "toy-1" not in "\n".join(given):
            return Reply("Let me see.", calls=(Call("c1", "mcp__caddie__status", {}),))
        if "p2" not in given[-1]:
            idea = {name: IDEA[name] for name in ("title", "hypothesis", "edits", "kind")}
            return Reply("An idea.", calls=(Call("c2", "mcp__caddie__propose", idea),))
        return Reply("Done.")

    with standin(model) as server:
        environ["ANTHROPIC_BASE_URL"] = server.url
        ended = subprocess.run(
            COMMAND, cwd=root, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240
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
