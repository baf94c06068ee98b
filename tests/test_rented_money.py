"""What a person allows for rented machines: no cap is passed, and money that is left is used."""

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from agent.errors import BudgetExceeded, UserError
from agent.machines import book
from agent.machines.records import Limits, Machine, NoCapacity, SpentToday
from agent.machines.renting import rent
from agent.records import Campaign
from agent.runners.runpod.pods import Pods
from agent.store import Store
from tests.renting import HOUR, PLACED, PRICE, not_written, opened, renter
from tests.runpod import H100, PLACES, QUICK, Course, StandIn
from tests.runpod_pool import Pool

WORST = PRICE * (4 * HOUR + 300) / HOUR
DEARER = Course(starting=0, running=0, port=0, dearer=1.5)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[tuple[Store, Campaign]]:
    store, campaign = opened(tmp_path)
    yield store, campaign
    store.close()


@pytest.mark.parametrize(
    ("limits", "error", "words"),
    [
        (Limits(usd_per_lease=1.2 * WORST), BudgetExceeded, "a lease may cost"),
        (Limits(usd_per_run=1.2 * PRICE), BudgetExceeded, "a run may cost"),
        (Limits(usd_per_day=1.2 * WORST), SpentToday, "a day: 14"),
    ],
)
def test_a_pod_that_is_dearer_passes_no_cap_of_a_person(
    stand: StandIn, kept: tuple[Store, Campaign], limits: Limits, error: type[Exception], words: str
) -> None:
    stand.courses.append(DEARER)
    with pytest.raises(error, match=words):
        rent(renter(stand, kept[0], limits), 1, PLACED, 4 * HOUR, HOUR)
    with kept[0].read() as reads:
        (row,) = book.everyone(reads, over=True)
    assert row.state == "gone" and row.reason.startswith("dearer than it was said to be") and stand.living() == []


def machines(pool: Pool) -> list[Machine]:
    with pool.store.read() as reads:
        return book.everyone(reads, over=True)


def hours(machine: Machine) -> float:
    return (datetime.fromisoformat(machine.until) - datetime.fromisoformat(machine.created)).total_seconds() / HOUR


def test_a_lease_is_as_long_as_there_is_money_for(pool: Pool) -> None:
    runner = pool.runner(slots=2, lease_hours=20.0)  # of which a hundred dollars pay one
    for number in range(2):
        pool.job(runner, number + 1, f"runpod/{number}")
    runner.step()
    long, short = machines(pool)
    assert hours(long) == pytest.approx(20.0) and 0.5 < hours(short) < 1.0
    runner.close()
    assert pool.stand.living() == []


def test_who_finds_no_money_waits_for_what_others_give_back(pool: Pool) -> None:
    runner = pool.runner(slots=2, lease_hours=28.0)
    first, second = (pool.job(runner, number + 1, f"runpod/{number}") for number in range(2))
    runner.step()
    assert runner.poll(second.folder) == "lost" and "would pass the cap" in runner.loss(second.folder).reason
    assert runner.slots == ("runpod/0",)  # no other one is to be had while this one is there
    runner.cancel(first.folder)
    pool.until(runner, lambda: pool.stand.living() == [], step_s=60)
    assert runner.slots == ("runpod/0", "runpod/1")
    third = pool.job(runner, 3)
    runner.step()
    assert runner.poll(third.folder) == "starting" and len(pool.stand.living()) == 1
    runner.close()


def test_money_of_a_pod_that_never_came_is_there_for_others(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second slot asked for its pod while the first one's was being made."""
    runner = pool.runner(slots=2, lease_hours=28.0, gpu=(H100, "NVIDIA H100 PCIe"))
    jobs = [pool.job(runner, number + 1, f"runpod/{number}") for number in range(2)]

    def create(*asked: object) -> None:
        runner._keepers["runpod/1"].step()
        raise NoCapacity("no capacity for this kind")

    monkeypatch.setattr(Pods, "create", create)
    runner._keepers["runpod/0"].step()
    assert [runner.poll(job.folder) for job in jobs] == ["lost", "lost"]
    assert "would pass the cap" in runner.loss(jobs[1].folder).reason
    assert runner.slots == ("runpod/h100-pcie-0", "runpod/h100-pcie-1")


def test_a_day_that_is_spent_is_waited_for(pool: Pool) -> None:
    runner = pool.runner(slots=2, limits=Limits(usd_per_day=WORST + 1.0))
    first, second = (pool.job(runner, number + 1, f"runpod/{number}") for number in range(2))
    runner.step()
    assert "a day: 14" in runner._keepers["runpod/1"].why
    assert runner.poll(second.folder) == "starting" and runner.slots == ("runpod/0", "runpod/1")
    runner.cancel(first.folder)
    pool.until(runner, lambda: len(machines(pool)) == 2, step_s=60)
    assert runner.poll(second.folder) == "starting"
    runner.close()


def test_a_busy_moment_of_the_database_is_nobodys_fault(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = pool.runner(volume="vol1")
    desk = runner._desk
    assert desk is not None
    held = aside(pool)
    pool.stand.advance(13 * HOUR)  # more is to be set aside for the volume
    pool.stand.seen.clear()
    not_written(monkeypatch, lambda: ("GET", "/v2/network-volumes") in pool.stand.seen)
    runner._compare(desk)
    assert desk.fault is None and runner.slots == ("runpod/0",) and aside(pool) == held
    runner._compare(desk)  # the next time
    assert desk.fault is None and aside(pool) > 1.4 * held
    volumes, pool.stand.volumes = pool.stand.volumes, []
    runner._compare(desk)
    with pytest.raises(UserError, match="no network volume 'vol1'"):
        _ = runner.slots
    pool.stand.volumes = volumes
    runner._compare(desk)
    assert runner.slots == ("runpod/0",)


def aside(pool: Pool) -> float:
    with pool.store.read() as reads:
        return reads.balance(pool.campaign.id).reserved.usd


@pytest.mark.long
def test_a_lease_that_may_not_be_longer_is_followed_by_another_one(pool: Pool) -> None:
    pool.stand.courses.extend([QUICK, QUICK])
    runner = pool.runner(idle_s=9 * HOUR, limits=Limits(usd_per_lease=WORST + 0.1))
    first = pool.job(runner)
    pool.until(runner, lambda: runner.poll(first.folder) == "done")
    pool.stand.advance(4 * HOUR - 60)
    second = pool.job(runner, 2)
    pool.until(runner, lambda: runner.poll(second.folder) in ("done", "lost"))
    assert runner.poll(second.folder) == "done"
    assert pool.rows() == [f"gone {PLACES[0]} no more of its time may be paid", f"live {PLACES[0]} "]
    assert runner.slots == ("runpod/0",)
    runner.close()


@pytest.mark.slow
def test_a_clock_that_is_set_back_gives_no_pod_more_than_is_paid(pool: Pool, tmp_path: Path) -> None:
    pool.stand.courses.append(QUICK)
    runner, right = pool.runner(), pool.stand.clock
    desk = runner._desk
    assert desk is not None
    desk.renter = replace(desk.renter, clock=lambda: right() + timedelta(hours=2))
    pool.job(runner)
    runner.step()
    assert pool.rows() == [f"creating {PLACES[0]} "]
    desk.renter = replace(desk.renter, clock=right)
    pool.until(runner, lambda: runner._keepers["runpod/0"]._handed is not None)
    (timer,) = (tmp_path / "timers").iterdir()
    assert 3.9 * HOUR < int(timer.read_text()) - time.time() < 4.1 * HOUR
    runner.close()


@pytest.mark.slow
def test_a_run_that_may_not_cost_so_much_goes_to_no_pod_that_is_there(pool: Pool) -> None:
    pool.stand.courses.append(QUICK)
    runner = pool.runner(2, idle_s=HOUR, limits=Limits(usd_per_run=PRICE))
    first = pool.job(runner)
    pool.until(runner, lambda: runner.poll(first.folder) == "done")
    order = replace(pool.world.order(run_id=2), wall_s=2 * HOUR)
    paths = pool.world.place(order)
    runner.submit(order, paths.folder, "runpod/0")
    pool.until(runner, lambda: runner.poll(paths.folder) in ("done", "lost"))
    assert runner.poll(paths.folder) == "lost" and "a run may cost 3.50 $" in runner.loss(paths.folder).reason
    loss = runner.loss(paths.folder)
    assert (loss.ran, loss.machine) == (False, False) and pool.rows() == [f"live {PLACES[0]} "]
    assert runner.slots == ("runpod/0", "runpod/1"), "there is money for cheaper ones"
    third = pool.job(runner, 3)
    pool.until(runner, lambda: runner.poll(third.folder) == "done")
    runner.close()
