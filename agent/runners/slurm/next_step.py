"""What is to be done about a job, by all that is known of it.

Takes what Slurm says, what its folder holds and whether it was asked to end; gives a `Step`. Nothing but a function of
its arguments: who carries it out is `watch`.
"""

from typing import Literal, NamedTuple

from agent.records import Outcome
from agent.runners.slurm.commands import AWAY, TAKEN, Row
from agent.runners.slurm.depot import Look

STALE_S = 90.0  # without a sign of life: what Slurm has forgotten may still run
AGAIN_S = 20.0  # until Slurm, which did not answer, surely has not heard either
PATIENCE_S = 60.0  # for a job that was asked to end
NOWHERE_S = 600.0  # for a node that can't be used, of a job that is for it alone

Do = Literal["wait", "submit", "ask", "remove", "finish", "lose", "cancelled"]


class Step(NamedTuple):
    do: Do
    why: str = ""


class Known(NamedTuple):
    """Of one job, now."""

    row: Row | None
    look: Look
    submitted: bool
    """Slurm has given it an id."""
    asked: bool
    """We want it to end."""
    asked_s: float
    over_s: float
    """Since when Slurm has not had it, or had it as over."""
    silent_s: float
    """Since its last new sign of life."""
    again_s: float = 0.0
    """Since when it waits in the queue though its run has begun."""
    nowhere_s: float = 0.0
    """Since when it waits for the one node that it may be on, and that can't be used."""


WAIT = Step("wait")


def step(known: Known, settle_s: float) -> Step:
    """`settle_s`: how long a file may take from a node to the login node."""
    stage = "gone" if known.row is None else known.row.stage
    if stage in ("waiting", "held"):
        return _in_queue(known, settle_s)
    if stage in ("running", "ending"):
        if not known.asked or stage == "ending":
            return WAIT
        return Step("ask") if known.asked_s < PATIENCE_S else Step("remove", "it did not end when it was asked to")
    return _over(known, settle_s)


def _in_queue(known: Known, settle_s: float) -> Step:
    assert known.row is not None
    if known.asked:
        return Step("remove", "cancelled in the queue")
    if "result.json" in known.look.marks:
        return Step("finish")
    if "lost.json" in known.look.marks:
        return Step("lose")
    if known.row.stage == "held":
        more = ", which is less than a run needs: ask who runs the cluster" if known.row.limited else ""
        return Step("lose", f"Slurm will not start it: {known.row.reason}{more}")
    if known.nowhere_s >= NOWHERE_S:
        return Step("lose", f"the node that it is for can't be used: {known.row.reason}")
    if "started" in known.look.marks and "paused.json" not in known.look.marks:
        if known.again_s < settle_s:
            return WAIT  # what it may go on from may be on its way from the node
        # It would only wait for a node to find that it has had its run.
        return Step("lose", f"its node was taken away or died, and Slurm has queued it again ({known.row.reason})")
    return WAIT


def _over(known: Known, settle_s: float) -> Step:
    marks, row = known.look.marks, known.row
    if "result.json" in marks:
        return Step("finish")
    if "lost.json" in marks:
        return Step("lose")
    if row is None and marks and known.silent_s < STALE_S:
        return WAIT
    if row is None and not known.submitted and not marks:
        if known.over_s < AGAIN_S:
            return WAIT
        return Step("cancelled") if known.asked else Step("submit")
    if known.over_s < settle_s:
        return WAIT
    says = f"Slurm says {row.state}" if row is not None else "Slurm has forgotten it"
    return Step("cancelled") if known.asked else Step("lose", f"it left no result: {says}")


def is_lost(outcome: Outcome, known: Known) -> bool:
    """Whether a result says nothing of the idea: the cluster ended the run, or it was asked to end and not by us."""
    if outcome == "ok" or known.asked:
        return False
    row = known.row
    ended = row is not None and (row.state in TAKEN or row.stage in ("waiting", "held"))
    return outcome == "cancelled" or ended or "taken" in known.look.marks


def taken_away(known: Known) -> bool:
    """Whether the cluster says that the node was taken from the run, or failed under it."""
    row, marks = known.row, known.look.marks
    again = row is not None and row.stage in ("waiting", "held") and "started" in marks
    return again or (row is not None and row.state in AWAY) or "taken" in marks
