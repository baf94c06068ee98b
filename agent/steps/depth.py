"""How many ideas must be ready or asked for now, so that no slot waits for a planner and none is planned too early.

Takes when slots will be free; gives a number. Pure. An idea is asked for as late as it can be: what runs end meanwhile
is then known to it. A planner answers `parallel` questions at once and takes `call_s` for each, so for many slots that
will be free at the same moment it has to begin earlier.
"""

import math
from collections.abc import Sequence

MARGIN = 0.25  # of a call: calls are not all the same
LEAST_MARGIN_S = 2.0


def depth(free_in: Sequence[float], run_s: float, call_s: float, parallel: int) -> int:
    """`free_in`: seconds until each slot is free; it wants another idea every `run_s` from then on."""
    slots, parallel = len(free_in), max(1, parallel)
    if not slots:
        return 0
    margin = max(LEAST_MARGIN_S, MARGIN * call_s)
    # No more than all slots at once have to be thought of.
    horizon = margin + call_s * math.ceil(slots / parallel)
    due = _due(free_in, max(run_s, 1e-3), min(horizon, run_s + margin + call_s), 4 * slots)
    found = sum(latest <= margin for latest in _latest(due, call_s, parallel))
    return found + math.ceil(math.sqrt(max(1, found)))  # runs that end early are not foreseen


def _due(free_in: Sequence[float], run_s: float, horizon: float, most: int) -> list[float]:
    """When ideas are wanted, up to the horizon, soonest first."""
    found: list[float] = []
    for first in free_in:
        at = max(0.0, first)
        while at <= horizon and len(found) < most:
            found.append(at)
            at += run_s
    return sorted(found)


def _latest(due: Sequence[float], call_s: float, parallel: int) -> list[float]:
    """When each of them must be asked for at the latest: `parallel` questions are under way at once."""
    latest = [at - call_s for at in due]
    for n in range(len(due) - parallel - 1, -1, -1):
        latest[n] = min(latest[n], latest[n + parallel] - call_s)
    return latest
