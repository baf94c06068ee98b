"""Fresh runs that nothing will ever be compared with: none is started, and those that still wait for a machine are
called back.

Takes the store's rows and the runs under way. A head's own figure is that of its home class (classes.py); what it has
in another one, and what a head before it has, is there for ideas alone that are compared with it.
"""

from collections.abc import Collection, Sequence

from agent.records import Proposal, Run
from agent.setting import Setting
from agent.states import FINAL, TRANSITIONS
from agent.steps import classes
from agent.steps.limits import affordable, least_idea, worst_run
from agent.steps.wanted import Wanted
from agent.store import Reads

ALIVE = frozenset(TRANSITIONS) - FINAL


def useful(setting: Setting, reads: Reads, items: Sequence[Wanted], *, may_plan: bool) -> list[Wanted]:
    """What is wanted, less what only ideas to come would need, where none can come or none could be paid."""
    if not any(item.purpose == "report" and item.classes for item in items):
        return list(items)
    campaign_id = setting.campaign.id
    if reads.count_proposals(campaign_id, ALIVE):
        return list(items)
    # An idea has to be paid after them.
    needed = least_idea(setting, reads).gpu_s + len(items) * worst_run(setting, reads).gpu_s
    if may_plan and affordable(reads.balance(campaign_id), needed):
        return list(items)
    home = classes.home(setting, reads, reads.head(campaign_id))
    return [item for item in items if item.purpose != "report" or not item.classes or home in ("", *item.classes)]


def recall(setting: Setting, runs: Collection[Run], *, last: bool, ends: bool) -> None:
    """Asks those to end that have not begun; what they cost is settled when they have. Safe to call again.

    `last`: no further idea will come; `ends`: those that are there are not begun any more.
    """
    fresh = [run for run in runs if run.purpose == "report" and run.state == "running"]
    fresh = [run for run in fresh if setting.runner.poll(setting.job(run.id)) == "starting"]
    if not fresh:
        return
    with setting.store.read() as reads:
        head = reads.head(setting.campaign.id)
        home = classes.home(setting, reads, head)
        compared = set() if ends else reads.baselines(setting.campaign.id, ALIVE)
    for run in fresh:
        if _useless(run, head, home, compared, last=last and not compared):
            setting.runner.cancel(setting.job(run.id))


def _useless(run: Run, head: Proposal, home: str, compared: Collection[int | None], *, last: bool) -> bool:
    """`compared`: what ideas that are alive are compared with; `last`: there are none, and none will come."""
    if run.proposal_id == head.id:
        return last and home not in ("", run.hardware_class)
    if run.proposal_id == head.baseline_id and run.hardware_class == home:
        return False  # the head's own fresh runs are held against it
    return run.proposal_id not in compared
