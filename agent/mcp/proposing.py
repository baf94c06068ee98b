"""Takes in an idea of a client: it is checked first, and what passes is a drafted proposal like any other.

Takes what a client wrote; gives the proposal, or an error in words for it. The loop checks, commits, reviews and runs
what is drafted here; nothing is approved by whoever proposed it.
"""

import re
from typing import TYPE_CHECKING

from pydantic import Field

from agent.errors import EditError, UserError
from agent.mcp.workplace import refuse_finished
from agent.planner import clients
from agent.planner.idea import Idea
from agent.records import Mode, Proposal, ProposalState
from agent.store.lease import holder
from agent.store.talks import add_conversation, end_conversation
from agent.tools import Desk, check
from agent.tools.desk import a_proposal, on_head

if TYPE_CHECKING:
    from agent.store import Reads

MOST_WAITING = 8
WAITING: frozenset[ProposalState] = frozenset({"drafted", "awaiting_review", "approved"})
# What an idea from outside that takes another one up is asked for as, as search would have asked.
MODES: dict[ProposalState, Mode] = {"oversize": "shrink", "crashed": "repair"}


class Proposed(Idea):
    """An idea, and what its edits are written against."""

    source: str = Field(
        default="",
        max_length=20,
        description="The proposal whose script the edits are written against, such as p7; empty: the head.",
    )


def planner_name(client: str) -> str:
    """As rows and trailers name it: `mcp:claude-code`. What a client calls itself is anybody's text."""
    kept = re.sub(r"[^A-Za-z0-9._]+", "-", client[:200]).strip("-.")[:40]
    return f"{clients.NAME}:{kept}" if kept else clients.NAME


def propose(desk: Desk, idea: Proposed, client: str) -> tuple[Proposal, str]:
    """The proposal, and what comes next. Raises EditError or UserError, and nothing is written."""
    refuse_finished(desk)
    planner = planner_name(client)
    with desk.store.read() as reads:
        _refuse_backlog(reads, desk.campaign.id)
        source = _source(reads, desk, idea.source) if idea.source.strip() else reads.head(desk.campaign.id)
    mode = MODES.get(source.state, "exploit")
    found = check(
        desk,
        on_head(desk, source),
        idea.edits,
        expected_bytes=idea.expected_bytes,
        mode=mode,
        kind=idea.kind,
        rung=idea.rung,
    )
    if not found.ok:
        raise EditError(found.words)
    with desk.store.write() as tx:
        _refuse_backlog(tx, desk.campaign.id)  # two clients may have looked at the same moment
        talk = add_conversation(tx, desk.campaign.id, "mcp", planner, mode)
        made = tx.add_proposal(
            desk.campaign.id,
            idea.draft(planner=planner, mode=mode, source_id=source.id, conversation_id=talk),
            baseline_id=tx.head(desk.campaign.id).id,
        )
        end_conversation(tx, talk, f"p{made.id}")
        return made, _next(tx, desk, made)


def _source(reads: "Reads", desk: Desk, text: str) -> Proposal:
    source = a_proposal(reads, text)
    if source.campaign_id != desk.campaign.id:
        raise UserError(f"p{source.id} belongs to another campaign; edits can start from those of this one")
    if source.commit is None:
        raise EditError(f"p{source.id} has no script to start from: it is {source.state}")
    if source.state == "invalid":
        raise EditError(f"p{source.id} broke a rule ({source.reason}), and so would what is built on it")
    return source


def _refuse_backlog(reads: "Reads", campaign_id: int) -> None:
    """Ideas without end would only grow old: each of them is written for a head that is gone when it runs."""
    waiting = [one for one in reads.proposals(campaign_id, WAITING) if one.planner.partition(":")[0] == clients.NAME]
    if len(waiting) < MOST_WAITING:
        return
    for_person = [f"p{one.id}" for one in waiting if one.state == "awaiting_review"]
    what = f"{', '.join(for_person)} need a person (`agent review`)" if for_person else "they wait for a slot"
    raise UserError(
        f"{len(waiting)} ideas of clients wait already, {MOST_WAITING} at most; {what}. "
        "Look at `status` again when some have run"
    )


def _next(reads: "Reads", desk: Desk, made: Proposal) -> str:
    """What the client has to know to go on."""
    runs_it = holder(reads.connection, f"campaign {desk.campaign.name}")
    if runs_it is None:
        return f"nobody runs {desk.campaign.name} now; a person says `agent resume`, and then it is checked"
    if desk.campaign.review == "none":
        return f"it is checked and queued now; `show_proposal` tells what becomes of p{made.id}"
    return f"it is checked now, and may wait for a person's review; `show_proposal` tells what becomes of p{made.id}"
