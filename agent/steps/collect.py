"""runner -> judge: takes what finished, measures it, keeps its loss curve, settles what it cost."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from agent import budget
from agent.errors import InfraError
from agent.job.folder import JobPaths, JobResult
from agent.judge import curve
from agent.judge.beside.clocks import clocked
from agent.judge.beside.hidden import watched
from agent.judge.measure import measure
from agent.judge.rules import signs
from agent.records import Amount, Run, RunState
from agent.runners import LATER, NEW, began_on, ended, lease_of
from agent.setting import Setting, known
from agent.steps import losses, rescore
from agent.steps.launch import full_disk, reserved_s, submit
from agent.store import Tx, curves
from agent.store.rows import now

ROUNDING_S = 0.01


class Ended(NamedTuple):
    """A run that came to an end."""

    run: Run
    slot_s: float
    whole: bool
    """Whether it did all that a run does."""


def collect(setting: Setting, runs: Mapping[Path, Run]) -> list[Ended]:
    """Of the runs under way, by their folders, those that came to an end. What is only booked is handed over first."""
    booked = [run for run in runs.values() if run.state == "queued"]
    found = ended(setting.runner, runs.keys() - {setting.job(run.id) for run in booked} if booked else runs.keys())
    due = [*booked, *sorted((runs[folder] for folder in found), key=lambda run: run.id)]
    return [one for run in due if (one := _look(setting, run)) is not None]


def cancel_all(setting: Setting, runs: Collection[Run]) -> None:
    """Asks every run under way to end; what they used is settled when they have."""
    for run in runs:
        job = setting.job(run.id)
        if run.state == "queued" and not job.exists():  # it was booked, and never handed over
            _lose(setting, run, "cancelled", "cancelled before it was started", 0.0)
        else:
            setting.runner.cancel(job)


def _look(setting: Setting, run: Run) -> Ended | None:
    if run.state == "queued":  # booked by a controller that was killed before it could submit
        if not setting.job(run.id).exists() and (full := full_disk(setting)) is not None:
            return _lose(setting, run, "cancelled", full, 0.0)
        run = submit(setting, run)
        if run.state != "running":  # no machine took it
            return Ended(run, 0.0, False)
    state = setting.runner.poll(setting.job(run.id))
    if state == "done":
        return _finish(setting, run)
    if state == "lost":
        loss = setting.runner.loss(setting.job(run.id))
        return _lose(setting, run, "lost", loss.reason, loss.slot_s, losses.explained(loss))
    return None


def _finish(setting: Setting, run: Run) -> Ended:
    try:
        result = setting.runner.collect(setting.job(run.id))
        paid_s = _believed(setting, run, result)
        if result.outcome == "cancelled":
            return _lose(setting, run, "cancelled", result.reason, result.slot_s)
        job = JobPaths(setting.job(run.id))
        measurement = measure(setting.track, run, job, result, setting.campaign.data_sha)
    except InfraError as error:
        return _lose(setting, run, "lost", str(error), None)
    with setting.store.read() as reads:
        handed = reads.run(run.id).lease
        beside = watched(reads, run, measurement, setting.track.decision.min_gain)
        measurement = clocked(reads, setting.track, run, beside, setting.job)
    lease = _lease(setting, run, handed)
    points = curve.of(job.train_log)
    with setting.store.write() as tx:
        proposal = tx.proposal(run.proposal_id)
        measurement = signs.flagged(measurement, proposal.risk)
        run = tx.update_run(
            run.id,
            state="done",
            outcome=result.outcome,
            reason=result.reason,
            walls=result.walls,
            ended=now(),
            lease=lease,
        )
        curves.add(tx, run.id, points)
        if run.purpose == "rescore":  # no score of its own: it would count twice
            rescore.compared(setting, tx, run, result, measurement)
        else:
            tx.add_measurement(measurement)
        _settle(setting, tx, run, min(result.slot_s, paid_s))
        if proposal.state == "running":
            tx.move(proposal.id, "measured", run_id=run.id)
    return Ended(run, result.slot_s, result.outcome == "ok" and run.purpose != "rescore")


def _lease(setting: Setting, run: Run, handed: str) -> str:
    """Of the machine that it was on. One that came for it was written down when the run was `handed` to it; one of
    which nobody knows any more was a lease of its own."""
    said = [began_on(setting.runner, setting.job(run.id)), handed]
    if all(lease in ("", NEW, LATER) for lease in said):
        try:
            said.append(lease_of(setting.runner, known(run.slot)))
        except InfraError:  # the slot is not there any more, or its machine does not answer
            said.append(NEW)
    if not any(said):  # the runner can't tell its machines apart
        return ""
    return next((lease for lease in said if lease not in ("", NEW, LATER)), f"{NEW}/r{run.id}")


def _lose(setting: Setting, run: Run, state: RunState, reason: str, slot_s: float | None, set_aside: str = "") -> Ended:
    """A lost machine costs the idea nothing; only after too many losses is it given up, and blamed for those alone that
    nothing explains (`set_aside` empty).

    What it used is settled; where nobody knows (`slot_s` None), all that was reserved. Its curve is kept as far as it
    got.
    """
    points = curve.of(JobPaths(setting.job(run.id)).train_log)
    with setting.store.write() as tx:
        tx.update_run(run.id, state=state, reason=reason, set_aside=set_aside, ended=now())
        curves.add(tx, run.id, points)
        reserved = reserved_s(setting, tx, run)
        slot_s = _settle(setting, tx, run, reserved if slot_s is None else min(slot_s, reserved))
        proposal = tx.proposal(run.proposal_id)
        if proposal.state in ("queued", "running"):
            tx.move(proposal.id, "lost", reason, run_id=run.id)
        if proposal.state in ("running", "confirming"):
            _give_up(setting, tx, run, reason)
    return Ended(run, slot_s, False)


def _give_up(setting: Setting, tx: Tx, run: Run, reason: str) -> None:
    """An idea that was lost too often."""
    series = tx.runs(setting.campaign.id, proposal_id=run.proposal_id, states={"lost"})
    if losses.blamed(series, run.seed) >= losses.MAX_ATTEMPTS:
        tx.move(run.proposal_id, "crashed", f"lost {losses.MAX_ATTEMPTS} times: {reason}", run_id=run.id)
        budget.let_go(tx, run.proposal_id, "crashed")
    elif losses.gone(series, run.seed) >= losses.MOST_MACHINES:
        words = (
            f"{losses.MOST_MACHINES} times its machine was gone or nothing of it ran, and nothing is known of the idea "
            f"itself: {reason}"
        )
        tx.move(run.proposal_id, "cancelled", words, run_id=run.id)
        budget.let_go(tx, run.proposal_id, "cancelled")


def _believed(setting: Setting, run: Run, result: JobResult) -> float:
    """The slot-seconds that were set aside for it. Raises InfraError for a result that no shepherd of ours wrote: it
    would be paid for, and scored."""
    with setting.store.read() as reads:
        reserved = reserved_s(setting, reads, run)
    if result.run_id != run.id or not 0 <= result.slot_s <= reserved + ROUNDING_S:
        raise InfraError(f"the result of r{run.id} is of r{result.run_id}, or of a time that was not set aside")
    return reserved


def _settle(setting: Setting, tx: Tx, run: Run, slot_s: float) -> float:
    gpus = max(1, setting.track.gpus(run.rung))
    budget.settle_run(tx, run.id, Amount(gpu_s=slot_s * gpus))
    return slot_s
