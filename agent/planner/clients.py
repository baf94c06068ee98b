"""The planner `mcp`: ideas come from clients of `agent mcp` (Claude Code, Codex), whenever these have one.

It is never asked. The server writes what a client proposes as a drafted proposal, and the loop takes it from there;
a campaign with this planner waits for ideas until its budget is spent, its target reached or a person ends it.
"""

from agent.planner import Request
from agent.records import Draft, Mode

NAME = "mcp"
HOW = "`agent connect claude` or `agent connect codex` says how a client is connected"


class Clients:
    name = NAME
    modes: frozenset[Mode] = frozenset()
    parallel = 0

    def propose(self, request: Request) -> Draft | None:
        raise AssertionError("a planner that takes no calls was asked")
