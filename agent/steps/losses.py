"""Runs that came to nothing: which of them speak against an idea, and how long it rests before it is tried again.

Takes runs of the store. A machine that is gone, or none that was to be had, is not the idea's doing: such a run is set
aside. After a few losses in a row of whatever kind the next try waits, longer each time, and other ideas go on.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from agent.job.folder import Loss
from agent.records import Proposal, Run

MAX_ATTEMPTS = 3  # at one seed, lost on machines that are still there
MOST_MACHINES = 8  # that may go under one idea at one seed, or not begin it; then it is given up, and not blamed
GONE = "its machine was gone"
NONE_THERE = "nothing of it ran: no machine took it to its start"
NOT_BEGUN = "nothing of it ran"
REST_S = 60.0  # after MAX_ATTEMPTS in a row, twice as long after each further one
MOST_REST_S = 1800.0


def explained(loss: Loss) -> str:
    """Why the idea is not blamed; empty: nothing is known to its excuse."""
    if loss.machine:
        return GONE if loss.ran else NONE_THERE
    return "" if loss.ran else NOT_BEGUN


def blamed(runs: Sequence[Run], seed: int) -> int:
    """How often a run at this seed was lost though it ran and its machine was still there."""
    return sum(run.seed == seed and run.state == "lost" and not run.set_aside for run in runs)


def gone(runs: Sequence[Run], seed: int) -> int:
    """How many machines were gone under runs at this seed, or were there and did not begin them."""
    return sum(run.seed == seed and run.state == "lost" and run.set_aside in (GONE, NOT_BEGUN) for run in runs)


def hopeless(runs: Sequence[Run], seed: int, head: Proposal) -> bool:
    """Whether no further try of a head is made at this seed. Where nothing of the base begins, no idea will, and
    somebody should hear of it soon."""
    never = sum(run.seed == seed and run.state == "lost" and run.set_aside == NOT_BEGUN for run in runs)
    if head.baseline_id is None:
        return blamed(runs, seed) + never >= MAX_ATTEMPTS
    return blamed(runs, seed) >= MAX_ATTEMPTS or never >= MOST_MACHINES


def in_a_row(runs: Sequence[Run]) -> list[Run]:
    """The newest runs, as far back as all of them were lost."""
    found: list[Run] = []
    for run in sorted(runs, key=lambda run: run.id, reverse=True):
        if run.state != "lost":
            break
        found.append(run)
    return found


def rest_s(runs: Sequence[Run], at: datetime) -> float:
    """Seconds until the next try of these runs; nothing while few of them were lost."""
    lost = in_a_row(runs)
    if len(lost) < MAX_ATTEMPTS or lost[0].ended is None:
        return 0.0
    rest = min(MOST_REST_S, REST_S * 2.0 ** min(len(lost) - MAX_ATTEMPTS, 20))
    return max(0.0, rest - (at - datetime.fromisoformat(lost[0].ended)).total_seconds())


def rests(runs: Sequence[Run]) -> bool:
    """Whether the next try of these runs is still to wait."""
    return rest_s(runs, datetime.now(UTC)) > 0
