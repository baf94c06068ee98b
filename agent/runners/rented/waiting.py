"""A job's folder while it waits for a machine, and when it need not wait any longer.

Takes the folder; says whether it is over, and ends it.
"""

from pathlib import Path

from agent.runners.job import JobPaths, JobResult, write_aside
from agent.runners.reading import there
from agent.runners.results import order_of


def over(folder: Path) -> bool:
    paths = JobPaths(folder)
    return there(paths.result) or there(paths.lost)


def cancel(folder: Path) -> None:
    run_id = order_of(folder).run_id
    result = JobResult(run_id, "cancelled", "cancelled before a machine was there", (), 0.0, (), False)
    write_aside(JobPaths(folder).result, result.to_json())
