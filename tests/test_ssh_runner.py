"""Runs on a machine over ssh: a real sshd, a real shepherd, real walls and the real judge."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.judge.task import Measured
from tests import far, sshd
from tests.zoo_runs import make_corpus

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
