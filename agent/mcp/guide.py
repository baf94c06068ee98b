"""What a client reads of a campaign: how to be its researcher (prompts/mcp.md.j2), and what our own planners are shown.

Takes the desk; gives text. Words of others in it are fenced as data, as in any prompt of ours.
"""

from agent import skills
from agent.calibration import table
from agent.context import Budgets, gather, render
from agent.context.templates import Templates
from agent.mcp.proposing import MOST_WAITING
from agent.planner import Request
from agent.tools import Desk

GUIDE = "mcp.md.j2"
# Clients cut what a tool answers at some 25,000 tokens, and have read_script for the rest of the script.
BUDGETS = Budgets(
    skills=4000,
    knobs=2000,
    script=3000,
    lineage=1500,
    older_failed=1000,
    older_lessons=1000,
    failed=3000,
    lessons=1500,
    near=700,
    reviews=700,
    in_flight=1500,
)


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
        evidence = gather(reads, request, planner=planner, skills=known, calibration=table(reads, desk.campaign.id))
    found = render(evidence, BUDGETS, workspace=desk.root)
    parts = [part.text for part in (*found.system[1:], *found.user)]
    return "\n\n".join([*parts, "Lines of the script that are left out above are shown by `read_script`."])
