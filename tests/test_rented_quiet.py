"""A rented machine that is silent or deaf: put up with for a while, with a run on it for as long as that may go on."""

from pathlib import Path

import pytest

from agent.errors import InfraError
from agent.machines.records import Machine
from agent.runners.rented.keeper import LOOK_S
from agent.runners.rented.runner import RentingRunner
from agent.runners.rented.waiting import GIVE_UP_S
from agent.runners.ssh.machines import Machines
from tests.processes import until
from tests.renting import HOUR
from tests.runpod import PLACES, QUICK
from tests.runpod_pool import Pool


def silent(pool: Pool, runner: RentingRunner, seconds: float) -> None:
    """Nothing reaches its machine for so long."""
    keeper = runner._keepers["runpod/0"]
    pool.server.stop()
    until(lambda: keeper.place == "", what="nobody noticed")
    for _ in range(int(seconds // 20)):
        pool.stand.advance(20)
        runner.step()


@pytest.mark.long
def test_a_pod_with_a_run_on_it_is_kept_while_nothing_reaches_it(pool: Pool) -> None:
    pool.stand.courses.append(QUICK)
    runner = pool.runner(port_s=300.0)
    paths = pool.job(runner)
    pool.until(runner, lambda: runner.poll(paths.folder) == "running")
    silent(pool, runner, 1000)
    assert pool.rows() == [f"live {PLACES[0]} "] and runner.poll(paths.folder) == "running"
    assert runner._keepers["runpod/0"].why != ""
    pool.server.start()
    pool.until(runner, lambda: runner.poll(paths.folder) in ("done", "lost"))
    assert runner.poll(paths.folder) == "done" and len(pool.stand.pods) == 1
    runner.close()


@pytest.mark.long
def test_a_silent_pod_is_not_held_to_blame_while_its_provider_is_silent_too(pool: Pool) -> None:
    pool.stand.courses.append(QUICK)
    runner = pool.runner(idle_s=2 * HOUR, port_s=300.0)
    paths = pool.job(runner)
    pool.until(runner, lambda: runner.poll(paths.folder) == "done")
    pool.stand.storm = lambda method, path: "500"
    silent(pool, runner, 1000)
    assert pool.rows() == [f"live {PLACES[0]} "]
    pool.stand.storm = lambda method, path: None
    asked = len(pool.stand.seen)
    for _ in range(10):
        pool.stand.advance(20)
        runner.step()
    assert len(pool.stand.seen) - asked == 10  # who rents it out is asked whether it is there at all
    (pod,) = pool.stand.living()
    pod.end(pool.stand.at)
    pool.stand.advance(11)
    runner.step()
    assert pool.rows() == [f"gone {PLACES[0]} vanished: its provider has it no more"]  # its place is as good as others
    pool.server.start()
    runner.close()


@pytest.mark.slow
def test_a_pod_that_is_deaf_is_told_again_every_two_seconds(pool: Pool, tmp_path: Path) -> None:
    runner, paths = pool.deaf(tmp_path / "timers")
    keeper = runner._keepers["runpod/0"]
    for _ in range(5):
        assert runner.step() == LOOK_S and "its timer can't be moved" in keeper.why
        pool.stand.advance(LOOK_S)
    (tmp_path / "timers").mkdir()
    runner.step()
    assert keeper.why == "" and runner.poll(paths.folder) in ("starting", "running") and keeper._handed == paths.folder
    runner.close()


@pytest.mark.slow
def test_a_pod_that_answers_and_never_shows_itself_goes_back(pool: Pool) -> None:
    def nothing(machine: Machine, far: Machines) -> str:
        pool.stand.advance(100)
        raise InfraError("no answer within 100 s")

    pool.stand.courses.append(QUICK)
    runner = pool.runner(port_s=300.0, admit=nothing)
    pool.job(runner)
    pool.until(runner, lambda: any(row.startswith("refused") for row in pool.rows()), within_s=40)
    assert pool.rows()[0] == f"refused {PLACES[0]} nothing can be started on it: no answer within 100 s"
    runner.close()


@pytest.mark.slow
def test_a_job_does_not_wait_for_ever_for_a_pod_of_which_nothing_is_heard(pool: Pool) -> None:
    """Neither by itself nor from its provider."""
    pool.stand.courses.append(QUICK)
    runner = pool.runner(idle_s=20 * HOUR, lease_hours=24.0, port_s=300.0)
    first = pool.job(runner)
    pool.until(runner, lambda: runner.poll(first.folder) == "done")
    keeper = runner._keepers["runpod/0"]
    pool.server.stop()
    until(lambda: keeper.place == "", what="nobody noticed")
    pool.stand.storm = lambda method, path: "500"
    second = pool.job(runner, 2)
    for _ in range(8):
        runner.step()
        assert runner.poll(second.folder) == "starting"
        pool.stand.advance(GIVE_UP_S / 8)
    runner.step()
    assert runner.poll(second.folder) == "lost" and not runner.loss(second.folder).ran
    pool.stand.storm = lambda method, path: None
    runner.close()
