"""Two campaigns on the same machine: no GPU is used twice, both get on, and a block is not starved by small runs."""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import pytest

from agent.job.folder import Heartbeat, JobPaths, JobState, strict_heartbeat
from agent.records import Proposal
from agent.runners import LATER
from agent.runners.fake import FakeRunner
from agent.runners.order import Order, place
from agent.runners.queue.choosing import Choosing
from agent.runners.queue.corpora import Corpora
from agent.runners.queue.runner import QueueRunner
from agent.runners.queue.worker import Me, Worker
from agent.runners.results import order_of
from agent.store import Store, queue, workers
from agent.store.lease import hold
from agent.store.queue import Wanted
from agent.store.rows import now
from agent.store.turns import Waiting, in_turn
from agent.track import parse
from tests import ordering, working
from tests.filling import add_base, add_campaign

GPUS, WALL_S = 4, 60.0
SMALL, BLOCK = "cuda/x/1", f"cuda/x/{GPUS}"
TRACK = working.TRACK.replace('kind = "cpu"', f'kind = "cuda"\ndevice = "x"\ngpus = {GPUS}').replace(
    'name = "decide"', 'name = "short"\ngpus = 1\n\n[[rung]]\nname = "decide"', 1
)


def waiting(job_id: int, campaign_id: int, gpus: int = 1) -> Waiting:
    return Waiting(job_id, campaign_id, f"cuda/x/{gpus}", gpus, 60.0)


def test_who_holds_least_comes_first_and_the_older_of_two_that_hold_the_same() -> None:
    jobs = [waiting(n, 1) for n in (1, 2, 3)] + [waiting(n, 2) for n in (4, 5)]
    assert [one.job_id for one in in_turn(jobs, {})] == [1, 4, 2, 5, 3]
    assert [one.job_id for one in in_turn(jobs, {1: 2})] == [4, 5, 1, 2, 3]
    assert in_turn([], {1: 2}) == []


def test_a_block_counts_as_the_gpus_that_it_has() -> None:
    jobs = [waiting(1, 1, 4), *(waiting(n, 2) for n in range(2, 8)), waiting(9, 1)]
    assert [one.job_id for one in in_turn(jobs, {})] == [1, 2, 3, 4, 5, 6, 9, 7]


class Machine(FakeRunner):
    """GPUs in slots of one, and all of them in one slot. Runs last until they are ended."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = (*(f"local/{n}" for n in range(GPUS)), f"local/gpus-0-{GPUS - 1}")
        self.busy: dict[Path, str] = {}
        self.began: list[tuple[int, str]] = []

    def gpus(self, slot: str) -> tuple[int, ...]:
        return tuple(range(GPUS)) if "gpus" in slot else (int(slot.rpartition("/")[2]),)

    def hardware_class(self, slot: str) -> str:
        return f"cuda/x/{len(self.gpus(slot))}"

    def submit(self, order: Order, folder: Path, slot: str) -> None:
        used = [gpu for other in self.busy.values() for gpu in self.gpus(other)]
        assert not set(used) & set(self.gpus(slot)), f"{slot} is used twice: {self.busy}"
        super().submit(order, folder, slot)
        self.busy[folder] = slot
        self.began.append((order.run_id, slot))

    def poll(self, folder: Path) -> JobState:
        return "running" if folder in self.busy else super().poll(folder)

    def pass_time(self) -> None:
        """A quarter of what a run takes; the oldest ends."""
        for folder in self.busy:
            path = JobPaths(folder).heartbeat
            before = strict_heartbeat(path.read_text()) if path.exists() else None
            seconds = WALL_S / GPUS + (before.seconds if before is not None else 0.0)
            path.write_text(json.dumps(asdict(Heartbeat(now(), "", "train", seconds, 0, {}))))
        if self.busy:
            del self.busy[next(iter(self.busy))]


class Side:
    """One campaign: it keeps so many small runs in the queue as it sees slots."""

    def __init__(self, store: Store, base: Proposal, jobs: Path) -> None:
        self.store, self.base, self.jobs = store, base, jobs
        self.runner = QueueRunner("workers", store, parse(TRACK, "toy"))
        self.mine: dict[int, Path] = {}

    def offer(self, kind: str, slot: str = "") -> int:
        with self.store.write() as tx:
            run = tx.add_run(
                self.base.campaign_id, self.base.id, None, rung="short", purpose="report", seed=len(self.mine),
                attempt=1, hardware_class=kind, script_sha="s",
            )  # fmt: skip
        folder = self.jobs / f"r{run.id}"
        order = ordering.order(TRACK, run_id=run.id, minimum="base", wall_s=WALL_S, rung="decide")
        slot = slot or next(one for one in self.runner.slots if self.runner.hardware_class(one) == kind)
        place(folder, order, lambda code: (code / "train.py").write_text(working.QUICK) and None)
        self.runner.submit(order, folder, slot)
        self.mine[run.id] = folder
        return run.id

    def keep(self, most: int) -> None:
        self.runner._looked = -1e9  # one look at the store
        for run_id in [run_id for run_id, folder in self.mine.items() if self.runner.poll(folder) == "done"]:
            del self.mine[run_id]
        while len(self.mine) < most:
            self.offer(SMALL)


@pytest.fixture
def sides(store: Store, tmp_path: Path) -> Iterator[tuple[Worker, Machine, list[Side]]]:
    with store.write() as tx:
        bases = [add_base(tx, add_campaign(tx, name, toml=TRACK)) for name in ("day", "night")]
        tx.connection.exec_driver_sql("UPDATE campaigns SET data_sha = ''")
    machine, corpora = Machine(), Corpora(tmp_path, lambda words: None)
    corpora.shas.add("")
    me = Me("box", "host", 1, SMALL, "namespaces", ("base",))
    worker = Worker(store, machine, tmp_path / "far", corpora, me, lambda words: None)
    worker._come()
    with ExitStack() as held:
        for name in ("day", "night"):
            held.enter_context(hold(store, f"campaign {name}"))
        yield worker, machine, [Side(store, base, tmp_path / f"jobs-{n}") for n, base in enumerate(bases)]
    shutil.rmtree(tmp_path / "far", ignore_errors=True)


def test_a_block_of_one_campaign_is_not_starved_by_the_small_runs_of_another(
    sides: tuple[Worker, Machine, list[Side]], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, machine, (day, night) = sides
    monkeypatch.setattr("agent.runners.queue.worker.ASK_S", 0.0)
    monkeypatch.setattr("agent.runners.queue.runner.LOOK_S", 60.0)
    final = None
    for turn in range(24):
        day.keep(GPUS + 1)
        night.keep(GPUS + 1 if final is None else 0)
        if turn == 6:
            final = night.offer(BLOCK)  # after those of its own that wait
        worker._ask_due = 0.0
        worker.turn()
        machine.pass_time()
    slots = dict(machine.began)
    assert final is not None and slots[final] == f"local/gpus-0-{GPUS - 1}"
    began = [run_id for run_id, _ in machine.began]
    with worker._store.read() as reads:
        campaigns = [reads.run(run_id).campaign_id for run_id in began]
    before = campaigns[: began.index(final)]
    assert abs(before.count(day.base.campaign_id) - before.count(night.base.campaign_id)) <= GPUS + 2
    assert campaigns[began.index(final) + 1 :].count(day.base.campaign_id) > GPUS  # who waited for it goes on


def test_a_run_that_must_be_on_one_worker_is_lost_where_that_one_is_refused(
    sides: tuple[Worker, Machine, list[Side]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.runners.queue.runner.LOOK_S", 0.0)
    worker, machine, (day, _) = sides
    runner = day.runner
    ((lease, slot),) = runner.pinned(list).items()
    assert runner.lease(slot) == lease and {runner.lease(one) for one in runner.slots} == {LATER}
    assert runner.hardware_class(slot) == BLOCK and runner.size(slot) == GPUS
    first = day.mine[day.offer(BLOCK, slot)]
    with worker._store.share() as shared:
        other = workers.register(
            shared, name="other", host="h", pid=2, hardware_class=BLOCK, slots=1, level="namespaces", lease_s=60.0
        )
        assert queue.waiting(shared, other, Wanted([BLOCK], [""], ["base"]), 9) == []
    assert runner.began_on(first) == ""
    worker.turn()
    assert runner.began_on(first) == lease
    second = day.mine[day.offer(BLOCK, slot)]
    runner.refuse(lease, "it has become slower")
    machine.pass_time()
    worker._ask_due = 0.0
    worker.turn()
    assert [run_id for run_id, _ in machine.began] == [order_of(first).run_id]
    assert runner.pinned(list).keys() == {f"workers/w{other}"}
    assert runner.poll(second) == "lost" and not runner.loss(second).ran


def test_small_runs_that_end_in_time_use_what_is_kept_for_a_block() -> None:
    choosing = Choosing(Machine())
    block, short, long = Waiting(1, 1, BLOCK, GPUS, 60.0), Waiting(2, 2, SMALL, 1, 20.0), Waiting(3, 2, SMALL, 1, 40.0)
    busy = {"local/0": 30.0}
    assert choosing.choose([block, long], busy, None) == ({}, {1: f"local/gpus-0-{GPUS - 1}"})
    assert choosing.choose([long, short], busy, block) == ({2: "local/1"}, {})
    assert choosing.choose([long], {}, block) == ({1: f"local/gpus-0-{GPUS - 1}"}, {})
    assert (choosing.at_once, choosing.kinds) == (GPUS, {SMALL: GPUS, BLOCK: 1})
    assert not choosing.free({f"local/gpus-0-{GPUS - 1}": 1.0}) and choosing.free({"local/0": 1.0})
