"""Cores: each campaign has its own while there are enough, and says so when there are not."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import UserError
from agent.runners import cores
from agent.runners.local import LocalRunner

CLAIM = "from agent.runners import cores; import sys; cores.cores = lambda: [4, 5, 6]; "
CLAIM += "print(cores.claim(2), flush=True); sys.stdin.read()"


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Three cores, and nobody who claims one."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(cores, "cores", lambda: [4, 5, 6])
    monkeypatch.setattr(cores, "_claimed", {})
    yield
    for file in cores._claimed.values():
        os.close(file)


def other(tmp_path: Path) -> "subprocess.Popen[str]":
    child = subprocess.Popen(
        [sys.executable, "-c", CLAIM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert child.stdout is not None and child.stdout.readline() == "([4, 5], [])\n"
    return child


def test_another_campaign_gets_the_cores_that_are_free_and_hears_which_it_shares(tmp_path: Path) -> None:
    child = other(tmp_path)
    assert cores.claim(1) == ([6], [])
    assert cores.claim(2) == ([4, 6], [4])  # a second runner of this process keeps what it has
    assert "core 4 too" in LocalRunner(2).notes[0]
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert cores.claim(3) == ([4, 5, 6], [])
    assert LocalRunner(3).notes == ()
    with pytest.raises(UserError, match="has 3 cores"):
        cores.claim(4)


def test_what_is_not_used_is_left_to_others(tmp_path: Path) -> None:
    assert cores.claim(1) == ([4], [])
    assert set(cores._claimed) == {4}


def test_what_is_released_is_free_for_another_process(tmp_path: Path) -> None:
    assert cores.claim(2) == ([4, 5], [])
    cores.release()
    child = other(tmp_path)
    child.send_signal(signal.SIGKILL)
    child.wait()


@pytest.mark.parametrize("made", ["file", "link"])
def test_a_folder_that_is_not_ours_claims_nothing(tmp_path: Path, made: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    place = tmp_path / f"caddie-cores-{os.getuid()}"
    place.write_text("") if made == "file" else place.symlink_to(tmp_path / "elsewhere")
    assert cores.claim(2) == ([4, 5], [])
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_core_that_others_use_has_nothing_to_spare() -> None:
    core = min(os.sched_getaffinity(0))
    work = [sys.executable, "-c", "import os\nprint(flush=True)\nwhile True: pass"]
    with subprocess.Popen(work, stdout=subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, {core})) as child:
        assert child.stdout is not None and child.stdout.readline() == b"\n"
        found = cores.spare(core, over_s=0.5)
        child.kill()
    assert found is not None and found <= 0.5


@pytest.mark.parametrize(("shared_out", "free"), [("0\n", 0.9), ("1\n", 0.3), (None, 0.9)])
def test_nice_work_counts_where_the_kernel_gives_each_terminal_its_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_out: str | None, free: float
) -> None:
    stat, autogroup = tmp_path / "stat", tmp_path / "autogroup"
    if shared_out is not None:
        autogroup.write_text(shared_out)
    stat.write_text("cpu  0 0 0 0 0 0 0 0 0 0\ncpu4 1000 500 100 9000 10 0 20 0 0 0\n")

    def pass_by(seconds: float) -> None:
        stat.write_text("cpu  0 0 0 0 0 0 0 0 0 0\ncpu4 1005 560 104 9029 11 0 21 0 0 0\n")

    monkeypatch.setattr(cores, "STAT", stat)
    monkeypatch.setattr(cores, "AUTOGROUP", autogroup)
    monkeypatch.setattr(cores.time, "sleep", pass_by)
    assert cores.spare(4) == pytest.approx(free)


def test_of_a_core_that_is_not_there_nothing_is_said() -> None:
    assert cores.spare(99_999) is None
