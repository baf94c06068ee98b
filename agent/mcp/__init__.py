"""The MCP server: a client (Claude Code, Codex, any other) is the researcher of a campaign, on its person's account.

`workplace.py` finds the campaign, `research.py` holds the tools that are for clients alone, `proposing.py` takes an
idea in, `server.py` speaks the protocol; what a client may look at is in agent/tools.
"""
