"""The folder here of a run that is elsewhere: whatever its machine says, what lies here is plain, whole and bounded."""

import dataclasses
import json
import os
from pathlib import Path

import pytest

from agent.errors import InfraError
from agent.job.folder import JobPaths, Loss
from agent.runners.far import mirror
from tests.good_records import beat


def test_logs_go_on_where_they_are_and_end_at_their_limit(tmp_path: Path) -> None:
    mirror.append(tmp_path, "train.log", 0, b"0123", 6)
    mirror.append(tmp_path, "train.log", 0, b"again", 6)
    mirror.append(tmp_path, "train.log", 9, b"later", 6)
    mirror.append(tmp_path, "train.log", 4, b"456789", 6)
    mirror.append(tmp_path, "train.log", 6, b"more", 6)
    assert (tmp_path / "train.log").read_bytes() == b"012345"
    assert mirror.sizes(tmp_path, ("train.log", "score.log")) == {"train.log": 6, "score.log": 0}


def test_a_log_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "train.log").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError):
        mirror.append(tmp_path, "train.log", 0, b"x", 10)
    assert (tmp_path / "secret").read_bytes() == b"secret"


def test_a_sign_of_life_names_no_process_of_this_machine(tmp_path: Path) -> None:
    mirror.beat(tmp_path, json.dumps(dataclasses.asdict(beat(processes={str(os.getpid()): 4}))), 10.0)
    kept = json.loads(JobPaths(tmp_path).heartbeat.read_text())
    assert (kept["processes"], kept["root"], kept["boot"], kept["seconds"]) == ({}, 0, "", 13.0)
    JobPaths(tmp_path).heartbeat.unlink()
    for text in (None, "no JSON", "{}"):
        mirror.beat(tmp_path, text, 0.0)
        assert not JobPaths(tmp_path).heartbeat.exists()


def test_a_file_takes_the_place_of_whatever_lay_there(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "m").symlink_to(tmp_path / "secret")
    (tmp_path / "out" / ".tmp-m").symlink_to(tmp_path / "secret")
    mirror.put(tmp_path, "out/m", b"weights")
    assert (tmp_path / "out" / "m").read_bytes() == b"weights" and not (tmp_path / "out" / "m").is_symlink()
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["m"]


@pytest.mark.parametrize("name", ["", "/etc/x", "../x", "a/../../x", "a\0b", "x" * 501])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InfraError, match="is no name of a file"):
        mirror.put(tmp_path / "job", name, b"x")
    assert not (tmp_path / "job").exists()


def test_a_tombstone_stands_and_a_bad_one_is_doubt(tmp_path: Path) -> None:
    mirror.lose(tmp_path / "gone", Loss(False, 0.0, "x"))
    assert not (tmp_path / "gone").exists()
    mirror.lose(tmp_path, Loss(False, 1.5, "y" * 9000))
    mirror.lose(tmp_path, Loss(True, 9.0, "later"))
    assert mirror.lost(tmp_path, "?") == Loss(False, 1.5, "y" * 2000)
    for text in ("", "{", '{"ran": 0}'):
        JobPaths(tmp_path).lost.write_text(text)
        assert mirror.lost(tmp_path, "?") == Loss(True, 0.0, "?")
