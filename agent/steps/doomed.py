"""Ends a run early that can come to nothing: its loss is not a number, or its steps can't be done before its limit.

Takes a run under way and the end of its log; says why it is doomed, and asks the runner to stop it, so that its idea
ends as crashed. A head's own runs go on to their end: they gate nothing, and each of them counts.

The log is hostile text. What a candidate prints can only ever end its own idea: steps that it does not print, or that
it never reaches, gain it nothing beyond the limit that the shepherd keeps anyway.
"""

import re
from dataclasses import dataclass

from agent import budget
from agent.records import Proposal, Run
from agent.runners.job import JobPaths
from agent.runners.progress import TAIL, last_step, tail
from agent.setting import Setting
from agent.steps.limits import run_limits
from agent.steps.wanted import TEST
from agent.track import Rung, Track

SELF_STOPPING = "MAX_WALLCLOCK_SECONDS"  # with it a script ends by the clock, whatever steps it names
LEAST_SHARE = 0.1  # of the limit that has passed before anything is foretold: the first steps compile
OVER = 1.25  # what a forecast must pass the limit by
SPARE = 0.02  # of the limit, for writing the artifact

# step:120/300 train_loss:nan ...   4000/20000 loss: -inf   step:9/9 val_loss:NaN
_LOSS = re.compile(
    r"^(?:step[: ])?[ \t]{0,8}(\d{1,9})/\d{1,9}\b[^\n]{0,80}?\b(?:train_|val_)?loss:?[ \t]{0,4}([-+]?[a-z0-9.]{1,20})",
    re.MULTILINE | re.IGNORECASE,
)
_NO_NUMBER = re.compile(r"[-+]?(nan|inf|infinity)", re.IGNORECASE)


@dataclass(frozen=True)
class Seen:
    """Where a run was at a moment, by our clock."""

    step: int
    elapsed_s: float


def stop(setting: Setting, run: Run, before: Seen | None) -> Seen | None:
    """Asks the run to end if it is doomed; gives where it is, for the next look. Safe to call again."""
    text = tail(JobPaths(setting.job(run.id)).train_log, TAIL)
    why = no_number(text)
    now = None if why else _seen(setting, run)
    if why is None and now is not None and before is not None:
        why = _too_slow(setting, run, text, before, now)
    if why is not None and _end(setting, run, why):
        setting.runner.cancel(setting.job(run.id))
    return now or before


def no_number(text: str) -> str | None:
    """In words, that the last loss of a log is none; None: it is, or there is no loss yet. Whole lines only."""
    found = None
    for found in _LOSS.finditer(text[: text.rfind("\n") + 1]):  # noqa: B007  the last one counts
        pass
    if found is None or not _NO_NUMBER.fullmatch(found[2]):
        return None
    return f"stopped at step {int(found[1])}: its loss is {found[2].lower()}"


def forecast(steps: int, before: Seen, now: Seen) -> float:
    """Seconds of training in all, if the steps to come take what the last ones did."""
    done = now.step - before.step
    if done <= 0:
        return 0.0  # nothing to tell it from: it may be evaluating, or writing
    return now.elapsed_s + (steps - now.step) * (now.elapsed_s - before.elapsed_s) / done


def binding(track: Track, rung: Rung) -> bool:
    """Whether a run there must do all the steps that it names."""
    return SELF_STOPPING not in {**track.script.env, **rung.env}


def _seen(setting: Setting, run: Run) -> Seen | None:
    found = setting.runner.progress(setting.job(run.id))
    if found is None or found.step is None or found.phase != "train":
        return None
    return Seen(found.step, found.elapsed_s)


def _too_slow(setting: Setting, run: Run, text: str, before: Seen, now: Seen) -> str | None:
    track = setting.track
    last = last_step(text)
    if last is None or not binding(track, track.rung_named(run.rung)):
        return None
    with setting.store.read() as reads:
        limit = run_limits(setting, reads, run.rung, run.hardware_class).train_wall_s
    needs = forecast(last[1], before, now) + SPARE * limit
    if now.elapsed_s < LEAST_SHARE * limit or needs < OVER * limit:
        return None
    return (
        f"stopped at step {now.step} of {last[1]}, after {now.elapsed_s:.0f} s: at this pace it needs {needs:.0f} s, "
        f"and its limit is {limit:.0f} s"
    )


def _end(setting: Setting, run: Run, why: str) -> bool:
    with setting.store.write() as tx:
        proposal = tx.proposal(run.proposal_id)
        if not _decides(run, proposal):
            return proposal.state == "crashed" and run.purpose in TEST  # asked before; the runner may not have heard
        tx.move(proposal.id, "crashed", f"r{run.id} {why}", run_id=run.id)
        budget.let_go(tx, proposal.id, "crashed")
        return True


def _decides(run: Run, proposal: Proposal) -> bool:
    mine = run.purpose in TEST and run.baseline_id is not None and run.baseline_id == proposal.baseline_id
    return mine and proposal.state in ("running", "confirming")
