"""kill -9 at any instant loses nothing that was acknowledged; many writers at once lose nothing either."""

import contextlib
import multiprocessing
import random
import select
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent import budget
from agent.store import open_store
from tests.filling import add_base, add_campaign, add_idea

WRITER = """
import sys
from agent import budget
from agent.records import Amount
from agent.store import open_store
from tests.filling import add_idea, add_measured

store = open_store(sys.argv[1])
while True:
    with store.write() as tx:
        idea = add_idea(tx, tx.head(1))
        run = add_measured(tx, idea, idea.id, 2.0 + (idea.id * 7919 % 1000) / 1000)
        entry = budget.reserve(tx, 1, Amount(gpu_s=60.1), "run", proposal_id=idea.id, run_id=run.id)
    with store.write() as tx:
        budget.settle(tx, entry, Amount(gpu_s=33.3))
    print(run.id, flush=True)
"""


@pytest.mark.long
def test_no_acknowledged_run_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with contextlib.closing(open_store(path)) as store, store.write() as tx:
        add_base(tx, add_campaign(tx))
    rng, acknowledged = random.Random(0), set[int]()
    for _ in range(20):
        acknowledged |= _write_until_killed(path, rng.uniform(0.0, 0.15))
        with contextlib.closing(open_store(path)) as store, store.read() as reads:
            store.check()
            runs = reads.runs(1)
            assert acknowledged <= {run.id for run in runs}
            scored = reads.scored(1)
            assert len(scored) == len(runs)  # a run and its measurement are one transaction
            lowest, steps = float("inf"), []
            for one in scored:
                if one.measurement.bpb is not None and one.measurement.bpb < lowest:
                    lowest = one.measurement.bpb
                    steps.append(one.run.id)
            assert [row["run_id"] for row in reads.view("frontier", 1)] == steps
            assert budget.audit(reads, 1) == []
            unsettled = {entry.run_id for entry in budget.open_entries(reads, 1)}
            assert not acknowledged & unsettled  # settled was acknowledged; what was not is still reserved
            settled = reads.balance(1).settled.gpu_s
            assert settled == pytest.approx(33.3 * (len(runs) - len(unsettled)))
    assert len(acknowledged) > 20


def _write_until_killed(path: Path, after_s: float) -> set[int]:
    """The runs that the writer said were durable."""
    argv = [sys.executable, "-c", WRITER, str(path)]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent)
    assert child.stdout is not None
    assert select.select([child.stdout], [], [], 60)[0]  # it has begun to write
    time.sleep(after_s)  # any instant
    child.send_signal(signal.SIGKILL)
    return {int(line) for line in child.communicate()[0].split(b"\n")[:-1]}


def _write(path: str, number: int, barrier, results) -> None:  # type: ignore[no-untyped-def]
    barrier.wait()
    store, slowest = open_store(path), 0.0
    for step in range(40):
        start = time.monotonic()
        with store.write() as tx:
            count = tx.count_proposals(1)  # read, then write: what a deferred transaction would lose
            tx.update_proposal(1, hypothesis=str(int(tx.proposal(1).hypothesis) + 1))
            add_idea(tx, tx.proposal(1), f"{number}.{step} after {count}")
        slowest = max(slowest, time.monotonic() - start)
    store.close()
    results.put(slowest)


def test_eight_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with contextlib.closing(open_store(path)) as store, store.write() as tx:
        tx.update_proposal(add_base(tx, add_campaign(tx)).id, hypothesis="0")
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(8), context.Queue()
    workers = [context.Process(target=_write, args=(str(path), n, barrier, results)) for n in range(8)]
    for worker in workers:
        worker.start()
    assert max(results.get(timeout=60) for _ in workers) < 30
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    with contextlib.closing(open_store(path)) as store, store.read() as reads:
        assert reads.proposal(1).hypothesis == "320"
        titles = [proposal.title for proposal in reads.proposals(1)[1:]]
        assert [title.split()[-1] for title in titles] == [str(n + 1) for n in range(320)]


def test_a_file_made_anew_by_hand_is_read_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    open_store(path).close()
    with contextlib.closing(sqlite3.connect(path)) as made:
        made.execute("PRAGMA journal_mode = DELETE")
    with contextlib.closing(open_store(path)) as store, store.write() as tx, store.read() as reads:
        assert tx.connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert reads.campaigns() == []


def test_what_another_process_leaves_behind_stays_in_use_by_who_opened_twice(tmp_path: Path) -> None:
    """A process that closes any handle of the file loses its locks on it: the next to leave would take the log away."""
    path = tmp_path / "runs.db"

    def elsewhere(name: str) -> str:
        script = "from agent.store import open_store\nfrom tests.filling import add_campaign\n"
        script += f"store = open_store({str(path)!r})\nwith store.write() as tx: add_campaign(tx, {name!r})\n"
        script += "with store.read() as reads: print([one.name for one in reads.campaigns()])\nstore.close()"
        return subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout

    with contextlib.closing(open_store(path)) as store:
        with store.write() as tx:
            add_campaign(tx, "first")
        open_store(path).close()
        elsewhere("second")
        with store.write() as tx:
            add_campaign(tx, "third")
        assert elsewhere("fourth") == "['first', 'second', 'third', 'fourth']\n"


def test_settings_that_durability_rests_on(tmp_path: Path) -> None:
    with contextlib.closing(open_store(tmp_path / "runs.db")) as store:
        with store.write() as tx:
            ask = tx.connection.exec_driver_sql
            assert ask("PRAGMA journal_mode").scalar() == "wal"
            assert ask("PRAGMA synchronous").scalar() == 2
            assert ask("PRAGMA foreign_keys").scalar() == 1
            assert ask("PRAGMA busy_timeout").scalar() == 30_000
            other = sqlite3.connect(tmp_path / "runs.db", timeout=0, isolation_level=None)
            with contextlib.closing(other), pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")  # the writer has the lock before it wrote anything
        with store.read() as reads, pytest.raises(Exception, match=r"readonly|read-only"):
            reads.connection.exec_driver_sql("DELETE FROM events")


def test_the_store_is_quick_to_import() -> None:
    """Nothing heavy comes in with it."""
    argv = [sys.executable, "-c", "import sys, agent.store, agent.budget; print(*sys.modules)"]
    said = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
    assert not {"alembic", "torch", "numpy", "scipy", "psycopg", "psutil"} & set(said.stdout.split())
