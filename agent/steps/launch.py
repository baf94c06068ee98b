"""worktree -> runner: starts the wanted runs on free slots.

Money first, then the row, then the job folder, then the process: whatever is cut off is found and finished.
"""

import shutil

from agent import budget
from agent.errors import BudgetExceeded
from agent.records import Amount, Proposal, Run
from agent.runners import lease_of, written_here
from agent.runners.fleet import NotPlacedError
from agent.setting import Setting, known
from agent.steps.auditing import auditing
from agent.steps.jobs import make_job, script_sha
from agent.steps.limits import affordable, run_limits, worst_run, worst_scoring
from agent.steps.rescore import scored_by
from agent.steps.wanted import Wanted
from agent.store import Reads, Tx
from agent.store.rows import now

MARGIN_MB = 200  # beyond what runs may write: the store, git's objects, shepherds' notes
MB = 1_000_000
NEWEST = 100  # ideas, by whose artifacts it is known how big one is
MOST_WORDS = 1000  # of why a machine did not take a run


def full_disk(setting: Setting) -> str | None:
    """Why no run may start: the disk could not hold what every slot may write, and what will come here of runs on other
    machines. None: it could."""
    limits, names = setting.track.limits, setting.runner.slots
    slots, here = len(names), written_here(setting.runner, names)
    need = here * limits.disk_mb * MB + _fetched(setting, slots - here) + (slots * limits.log_mb + MARGIN_MB) * MB
    free = shutil.disk_usage(setting.repo.root).free
    if free >= need:
        return None
    return (
        f"the disk has {free // MB:,} MB free, and {slots} run{'s' * (slots > 1)} at once may need {need // MB:,} MB; "
        "make room (`agent prune --keep-gb 0` deletes what nobody needs), then `agent resume`"
    )


def _fetched(setting: Setting, runs: int) -> int:
    """Bytes of the artifacts of so many runs elsewhere. What is likely counts, not what such a run may write: one that
    finds no room here waits there until there is."""
    limits = setting.track.limits
    if not runs or not setting.track.script.artifact:
        return 0
    if limits.artifact_bytes is not None:
        return runs * limits.artifact_bytes
    with setting.store.read() as reads:
        trials = reads.trials(setting.campaign.id, newest=NEWEST)
    measured = [one.total_bytes for one in trials if one.total_bytes is not None]
    return runs * max(measured) if measured else limits.disk_mb * MB


def start(setting: Setting, item: Wanted, slot: str, *, set_aside: bool = False) -> Run | None:
    """Starts one run; None if the budget does not allow its worst case. `set_aside`: what was not set aside for it does
    not count."""
    try:
        with setting.store.write() as tx:
            run = _book(setting, tx, item, slot, set_aside)
    except BudgetExceeded:
        return None
    return submit(setting, run)


def submit(setting: Setting, run: Run) -> Run:
    """Hands a booked run to its runner. Safe to call again: a job folder is made and started once.

    Where no machine takes it, the run is cancelled and another one is tried; the idea is none the worse for it.
    """
    with setting.store.read() as reads:
        proposal = reads.proposal(run.proposal_id)
        limits = run_limits(setting, reads, run.rung, run.hardware_class)
        paid_s = reserved_s(setting, reads, run)
        closely = auditing(setting, reads, run)
        trained = setting.job(scored_by(reads, run).id) if run.purpose == "rescore" else None
    order = make_job(setting, run, proposal, limits, paid_s, closely, trained)
    try:
        setting.runner.submit(order, setting.job(run.id), known(run.slot))
    except NotPlacedError as error:
        return _turned_away(setting, run, str(error))
    with setting.store.write() as tx:
        if proposal.state == "queued":
            tx.move(proposal.id, "running", run_id=run.id)
        return tx.update_run(run.id, state="running", started=now())


def _turned_away(setting: Setting, run: Run, why: str) -> Run:
    with setting.store.write() as tx:
        budget.settle_run(tx, run.id, Amount())
        proposal = tx.proposal(run.proposal_id)
        if proposal.state in ("queued", "running"):
            tx.move(proposal.id, "lost", why, run_id=run.id)
        return tx.update_run(run.id, state="cancelled", reason=why[:MOST_WORDS], ended=now())


def reserved_s(setting: Setting, reads: Reads, run: Run) -> float:
    """Slot-seconds that were set aside for a run that is not settled yet."""
    return known(budget.entry_of_run(reads, run.id)).reserved.gpu_s / max(1, setting.track.gpus(run.rung))


def _book(setting: Setting, tx: Tx, item: Wanted, slot: str, set_aside: bool = False) -> Run:
    proposal = item.proposal
    run = tx.add_run(
        setting.campaign.id,
        proposal.id,
        item.baseline_id,
        rung=item.rung,
        purpose=item.purpose,
        seed=item.seed,
        attempt=item.attempt,
        hardware_class=setting.runner.hardware_class(slot),
        script_sha=script_sha(setting, proposal),
        lease=lease_of(setting.runner, slot),
        slot=slot,
    )
    _fund(setting, tx, item, run, set_aside)
    _announce(tx, proposal, run)
    return run


def _fund(setting: Setting, tx: Tx, item: Wanted, run: Run, set_aside: bool) -> None:
    worst_of = worst_scoring if item.purpose == "rescore" else worst_run
    worst = worst_of(setting, tx, item.rung, run.hardware_class)
    if item.purpose == "trial" and not affordable(tx.balance(setting.campaign.id), worst_run(setting, tx).gpu_s):
        raise BudgetExceeded("nothing is tried for which there is no money to screen it")
    hold = covering(tx, item, worst)
    if hold is not None:
        budget.draw(tx, hold.id, worst, run.id)
    elif set_aside:
        raise BudgetExceeded("what was set aside for it is used up")
    else:
        budget.reserve(tx, setting.campaign.id, worst, "run", proposal_id=item.proposal.id, run_id=run.id)


def covering(reads: Reads, item: Wanted, worst: Amount) -> budget.Entry | None:
    """The hold that pays for the run. Where lost runs have used it up, a run is paid for like any other."""
    holds = budget.holds(reads, item.proposal.id) if item.held else []
    return next((hold for hold in holds if budget.covers(hold, worst)), None)


def _announce(tx: Tx, proposal: Proposal, run: Run) -> None:
    if proposal.state == "approved":
        tx.move(proposal.id, "queued", run_id=run.id)
    elif proposal.state in ("lost", "measured"):
        tx.move(proposal.id, "running", run_id=run.id)
