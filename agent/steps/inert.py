"""Ends a run early that shows that its idea changes nothing: its losses are its baseline's, digit by digit.

Takes a run in flight and the logs of both; ends the idea as a duplicate, called inert, and asks the runner to stop.

The same losses early on prove nothing of an idea that acts later: a schedule, an average of weights, rounding, scoring.
So this is only for kinds that claim to act from the first step, and only when the same losses reach so far that no
branch that starts as nothing could hide in their digits. An idea of another kind runs to its end, where the same scores
say it (`gates.inert`). What a candidate prints about itself can at worst end its own idea.
"""

import re
from pathlib import Path
from typing import NamedTuple

from agent import step_lines
from agent.job.folder import JobPaths
from agent.job.reading import read_ends
from agent.records import Kind, Proposal, Run
from agent.setting import Setting
from agent.steps.wanted import TEST
from agent.store import Reads

# Not `data` and `optimiser`: a curriculum, a warmdown.
AT_ONCE: frozenset[Kind] = frozenset({"architecture", "tokenizer"})
LEAST_LOSSES = 3  # different ones
LEAST_SHARE = 0.1  # of the steps
LOG_HEAD = 1 << 16  # bytes of a log that are looked at: the cost of a look does not grow

_LOSS = re.compile(r"\d{1,4}\.\d{3,17}")  # with fewer digits it says too little


class Losses(NamedTuple):
    """What a log says: the loss of each step as it is printed, and how many steps there are to be."""

    by_step: dict[int, str]
    steps: int


def stop(setting: Setting, run: Run) -> None:
    """Asks the run to end if its idea is inert; safe to call again, as it is on every turn."""
    with setting.store.read() as reads:
        proposal = reads.proposal(run.proposal_id)
        twin = _twin(reads, run) if _may_be(run, proposal) else None
    if twin is not None:
        mine, theirs = (losses(JobPaths(setting.job(one.id)).train_log) for one in (run, twin))
        step = same_until(mine, theirs)
        if step is None:
            return
        words = (
            f"inert: up to step {step} of {mine.steps} the losses of r{run.id} are those of r{twin.id}, its baseline, "
            f"to the last digit, and {proposal.kind} acts from the first step; what acts later is of another kind"
        )
        with setting.store.write() as tx:
            if tx.proposal(proposal.id).state != "running":
                return
            proposal = tx.move(proposal.id, "duplicate", words, run_id=run.id)
    if proposal.state == "duplicate":
        setting.runner.cancel(setting.job(run.id))


def losses(log: Path) -> Losses:
    """Of the head of a log, whole lines only: the last one may still be written."""
    text = read_ends(log, LOG_HEAD, 0)
    said = [(line, line.loss("loss", "train_loss")) for line in step_lines.read(text[: text.rfind("\n") + 1])]
    found = [(line, loss) for line, loss in said if loss is not None and _LOSS.fullmatch(loss)]
    return Losses({line.step: loss for line, loss in found}, found[-1][0].steps if found else 0)


def same_until(mine: Losses, theirs: Losses) -> int | None:
    """The last step up to which both printed the same, if that says something; None if it doesn't, or they differ."""
    if mine.steps != theirs.steps or step_lines.same_start(mine.by_step, theirs.by_step) < len(mine.by_step):
        return None
    last = max(mine.by_step, default=0)
    if len(set(mine.by_step.values())) < LEAST_LOSSES or last < LEAST_SHARE * mine.steps:
        return None
    return last


def _may_be(run: Run, proposal: Proposal) -> bool:
    return run.state == "running" and run.purpose in TEST and proposal.state == "running" and proposal.kind in AT_ONCE


def _twin(reads: Reads, run: Run) -> Run | None:
    """The baseline's run with the same seed."""
    found = reads.runs(run.campaign_id, proposal_id=run.baseline_id, states={"done"}, purposes={"report"})
    return next((one for one in found if one.seed == run.seed and one.rung == run.rung and one.outcome == "ok"), None)
