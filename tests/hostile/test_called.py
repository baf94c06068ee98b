"""A process may call itself anything, and so may a file: nobody who reads what the kernel says of them is misled."""

import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.judge import session
from agent.store import lease
from sandbox import confined, desk, nameless, status, tree, watch
from tests.confining import PYTHON, Lab
from tests.judging import make_job
from tests.processes import alive, linux, until

pytestmark = linux
CALL = "import ctypes; ctypes.CDLL(None).prctl(15, NAME, 0, 0, 0)"
FIELDS = ("VmPTE:", "Tgid:", "SigCgt:", "State:", "Name:", "Pid:", "Uid:", "Pss:")
ODD = "\r\n\t\v\f\x1c\x1d\x1e\x85 ():\\0"


@contextmanager
def called(name: bytes) -> Iterator[int]:
    code = f"NAME = {name!r}\n{CALL}\nprint('there', flush=True); input()"
    with subprocess.Popen([*PYTHON, code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "there\n"
        yield process.pid
        process.kill()


def _names() -> list[bytes]:
    dice = random.Random(7)
    noise = [
        "".join(dice.choice(ODD) for _ in range(dice.randrange(3)))
        + dice.choice(FIELDS)
        + "".join(dice.choice(ODD + "1f") for _ in range(dice.randrange(9)))
        for _ in range(8)
    ]
    chosen = ["VmPTE: x", "\rVmPTE:\t9999", "\rTgid:\t1", "\rSigCgt:\tfffff", ") Z 1 1 1 1 1", "a)\n(b) R 1", ")", "("]
    return [name.encode("utf-8", "surrogateescape")[:15] for name in (*chosen, *noise)] + [b"\xff\xfe) S", b""]


@pytest.mark.parametrize("name", _names())
def test_no_name_of_a_process_is_taken_for_what_the_kernel_says_of_it(name: bytes) -> None:
    with called(name) as pid:
        row = tree.look(pid)
        assert row is not None and (row.ppid, row.zombie, row.threads) == (os.getpid(), False, 1)
        assert status.number(pid, b"Tgid") == status.number(pid, b"Pid") == pid
        assert status.number(pid, b"Uid") == os.getuid()
        assert 0 < status.page_tables(pid) < 4_000_000
        assert [number for number in range(1, 32) if status.catches(pid, number)] == [2]  # Python's own
        assert tree.proportional_rss(pid) and tree.children(pid) == [] and nameless.mapped([pid], Path("/")) == {}
        until(lambda: not tree.runnable(row, str(pid)))
        assert lease.process_started(pid) == str(row.start)


def test_a_field_that_is_no_number_is_none() -> None:
    text = b"Name:\tVmPTE: 1\r\nVmPTE:\t  12 kB\nKthread:\t0\nnothing\n"
    assert status.parse(text, b"VmPTE") == b"12 kB"
    assert status.parse(text, b"Name") is None and status.parse(b"", b"VmPTE") is None
    with called(b"x") as pid:
        assert status.number(pid, b"State") is None and status.number(pid, b"Nonsense") is None
    assert status.number(2**30, b"Pid") is None


@pytest.mark.parametrize("name", [b"VmPTE: x", b"\rVmPTE: 9999999"])
def test_a_run_is_watched_whatever_it_calls_itself(tmp_path: Path, name: bytes) -> None:
    ended = Lab(tmp_path).run(f"NAME = {name!r}\n{CALL}\nimport time; time.sleep(2); print('end')")
    assert ended.exit.ok and ended.log == b"end\n"


def test_the_process_of_a_thread_is_not_what_it_calls_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pidfd_open
    opened: list[int] = []

    def older(pid: int, flags: int = 0) -> int:
        if flags:
            raise OSError(22, "what is this flag?")
        opened.append(pid)
        return real(pid)

    monkeypatch.setattr(os, "pidfd_open", older)
    with called(b"\rTgid:\t1") as pid:
        os.close(desk._open_process(pid))
        assert opened == [pid]


def test_a_name_of_a_file_ends_no_line_of_the_list_of_mappings(tmp_path: Path) -> None:
    """What is behind it would be taken for a line of its own, or what is before it for a file that has a name."""
    for name in ("a\rb", "a\r1-x rw-p 0 00:00 1 b", "a\x85b", "a\nb"):
        code = (
            f"import mmap, os\nos.chdir({str(tmp_path)!r})\nf = os.open({name!r}, os.O_RDWR | os.O_CREAT)\n"
            "os.write(f, bytes(5_000_000)); m = mmap.mmap(f, 5_000_000)\n"
            f"os.unlink({name!r}); os.close(f)\nprint('there', flush=True); input()"
        )
        with subprocess.Popen([*PYTHON, code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stdout.readline() == "there\n"
            assert sum(nameless.mapped([process.pid], tmp_path).values()) >= 5_000_000, name
            process.kill()


def fail(self: watch.Watch, rows: dict[int, tree.Proc]) -> None:
    raise KeyError("whatever it is")


@pytest.mark.parametrize("where", ["look", "count_ready"])
def test_a_look_that_fails_ends_the_tree_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    one = Lab(tmp_path).start("import os, time\nos.fork()\nprint('there', flush=True)\ntime.sleep(30)")
    until(lambda: one.poll() is None and len(one.processes()) == 2)
    running = list(one.processes())
    monkeypatch.setattr(watch.Watch, where, fail)
    with pytest.raises(confined.BlindError, match="whatever it is"):
        one.wait()
    assert not any(map(alive, running))
    assert one.kill().cause == "killed"  # whoever clears up afterwards is told that it is over


def test_a_look_that_fails_in_a_judge_session_is_not_the_candidates_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_job(tmp_path)
    monkeypatch.setattr(watch.Watch, "look", fail)
    found = session.run(task, time.monotonic())
    assert found.status == "broken" and "whatever it is" in found.reason
