"""Runs on a machine over ssh: a real sshd, a real shepherd, real walls and the real judge."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.judge.task import Measured
from agent.runners.job import JobPaths
from agent.runners.ssh.runner import SshRunner
from tests import far, sshd
from tests.processes import until
from tests.zoo_runs import TOML, make_corpus

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sshd.Sshd]:
    found = sshd.start(tmp_path_factory.mktemp("sshd") / "s")
    yield found
    found.stop()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus") / "docs")


@pytest.fixture
def world(tmp_path: Path, server: sshd.Sshd, corpus: Path) -> Iterator[far.World]:
    found = far.World(tmp_path, server, corpus=corpus)
    yield found
    found.close()


def test_a_run_is_trained_and_scored_there_and_all_of_it_is_here(world: far.World) -> None:
    runner = world.runner()
    order = world.order(seed=3)
    paths = world.place(order)
    runner.submit(order, paths.folder, runner.slots[0])
    assert far.ended(runner, paths) == "done", runner.loss(paths.folder)
    result = runner.collect(paths.folder)
    assert (result.outcome, result.ran, [phase.name for phase in result.phases]) == ("ok", True, ["train", "judge"])
    measured = Measured.from_json(paths.measure.read_text())
    assert measured.status == "ok" and measured.nats and measured.artifact_bytes
    assert (paths.out / "final_model.bin").stat().st_size == measured.artifact_bytes
    assert paths.train_log.stat().st_size > 0


LONG = TOML.replace('CHEAT = ""', 'CHEAT = "trains_past_its_clock"').replace("train_wall_s = 20", "train_wall_s = 4")


@pytest.fixture
def long(tmp_path: Path, server: sshd.Sshd, corpus: Path) -> Iterator[far.World]:
    """A run that trains until it is stopped, after 4 seconds."""
    found = far.World(tmp_path, server, toml=LONG, corpus=corpus)
    yield found
    found.close()


def begun(world: far.World) -> tuple[SshRunner, JobPaths]:
    """A run that is training there."""
    runner = world.runner()
    order = world.order()
    paths = world.place(order)
    runner.submit(order, paths.folder, runner.slots[0])
    until(lambda: runner.poll(paths.folder) == "running", 60)
    return runner, paths


def was_trained_once(world: far.World, runner: SshRunner, paths: JobPaths) -> None:
    assert far.ended(runner, paths) == "done", runner.loss(paths.folder)
    result = runner.collect(paths.folder)
    assert result.outcome == "capped" and "wall limit" in result.reason
    assert len(result.phases) == 1 and 3 < result.phases[0].exit.wall_s < 5, "it was neither stopped nor started again"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_link_that_breaks_or_is_half_open_costs_the_run_nothing(
    long: far.World, server: sshd.Sshd, how: signal.Signals
) -> None:
    runner, paths = begun(long)
    stopped = server.sessions()
    assert server.cut(how) > 0
    was_trained_once(long, runner, paths)
    assert not set(stopped) & set(server.sessions()) or how == signal.SIGSTOP
    for pid in stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_another_controller_takes_over_what_the_first_began(long: far.World) -> None:
    first, paths = begun(long)
    first.close()
    second = long.runner()
    second.sweep(paths.folder.parent)  # which leaves alone what somebody waits for
    was_trained_once(long, second, paths)
    until(lambda: "night.jobs.r1" not in [path.name for path in long.far.glob("jobs/*/*")])


def test_a_run_can_be_cancelled_before_it_is_sent_and_while_it_runs(long: far.World) -> None:
    runner, paths = begun(long)
    runner.cancel(paths.folder)
    assert far.ended(runner, paths) == "done" and runner.collect(paths.folder).outcome == "cancelled"
    assert runner.collect(paths.folder).ran
