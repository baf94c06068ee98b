"""Workers in processes of their own, and runs for them to take: for the tests of shared campaigns.

Takes a store; gives a campaign whose script prints and writes an artifact, orders in job folders, and workers that can
be stopped and killed.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.records import Campaign, Proposal
from agent.runners.order import Order, place
from agent.runners.queue.runner import QueueRunner
from agent.store import Store
from agent.track import parse
from benchmarks.endless import decision
from tests import ordering
from tests.filling import add_base, add_campaign
from tests.processes import until

TRACK = """
name = "toy"
summary = "A script that prints, waits and writes."
budget_hours = 2.0
trust = "reported"

[script]
path = "train.py"
editable = ["train.py"]
train = ["{python}", "-I", "-S", "{script}"]
artifact = "model.bin"
pack = false

[limits]
train_wall_s = 60
score_wall_s = 1
memory_mb = 300
disk_mb = 20
log_mb = 1

[hardware]
kind = "cpu"

[data]
corpus = "none"
"""
TRACK += decision()
QUICK = "print('hello', flush=True)\nopen('model.bin', 'wb').write(b'm' * 1000)\n"
LONG = "import time\nprint('begun', flush=True)\ntime.sleep(40)\nopen('model.bin', 'wb').write(b'm')\n"
WORK = """
import sys
from pathlib import Path
from agent import track
from agent.runners.queue import joining
from agent.store import open_store
url, root, name, lease_s = sys.argv[1:]
store = open_store(url)
with store.read() as reads:
    campaign = reads.campaigns()[-1]
joining.work(
    store, Path(root), campaign, track.parse(campaign.track_toml, "toy"), joining.Said(1, name, False),
    lambda told: print(told.text, flush=True), float(lease_s),
)
"""


def url(store: Store) -> str:
    return f"sqlite:///{store.path}" if store.path else store.url.render_as_string(hide_password=False)


def campaign(store: Store) -> tuple[Campaign, Proposal]:
    with store.write() as tx:
        made = add_campaign(tx, toml=TRACK)
        tx.connection.exec_driver_sql("UPDATE campaigns SET data_sha = ''")
        return tx.campaign_by_id(made.id), add_base(tx, made)


def order(store: Store, base: Proposal, jobs: Path, script: str, kind: str, seed: int = 1) -> tuple[Order, Path]:
    """A run, booked, with its job folder."""
    with store.write() as tx:
        run = tx.add_run(
            base.campaign_id,
            base.id,
            None,
            rung="decide",
            purpose="report",
            seed=seed,
            attempt=1,
            hardware_class=kind,
            script_sha="s",
        )
    made = ordering.order(TRACK, run_id=run.id, seed=seed, minimum="base", wall_s=60.0)
    folder = jobs / f"r{run.id}"
    place(folder, made, lambda code: (code / "train.py").write_text(script) and None)
    return made, folder


@contextmanager
def worker(
    store: Store, root: Path, name: str = "box", lease_s: float = 30.0, through: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker at work; killed at the end if it still is. `through`: the URL by which it reaches the store."""
    root.mkdir(parents=True, exist_ok=True)
    log = root / f"{name}.log"
    with log.open("ab") as out:
        child = subprocess.Popen(
            [sys.executable, "-c", WORK, through or url(store), str(root), name, str(lease_s)], stdout=out, stderr=out
        )
    try:
        until(lambda: "Ctrl-C ends it" in log.read_text() or child.poll() is not None)
        assert child.poll() is None, log.read_text()
        yield child
    finally:
        child.kill()
        child.wait()


def runner(store: Store, ahead: int = 0) -> QueueRunner:
    found = QueueRunner("workers", store, parse(TRACK, "toy"), ahead)
    with store.read() as reads:
        found.opened(store, reads.campaigns()[-1])
    return found
