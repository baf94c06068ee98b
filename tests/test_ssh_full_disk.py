"""Runs over ssh whose mirror here lies on a disk that is full: a real sshd, and a real small disk."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.runners.ssh import mirror
from tests import far, sshd
from tests.disks import fill, small_disk
from tests.e2e.terminal import needs_mounts
from tests.far import LONG, begun, was_trained_once
from tests.processes import until

pytestmark = [pytest.mark.slow, needs_mounts]


@pytest.fixture
def tight(tmp_path: Path, lasting_server: sshd.Sshd, toy_corpus: Path) -> Iterator[far.World]:
    """A run that trains until it is stopped, after 4 seconds; the workspace is on a small disk of its own."""
    with small_disk(tmp_path / "workspace", 64):
        found = far.World(tmp_path, lasting_server, toml=LONG, corpus=toy_corpus)
        yield found
        found.close()


@pytest.mark.long
def test_a_run_goes_on_while_the_disk_here_is_full_and_all_of_it_comes_once_there_is_room(tight: far.World) -> None:
    runner, paths = begun(tight)
    there = tight.there("r1")
    filler = fill(tight.workspace)
    until(there.result.exists, 60, "its end there")
    time.sleep(8)  # it is tried again, and nothing of it is thrown away
    assert runner.poll(paths.folder) == "running" and there.result.exists()
    assert not list(paths.folder.glob(".tmp-*")), "names are left of what could not be written"
    filler.unlink()
    was_trained_once(tight, runner, paths)
    until(lambda: not there.folder.exists(), 30, "nothing of it lies there any more")


def test_a_run_whose_task_died_on_a_full_disk_is_taken_up_again(
    tight: far.World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> None:
        raise RuntimeError("a fault")

    runner, paths = begun(tight)
    errand = runner._errands[paths.folder]
    filler = fill(tight.workspace)
    monkeypatch.setattr(errand, "_whole", broken)
    until(lambda: paths.folder not in runner._errands, 30, "the end of its task")
    assert runner.poll(paths.folder) == "running" and runner._errands[paths.folder] is not errand
    filler.unlink()
    assert far.ended(runner, paths) == "done"


def test_what_was_given_up_is_not_begun_again_though_its_tombstone_could_not_be_written(tight: far.World) -> None:
    order = tight.order()
    paths = tight.place(order)
    given_up = mirror.Placed("lab/box/0", "lab/box", time.time(), given_up="it said nonsense")
    mirror.write(paths.folder, given_up)
    runner = tight.runner()
    assert far.ended(runner, paths) == "lost"
    loss = runner.loss(paths.folder)
    assert loss.ran and loss.reason == "it said nonsense"
    assert not list(tight.far.glob("jobs/*/night.jobs.r1"))
