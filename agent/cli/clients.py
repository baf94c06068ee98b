"""Commands for researchers from outside, and for what a campaign has learnt: mcp, connect, lessons."""

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from agent import named
from agent.cli.opened import CampaignName, opened
from agent.cli.printing import AsJson, emit
from agent.errors import MissingError, to_install

if TYPE_CHECKING:
    from agent.clients import Connection
    from agent.store.lessons import Lesson


def mcp(
    campaign: CampaignName = None,
    may_approve: Annotated[
        bool,
        typer.Option("--may-approve", help="Let the client answer reviews too, also of its own ideas."),
    ] = False,
) -> None:
    """Serve the campaign to a client that has the ideas (Claude Code, Codex), over stdin and stdout.

    A client starts this itself; `agent connect` says how it is told to. What it proposes goes through the same
    checks and the same review as any idea.
    """
    try:
        from agent.mcp.server import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("mcp", "anyio"):
            raise
        raise MissingError(f"this needs the official SDK: {to_install('mcp')} ({error})") from error
    serve(campaign, may_approve=may_approve)


def connect(
    client: Annotated[str, typer.Argument(help="claude or codex.")],
    write: Annotated[bool, typer.Option("--write", help="Add it to the workspace's file of the client.")] = False,
    may_approve: Annotated[
        bool, typer.Option("--may-approve", help="Let the client answer reviews too, also of its own ideas.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say how a client finds `agent mcp`; or write it down for the client."""
    from agent import clients

    found = clients.connection(client, named.workspace(), ("--may-approve",) if may_approve else ())
    done = clients.connect(found) if write else None
    row = {"file": str(found.path), "text": found.text, "command": list(found.command), "written": done}
    emit(row, as_json, lambda: _connected(found, done))


def _connected(found: "Connection", done: str | None) -> str:
    if done is not None:
        return f"{found.path} {'says it already' if done == 'same' else 'written'}; start the client in this workspace"
    return "\n".join(
        [
            f"In {found.path} (`--write` puts it there):",
            "",
            found.text.rstrip(),
            "",
            "or for all your workspaces:",
            "",
            f"  {shlex.join(found.command)}",
        ]
    )


def lessons(
    campaign: CampaignName = None,
    to_skill: Annotated[
        str | None,
        typer.Option(help="Draft them as this skill, or as a new section of it, on a branch for review."),
    ] = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="Only this one (l5); may be given again.")] = None,
    as_json: AsJson = False,
) -> None:
    """What a campaign's verdicts have taught; or a draft of a skill made of it.

    The draft is a commit on a branch caddie/skill-NAME. Your checkout stays as it is, and nothing of it counts
    before you have merged it.
    """
    from agent import promoting
    from agent.store.lessons import lessons as learnt
    from agent.worktree import Repository

    with opened(campaign) as found, found.store.read() as reads:
        rows = learnt(reads, found.campaign.id)
        chosen = {named.number(text, "l") for text in only or ()}
        if to_skill is not None:
            usable = promoting.usable(rows, sorted(chosen))
            drafted = promoting.propose(Repository(found.root), to_skill, usable, found.campaign)
            emit(drafted, as_json, lambda: promoting.words(drafted))
            return
        shown = [row for row in rows if not chosen or row.id in chosen]
        emit(
            shown, as_json, lambda: "\n".join(map(_lesson, shown)) or "no findings yet: they are written after verdicts"
        )


def _lesson(one: "Lesson") -> str:
    from agent.words import line

    marked = f"  [contradicted by l{one.contradicted_by}]" if one.contradicted_by is not None else ""
    runs = ", ".join(f"r{run}" for run in one.runs)
    return f"l{one.id}  p{one.proposal_id}  {one.confidence:.0%}  {runs}  {line(one.text, 300)}{marked}"


def register(app: typer.Typer) -> None:
    for command in (mcp, connect, lessons):
        app.command()(command)
