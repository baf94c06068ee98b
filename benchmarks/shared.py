"""How fast workers get their jobs from one store, and whether any job is ever had twice.

    python -m benchmarks.shared --store postgresql://USER@HOST/EMPTY_DATABASE
    python -m benchmarks.shared                       # the same on an SQLite file, where one writer waits for the other

2,000 jobs are laid out at once, and 100 simulated workers in 8 processes want them all: each takes one, begins it,
gives a sign of life, hands it in, and takes the next. Nothing runs in between, so that all of the time is the store's.
Afterwards each job must have been done by exactly one lease.
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path

from agent.records import Caps, Draft
from agent.store import Store, open_store, queue, workers
from agent.store.queue import Sign, Wanted
from benchmarks.store import machine

TRACK = 'trust = "measured"\n[decision]\nrung = "full"\n'
KIND, DATA, LEASE_S = "cpu/simulated", "d", 60.0
WANTED = Wanted([KIND], [DATA], ["base"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="URL of an empty database; else a temporary SQLite file")
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=100)
    parser.add_argument("--processes", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(report(options.store or str(Path(folder) / "runs.db"), options.jobs, options.workers, options.processes))


def report(where: str, jobs: int, count: int, processes: int) -> str:
    with closing(open_store(where)) as store:
        began = time.perf_counter()
        lay_out(store, jobs)
        laid_s = time.perf_counter() - began
        context = multiprocessing.get_context("spawn")
        ready = context.Barrier(processes + 1)
        answers = context.Queue()
        shares = [count // processes + (n < count % processes) for n in range(processes)]
        running = [
            context.Process(target=simulate, args=(where, n, share, ready, answers)) for n, share in enumerate(shares)
        ]
        for process in running:
            process.start()
        ready.wait()
        began = time.perf_counter()
        found = [answers.get() for _ in running]
        took_s = time.perf_counter() - began
        for process in running:
            process.join()
        once = check(store, jobs, [job for done, _ in found for job in done])
    waits = sorted(wait for _, some in found for wait in some)
    return "\n".join(
        [
            f"{machine()}; {'PostgreSQL' if '://' in where else 'SQLite'}",
            f"{jobs:,} jobs laid out in {laid_s:.1f} s; {count} workers in {processes} processes",
            f"done in {took_s:.1f} s: {jobs / took_s:,.0f} jobs a second, each taken, begun, alive and handed in",
            f"to take one: median {statistics.median(waits) * 1e3:.1f} ms, 99 % {quantile(waits, 0.99) * 1e3:.0f} ms, "
            f"slowest {waits[-1] * 1e3:.0f} ms",
            once,
        ]
    )


def lay_out(store: Store, count: int) -> None:
    with store.write() as tx:
        campaign = tx.add_campaign(
            name="shared",
            track="t",
            track_file="t",
            track_toml=TRACK,
            track_sha="t",
            data_sha=DATA,
            base_commit="0" * 40,
            branch="b",
            seed=1,
            caps=Caps(None),
            planner="knobs",
            review="none",
            slots=1,
            target_bpb=None,
            hardware_class=KIND,
        )
        draft = Draft("base", "", "", "", "base", "base", 0)
        base = tx.add_proposal(campaign.id, draft, baseline_id=None, state="promoted")
        for seed in range(count):
            run = tx.add_run(
                campaign.id,
                base.id,
                None,
                rung="full",
                purpose="report",
                seed=seed,
                attempt=1,
                hardware_class=KIND,
                script_sha="s",
            )
            queue.offer(tx, run_id=run.id, order="{}", inputs={}, hardware_class=KIND, data_sha=DATA, minimum="base")


def simulate(where: str, number: int, count: int, ready, answers) -> None:  # type: ignore[no-untyped-def]
    """The workers of one process, one after the other; each has a job in hand while the others take theirs."""
    done: list[int] = []
    waits: list[float] = []
    with closing(open_store(where, create=False)) as store:
        mine = [join(store, f"w{number}-{n}") for n in range(count)]
        ready.wait()
        hungry = bool(mine)
        while hungry:
            hungry = False
            for worker_id in mine:
                began = time.perf_counter()
                with store.share() as shared:
                    found = queue.waiting(shared, worker_id, WANTED, 1)[:1]
                    taken = queue.take(shared, worker_id, {one.job_id: "0" for one in found}, lease_s=LEASE_S)
                waits.append(time.perf_counter() - began)
                hungry = hungry or bool(found)
                for one in taken:
                    hungry = True
                    with store.share() as shared:
                        assert queue.begin(shared, one.held, lease_s=LEASE_S)
                    with store.share() as shared:
                        answer = queue.signs(shared, worker_id, [Sign(one.held, 1.0, "")], lease_s=LEASE_S)
                    assert not answer.lost
                    with store.share() as shared:
                        assert queue.finish(shared, one.held, result=str(worker_id), outputs={}, seconds=1.0)
                    done.append(one.held.job_id)
    answers.put((done, waits))


def join(store: Store, name: str) -> int:
    with store.share() as shared:
        return workers.register(
            shared, name=name, host="h", pid=1, hardware_class=KIND, slots=1, level="base", lease_s=LEASE_S
        )


def check(store: Store, count: int, done: list[int]) -> str:
    with store.read() as reads:
        rows = reads.connection.exec_driver_sql("SELECT state, token, COUNT(*) FROM jobs GROUP BY state, token").all()
    assert [tuple(row) for row in rows] == [("done", 1, count)], rows
    assert len(done) == len(set(done)) == count
    return f"each of the {count:,} was taken once and done once"


def quantile(waits: list[float], share: float) -> float:
    return waits[min(len(waits) - 1, int(share * len(waits)))]


if __name__ == "__main__":
    main()
