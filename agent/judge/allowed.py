"""Our own clocks against what the contest allows for training and for scoring.

Takes what is allowed, what was measured of a run and what its log says; gives findings. Pure. The limits that end a
process are wider: compiling, quantising and compressing come on top of training.
"""

from collections.abc import Sequence
from statistics import median

from agent.judge.logs import Reported
from agent.judge.task import Measured
from agent.records import Finding
from agent.tables import Limits

CLOCKS = ("train_clock", "score_clock")
LEFT_OUT = "clock_left_out"  # a person has to look: compressing longer touches no data, and training longer does
STEP_S = 1.0  # a script looks at its clock between two steps
SERIALISING_S = 180.0  # after training, by the rule of the contest's reviewers: what touches no data any more
STARTING_S = 120.0  # before it: imports, and compiling on made-up tokens
UNEXPLAINED_S = 60.0  # more than the base leaves out of its own clock: a busy disk, another compilation


def clocks(
    train_allowed: float | None, score_allowed: float | None, train_s: float | None, said: Reported, found: Measured
) -> list[Finding]:
    """A flag where a clock is over; a note where only the script's own says that it is not."""
    findings = list[Finding]()
    if train_allowed is not None and train_s is not None:
        findings += _training(train_allowed, train_s, None if said.train_ms is None else said.train_ms / 1000)
    if score_allowed is not None and found.clocks is not None and found.clocks.score_answers > score_allowed:
        text = f"scoring took {found.clocks.score_answers:.1f} s, the contest allows {score_allowed:g} s"
        findings.append(Finding("score_clock", "flag", text))
    return findings


def _training(allowed: float, ours_s: float, own_s: float | None) -> list[Finding]:
    own = "its own clock says nothing" if own_s is None else f"{own_s:.1f} s by its own clock"
    text = f"training took {ours_s:.1f} s by ours, start and writing of the artifact included, {own}"
    over = own_s is not None and own_s > allowed + STEP_S
    unknown = own_s is None and ours_s > allowed
    if over or unknown or ours_s > allowed + STARTING_S + SERIALISING_S:
        return [Finding("train_clock", "flag", f"{text}; the contest allows {allowed:g} s")]
    return [Finding("train_clock", "note", text)] if ours_s > allowed else []


def left_out(limits: Limits, train_s: float | None, own_s: float | None, usual: Sequence[float]) -> list[Finding]:
    """A script's own clock can be stopped. What it leaves out of ours is compared with what the base leaves out
    (`usual`, of each run): the same start, the same writing of an artifact."""
    allowed = limits.train_clock_s
    if allowed is None or train_s is None or own_s is None or not usual or train_s <= allowed:
        return []
    own, base = train_s - own_s, median(usual)
    if own - base <= UNEXPLAINED_S:
        return []
    text = (
        f"training took {train_s:.1f} s by ours and {own_s:.1f} s by its own clock, which leaves out {own:.1f} s; "
        f"the base's leaves out {base:.1f} s; the contest allows {allowed:g} s"
    )
    return [Finding(LEFT_OUT, "flag", text)]
