"""Folders of runs that a controller on another machine laid out, made anew on this one from the store.

Takes a campaign and the folder of its jobs; makes what is not there. Of runs that are over only those of the trunk are
brought, because later runs are compared with them: their scores, and the artifacts that were accepted.
"""

import json
from dataclasses import asdict
from pathlib import Path

from agent.errors import InfraError
from agent.job.folder import JobPaths, Loss
from agent.job.reading import there
from agent.job.writing import write_aside
from agent.records import Campaign
from agent.runners.far.mirror import lose
from agent.runners.fleet import Placed
from agent.runners.order import Order, place
from agent.runners.queue import mirror
from agent.store import Store, queue


def folders(store: Store, campaign: Campaign, jobs: Path, name: str) -> None:
    """`name`: of the runner, as slots begin with it."""
    with store.read() as reads:
        laid = queue.of_campaign(reads.connection, campaign.id)
        rows = queue.look(reads.connection, laid)
    for run_id, one in laid.items():
        folder = jobs / f"r{run_id}"
        if not one.slot.startswith(f"{name}/"):
            continue
        try:
            order = Order.from_json(one.order)
        except ValueError:
            continue  # it is found lost
        place(folder, order, lambda code: None)
        paths = JobPaths(folder)
        if not there(paths.placed):
            write_aside(paths.placed, json.dumps(asdict(Placed(name, one.slot))))
        if rows[run_id].state == "done" and not there(paths.result):
            _bring(store, folder, rows[run_id])


def _bring(store: Store, folder: Path, row: queue.JobRow) -> None:
    try:
        with store.read() as reads:
            mirror.result(reads.connection, folder, row)
    except InfraError as error:
        lose(folder, Loss(True, row.seconds, str(error)))
