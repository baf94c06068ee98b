"""What is sent to a far machine: each byte once, checked on arrival, and nothing that it must not have."""

import hashlib
import os
import stat
from pathlib import Path

import pytest

from agent import track as tracks
from agent.errors import InfraError
from agent.runners.ssh import depot
from agent.runners.ssh.link import Link, Thread, Unreachable
from agent.runners.ssh.pins import Pins
from tests import sshd
from tests.processes import until
from tests.zoo_runs import TOML, make_corpus


@pytest.fixture
def link(tmp_path: Path, server: sshd.Sshd) -> Link:
    return Link(server.host(tmp_path / "far"), Pins(tmp_path / "pins"))


def files(folder: Path, **contents: bytes) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return {f"some/{name}": folder / name for name in contents}


def test_nothing_is_sent_twice(tmp_path: Path, link: Link, thread: Thread) -> None:
    big = os.urandom(depot.SMALL + 1)
    first = depot.tree_of(files(tmp_path / "a", one=b"1" * 1000, two=b"2" * 1000, big=big, again=big))
    assert thread.wait(depot.send(link, first.blobs()), 60) == 2000 + len(big)
    assert thread.wait(depot.send(link, first.blobs()), 60) == 0
    second = depot.tree_of(files(tmp_path / "b", one=b"1" * 1000, three=b"3" * 77))
    assert thread.wait(depot.send(link, second.blobs()), 60) == 77
    for tree, how in ((first, "link"), (second, "copy")):
        laid = Path(thread.wait(depot.lay(link, tree, how), 60))
        assert {path: (laid / path).read_bytes() for path in tree.files} == {
            path: source.read_bytes() for path, source in tree.sources.items()
        }
        assert (laid / "some/one").stat().st_nlink == (2 if how == "link" else 1)


def test_a_transfer_that_broke_goes_on_at_its_byte(
    tmp_path: Path, server: sshd.Sshd, link: Link, thread: Thread
) -> None:
    data = os.urandom(1 << 16) * (64 << 4)
    tree = depot.tree_of(files(tmp_path / "a", big=data))
    (sha,) = tree.blobs()
    part = tmp_path / "far" / "parts" / sha
    running = thread.start(depot.send(link, tree.blobs()))
    until(lambda: part.exists() and part.stat().st_size > 1_000_000)
    server.cut()
    with pytest.raises(Unreachable):
        running.result(30)
    # Who wrote there may still be at it for a moment, and does no harm; what counts is that little is sent again.
    until(lambda: not part.exists() or _still(part))
    had = part.stat().st_size
    assert 1_000_000 < had < len(data)
    assert thread.wait(depot.send(link, tree.blobs()), 60) == len(data) - had
    assert (tmp_path / "far" / "blobs" / sha).read_bytes() == data


def _still(part: Path) -> bool:
    before = part.stat().st_size
    until(lambda: True)
    return before == part.stat().st_size


def test_what_is_not_what_its_name_says_is_not_kept(tmp_path: Path, link: Link, thread: Thread) -> None:
    for size in (100, depot.SMALL + 1):
        (tmp_path / "x").write_bytes(b"x" * size)
        wrong = hashlib.sha256(b"something else").hexdigest()
        with pytest.raises(InfraError, match="is not what its name says"):
            thread.wait(depot.send(link, {wrong: tmp_path / "x"}), 60)
        assert list((tmp_path / "far/blobs").iterdir()) == []


def test_what_was_changed_there_is_not_used(tmp_path: Path, link: Link, thread: Thread) -> None:
    tree = depot.tree_of(files(tmp_path / "a", one=b"1" * 1000))
    thread.wait(depot.send(link, tree.blobs()), 60)
    (blob,) = (tmp_path / "far/blobs").iterdir()
    blob.chmod(0o600)
    blob.write_bytes(b"2" * 1000)
    with pytest.raises(InfraError, match="was changed here"):
        thread.wait(depot.lay(link, tree, "copy"), 60)
    assert list((tmp_path / "far/trees").iterdir()) == []
    assert thread.wait(depot.send(link, tree.blobs()), 60) == 1000, "it is sent again"
    laid = Path(thread.wait(depot.lay(link, tree, "copy"), 60))
    (laid / "some/one").write_bytes(b"changed")
    thread.wait(depot.lay(link, tree, "anew"), 60)
    assert (laid / "some/one").read_bytes() == b"1" * 1000


@pytest.mark.parametrize("path", ["../out", "/etc/passwd", "a/../../b"])
def test_a_tree_stays_inside_its_folder(tmp_path: Path, link: Link, thread: Thread, path: str) -> None:
    tree = depot.tree_of(files(tmp_path / "a", one=b"1"))
    thread.wait(depot.send(link, tree.blobs()), 60)
    sha = tree.files["some/one"]
    with pytest.raises(InfraError, match="no path inside"):
        thread.wait(depot.lay(link, depot.Tree({path: sha}, {}), "copy"), 60)


def test_old_blobs_that_nobody_shares_go(tmp_path: Path, link: Link, thread: Thread) -> None:
    trees = [depot.tree_of(files(tmp_path / name, one=name.encode())) for name in ("kept", "gone")]
    for tree in trees:
        thread.wait(depot.send(link, tree.blobs()), 60)
    thread.wait(depot.lay(link, trees[0], "link"), 60)
    assert thread.wait(depot.call(link, "tidy", "1"), 60) == {"freed": 0}
    assert thread.wait(depot.call(link, "tidy", "0"), 60) == {"freed": len("gone")}
    assert [path.name for path in (tmp_path / "far/blobs").iterdir()] == list(trees[0].blobs())


def test_a_training_machine_has_neither_the_judge_nor_the_validation_text(tmp_path: Path) -> None:
    training, judging = depot.own_code(judging=False), depot.own_code(judging=True)
    assert "agent/judge/session.py" in judging.files and "agent/judge/session.py" not in training.files
    assert not [path for path in training.files if path.startswith("agent/judge/") and "audit" in path]
    assert training.files.items() <= judging.files.items() and "agent/runners/shepherd.py" in training.files
    assert not [path for path in judging.files if "__pycache__" in path]
    data = depot.training_data(tracks.parse(TOML, "toy"), make_corpus(tmp_path / "docs"))
    assert data.files and all(path.startswith("train/") for path in data.files)


def test_what_is_kept_there_is_nobody_elses(tmp_path: Path, link: Link, thread: Thread) -> None:
    thread.wait(depot.send(link, depot.tree_of(files(tmp_path / "a", one=b"1")).blobs()), 60)
    (blob,) = (tmp_path / "far/blobs").iterdir()
    assert stat.S_IMODE(blob.stat().st_mode) == 0o400 and stat.S_IMODE(blob.parent.stat().st_mode) == 0o700
