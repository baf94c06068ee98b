"""Spot checks of this very machine: every part is there or says why not, and none can take longer than it may."""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.admission import parts, storage
from agent.admission.__main__ import LARGE, depot, sent
from agent.admission.examine import Look, examine
from agent.admission.judgement import Wanted, admit
from agent.admission.parts import PARTS, Asked
from agent.admission.seen import NO_TIME, Record, read
from tests.processes import alive

QUICK = tuple(name for name in PARTS if name != "walls")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "train").mkdir()
    for n in range(3):
        (folder / "train" / f"{n}.bin").write_bytes(bytes([n]) * 300_000)
    (folder / "link").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.fixture(scope="module")
def here(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Record:
    command = [sys.executable, "-m", "agent.admission", "--disk", str(tmp_path_factory.mktemp("disk"))]
    command += ["--data", str(corpus), "--parts", ",".join(QUICK)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=65, check=True)
    return read(done.stdout)


def test_this_machine_says_what_it_is(here: Record) -> None:
    assert here.unfinished == {} and 0 < here.seconds < 60
    assert here.host is not None and here.host.cores == len(os.sched_getaffinity(0)) and here.host.memory_mb > 500
    assert here.step is not None and here.step.device == "cpu" and here.step.repeats >= 5
    assert here.step.ms == here.step.each_ms[0] >= 0.9 * here.step.cpu_ms > 0
    assert here.disk is not None and here.disk.write_mb_s and here.disk.read_mb_s
    assert here.environment is not None and here.environment.packages["numpy"]
    assert here.environment.python == ".".join(map(str, sys.version_info[:3]))
    if not Path("/dev/nvidiactl").exists():
        assert here.gpus == () == here.links


def test_data_are_hashed_and_no_link_or_pipe_is_opened(here: Record, corpus: Path) -> None:
    assert here.data is not None and here.data.left == 0 and here.data.mb_s
    digests = {f"train/{n}.bin": hashlib.sha256(bytes([n]) * 300_000).hexdigest() for n in range(3)}
    assert {file.path: file.sha256 for file in here.data.files} == digests
    assert {file.bytes for file in here.data.files} == {300_000}
    found = admit(here, Wanted(False, "", 0, "landlock", digests))
    assert found.reasons == ("it did not say its walls: no word of it",)


@pytest.mark.slow
def test_the_walls_of_this_machine_are_tried(tmp_path: Path) -> None:
    found = examine(Look(False, tmp_path, None, ("walls",)))
    if "walls" in found.unfinished:
        assert os.environ.get("CI") != "true", found.unfinished
        pytest.skip(f"too slow or too little here: {found.unfinished['walls']}")
    assert found.walls is not None and found.walls.tried > 50 and found.walls.unknown == ()


def test_without_gpus_the_work_for_them_does_not_finish_and_says_so(tmp_path: Path) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has a driver")
    found = examine(Look(True, tmp_path, None, ("gpus", "step")))
    assert found.gpus is None and found.step is None
    assert "no nvidia-smi" in found.unfinished["gpus"] and found.unfinished["step"]
    assert len(admit(found, Wanted(True, "H100", 1, "landlock")).reasons) == 5


def test_what_is_late_is_killed_and_what_comes_after_is_told(tmp_path: Path) -> None:
    """The work for a CPU takes longer than this; nothing of it is left."""
    before = set(children())
    started = time.monotonic()
    found = examine(Look(False, tmp_path, tmp_path, ("step", "disk"), limit_s=2.2))
    assert time.monotonic() - started < 10
    assert "not done after 1.2 s" in found.unfinished["step"] and found.step is None
    assert found.unfinished["disk"] == NO_TIME
    assert set(children()) <= before


def children() -> list[int]:
    tasks = Path("/proc/self/task").iterdir()
    return [int(pid) for task in tasks for pid in (task / "children").read_text().split() if alive(int(pid))]


def test_a_big_corpus_is_read_as_far_as_there_is_time(tmp_path: Path) -> None:
    for n in range(3):
        (tmp_path / f"{n}").write_bytes(b"x" * 10)
    found = storage.data(tmp_path, time.monotonic() - 1)
    assert (found.files, found.left, found.mb_s) == ((), 3, None)


def test_a_full_disk_is_not_filled_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "TEST_MB", 10**9)
    found = storage.disk(tmp_path)
    assert (found.write_mb_s, found.read_mb_s) == (None, None) and found.free_mb > 0


def test_a_part_that_can_t_be_made_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    asked = json.dumps(vars(Asked(5.0, False, "/tmp", "/nowhere")))
    assert parts.main("data", asked) == 1
    assert "there is no folder /nowhere" in capsys.readouterr().err


def test_what_was_sent_to_a_machine_is_looked_at_where_it_lies(tmp_path: Path) -> None:
    code = tmp_path / "trees" / "ab" / "agent" / "admission" / "__main__.py"
    assert depot(code) is None and depot(Path("/a.py")) is None and depot(Path(parts.__file__)) is None
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / ("a" * 64)).write_bytes(b"code")
    assert depot(code) == tmp_path and sent(tmp_path) is None
    with (tmp_path / "blobs" / ("b" * 64)).open("wb") as file:
        file.truncate(LARGE)
    assert sent(tmp_path) == tmp_path / "blobs"


def test_a_wrong_word_names_the_right_one() -> None:
    command = [sys.executable, "-m", "agent.admission", "--parts", "gpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "no part 'gpu'. Did you mean 'gpus'?" in done.stderr
