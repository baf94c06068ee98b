"""The one result of a job whose training and scoring are two jobs on its machine.

Takes the order and what each of them came to; gives the `JobResult` that the job would have had here.
"""

from dataclasses import replace

from agent.job.folder import JobResult
from agent.runners.order import Order
from sandbox.names import both


def joined(order: Order, trained: JobResult, judged: JobResult) -> JobResult:
    """Both jobs as the one that they would have been here."""
    return replace(
        judged,
        phases=(*trained.phases, *judged.phases),
        slot_s=round(min(trained.slot_s + judged.slot_s, order.wall_s), 3),
        walls=both(trained.walls, judged.walls) if trained.phases else judged.walls,
        ran=True,
    )


def untrained(order: Order) -> JobResult:
    """Of a job that only scores."""
    return JobResult(order.run_id, "ok", "", (), 0.0, (), False)


def cancelled(order: Order) -> JobResult:
    return JobResult(order.run_id, "cancelled", "cancelled before it was sent", (), 0.0, (), False)
