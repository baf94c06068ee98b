"""Runs whose node is taken away: by a higher rank, by the end of their time, by its death."""

import contextlib

import pytest

from tests.processes import until
from tests.shepherding import counts
from tests.slurm_field import TOML, WAIT, WRITE, Field, done, lost, words_of

pytestmark = pytest.mark.slow


def test_a_higher_rank_takes_the_node(field: Field) -> None:
    """Every process gets the signal, the candidate's too, which dies of it; its crash is not the idea's."""
    runner = field.runner(cpus=64)
    folder = field.submit(runner, 1, WAIT)
    until(lambda: runner.progress(folder))
    field.take_nodes()
    assert "cluster" in lost(runner, folder) or "queued it again" in lost(runner, folder)
    loss = runner.loss(folder)
    assert loss.ran and loss.machine and 0 < loss.slot_s < 60
    until(lambda: field.own.jobs() == {}, what="the job that Slurm has queued again is taken back")


def test_a_higher_rank_gives_a_minute_of_grace(field: Field) -> None:
    """The run ends within it, so that Slurm has the job as completed, and not as pre-empted."""
    field.own.run("scontrol", "update", "PartitionName=gpu", "GraceTime=60")
    runner = field.runner(cpus=64)
    code = f"import signal, sys\nsignal.signal(15, lambda *_: sys.exit(3))\n{WAIT}"
    folder = field.submit(runner, 1, code)
    until(lambda: runner.progress(folder))
    field.take_nodes()
    try:
        assert "the cluster ended it" in lost(runner, folder)
        assert runner.loss(folder).ran and runner.loss(folder).machine
    finally:
        field.own.run("scontrol", "update", "PartitionName=gpu", "GraceTime=0")


@pytest.mark.long
def test_the_time_limit_of_slurm(field: Field) -> None:
    runner = field.runner()
    folder = field.submit(runner, 1, WAIT)
    until(lambda: runner.progress(folder))
    field.own.run("scontrol", "update", f"JobId={field.note(folder).job}", "TimeLimit=1")
    assert "cluster" in lost(runner, folder)
    assert runner.loss(folder).ran


@pytest.mark.long
def test_a_node_dies(field: Field) -> None:
    runner = field.runner()
    folder = field.submit(runner, 1, WAIT)
    until(lambda: runner.progress(folder))
    (node,) = {row.split()[0] for row in field.own.run("squeue", "--noheader", "--format=%N").splitlines()}
    field.own.kill(node)
    assert "its node was taken away or died" in lost(runner, folder)
    loss = runner.loss(folder)
    assert loss.ran and 0 < loss.slot_s < 60
    until(lambda: field.own.jobs() == {}, what="the job that Slurm has queued again is taken back")


COUNTS = counts(4, 'os.environ["CHECKPOINT"]') + WRITE


@pytest.mark.long
def test_a_training_that_leaves_its_state_in_the_grace_time_goes_on_on_another_node(field: Field) -> None:
    field.toml = TOML.replace('artifact = "a.bin"', 'artifact = "a.bin", checkpoint = "kept.bin"')
    field.own.run("scontrol", "update", "PartitionName=gpu", "GraceTime=10")
    runner = field.runner(cpus=64)
    folder = field.submit(runner, 1, COUNTS)
    log = folder / "train.log"
    try:
        until(lambda: log.exists() and "counted 2" in log.read_text())
        field.take_nodes()
        job = field.note(folder).job
        until(lambda: field.own.jobs().get(job) == "PENDING", what=words_of(folder))
        with contextlib.suppress(AssertionError):  # it may have begun again, and be done
            field.own.run("scontrol", "update", f"JobId={job}", "StartTime=now")  # Slurm would wait for two minutes
        found = done(runner, folder)
    finally:
        field.own.run("scontrol", "update", "PartitionName=gpu", "GraceTime=0")
    assert found.outcome == "ok" and (folder / "out" / "a.bin").read_text() == "101"
    said = log.read_text().splitlines()
    assert len([line for line in said if line.startswith("from")]) == 2 and said[0] == "from 0"
    assert [line for line in said if line.startswith("counted")] == [f"counted {n}" for n in (1, 2, 3, 4)]
    train = found.phase("train")
    assert train is not None and 4 < train.wall_s < found.slot_s
