"""Training data that several machines have on one disk: sent once to all of them, and held against their names."""

import errno
import hashlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import track as tracks
from agent.runners.runpod.settings import Settings
from agent.runners.ssh import far as far_code
from agent.runners.ssh.depot import training_data
from tests import far, sshd
from tests.runpod import QUICK
from tests.runpod_pool import Pool


@pytest.fixture
def world(tmp_path: Path, lasting_server: sshd.Sshd, toy_corpus: Path) -> Iterator[far.World]:
    found = far.World(tmp_path, lasting_server, corpus=toy_corpus)
    yield found
    found.close()


def data_of(world: far.World) -> frozenset[str]:
    found = training_data(tracks.parse(world.toml, "toy.toml"), world.workspace / ".caddie" / "data" / "docs")
    return frozenset(found.files.values())


def blobs(folder: Path) -> dict[str, int]:
    """Names and inodes: what is sent once more is another file."""
    return {path.name: path.stat().st_ino for path in (folder / "blobs").iterdir()}


@pytest.mark.long
def test_two_machines_with_one_shelf_are_sent_their_data_once(world: far.World, tmp_path: Path) -> None:
    shelf, data = tmp_path / "disk" / "shelf", data_of(world)
    hosts = [world.sshd.host(tmp_path / name, f"lab/{name}", shelf=str(shelf)) for name in ("one", "two")]
    runner, there = world.runner(hosts), []
    for run_id, slot in enumerate(runner.slots, 1):
        paths = world.place(world.order(run_id))
        runner.submit(world.order(run_id), paths.folder, slot)
        assert far.ended(runner, paths) == "done", runner.loss(paths.folder)
        assert runner.collect(paths.folder).outcome == "ok"
        there.append(blobs(shelf))
    assert there[0] == there[1] and there[0].keys() == data
    for name in ("one", "two"):
        assert not data & blobs(tmp_path / name).keys()
        assert blobs(tmp_path / name), "its code is its own"


@pytest.mark.slow
def test_a_volume_keeps_the_data_from_pod_to_pod(pool: Pool, tmp_path: Path) -> None:
    pool.stand.courses.extend([QUICK, QUICK])
    volume, kept = tmp_path / "volume", []
    runner = pool.runner(volume="vol1", volume_path=str(volume))
    for run_id in (1, 2):
        paths = pool.job(runner, run_id)
        pool.until(runner, lambda paths=paths: runner.poll(paths.folder) in ("done", "lost"))  # type: ignore[misc]
        assert runner.poll(paths.folder) == "done", runner.loss(paths.folder)
        kept.append(blobs(volume / "caddie"))
        pool.until(runner, lambda: not pool.stand.living(), step_s=30)
    assert kept[0] == kept[1] and kept[0].keys() == data_of(pool.world)
    assert sum(row.startswith("gone") for row in pool.rows()) == 2  # and the volume stays
    assert not data_of(pool.world) & blobs(pool.world.far).keys()


@pytest.mark.long
def test_a_volume_whose_data_are_damaged_is_not_trained_on(pool: Pool, tmp_path: Path) -> None:
    """By a run on another pod, say, that its walls did not hold."""
    pool.stand.courses.append(QUICK)
    shelf = tmp_path / "volume" / "caddie" / "blobs"
    shelf.mkdir(parents=True)
    name = hashlib.sha256(b"what was sent").hexdigest()
    (shelf / name).write_bytes(b"what is there")
    runner = pool.runner(admit=None, volume="vol1", volume_path=str(tmp_path / "volume"))
    pool.job(runner)
    pool.until(runner, lambda: pool.seen() != [], within_s=300)
    ((_, ok, reasons),) = pool.seen()
    assert not ok and any("its data are damaged" in reason and name[:8] in reason for reason in reasons), reasons
    runner.close()


def test_pods_without_a_volume_keep_data_where_they_keep_the_rest() -> None:
    assert Settings().shelf == ""
    assert Settings(volume="vol1").shelf == "/workspace/caddie"
    assert Settings(volume="vol1", volume_path="/data").shelf == "/data/caddie"


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP])
def test_a_disk_that_knows_no_links_gets_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    sha = hashlib.sha256(b"data").hexdigest()
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / sha).write_bytes(b"data")

    def refuses(target: Path, source: Path) -> None:
        raise OSError(code, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuses)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps({"a/b": sha}).encode())))
    assert far_code.main(str(tmp_path), "lay", "some-data", "link") == 0
    laid = Path(json.loads(capsys.readouterr().out)["tree"]) / "a" / "b"
    assert laid.read_bytes() == b"data"
