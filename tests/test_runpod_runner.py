"""Runs on rented pods: the stand-in's pods are a real sshd; there a real shepherd runs them, and the real judge."""

import hashlib
import threading
import time
from pathlib import Path

import pytest

from agent.admission.__main__ import LARGE
from agent.errors import BudgetExceeded, InfraError, StoreError, UserError
from agent.machines import book
from agent.machines.records import BadRequest, Limits
from agent.machines.sweep import settle
from agent.runners import NEW
from agent.runners.rented.keeper import Keeper
from agent.runners.rented.prices import UNKNOWN_USD
from tests.processes import until
from tests.renting import HOUR
from tests.runpod import H100, PLACES, QUICK, Course
from tests.runpod_pool import Pool
from tests.zoo_runs import TOML

PCIE = "NVIDIA H100 PCIe"


def settled(pool: Pool) -> None:
    pool.stand.advance(3 * HOUR)
    settle(pool.renter(pool.settings))
    with pool.store.read() as reads:
        balance = reads.balance(1)
    assert balance.reserved.usd == 0.0 and balance.settled.usd == pytest.approx(pool.stand.billed(), abs=0.005)


@pytest.mark.slow
def test_a_pod_is_rented_for_a_run_used_and_given_back(pool: Pool, tmp_path: Path) -> None:
    pool.stand.courses.append(Course())
    runner = pool.runner()
    assert (runner.slots, runner.price("runpod/0")) == (("runpod/0",), pytest.approx(3.5, abs=0.01))
    before = runner.hardware_class("runpod/0")
    runner.step()
    assert pool.stand.pods == {}  # nobody asked for anything
    paths = pool.job(runner)
    assert runner.poll(paths.folder) == "starting"
    pool.until(runner, lambda: runner.poll(paths.folder) in ("done", "lost"))
    assert runner.poll(paths.folder) == "done", runner.loss(paths.folder)
    assert runner.collect(paths.folder).outcome == "ok" and paths.measure.exists()
    assert runner.price("runpod/0") == pytest.approx(3.5, abs=0.01)
    assert runner.hardware_class("runpod/0") == before == f"cpu/runpod/{H100}"
    (timer,) = (tmp_path / "timers").iterdir()
    assert int(timer.read_text()) > time.time() + 3 * HOUR  # moved by the pod's own clock
    pool.until(runner, lambda: not pool.stand.living(), step_s=30)
    assert pool.rows() == [f"gone {PLACES[0]} idle"]
    settled(pool)


@pytest.mark.long
def test_pods_that_are_no_good_are_followed_by_others(pool: Pool) -> None:
    pool.stand.courses.extend([Course(running=None), Course(port=None), Course(error=5.0), QUICK])
    runner = pool.runner()
    paths = pool.job(runner)
    pool.until(runner, lambda: runner.poll(paths.folder) in ("done", "lost"), step_s=20)
    assert runner.poll(paths.folder) == "done"
    states = pool.rows()
    assert [state.split()[0] for state in states] == ["gone", "gone", "gone", "live"]
    assert "STARTING" in states[0] and "no public port" in states[1] and "ERROR" in states[2]
    runner.close()
    assert pool.stand.living() == []
    settled(pool)


@pytest.mark.long
def test_a_pod_that_vanishes_loses_its_run_and_the_next_gets_another(pool: Pool) -> None:
    pool.stand.courses.append(QUICK)
    runner = pool.runner()
    first = pool.job(runner)
    pool.until(runner, lambda: runner.poll(first.folder) == "running")
    (pod,) = pool.stand.living()
    pod.end(pool.stand.at)
    pool.server.stop()
    pool.stand.advance(HOUR / 30)
    pool.until(runner, lambda: runner.poll(first.folder) in ("done", "lost"))
    assert runner.poll(first.folder) == "lost", runner.collect(first.folder)
    assert runner.loss(first.folder).ran
    pool.server.start(new_key=True)
    pool.stand.courses.append(QUICK)
    second = pool.job(runner, 2)
    pool.until(runner, lambda: runner.poll(second.folder) == "done")
    runner.close()
    assert pool.stand.living() == [] and [state.split()[0] for state in pool.rows()] == ["gone", "gone"]


@pytest.mark.long
def test_a_pod_is_given_up_for_lasting_silence_and_not_for_a_link_that_broke(pool: Pool) -> None:
    pool.stand.courses.append(QUICK)
    runner = pool.runner(idle_s=2 * HOUR, port_s=300.0)
    paths = pool.job(runner)
    pool.until(runner, lambda: runner.poll(paths.folder) == "done")
    pool.stand.advance(HOUR)
    keeper = runner._keepers["runpod/0"]
    for broken in (True, False, True):
        (pool.server.stop if broken else pool.server.start)()
        until(lambda: (keeper.place == "") == broken, what=f"{keeper.place}")  # noqa: B023
        for _ in range(2):
            pool.stand.advance(140)
            runner.step()
        assert pool.rows()[0].startswith("live")
    pool.stand.advance(200)
    runner.step()
    assert pool.rows()[0].startswith(f"refused {PLACES[0]} nothing can be started on it")
    pool.server.start()
    runner.close()


@pytest.mark.slow
def test_a_pod_that_never_hears_until_when_it_is_paid_is_given_back(pool: Pool, tmp_path: Path) -> None:
    """Its disk is full, say: it answers, and its timer would end it under a run."""
    runner, paths = pool.deaf(tmp_path / "timers")
    assert pool.rows()[0].startswith("live") and runner.poll(paths.folder) == "starting"
    pool.stand.advance(310)
    pool.stand.courses.append(QUICK)
    runner.step()
    assert pool.rows()[0].startswith(f"refused {PLACES[0]} nothing can be started on it: ")
    (tmp_path / "timers").mkdir()
    pool.until(runner, lambda: runner.poll(paths.folder) == "done")  # on another one


@pytest.mark.long
def test_no_run_goes_to_a_pod_that_does_not_know_yet_that_it_is_paid_for_longer(pool: Pool, tmp_path: Path) -> None:
    pool.stand.courses.append(QUICK)
    runner = pool.runner(idle_s=9 * HOUR)
    first = pool.job(runner)
    pool.until(runner, lambda: runner.poll(first.folder) == "done")
    (timer,) = (tmp_path / "timers").iterdir()
    pool.stand.advance(runner._rental.terms.lease_hours * HOUR - 60)
    (tmp_path / "timers").rename(tmp_path / "away")
    second = pool.job(runner, 2)
    for _ in range(3):
        runner.step()
        assert runner.poll(second.folder) == "starting" and pool.rows()[0].startswith("live")
        assert "its timer can't be moved" in runner._keepers["runpod/0"].why
    (tmp_path / "away").rename(tmp_path / "timers")
    before = timer.stat().st_mtime_ns
    pool.until(runner, lambda: runner.poll(second.folder) == "done")
    assert timer.stat().st_mtime_ns > before


@pytest.mark.long
def test_a_killed_controllers_pod_and_run_are_found_again(pool: Pool) -> None:
    pool.stand.courses.append(QUICK)
    one = pool.runner()
    paths = pool.job(one)
    pool.until(one, lambda: one.poll(paths.folder) == "running")
    one._ssh.close()
    looked: list[str] = []
    other = pool.runner(admit=lambda machine, far: looked.append(machine.name) or "")
    assert other.poll(paths.folder) in ("starting", "running")
    for _ in range(3):
        pool.stand.advance(60)  # longer than a pod may be idle
        other.step()
    pool.until(other, lambda: other.poll(paths.folder) in ("done", "lost"))
    assert other.poll(paths.folder) == "done" and len(pool.stand.pods) == 1
    assert pool.rows()[0].startswith("live") and looked == []  # nothing disturbed it
    other.close()
    assert pool.stand.living() == []


def test_a_run_that_waits_for_a_pod_is_found_again_and_can_be_cancelled(pool: Pool) -> None:
    pool.stand.none_left = {(H100, "")}
    paths = pool.job(pool.runner())
    other = pool.runner()
    assert other.poll(paths.folder) == "starting"
    other.step()
    assert "none of 3 candidates" in other._keepers["runpod/0"].why and other.poll(paths.folder) == "starting"
    other.cancel(paths.folder)
    other.step()
    assert other.poll(paths.folder) == "done" and other.collect(paths.folder).outcome == "cancelled"
    assert pool.stand.pods == {} and set(pool.rows()) == {pool.rows()[0]}


def test_a_price_that_nobody_said_is_not_nothing(pool: Pool) -> None:
    pool.stand.storm = lambda method, path: "500" if "catalog" in path else None
    runner = pool.runner()
    assert runner.price("runpod/0") == UNKNOWN_USD
    pool.stand.storm = lambda method, path: None
    pool.job(runner)
    runner.step()
    assert runner.price("runpod/0") == pytest.approx(3.5, abs=0.01)
    runner.close()


def test_no_money_no_pod(pool: Pool) -> None:
    runner = pool.runner(limits=Limits(usd_per_day=1.0))
    paths = pool.job(runner)
    runner.step()
    assert runner.poll(paths.folder) == "lost" and not runner.loss(paths.folder).ran
    with pytest.raises(BudgetExceeded, match="a day"):
        _ = runner.slots
    pool.stand.balance = 0.0
    runner = pool.runner()
    paths = pool.job(runner, 2)
    runner.step()
    with pytest.raises(UserError, match="Add credit"):
        _ = runner.slots
    assert pool.stand.pods == {} and runner.poll(paths.folder) == "lost"


def test_another_kind_is_for_the_runs_to_come(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    toml = TOML.replace('kind = "cpu"', 'kind = "cuda", gpus = 1, device = "H100"')
    assert toml != TOML
    runner = pool.runner(toml=toml, gpu=(H100, PCIE))
    pool.stand.none_left = {(H100, "")}
    paths = pool.job(runner)
    assert runner.hardware_class("runpod/0") == f"cuda/{H100}/1"
    runner.step()
    assert runner.poll(paths.folder) == "lost" and PCIE in runner.loss(paths.folder).reason
    (slot,) = runner.slots
    assert (slot, runner.hardware_class(slot)) == ("runpod/h100-pcie-0", f"cuda/{PCIE}/1")
    assert runner.hardware_class("runpod/0") == f"cuda/{H100}/1"
    second = pool.job(runner, 2, slot)
    runner.step()
    (pod,) = pool.stand.living()
    assert pod.body["gpu"]["id"] == PCIE and runner.poll(second.folder) == "starting"
    monkeypatch.setattr("agent.runners.rented.slots.TURN_S", 0.0)
    assert runner.slots == (slot,)  # it has its pod; later the first kind is asked for again
    runner.cancel(second.folder)
    runner.step()
    runner.close()
    assert pool.stand.living() == [] and runner.slots == ("runpod/0",)


@pytest.mark.slow
def test_a_pod_that_is_not_good_enough_is_sent_back(pool: Pool) -> None:
    pool.stand.courses.append(QUICK)
    runner = pool.runner(admit=lambda machine, far: "GPU 3 runs at 900 MHz")
    pool.job(runner)
    pool.until(runner, lambda: any("refused" in row for row in pool.rows()))
    assert pool.rows()[0] == f"refused {PLACES[0]} GPU 3 runs at 900 MHz"
    runner.step()
    assert [one.place for one in pool.stand.living()] == [PLACES[1]]  # not where that one was
    runner.close()


@pytest.mark.long
def test_a_new_pod_shows_itself_before_it_is_paid_to_work(pool: Pool) -> None:
    pool.stand.courses.append(QUICK)
    runner = pool.runner(admit=None)
    pool.job(runner)
    pool.until(runner, lambda: pool.seen() != [], within_s=300)
    with pool.store.read() as reads:
        (machine,) = book.everyone(reads, over=True)
    ((lease, ok, reasons),) = pool.seen()
    assert lease == f"m{machine.id}" == runner.lease("runpod/0") or machine.refused
    # This machine may be too weak for anything; then it was sent back, and the reasons are the check's.
    assert ok == (machine.state == "live"), (machine, reasons)
    assert ok or machine.refused == "; ".join(reasons)
    runner.close()


@pytest.mark.long
def test_a_pod_on_which_the_validation_text_lies_is_sent_back(pool: Pool) -> None:
    pool.stand.courses.append(QUICK)
    blobs = pool.world.far / "blobs"
    blobs.mkdir(parents=True, mode=0o700)
    (text,) = (pool.world.workspace / ".caddie" / "data" / "docs" / "val").iterdir()
    for data in (text.read_bytes(), bytes(LARGE)):  # beside what may be data, where it is looked at
        (blobs / hashlib.sha256(data).hexdigest()).write_bytes(data)
    runner = pool.runner(admit=None)
    pool.job(runner)
    pool.until(runner, lambda: pool.seen() != [], within_s=300)
    ((_, ok, reasons),) = pool.seen()
    assert not ok and any("it holds the validation text" in reason for reason in reasons), reasons
    runner.close()


@pytest.mark.slow
def test_a_pod_that_is_not_what_it_was_takes_no_further_run(pool: Pool) -> None:
    pool.stand.courses.extend([QUICK, QUICK])
    with pool.store.write() as tx:
        head = tx.head(pool.campaign.id)
        run = tx.add_run(
            1, head.id, None, rung="decide", purpose="report", seed=1, attempt=1, hardware_class="", script_sha="s"
        )
    runner = pool.runner()
    assert runner.lease("runpod/0") == NEW
    paths = pool.job(runner, run.id)
    pool.until(runner, lambda: runner.poll(paths.folder) == "running")
    assert runner.lease("runpod/0") == "m1"
    with pool.store.read() as reads:
        assert reads.run(run.id).lease == "m1"  # it was booked before there was a pod
    runner.refuse("m7", "another one")
    runner.refuse("m1", "its steps take 3 % longer")
    pool.until(runner, lambda: runner.poll(paths.folder) == "done")
    pool.job(runner, 2)
    pool.until(runner, lambda: runner.lease("runpod/0") == "m2")
    assert pool.rows()[0].startswith("refused") and pool.rows()[0].endswith("its steps take 3 % longer")
    runner.close()
    assert pool.stand.living() == []


def test_a_job_that_is_given_back_says_what_became_of_its_last_pod(pool: Pool) -> None:
    pool.stand.courses.extend([Course(error=5.0)] * 4)
    runner = pool.runner()
    paths = pool.job(runner)
    pool.until(runner, lambda: runner.poll(paths.folder) == "lost", step_s=20)
    said = "4 machines in a row came to nothing; the last: ended by itself: ERROR"
    assert runner.loss(paths.folder).reason == said and not runner.loss(paths.folder).ran


def test_a_fault_of_ours_leaves_no_slot_and_no_job_to_nobody(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    pool.stand.none_left = {(H100, "")}
    runner = pool.runner()
    paths = pool.job(runner)
    keeper = runner._keepers["runpod/0"]
    keeping = threading.Thread(target=runner._keep, args=(keeper,), daemon=True)
    with monkeypatch.context() as broken:
        broken.setattr(Keeper, "_step", lambda self: 1 // 0)
        keeping.start()
        until(lambda: runner.poll(paths.folder) == "lost")
    assert "a fault of Caddie's: ZeroDivisionError" in runner.loss(paths.folder).reason
    second = pool.job(runner, 2)
    until(lambda: "none of 3 candidates" in keeper.why, what=keeper.why)
    assert runner.poll(second.folder) == "starting" and keeping.is_alive()
    runner.close()
    keeping.join(30)
    assert not keeping.is_alive()


def test_one_machine_that_can_not_be_ended_keeps_no_other_from_it(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = pool.runner(slots=2)
    for number in range(2):
        pool.job(runner, number + 1, f"runpod/{number}")
    pool.until(runner, lambda: len(pool.stand.living()) == 2)
    end, first = Keeper.end, runner._keepers["runpod/0"]

    def refuses(keeper: Keeper, reason: str) -> bool:
        if keeper is first:
            raise StoreError("the disk is full")
        return end(keeper, reason)

    monkeypatch.setattr(Keeper, "end", refuses)
    with pytest.raises(InfraError, match=f"^{first.lease}: did not end yet; .*the disk is full$"):
        runner.close()
    assert first.machine is not None
    assert [pod.id for pod in pool.stand.living()] == [first.machine.provider_id]


def test_what_a_person_has_mended_ends_nothing_later(pool: Pool) -> None:
    runner = pool.runner()
    pool.stand.rule = "no such image"
    lost = pool.job(runner)
    pool.until(runner, lambda: runner.poll(lost.folder) == "lost", step_s=20)
    with pytest.raises(BadRequest, match="no such image"):
        _ = runner.slots
    pool.stand.rule = ""
    paths = pool.job(runner, 2)
    pool.until(runner, lambda: runner.poll(paths.folder) in ("done", "lost"))
    pool.until(runner, lambda: pool.stand.living() == [], step_s=20)
    assert runner.slots


def test_a_slot_has_one_job(pool: Pool) -> None:
    pool.stand.none_left = {(H100, "")}
    runner = pool.runner()
    pool.job(runner)
    with pytest.raises(InfraError, match="has the job in"):
        pool.job(runner, 2)
    with pytest.raises(InfraError, match="there is no slot runpod/7"):
        pool.job(runner, 3, "runpod/7")
