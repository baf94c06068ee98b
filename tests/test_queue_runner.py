"""Runs that go to a worker through the store and come back: real workers, in processes of their own."""

import json
import signal
import time
from pathlib import Path

import pytest
from sqlalchemy import insert

from agent.errors import BusyError, InfraError, MissingError
from agent.job.folder import JobPaths
from agent.runners.queue.runner import QueueRunner
from agent.store import Store, open_store, printed, queue, workers
from agent.store.lease import hold
from agent.store.schema import job_logs
from agent.track import parse
from tests import postgres, proxying, working
from tests.processes import alive, mentioning, until


def state(store: Store, run_id: int) -> queue.JobRow:
    with store.read() as reads:
        return queue.look(reads.connection, [run_id])[run_id]


def test_a_run_goes_to_a_worker_and_comes_back(store: Store, tmp_path: Path) -> None:
    _, base = working.campaign(store)
    with working.worker(store, tmp_path / "far") as box, hold(store, "campaign night"):
        runner = working.runner(store)
        (slot,) = runner.slots
        order, folder = working.order(store, base, tmp_path / "jobs", working.QUICK, runner.hardware_class(slot))
        runner.submit(order, folder, slot)
        runner.submit(order, folder, slot)  # as after a crash
        until(lambda: runner.poll(folder) in ("done", "lost"), 60)
        result = runner.collect(folder)
        assert (result.outcome, result.run_id, result.ran) == ("ok", order.run_id, True)
        paths = JobPaths(folder)
        assert paths.train_log.read_text() == "hello\n"
        assert (paths.out / "model.bin").read_bytes() == b"m" * 1000
        assert paths.result.read_text() == state(store, order.run_id).result
        assert runner.ended([folder]) == {folder}
        box.send_signal(signal.SIGINT)
        assert box.wait(30) == 0
        with store.read() as reads:
            assert workers.alive(reads.connection) == []
    assert not list((tmp_path / "far" / ".caddie" / "work-box" / "jobs").iterdir())


def begun(store: Store, base: object, runner: QueueRunner, tmp_path: Path) -> Path:
    """A long run that a worker has begun."""
    slot = runner.slots[0]
    order, folder = working.order(store, base, tmp_path / "jobs", working.LONG, runner.hardware_class(slot))  # type: ignore[arg-type]
    runner.submit(order, folder, slot)
    until(lambda: state(store, order.run_id).seconds > 0, 60, "a sign of life")
    return folder


def ended_alone(store: Store, run_id: int) -> bool:
    """Whether it is lost, by what others than its campaign's controller do."""
    with store.share() as shared:
        queue.expire(shared)
    return state(store, run_id).state == "lost"


def said(store: Store, run_id: int, words: bytes) -> None:
    job = state(store, run_id).id
    with store.write() as tx:
        at = printed.ends(tx.connection, [job]).get((job, "train.log"), 0)
        values = {"job_id": job, "name": "train.log", "at": at, "body": words}
        tx.connection.execute(insert(job_logs).values(values))


@pytest.mark.slow
def test_the_runs_of_a_worker_that_was_killed_are_lost_and_end(store: Store, tmp_path: Path) -> None:
    _, base = working.campaign(store)
    far = tmp_path / "far"
    with working.worker(store, far, lease_s=3.0) as box, hold(store, "campaign night"):
        runner = working.runner(store)
        folder = begun(store, base, runner, tmp_path)
        until(lambda: runner.progress(folder) is not None or runner.poll(folder) != "running", 20)
        assert runner.poll(folder) == "running"
        box.kill()
        run_id = int(folder.name[1:])
        until(lambda: ended_alone(store, run_id), 30, "its lease is over")
        said(store, run_id, b"the last words")  # they came when nobody here looked
        until(lambda: runner.poll(folder) == "lost", 30)
        assert JobPaths(folder).train_log.read_text().endswith("the last words")
        loss = runner.loss(folder)
        assert (
            loss.ran and loss.machine and 0 < loss.slot_s < 30 and "worker box gave no more sign of life" in loss.reason
        )
        until(lambda: not mentioning(f"CADDIE_JOB={far}"), 30, "nothing is left of it")
        assert runner.slots == ()
        assert runner.poll(folder) == "lost"


@pytest.mark.long
def test_a_worker_that_comes_again_in_time_goes_on_with_what_it_held(store: Store, tmp_path: Path) -> None:
    _, base = working.campaign(store)
    script = working.LONG.replace("40", "9")
    with hold(store, "campaign night"), working.worker(store, tmp_path / "far", lease_s=90.0) as box:
        runner = working.runner(store)
        slot = runner.slots[0]
        order, folder = working.order(store, base, tmp_path / "jobs", script, runner.hardware_class(slot))
        runner.submit(order, folder, slot)
        until(lambda: state(store, order.run_id).seconds > 0, 60)
        box.kill()
        box.wait()
        with working.worker(store, tmp_path / "far", lease_s=90.0):
            until(lambda: runner.poll(folder) in ("done", "lost"), 60)
        assert runner.collect(folder).outcome == "ok"
        assert state(store, order.run_id).token == 1
        assert JobPaths(folder).train_log.read_text() == "begun\n"


@pytest.mark.long
def test_a_worker_that_was_stopped_past_its_lease_is_fenced(store: Store, tmp_path: Path) -> None:
    """What it brings is refused, and what it runs is ended; then it works on."""
    _, base = working.campaign(store)
    far = tmp_path / "far"
    script = working.LONG.replace("40", "4")  # over before the worker wakes up: it has a result in hand
    with hold(store, "campaign night"), working.worker(store, far, lease_s=2.0) as box:
        runner = working.runner(store)
        slot = runner.slots[0]
        order, folder = working.order(store, base, tmp_path / "jobs", script, runner.hardware_class(slot))
        runner.submit(order, folder, slot)
        until(lambda: state(store, order.run_id).seconds > 0, 60)
        with store.share() as shared:  # so that it is not in the middle of a write of its own, which would keep SQLite
            shared.exec_driver_sql("UPDATE jobs SET slot = slot")
            box.send_signal(signal.SIGSTOP)
        until(lambda: runner.poll(folder) == "lost", 30)
        until(lambda: list(far.rglob("result.json")), 30)
        box.send_signal(signal.SIGCONT)
        until(lambda: not list(far.rglob("result.json")), 30)
        seen = state(store, order.run_id)
        assert (seen.state, seen.result, seen.outputs) == ("lost", "", {})
        again, second = working.order(store, base, tmp_path / "jobs", working.QUICK, runner.hardware_class(slot), 1)
        runner.submit(again, second, slot)
        until(lambda: runner.poll(second) in ("done", "lost"), 60)
        assert runner.collect(second).outcome == "ok"


@pytest.mark.long
def test_a_worker_whose_link_to_the_store_is_half_open_ends_what_it_runs_and_comes_back(tmp_path: Path) -> None:
    """Its question is never answered, so it waits; what it holds is over all the same, and nobody pays for it."""
    store = open_store(postgres.fresh_url())
    _, base = working.campaign(store)
    far, direct = tmp_path / "far", store.url
    with (
        proxying.way_to(direct.port or 0) as way,
        hold(store, "campaign night"),
        working.worker(
            store, far, lease_s=3.0, through=direct.set(port=way.port).render_as_string(hide_password=False)
        ),
    ):
        runner = working.runner(store)
        first = runner.slots[0]
        kind = runner.hardware_class(first)
        folder = begun(store, base, runner, tmp_path)
        (at,) = far.rglob("pid.json")
        shepherd = json.loads(at.read_text())["pid"]
        way.freeze()
        until(lambda: runner.poll(folder) == "lost", 20)
        until(lambda: not alive(shepherd), 15, "the end of what nobody waits for")
        way.thaw()
        slot = next(iter(runner.slots), first)
        order, second = working.order(store, base, tmp_path / "jobs", working.QUICK, kind, 2)
        runner.submit(order, second, slot)
        until(lambda: runner.poll(second) in ("done", "lost"), 60)
        assert runner.collect(second).outcome == "ok"
        seen = state(store, int(folder.name[1:]))
        assert (seen.state, seen.result, seen.outputs) == ("lost", "", {}) and runner.loss(folder).ran
    store.close()


def test_a_server_that_is_silent_is_not_waited_for_for_hours() -> None:
    store = open_store(f"{postgres.fresh_url()}?keepalives_count=9")
    with store.read() as reads:
        link = reads.connection.connection.driver_connection
        assert link is not None
        known = link.info.get_parameters()
    wanted = {"connect_timeout": "10", "keepalives_idle": "10", "keepalives_count": "9", "tcp_user_timeout": "30000"}
    assert {name: known.get(name) for name in wanted} == wanted
    store.close()


@pytest.mark.slow
def test_a_run_is_cancelled_before_and_after_it_was_taken(store: Store, tmp_path: Path) -> None:
    _, base = working.campaign(store)
    with hold(store, "campaign night"), working.worker(store, tmp_path / "far", lease_s=2.0):
        runner = working.runner(store, ahead=1)
        assert len(runner.slots) == 2
        folder = begun(store, base, runner, tmp_path)
        kind = runner.hardware_class(runner.slots[0])
        order, waits = working.order(store, base, tmp_path / "jobs", working.LONG, kind)
        runner.submit(order, waits, runner.slots[1])
        for one in (waits, folder):
            runner.cancel(one)
            until(lambda one=one: runner.poll(one) in ("done", "lost"), 30)  # type: ignore[misc]
            assert runner.collect(one).outcome == "cancelled"
        assert (runner.collect(waits).ran, runner.collect(folder).ran) == (False, True)
        assert runner.collect(folder).slot_s > 0 == runner.collect(waits).slot_s


@pytest.mark.slow
def test_ctrl_c_twice_ends_what_runs_and_another_worker_may_run_it_anew(store: Store, tmp_path: Path) -> None:
    _, base = working.campaign(store)
    with hold(store, "campaign night"), working.worker(store, tmp_path / "far") as box:
        runner = working.runner(store)
        folder = begun(store, base, runner, tmp_path)
        box.send_signal(signal.SIGINT)
        until(lambda: "taking nothing more" in (tmp_path / "far" / "box.log").read_text())
        assert box.poll() is None
        box.send_signal(signal.SIGINT)
        assert box.wait(30) == 0
        until(lambda: runner.poll(folder) == "lost", 10)
        loss = runner.loss(folder)
        assert loss.ran and loss.machine and "worker box was told to stop" in loss.reason


def test_only_who_holds_the_campaign_lays_runs_out(store: Store, tmp_path: Path) -> None:
    _, base = working.campaign(store)
    with store.share() as shared:
        workers.register(
            shared, name="a", host="h", pid=1, hardware_class="cpu/x", slots=3, level="landlock", lease_s=60.0
        )
    runner = working.runner(store, ahead=1)
    assert len(runner.slots) == 4 and {runner.hardware_class(slot) for slot in runner.slots} == {"cpu/x"}
    assert runner.level(None) == "landlock"  # type: ignore[arg-type]
    assert runner.notes == ("3 slots of 1 workers: a",)
    order, folder = working.order(store, base, tmp_path / "jobs", working.QUICK, "cpu/x")
    with pytest.raises(BusyError, match="not held by this process"):
        runner.submit(order, folder, runner.slots[0])
    assert runner.poll(folder) == "lost" and not runner.loss(folder).ran
    with hold(store, "campaign night"):
        runner.submit(order, folder, runner.slots[0])
        assert runner.poll(folder) == "starting"
        with pytest.raises(InfraError, match="no worker has ever had such a one"):
            runner.hardware_class("workers/abcdef.0")


def test_slots_and_level_are_those_of_workers_that_may_take_its_runs(store: Store) -> None:
    """A slot whose worker has no walls would be waited for for ever."""
    working.campaign(store)

    def join(name: str, kind: str, slots: int, level: str) -> None:
        with store.share() as shared:
            at = {"name": name, "host": "h", "pid": 1, "hardware_class": kind, "level": level}
            workers.register(shared, **at, slots=slots, lease_s=600.0)  # type: ignore[arg-type]

    def said() -> tuple[set[str], int, str]:
        runner = working.runner(store, ahead=0)
        kinds = {runner.hardware_class(slot) for slot in runner.slots}
        assert {runner.hardware_class(slot) for slot in runner.pinned(list).values()} == kinds
        return kinds, len(runner.slots), runner.level(None)  # type: ignore[arg-type]

    join("weak", "cpu/x", 3, "base")
    assert said() == ({"cpu/x"}, 3, "base")
    join("good", "cpu/y", 2, "namespaces")
    assert said() == ({"cpu/y"}, 2, "namespaces")
    join("fair", "cpu/x", 1, "landlock")
    assert said() == ({"cpu/x", "cpu/y"}, 3, "landlock")
    with store.share() as shared:
        shared.exec_driver_sql("UPDATE workers SET state = 'gone' WHERE name <> 'weak'")
    assert said() == (set(), 0, "landlock")  # others like them may come


def test_without_a_worker_that_fits_it_is_said_how_to_start_one(store: Store) -> None:
    working.campaign(store)
    with pytest.raises(MissingError, match="agent work --track toy --store URL"):
        QueueRunner("workers", store, parse(working.TRACK, "toy"))


def test_what_a_worker_says_is_checked_before_it_is_believed(tmp_path: Path) -> None:
    """Whoever has the store's password can write rows; the controller's folder takes no harm from them."""
    store = open_store(tmp_path / "runs.db")
    _, base = working.campaign(store)
    with store.share() as shared:
        workers.register(
            shared, name="a", host="h", pid=1, hardware_class="cpu/x", slots=9, level="landlock", lease_s=600.0
        )
    runner = working.runner(store)
    with hold(store, "campaign night"):
        for outputs, result, words in (
            ('{"../../evil": "0"}', "{}", "which no job has"),
            ('{"artifact": "0"}', "{}", "the store has no file"),
            ("{}", "no JSON", "is damaged"),
        ):
            order, folder = working.order(store, base, tmp_path / "jobs", working.QUICK, "cpu/x")
            runner.submit(order, folder, runner.slots[0])
            with store.share() as shared:
                values = {"outputs": outputs, "result": result, "run": order.run_id}
                shared.exec_driver_sql(
                    "UPDATE jobs SET state = 'done', outputs = :outputs, result = :result WHERE run_id = :run", values
                )
            time.sleep(0.6)
            if runner.poll(folder) == "lost":
                assert words in JobPaths(folder).lost.read_text()
            else:
                with pytest.raises(InfraError, match=words):
                    runner.collect(folder)
    store.close()
