"""Somebody keeps every machine that may be there, from the moment in which it is written down."""

import errno

import pytest
from sqlalchemy import update

from agent.errors import InfraError
from agent.machines import book
from agent.machines.records import KeyRefused
from agent.machines.work import at_work
from agent.runners.rented import keeper as keepers
from agent.runners.rented import waiting
from agent.runners.rented.ending import ENDING_S
from agent.runners.rented.keeper import LOOK_S, STARTING_S
from agent.runners.rented.runner import RentingRunner
from agent.runners.runpod.pods import Pods
from agent.runners.ssh import mirror
from agent.store.schema import runs
from tests.filling import add_measured
from tests.renting import PRICE, not_written
from tests.runpod import QUICK, Course, Fault
from tests.runpod_pool import Pool

LOST: tuple[str, Fault] = ("POST", "500 done")


def asked_and_not_heard(pool: Pool) -> RentingRunner:
    """A pod is made, the answer is lost, and no list shows it yet."""
    pool.stand.hidden_s = 40.0  # of which it is looked for thirty
    pool.stand.faults.append(LOST)
    runner = pool.runner()
    pool.job(runner)
    runner.step()
    assert "no clear answer to a request" in runner._keepers["runpod/0"].why
    assert pool.rows() == ["creating US-TX-3 "] and len(pool.stand.living()) == 1
    return runner


def test_a_pod_whose_answer_was_lost_is_used_when_it_shows(pool: Pool) -> None:
    runner = asked_and_not_heard(pool)
    pool.until(runner, lambda: pool.rows()[0].startswith("live"), step_s=10)
    assert len(pool.stand.pods) == 1 and runner.lease("runpod/0") == "m1"
    runner.close()
    assert pool.stand.living() == []


def test_a_pod_whose_answer_was_lost_ends_with_the_campaign(pool: Pool) -> None:
    runner = asked_and_not_heard(pool)
    pool.stand.advance(60)
    runner.close()
    assert pool.stand.living() == [] and pool.rows() == ["gone US-TX-3 the campaign has stopped"]


def test_a_pod_that_never_came_is_asked_for_once_more(pool: Pool) -> None:
    pool.stand.faults.append(("POST", "500"))
    runner = pool.runner()
    pool.job(runner)
    pool.until(runner, lambda: len(pool.rows()) == 2, step_s=30)
    assert pool.rows()[0] == "gone US-TX-3 was asked for and never seen"
    assert runner._keepers["runpod/0"]._failures == 0  # no machine came to nothing
    runner.close()


def test_the_next_controller_keeps_what_may_yet_come(pool: Pool) -> None:
    asked_and_not_heard(pool)._ssh.close()
    later = pool.runner()  # its sweep finds nothing either
    assert [pod.ended for pod in pool.stand.pods.values()] == [None]
    pool.until(later, lambda: pool.stand.living() == [], step_s=10)
    assert pool.rows() == ["gone US-TX-3 idle"]


@pytest.mark.parametrize("when", ["its id", "what it costs"])
def test_a_pod_that_can_not_be_written_down_is_kept(pool: Pool, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    pool.stand.courses.append(Course(dearer=1.5))
    runner = pool.runner()
    pool.job(runner)

    def now() -> bool:
        with pool.store.read() as reads:
            return bool(pool.stand.pods) and (when == "its id" or bool(book.everyone(reads)[0].provider_id))

    not_written(monkeypatch, now)
    runner.step()
    assert runner._keepers["runpod/0"].why == "the disk is full" and len(pool.stand.living()) == 1
    pool.until(runner, lambda: pool.rows()[0].startswith("live"), step_s=10)
    assert len(pool.stand.pods) == 1 and runner.price("runpod/0") == pytest.approx(PRICE + 0.5 * 3.49)
    runner.close()
    assert pool.stand.living() == []


def test_what_was_never_asked_for_gives_its_money_back(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = pool.runner()
    pool.job(runner)

    def now() -> bool:
        with pool.store.read() as reads:
            return bool(book.everyone(reads))

    not_written(monkeypatch, now)
    runner.step()
    runner.step()
    assert pool.rows() == ["gone US-TX-3 was never asked for", "creating US-TX-3 "]
    assert len(pool.stand.living()) == 1
    runner.close()


@pytest.mark.parametrize("what", ["its tombstone", "its folder"])
def test_a_job_that_can_get_no_pod_waits_for_room_for_its_tombstone(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    pool.stand.balance = 0.0
    runner = pool.runner()
    paths = pool.job(runner)
    keeper = runner._keepers["runpod/0"]
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(*(waiting, "lose", full) if what == "its tombstone" else (keepers, "over", full))
        for _ in range(2):
            runner.step()
            assert "No space left" in keeper.why and not paths.lost.exists()
            assert keeper.broke(RuntimeError("a fault")) == waiting.AGAIN_S and not paths.lost.exists()
    runner.step()
    assert runner.poll(paths.folder) == "lost" and "insufficient balance" in runner.loss(paths.folder).reason


def test_what_no_slot_has_ends_with_the_campaign(pool: Pool) -> None:
    pool.stand.courses.append(QUICK)
    runner = pool.runner()
    pool.job(runner)
    runner.step()
    runner._keepers["runpod/0"].machine = None
    runner.close()
    assert pool.stand.living() == []


def test_one_that_can_not_be_ended_keeps_no_other_that_no_slot_has(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, delete = pool.runner(2), Pods.delete
    for number in range(2):
        pool.job(runner, number + 1, f"runpod/{number}")
        runner.step()
    for keeper in runner._keepers.values():
        keeper.machine = None
    refused = list(pool.stand.pods)

    def once(pods: Pods, provider_id: str) -> None:
        if provider_id in refused:
            refused.clear()
            raise KeyRefused("this key may end nothing")
        delete(pods, provider_id)

    monkeypatch.setattr(Pods, "delete", once)
    with pytest.raises(InfraError, match=r"^m[12]: did not end yet; .*; this key may end nothing$"):
        runner.close()
    assert len(pool.stand.pods) == 2 and len(pool.stand.living()) == 1


def test_a_pod_with_a_run_under_way_outlives_a_loop_that_breaks_off(pool: Pool) -> None:
    """Whoever resumes takes it up; an idle one is given back."""
    runner = pool.runner(2)
    for number in range(2):
        pool.job(runner, number + 1, f"runpod/{number}")
        runner.step()
    with pool.store.write() as tx:
        at_work(tx, 1, add_measured(tx, tx.proposal(1), 1, None).id)
        tx.connection.execute(update(runs).values(state="running"))
    with pytest.raises(InfraError, match=r"^m1: a run is under way there; `agent resume` goes on with it$"):
        runner.close()
    assert [row.split()[0] for row in pool.rows()] == ["creating", "gone"] and len(pool.stand.living()) == 1
    with pool.store.write() as tx:
        tx.connection.execute(update(runs).values(state="done"))
    later = pool.runner(2)
    later.close()
    assert pool.stand.living() == []


def test_a_job_waits_a_while_for_a_pod_that_does_not_end_and_no_longer(pool: Pool) -> None:
    pool.stand.dying_s, pool.stand.usual = 1e6, Course(starting=None, running=None)
    runner = pool.runner(lease_hours=24.0)
    first = pool.job(runner)
    runner.step()
    runner.cancel(first.folder)
    pool.until(runner, lambda: pool.rows()[0].startswith("closing"), step_s=10)
    second = pool.job(runner, 2)
    runner.step()
    assert "its last machine does not end yet" in runner._keepers["runpod/0"].why
    assert runner.poll(second.folder) == "starting"
    pool.stand.advance(waiting.GIVE_UP_S)
    runner.step()
    assert runner.poll(second.folder) == "lost" and not runner.loss(second.folder).ran


@pytest.mark.parametrize("slot", [True, False])
def test_a_pod_that_shows_for_a_moment_after_its_end_is_no_trouble(pool: Pool, slot: bool) -> None:
    runner = pool.runner()
    pool.job(runner)
    runner.step()
    if not slot:
        runner._keepers["runpod/0"].machine = None
    pool.stand.dying_s = ENDING_S / 2
    runner.close()
    assert pool.stand.living() == [] and pool.rows() == ["gone US-TX-3 the campaign has stopped"]


def test_a_pod_that_shows_for_long_is_not_asked_to_end_at_every_step(pool: Pool) -> None:
    pool.stand.dying_s, pool.stand.usual = 1e6, Course(starting=None, running=None)
    runner = pool.runner()
    paths = pool.job(runner)
    runner.step()
    runner.cancel(paths.folder)
    pool.until(runner, lambda: pool.rows()[0].startswith("closing"), step_s=10)
    pool.stand.seen.clear()
    for _ in range(30):
        runner.step()
        pool.stand.advance(LOOK_S)
    assert sum(method == "DELETE" for method, path in pool.stand.seen) <= 1 + 30 * LOOK_S / STARTING_S


def test_a_pod_that_shows_for_long_after_its_end_is_named(pool: Pool) -> None:
    runner = pool.runner()
    pool.job(runner)
    runner.step()
    pool.stand.dying_s, began = 10 * ENDING_S, pool.stand.at
    with pytest.raises(InfraError, match=r"^m1: did not end yet; `agent machines reap` tries again$"):
        runner.close()
    assert (pool.stand.at - began).total_seconds() <= 2 * ENDING_S


def test_a_run_is_not_lost_before_its_pod_is_looked_for(pool: Pool) -> None:
    """The first question of a later controller comes before its slot has taken a step."""
    first = pool.runner()
    paths = pool.job(first)
    first.step()
    machine = first._keepers["runpod/0"].machine
    assert machine is not None
    name = machine.name
    mirror.write(paths.folder, mirror.Placed(f"{name}/0", name, asked=1.0))  # so long ago that its time is over
    later = pool.runner()
    assert later.poll(paths.folder) == "starting" and later._keepers["runpod/0"].machine is not None
    later._keepers["runpod/0"].end("it is gone")
    assert later.poll(paths.folder) == "lost" and later.loss(paths.folder).machine
