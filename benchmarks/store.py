"""How fast the store is at a million runs.

    python -m benchmarks.store                          # SQLite, 1,000,000 runs, 3 GB in a temporary folder
    python -m benchmarks.store --runs 100000            # a smaller one
    python -m benchmarks.store --url postgresql://...   # an empty database of a server

Makes campaigns of 4,000 proposals and 10,000 runs with measurements, verdicts, ledger and events, checks
samples of the columns that are kept up to date against the code that keeps them, and measures what people
wait for.
"""

import argparse
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import select

from agent import budget
from agent.records import Amount, Caps, Measurement, Verdict
from agent.store import Store, open_store, standing
from agent.store.query import query
from agent.store.schema import frontier_runs, proposals, scores
from benchmarks.folders import working_folder
from benchmarks.store_rows import DOCUMENTS, PROPOSALS_A_CAMPAIGN, RUNS_A_CAMPAIGN, TOML, Filler


class Line(NamedTuple):
    """One measured operation."""

    what: str
    median_ms: float
    worst_ms: float
    target_ms: float | None


def verify(store: Store, campaign_count: int) -> None:
    """What was filled in by hand is what the store itself would have kept."""
    chosen = random.Random(1).sample(range(1, campaign_count * PROPOSALS_A_CAMPAIGN + 1), 50)
    kept = [column for column in scores.c if column.name not in ("id", "bpb", "mean_bpb")]
    flags = select(proposals.c.invalid, proposals.c.tainted)
    steps = select(frontier_runs.c.measurement_id).order_by(frontier_runs.c.measurement_id)
    with store.write() as tx:
        ask = tx.connection.execute
        before_steps = ask(steps).all()
        for one in chosen:
            mine, ours = flags.where(proposals.c.id == one), select(*kept).where(scores.c.proposal_id == one)
            before = ask(mine).all(), ask(ours).all()
            standing.refresh(tx.connection, one)
            assert before == (ask(mine).all(), ask(ours).all()), f"p{one} was filled in wrongly"
        assert before_steps == ask(steps).all()
        assert budget.audit(tx, 1) == []


def timed(what: str, target_ms: float | None, work: Callable[[], object], times: int = 30) -> Line:
    took = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        took.append((time.perf_counter() - start) * 1000)
    return Line(what, statistics.median(took), max(took), target_ms)


def measure(store: Store, campaign_count: int) -> Iterator[Line]:
    rng = random.Random(2)

    def one() -> int:
        return rng.randrange(1, campaign_count + 1)

    def best_lineage() -> None:
        with store.read() as reads:
            best = reads.view("best_valid", one())
            assert len(reads.lineage(best[0]["proposal_id"])) > 2

    def view(sql: str, rows: int) -> Callable[[], None]:
        def ask() -> None:
            with store.read() as reads:
                found = reads.connection.exec_driver_sql(sql.replace("$", str(one()))).all()
            assert len(found) >= rows

        return ask

    yield timed("best valid and its lineage, one campaign", 20, best_lineage)
    yield timed("lineage with deltas, one campaign", 20, view("SELECT * FROM lineage WHERE campaign_id = $", 30))
    yield timed("best_valid, all campaigns", 20, view("SELECT * FROM best_valid", campaign_count // 2))
    yield timed("leaderboard, first 50", 20, view("SELECT * FROM leaderboard LIMIT 50", 50))
    last = min(campaign_count, 10) - 1  # the last board: none of the rows before it may be read
    board = f"track = 'tiny' AND hardware_class = 'cpu-{last % 5}' AND judge_version = {1 + last // 5}"
    yield timed(
        "leaderboard, first 50 of one class",
        20,
        view(f"SELECT * FROM leaderboard WHERE {board} LIMIT 50", 50),
    )
    yield timed("frontier, one campaign", 20, view("SELECT * FROM frontier WHERE campaign_id = $", 5))
    yield timed("spend, all campaigns", 20, view("SELECT * FROM spend", campaign_count))
    with store.write() as tx:
        caps = {"caps": Caps(None), "planner": "knobs", "review": "none", "slots": 2, "target_bpb": None}
        texts = {
            "track": "tiny",
            "track_file": "tiny",
            "track_toml": TOML,
            "track_sha": "t",
            "data_sha": "d",
            "base_commit": "c",
        }
        rest = {"name": f"bench-{os.getpid()}", "branch": "b", "seed": 1, "hardware_class": "cpu-0"}
        campaign = tx.add_campaign(**caps, **texts, **rest)  # type: ignore[arg-type]
    yield from writes(store, campaign.id)
    yield timed("read-only SQL, 50 rows", None, lambda: query(store, "SELECT * FROM leaderboard LIMIT 50"))
    yield timed("trials of a campaign of 4,000 proposals", None, lambda: whole(store, one()), 5)


def whole(store: Store, campaign_id: int) -> None:
    with store.read() as reads:
        assert len(reads.trials(campaign_id)) == PROPOSALS_A_CAMPAIGN


def writes(store: Store, campaign_id: int) -> Iterator[Line]:
    """In the middle of campaign 1, which has 4,000 proposals and 10,000 runs."""
    nats = tuple(float(n) for n in range(DOCUMENTS))
    waiting: list[tuple[int, int]] = []
    ideas = iter(range(100, PROPOSALS_A_CAMPAIGN, 7))

    def event() -> None:
        with store.write() as tx:
            tx.add_event(campaign_id, "note", "one durable row")

    def start() -> None:
        with store.write() as tx:
            idea = tx.proposal(next(ideas))
            how = {"rung": "full", "purpose": "report", "seed": 1, "attempt": 1}
            run = tx.add_run(1, idea.id, None, **how, hardware_class="cpu-0", script_sha="s")  # type: ignore[arg-type]
            entry = budget.reserve(tx, 1, Amount(gpu_s=60.0), "run", proposal_id=idea.id, run_id=run.id)
            waiting.append((run.id, entry))

    def finish() -> None:
        run_id, entry = waiting.pop()
        empty = dict.fromkeys(("train_wall_s", "train_cpu_s", "score_wall_s", "score_cpu_s", "peak_mb", "steps"))
        more = dict.fromkeys(("reported_bpb", "reported_bytes", "artifact_sha", "tokens_scored", "bytes_scored"))
        sizes = {"artifact_bytes": 140_000, "code_bytes": 9_000, "total_bytes": 149_000, "slot_s": 33.0}
        judged = {"trust": "measured", "judge_version": 1, "bpb": 2.5, "nats": 1e5, "data_sha": "d"}
        with store.write() as tx:
            tx.update_run(run_id, state="done", outcome="ok", walls=("env",))
            tx.add_measurement(Measurement(run_id, **judged, **sizes, **empty, **more, doc_nats=nats))  # type: ignore[arg-type]
            budget.settle(tx, entry, Amount(gpu_s=33.0))

    def decide() -> None:
        with store.write() as tx:
            tx.add_verdict(Verdict(tx.head(1).id, 1, "worse", "no gain", gain=-0.01))

    yield timed("one durable write (an event)", 10, event, 100)
    yield timed("start of a run: row, reservation, event", 10, start, 100)
    yield timed("end of a run: state, measurement, settlement", 10, finish, 100)
    yield timed("a verdict", 10, decide, 100)


def machine() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, {system}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where to make runs.db; a temporary folder unless given")
    parser.add_argument("--url", help="an empty PostgreSQL database")
    options = parser.parse_args()
    campaign_count = max(1, options.runs // RUNS_A_CAMPAIGN)
    with working_folder("store", options.folder) as folder:
        store = open_store(options.url or folder / "runs.db")
        start = time.perf_counter()
        Filler(store, campaign_count).fill()
        print(f"filled in {time.perf_counter() - start:.0f} s; checking samples", flush=True)
        verify(store, campaign_count)
        if store.path is not None:
            print(f"{store.path.stat().st_size / 1e6:,.0f} MB")
        lines = list(measure(store, campaign_count))
        if store.path is not None:
            lines.append(timed("opening runs.db", None, lambda: open_store(str(store.path)).close(), 5))
        store.close()
    print(f"\n{store.url.get_backend_name()}, {campaign_count * RUNS_A_CAMPAIGN:,} runs; {machine()}\n")
    print("| operation | median ms | worst ms | target |\n|---|---|---|---|")
    for line in lines:
        target = f"< {line.target_ms:g} ms" if line.target_ms else ""
        print(f"| {line.what} | {line.median_ms:.2f} | {line.worst_ms:.2f} | {target} |")
    late = [line.what for line in lines if line.target_ms and line.median_ms >= line.target_ms]
    raise SystemExit(f"too slow: {', '.join(late)}" if late else 0)


if __name__ == "__main__":
    main()
