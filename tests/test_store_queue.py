"""Jobs in the store: each is done once, by who holds its lease; on SQLite and on PostgreSQL."""

import random
import threading
from collections import Counter

import pytest
from sqlalchemy import Connection

from agent.errors import InfraError
from agent.records import Proposal
from agent.store import Store, Tx, blobs, printed, queue, workers
from agent.store.queue import Held, JobRow, Sign, Taken, Wanted

LEASE_S = 60.0
MINE = Wanted(["cpu-x"], ["d1"], ["base", "landlock"])


def offer(store: Store, base: Proposal, n: int = 1, **changes: str) -> list[int]:
    found = {"order": "{}", "hardware_class": "cpu-x", "data_sha": "d1", "minimum": "landlock", **changes}
    with store.write() as tx:
        runs = [add_run(tx, base, seed) for seed in range(n)]
        assert [queue.offer(tx, run_id=run, inputs={"code/a.py": "0"}, **found) for run in runs] == [True] * n
        return runs


def add_run(tx: Tx, base: Proposal, seed: int) -> int:
    run = tx.add_run(
        base.campaign_id,
        base.id,
        None,
        rung="full",
        purpose="report",
        seed=seed,
        attempt=1,
        hardware_class="cpu-x",
        script_sha="s1",
    )
    return run.id


def worker(store: Store, name: str = "box") -> int:
    with store.share() as shared:
        return workers.register(
            shared, name=name, host="h", pid=1, hardware_class="cpu-x", slots=2, level="landlock", lease_s=LEASE_S
        )


def take(store: Store, who: int, n: int = 1, wanted: Wanted = MINE) -> list[Taken]:
    with store.share() as shared:
        return take_in(shared, who, [f"local/{at}" for at in range(n)], wanted)


def take_in(
    shared: Connection, who: int, slots: list[str], wanted: Wanted = MINE, lease_s: float = LEASE_S
) -> list[Taken]:
    """As many of those whose turn it is as there are slots."""
    found = queue.waiting(shared, who, wanted, len(slots))
    pairs = {one.job_id: slot for one, slot in zip(found, slots, strict=False)}
    return queue.take(shared, who, pairs, lease_s=lease_s)


def begin(store: Store, held: Held) -> bool:
    with store.share() as shared:
        return queue.begin(shared, held, lease_s=LEASE_S)


def finish(store: Store, held: Held, result: str = "{}") -> bool:
    with store.share() as shared:
        return queue.finish(shared, held, result=result, outputs={"measure": "1"}, seconds=4.0)


def run_out(store: Store) -> int:
    """As when all leases were given long ago."""
    with store.share() as shared:
        shared.exec_driver_sql("UPDATE jobs SET until = 1 WHERE state IN ('taken', 'running')")
        shared.exec_driver_sql("UPDATE workers SET until = 1")
    with store.share() as shared:
        return queue.expire(shared)


def look(store: Store, run_id: int) -> JobRow:
    with store.read() as reads:
        return queue.look(reads.connection, [run_id])[run_id]


def test_a_job_goes_from_offer_to_result(store: Store, base: Proposal) -> None:
    (run,) = offer(store, base)
    with store.write() as tx:
        assert not queue.offer(tx, run_id=run, order="{}", inputs={}, hardware_class="x", data_sha="", minimum="base")
    me = worker(store)
    (mine,) = take(store, me, 5)
    assert (mine.run_id, mine.inputs, mine.slot, mine.held.token) == (run, {"code/a.py": "0"}, "local/0", 1)
    assert take(store, worker(store, "other"), 5) == []
    assert look(store, run).state == "taken" and not look(store, run).began
    assert begin(store, mine.held) and not begin(store, mine.held)
    with store.share() as shared:
        assert queue.signs(shared, me, [Sign(mine.held, 2.5, "beat")], lease_s=LEASE_S) == (frozenset(), frozenset())
        assert printed.add(shared, mine.held, "train.log", 0, b"one\n") == 4
        assert printed.add(shared, mine.held, "train.log", 4, b"two\n") == 8
        assert printed.add(shared, mine.held, "train.log", 4, b"two\nthree\n") == 8  # by one who was not told
        assert printed.add(shared, mine.held, "train.log", 0, b"") == 8
    seen = look(store, run)
    assert (seen.state, seen.seconds, seen.beat, seen.worker, seen.began) == ("running", 2.5, "beat", "box", True)
    assert finish(store, mine.held, "{1}") and not finish(store, mine.held, "{2}")
    seen = look(store, run)
    assert (seen.state, seen.result, seen.outputs, seen.seconds) == ("done", "{1}", {"measure": "1"}, 4.0)
    with store.read() as reads:
        pieces = [printed.read(reads.connection, mine.held.job_id, "train.log", at, 100) for at in (0, 4, 8, 2)]
        assert pieces == [b"one\ntwo\n", b"two\n", b"", b"e\ntwo\n"]
        assert printed.read(reads.connection, mine.held.job_id, "train.log", 0, 6) == b"one\ntw"


def test_who_lacks_what_a_job_needs_does_not_get_it(store: Store, base: Proposal) -> None:
    offer(store, base)
    me = worker(store)
    for other in (
        Wanted(["cpu-y"], ["d1"], ["landlock"]),
        Wanted(["cpu-x"], ["d2"], ["landlock"]),
        Wanted(["cpu-x"], [], ["landlock"]),
        Wanted(["cpu-x"], ["d1"], ["base"]),
    ):
        assert take(store, me, 1, other) == []
    assert take(store, me, 0) == []
    assert len(take(store, me)) == 1


def test_the_oldest_come_first_and_no_more_than_there_are_slots(store: Store, base: Proposal) -> None:
    runs = offer(store, base, 5)
    me = worker(store)
    assert [one.run_id for one in take(store, me, 2)] == runs[:2]
    assert [one.run_id for one in take(store, me, 9)] == runs[2:]


def test_a_lease_that_ran_out_is_over_even_before_anybody_has_seen_it(store: Store, base: Proposal) -> None:
    (run,) = offer(store, base)
    me = worker(store)
    (mine,) = take(store, me)
    assert begin(store, mine.held)
    with store.share() as shared:
        shared.exec_driver_sql("UPDATE jobs SET until = 1")
    assert not finish(store, mine.held)
    with store.share() as shared:
        answer = queue.signs(shared, me, [Sign(mine.held, 9.0, "")], lease_s=LEASE_S)
        assert answer == (frozenset({mine.held.job_id}), frozenset())
        assert printed.add(shared, mine.held, "train.log", 0, b"x") is None
        assert not queue.lose(shared, mine.held, reason="late", seconds=9.0, began=True)
    seen = look(store, run)
    assert (seen.state, seen.result, seen.seconds) == ("running", "", 0.0)


def test_what_had_begun_is_lost_with_what_it_used(store: Store, base: Proposal) -> None:
    (run,) = offer(store, base)
    me = worker(store)
    (mine,) = take(store, me)
    begin(store, mine.held)
    with store.share() as shared:
        queue.signs(shared, me, [Sign(mine.held, 7.25, "beat")], lease_s=LEASE_S)
        assert queue.expire(shared) == 0
    assert run_out(store) == 1 and run_out(store) == 0
    seen = look(store, run)
    assert (seen.state, seen.seconds, seen.machine) == (
        "lost",
        7.25,
        True,
    ) and "worker box gave no more sign of life" in seen.reason
    assert take(store, me) == [] and not finish(store, mine.held)


def test_what_had_not_begun_goes_to_the_next_worker_and_the_old_token_is_refused(store: Store, base: Proposal) -> None:
    (run,) = offer(store, base)
    first, second = worker(store, "first"), worker(store, "second")
    (old,) = take(store, first)
    run_out(store)
    assert look(store, run).state == "waiting"
    (new,) = take(store, second)
    assert (new.held.job_id, new.held.token) == (old.held.job_id, old.held.token + 1)
    assert not begin(store, old.held) and begin(store, new.held)
    assert not finish(store, old.held, "{old}") and finish(store, new.held, "{new}")
    assert (look(store, run).result, look(store, run).worker) == ("{new}", "second")


def test_a_job_that_no_worker_lives_to_begin_is_given_up(store: Store, base: Proposal) -> None:
    (run,) = offer(store, base)
    for _ in range(queue.MOST_TAKES):
        assert len(take(store, worker(store))) == 1
        run_out(store)
    seen = look(store, run)
    assert seen.state == "lost" and f"the last of {queue.MOST_TAKES} that took it" in seen.reason and not seen.began


def test_a_machine_that_fails_gives_back_what_had_not_begun(store: Store, base: Proposal) -> None:
    begun, not_begun = offer(store, base, 2)
    one, two = take(store, worker(store), 2)
    begin(store, one.held)
    with store.share() as shared:
        assert queue.lose(shared, one.held, reason="no disk", seconds=3.0, began=True)
        assert queue.lose(shared, two.held, reason="no disk", seconds=0.0, began=False)
    assert (look(store, begun).state, look(store, begun).reason) == ("lost", "no disk")
    assert look(store, not_begun).state == "waiting"


def test_a_job_is_asked_to_end(store: Store, base: Proposal) -> None:
    waits, runs, taken = offer(store, base, 3)
    me = worker(store)
    first, second, third = take(store, me, 3)
    begin(store, second.held)
    with store.share() as shared:
        queue.lose(shared, first.held, reason="", seconds=0.0, began=False)
    with store.write() as tx:
        for run in (waits, runs, taken):
            queue.ask_to_end(tx, run, '{"cancelled"}')
    for run in (waits, taken):  # nothing of them has begun
        assert (look(store, run).state, look(store, run).result) == ("done", '{"cancelled"}')
    assert not begin(store, third.held)
    with store.share() as shared:
        answer = queue.signs(shared, me, [Sign(second.held, 1.0, ""), Sign(third.held, 0.0, "")], lease_s=LEASE_S)
    assert answer.cancelled == {second.held.job_id} and answer.lost == {third.held.job_id}


def test_workers_come_and_go(store: Store, base: Proposal) -> None:
    first, second = worker(store, "first"), worker(store, "second")

    def living() -> list[tuple[str, str]]:
        with store.read() as reads:
            return [(one.name, one.state) for one in workers.alive(reads.connection)]

    with store.share() as shared:
        queue.signs(shared, second, [], lease_s=LEASE_S, draining=True)
    assert living() == [("first", "working"), ("second", "draining")]
    run_out(store)
    assert living() == []
    with store.share() as shared:  # it had only been paused
        queue.signs(shared, first, [], lease_s=LEASE_S)
    assert living() == [("first", "working")]
    with store.share() as shared:
        workers.leave(shared, first)
    assert living() == []


def test_files_are_put_once_and_read_back_whole(store: Store) -> None:
    with store.share() as shared:
        sha = blobs.put(shared, b"x" * 100_000)
        assert blobs.put(shared, b"x" * 100_000) == sha and blobs.has(shared, sha)
        assert shared.exec_driver_sql("SELECT COUNT(*) FROM blobs").scalar() == 1
        assert blobs.get(shared, sha) == b"x" * 100_000
        with pytest.raises(InfraError, match="at most 99,999 bytes"):
            blobs.get(shared, sha, 99_999)
        with pytest.raises(InfraError, match="too big"):
            blobs.put(shared, b"x" * (blobs.MOST + 1))
        shared.exec_driver_sql("UPDATE blobs SET size = 5")  # a row that lies about its size is no bomb
        with pytest.raises(InfraError, match="not what its name says"):
            blobs.get(shared, sha, 50_000)


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_workers_do_at_once_each_job_is_done_once(store: Store, base: Proposal, seed: int) -> None:
    """Threads take, die, dawdle and hand in, while others end leases: what was accepted was the newest token's."""
    runs = offer(store, base, 24)
    accepted: Counter[int] = Counter()
    lock = threading.Lock()

    def work(number: int) -> None:
        draw, me, late = random.Random(f"{seed}/{number}"), worker(store, f"w{number}"), []
        for _ in range(60):
            with store.share() as shared:
                held = take_in(shared, me, ["a", "b"], lease_s=draw.choice([0.0, LEASE_S]))
                queue.expire(shared)
            late += [one.held for one in held]
            draw.shuffle(late)
            while late and draw.random() < 0.7:
                one = late.pop()
                begin(store, one)
                if finish(store, one, str(one.token)):
                    with lock:
                        accepted[one.job_id] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as reads:
        rows = queue.look(reads.connection, runs)
    assert all(count == 1 for count in accepted.values())
    assert {row.id for row in rows.values() if row.state == "done"} == set(accepted)
    assert all(row.result == str(row.token) for row in rows.values() if row.state == "done")
    assert len(accepted) >= 12  # else the test has shown little
