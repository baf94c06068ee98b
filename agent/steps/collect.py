"""runner -> judge: takes what finished, measures it, settles what it cost."""

from agent import budget
from agent.errors import InfraError
from agent.judge.measure import measure
from agent.records import Amount, Run
from agent.runners.job import JobPaths
from agent.setting import Setting
from agent.steps.launch import submit
from agent.steps.wanted import MAX_ATTEMPTS
from agent.store import Tx


def collect(setting: Setting) -> int:
    """Looks at every run in flight; gives how many came to an end."""
    with setting.store.read() as reads:
        runs = reads.runs(setting.campaign.id, states={"queued", "running"})
    return sum(_look(setting, run) for run in runs)


def _look(setting: Setting, run: Run) -> bool:
    folder = setting.job(run.id)
    if run.state == "queued":  # booked by a controller that was killed before it could submit
        run = submit(setting, run)
    state = setting.runner.poll(folder)
    if state == "done":
        _finish(setting, run)
    elif state == "lost":
        _lose(setting, run)
    return state in ("done", "lost")


def _finish(setting: Setting, run: Run) -> None:
    try:
        result = setting.runner.collect(setting.job(run.id))
    except InfraError as error:
        _lose(setting, run, str(error))
        return
    if result.outcome == "cancelled":
        _lose(setting, run, result.reason or "cancelled", used_s=result.slot_s)
        return
    job = JobPaths(setting.job(run.id))
    measurement = measure(setting.track, run, job, result, setting.campaign.data_sha)
    with setting.store.write() as tx:
        tx.update_run(
            run.id, state="done", outcome=result.outcome, reason=result.reason, walls=result.walls
        )
        tx.add_measurement(measurement)
        _settle(setting, tx, run, result.slot_s)
        proposal = tx.proposal(run.proposal_id)
        if proposal.state == "running":
            tx.move(proposal.id, "measured", run_id=run.id)


def _lose(setting: Setting, run: Run, reason: str = "the machine or its shepherd died", used_s: float | None = None) -> None:
    """A lost machine costs the idea nothing but time; after too many it is the idea that can't be run."""
    if used_s is None:
        used_s = setting.runner.occupied_s(setting.job(run.id))
    with setting.store.write() as tx:
        tx.update_run(run.id, state="lost", reason=reason)
        _settle(setting, tx, run, used_s)
        proposal = tx.proposal(run.proposal_id)
        if proposal.state == "running":
            tx.move(proposal.id, "lost", reason, run_id=run.id)
            if run.attempt >= MAX_ATTEMPTS:
                tx.move(proposal.id, "crashed", f"lost {run.attempt} times: {reason}", run_id=run.id)


def _settle(setting: Setting, tx: Tx, run: Run, slot_s: float) -> None:
    entry = budget.entry_of_run(tx, run.id)
    assert entry is not None, f"run r{run.id} was started without a reservation"
    budget.settle(tx, entry, Amount(gpu_s=slot_s * max(1, setting.track.hardware.gpus)))
