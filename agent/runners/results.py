"""What came of a job, read from its folder: the same wherever it ran, because what comes back is laid there.

Takes a folder; gives the `JobResult` and the `Order` that are in it.
"""

from pathlib import Path

from agent.errors import InfraError
from agent.job.folder import JobPaths, JobResult
from agent.job.reading import read_small
from agent.runners.order import Order


def result_of(folder: Path) -> JobResult:
    """Raises InfraError: there is none that can be read."""
    text = read_small(JobPaths(folder).result)
    if text is None:
        raise InfraError(f"{folder} has no result that can be read")
    try:
        return JobResult.from_json(text)
    except ValueError as error:
        raise InfraError(f"the result in {folder} is damaged: {error}") from error


def order_of(folder: Path) -> Order:
    """Raises InfraError: there is none that can be read."""
    try:
        return Order.from_json(read_small(JobPaths(folder).order) or "")
    except ValueError as error:
        raise InfraError(f"{folder} holds no order that can be read: {error}") from error
