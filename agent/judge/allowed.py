"""Our own clocks against what the contest allows for training and for scoring.

Takes what is allowed, what was measured of a run and what its log says; gives findings. Pure. The limits that end a
process are wider: compiling, quantising and compressing come on top of training.
"""

from collections.abc import Sequence
from statistics import median, stdev

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
# Where enough runs of the base say how much that varies, less is looked at: a thirtieth of the contest's clock (20 s)
# buys half of the smallest gain that matters. By published runs 24 times as much training on eight GPUs brought 0.042
# BPB, and ten times as much from one GPU on 0.11: a thirtieth more is 0.0004 and 0.0016. How much longer another model
# compiles was not measured, so it asks and bars nothing.
SHARE = 1 / 30
SPREADS = 3.0  # standard deviations of the base's runs
LEAST_RUNS = 3


def clocks(
    train_allowed: float | None, score_allowed: float | None, train_s: float | None, said: Reported, found: Measured
) -> list[Finding]:
    """Where a clock is over: proven for training by the script's own word, else a flag, which a slow machine may have
    earned. A note where only the script's own says that it is not. `train_s`: None where the script scores itself, so
    that no clock of ours saw its training alone."""
    findings = list[Finding]()
    if train_allowed is not None:
        findings += _training(train_allowed, train_s, None if said.train_ms is None else said.train_ms / 1000)
    if score_allowed is not None and found.clocks is not None and found.clocks.score_answers > score_allowed:
        text = f"scoring took {found.clocks.score_answers:.1f} s, the contest allows {score_allowed:g} s"
        findings.append(Finding("score_clock", "flag", text))
    return findings


def _training(allowed: float, ours_s: float | None, own_s: float | None) -> list[Finding]:
    own = "its own clock says nothing" if own_s is None else f"{own_s:.1f} s by its own clock"
    ours = "" if ours_s is None else f"{ours_s:.1f} s by ours, start and writing of the artifact included, "
    text = f"training took {ours}{own}"
    if own_s is not None and own_s > allowed + STEP_S:
        return [Finding("train_clock", "invalid", f"{text}; the contest allows {allowed:g} s")]
    if ours_s is None:
        return []
    unknown = own_s is None and ours_s > allowed
    if unknown or ours_s > allowed + STARTING_S + SERIALISING_S:
        return [Finding("train_clock", "flag", f"{text}; the contest allows {allowed:g} s")]
    return [Finding("train_clock", "note", text)] if ours_s > allowed else []


def left_out(limits: Limits, train_s: float | None, own_s: float | None, usual: Sequence[float]) -> list[Finding]:
    """A script's own clock can be stopped. What it leaves out of ours is compared with what the base leaves out
    (`usual`, of each run): the same start, the same writing of an artifact."""
    allowed = limits.train_clock_s
    if allowed is None or train_s is None or own_s is None or not usual or train_s <= allowed:
        return []
    own, base, more = train_s - own_s, median(usual), _unexplained(allowed, usual)
    if own - base <= more:
        return []
    text = (
        f"training took {train_s:.1f} s by ours and {own_s:.1f} s by its own clock, which leaves out {own:.1f} s; "
        f"the base's leaves out {base:.1f} s, and {more:.0f} s more need a reason (longer compiling or compressing "
        f"is one); the contest allows {allowed:g} s"
    )
    return [Finding(LEFT_OUT, "flag", text)]


def _unexplained(allowed: float, usual: Sequence[float]) -> float:
    """How much more than the base's a clock may leave out unasked: by how its runs differ, and never a minute."""
    if len(usual) < LEAST_RUNS:
        return UNEXPLAINED_S
    return min(UNEXPLAINED_S, max(SHARE * allowed, SPREADS * stdev(usual)))
