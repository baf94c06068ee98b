"""What a client reads of a campaign: how to be its researcher (prompts/mcp.md.j2), and what our own planners are shown.

Takes the desk; gives text. Words of others in it are fenced as data, as in any prompt of ours.
"""

from agent import skills
from agent.context import gather, render
from agent.context.templates import Templates
from agent.mcp.proposing import MOST_WAITING
from agent.planner import Request
from agent.tools import Desk

GUIDE = "mcp.md.j2"


def guide(desk: Desk, *, may_approve: bool) -> str:
    """How the work is done, for this track."""
    values = {
        "campaign": desk.campaign.name,
        "track": desk.track,
        "summary": " ".join(desk.track.summary.split()),
        "most_waiting": MOST_WAITING,
        "may_approve": may_approve,
    }
    return Templates(desk.root).render(GUIDE, values)


def context(desk: Desk, planner: str) -> str:
    """What our own planners are shown when they are asked for the next step from the head."""
    with desk.store.read() as reads:
        head = reads.head(desk.campaign.id)
        files = desk.repo.files(head.commit or "", desk.track.script.editable)
        request = Request(
            track=desk.track,
            campaign=desk.campaign,
            mode="exploit",
            head=head,
            source=head,
            files=files,
            head_files=files,
            trials=(),
            seed=desk.campaign.seed,
            n=reads.count_proposals(desk.campaign.id),
        )
        known = skills.load(skills.folder_of(desk.root))
        evidence = gather(reads, request, planner=planner, skills=known)
    found = render(evidence, workspace=desk.root)
    return "\n\n".join(part.text for part in (*found.system[1:], *found.user))
