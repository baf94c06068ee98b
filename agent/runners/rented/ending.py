"""How a campaign ends its machines when it stops: all but those with a run under way.

Takes what all slots share, and their keepers; what does not end is tried again by the next sweep, and ends itself at
its time.
"""

from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial

from agent.errors import CaddieError, LeftError, UserError
from agent.machines import book, storage
from agent.machines.renting import Renter, shut
from agent.runners.rented.desk import Desk
from agent.runners.rented.keeper import Keeper

ENDING_S = 30.0  # for machines to end
LOOK_S = 3.0
_STOPPED = "the campaign has stopped"

End = Callable[[], bool]  # of a machine: whether it is gone for sure


def end_machines(desk: Desk, backend: str, keepers: Iterable[Keeper]) -> None:
    """Raises LeftError: what is left, and why; another CaddieError: nothing is, but for a volume."""
    with desk.renter.store.read() as reads:
        there = book.everyone(reads, campaign_id=desk.campaign_id, backend=backend)
        at_work = {run.lease for run in reads.runs(desk.campaign_id, states={"queued", "running"})}
    ends: dict[str, End] = {
        book.lease(row.id): partial(_over, desk.renter, row.id) for row in there if book.lease(row.id) not in at_work
    }
    for keeper in keepers:
        if keeper.lease in ends:  # its step may be under way
            ends[keeper.lease] = partial(keeper.end, _STOPPED)
    left, fault = _ended(desk.renter, ends)
    busy = sorted({book.lease(row.id) for row in there} & at_work)
    words = [f"{', '.join(busy)}: a run is under way there; `agent resume` goes on with it"] if busy else []
    words += [f"{', '.join(left)}: did not end yet; `agent machines reap` tries again"] if left else []
    if not busy:
        try:
            storage.end(desk.renter, [desk.campaign_id], _STOPPED)
        except CaddieError as error:
            fault = fault or error
    if words:
        raise LeftError("; ".join([*words, *([str(fault)] if fault else [])]))
    if fault is not None:
        raise fault


def _over(one: Renter, machine_id: int) -> bool:
    return shut(one, machine_id, _STOPPED).over


def _ended(one: Renter, ends: dict[str, End]) -> tuple[dict[str, End], CaddieError | None]:
    """Those that are not gone for sure, and what one of them said. One that is asked to end may show a moment more."""
    left, fault, until = ends, None, one.clock() + timedelta(seconds=ENDING_S)
    for n in range(1 + int(ENDING_S / LOOK_S)):
        if n:
            one.sleep(LOOK_S)
        still: dict[str, End] = {}
        fault = None
        for name, end in left.items():
            try:
                if not end():
                    still[name] = end
            except CaddieError as error:  # keeps no other machine
                still[name], fault = end, error
        left = still
        if not left or one.clock() >= until or isinstance(fault, UserError):
            break
    return left, fault
