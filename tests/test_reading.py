"""Whatever a candidate puts in the place of a file is read as text or as nothing, and at once."""

import os
from pathlib import Path

import pytest

from agent.errors import InfraError
from agent.job.folder import JobPaths, JobSpec, create
from agent.job.reading import MOST, read_ends, read_small, there
from agent.judge.measure import HEAD, TAIL
from agent.runners.local import LocalRunner
from agent.runners.progress import progress, tail


@pytest.mark.parametrize("plant", ["folder", "pipe", "link", "endless link", "nothing"])
def test_what_is_no_plain_file_is_nothing(tmp_path: Path, plant: str) -> None:
    path, precious = tmp_path / "it", tmp_path / "precious"
    precious.write_text("somebody else's")
    if plant == "folder":
        path.mkdir()
    elif plant == "pipe":
        os.mkfifo(path)
    elif plant != "nothing":
        path.symlink_to(precious if plant == "link" else "/dev/zero")
    assert there(path) == (plant != "nothing")
    assert (read_small(path), read_ends(path, 5, 5), tail(path)) == (None, "", "")


def test_reading_is_bounded_and_never_fails_on_bytes(tmp_path: Path) -> None:
    path = tmp_path / "it"
    path.write_bytes(b"abc\xff0123456789")
    assert read_small(path) == "abc\ufffd0123456789"
    assert read_ends(path, 3, 4) == "abc\n6789"
    assert read_ends(path, 0, 4) == "6789"
    assert read_ends(path, 12, 2) == "abc\ufffd0123456789"  # nothing is left out, so nothing is cut
    assert read_ends(path, 100, 100) == "abc\ufffd0123456789"
    for end in ("\n", "\r", "\r\n"):  # the halves of two lines would read like a line that nobody printed
        path.write_bytes(end.join(["one", "two", "three", "four", "five", ""]).encode())
        assert read_ends(path, 9, 9).replace("\r", "\n").split("\n")[0] == "one"
        assert set(read_ends(path, 9, 9).replace("\r", "\n").split()) == {"one", "two", "five"}
        assert read_ends(path, 9, 0).split() == ["one", "two"] and read_ends(path, 0, 9).split() == ["five"]
    path.write_bytes(b"seed:7\n" + b"x" * 80 * (1 << 20) + b"\nlast \xff line")
    text = read_ends(path, HEAD, TAIL)
    assert text.startswith("seed:7\n") and text.endswith("\nlast \N{REPLACEMENT CHARACTER} line")
    assert len(text) <= HEAD + TAIL + 1
    os.truncate(path, MOST + 1)
    assert read_small(path) is None
    os.truncate(path, MOST)
    assert len(read_small(path) or "") == MOST


@pytest.mark.parametrize("name", ["result", "heartbeat", "train_log"])
def test_a_folder_in_the_place_of_a_jobs_file_harms_no_controller(tmp_path: Path, name: str) -> None:
    paths = JobPaths(tmp_path / "r1")
    create(paths.folder, JobSpec(1, (), None, None, 5.0), lambda code: None)
    paths.heartbeat.write_text("{}")
    if name == "heartbeat":
        paths.heartbeat.unlink()
    getattr(paths, name).mkdir()
    assert progress(paths.folder) is None
    assert LocalRunner(1).loss(paths.folder).ran
    with pytest.raises(InfraError, match="no result that can be read"):
        LocalRunner(1).collect(paths.folder)
