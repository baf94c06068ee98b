"""Ends a run early that can come to nothing: its loss is not a number, or its steps can't be done before its limit.

Takes a run under way and the end of its log; says why it is doomed, and asks the runner to stop it, so that its idea
ends as crashed. A head's own runs go on to their end: they gate nothing, and each of them counts.

The log is hostile text. What a candidate prints can only ever end its own idea: steps that it does not print, or that
it never reaches, gain it nothing beyond the limit that the shepherd keeps anyway.
"""

import re
from dataclasses import dataclass, replace

from agent import budget, step_lines
from agent.job.folder import JobPaths
from agent.records import Proposal, Run
from agent.runners.progress import TAIL, last_step, tail
from agent.runners.shepherd import BEAT_S
from agent.setting import Setting
from agent.steps.limits import run_limits
from agent.steps.wanted import TEST
from agent.tables import CLOCK, Rung
from agent.track import Track

SPAN = 0.1  # of the limit: how long steps are watched, at the least, before anything is foretold from them
LATE = 1 / 60  # of the limit: how much later than it was printed a step may be seen, and BEAT_S for the clock's own
OVER = 1.25  # what a forecast must pass the limit by
SPARE = 0.02  # of the limit, for writing the artifact

_NO_NUMBER = re.compile(r"[-+]?(nan|inf|infinity)", re.IGNORECASE)


@dataclass(frozen=True)
class Seen:
    """Where a run was at a moment, by our clock: of processor time where other work may be on its core, which says
    nothing against an idea."""

    step: int
    seconds: float


@dataclass(frozen=True)
class Course:
    """What is remembered of a run: where it was seen first, and where it was when its pace was looked at last."""

    first: Seen
    mark: Seen


def stop(setting: Setting, run: Run, course: Course | None) -> Course | None:
    """Asks the run to end if it is doomed; gives what to remember for the next look. Safe to call again."""
    text = tail(JobPaths(setting.job(run.id)).train_log, TAIL)
    why, now = no_number(text), None
    if why is None:
        now = _seen(setting, run)
        if now is None:
            return course
        if course is None:
            return Course(now, now)
        why, course = _too_slow(setting, run, text, course, now)
    if why is not None and _end(setting, run, why):
        setting.runner.cancel(setting.job(run.id))
    return course


def no_number(text: str) -> str | None:
    """In words, that the last loss of a log is none; None: it is, or there is no loss yet. Whole lines only."""
    for line in reversed(step_lines.read(text[: text.rfind("\n") + 1])):
        loss = line.loss("loss", "train_loss", "val_loss")
        if loss is not None:
            return f"stopped at step {line.step}: its loss is {loss.lower()}" if _NO_NUMBER.fullmatch(loss) else None
    return None


def forecast(steps: int, course: Course, now: Seen, unsure_s: float) -> float:
    """Seconds of training in all, at the least: if the steps to come take what all did, or the last ones, whichever is
    less. What happens once (compiling, an evaluation, a stall) is in one of the two only."""
    return min(_forecast(steps, before, now, unsure_s) for before in (course.first, course.mark))


def _forecast(steps: int, before: Seen, now: Seen, unsure_s: float) -> float:
    done, took = now.step - before.step, now.seconds - before.seconds - unsure_s
    if done <= 0 or took <= 0:
        return 0.0  # nothing to tell it from: it may be evaluating, or writing
    return now.seconds + (steps - now.step) * took / done


def binding(track: Track, rung: Rung) -> bool:
    """Whether a run there must do all the steps that it names."""
    return CLOCK not in {**track.script.env, **rung.env}


def _seen(setting: Setting, run: Run) -> Seen | None:
    found = setting.runner.progress(setting.job(run.id))
    if found is None or found.step is None or found.phase != "train":
        return None
    return Seen(found.step, found.cpu_s if setting.track.hardware.kind == "cpu" else found.elapsed_s)


def _too_slow(setting: Setting, run: Run, text: str, course: Course, now: Seen) -> tuple[str | None, Course]:
    track = setting.track
    last = last_step(text)
    if last is None or not binding(track, track.rung_named(run.rung)):
        return None, course
    with setting.store.read() as reads:
        limit = run_limits(setting, reads, run.rung, run.hardware_class).train_wall_s
    unsure_s = LATE * limit + BEAT_S
    if now.seconds - course.mark.seconds < max(SPAN * limit, 3 * unsure_s):
        return None, course
    needs = forecast(last[1], course, now, unsure_s) + SPARE * limit
    if needs < OVER * limit:
        return None, replace(course, mark=now)
    return (
        f"stopped at step {now.step} of {last[1]}, after {now.seconds:.0f} s: at this pace it needs {needs:.0f} s "
        f"at the least, and its limit is {limit:.0f} s"
    ), course


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
