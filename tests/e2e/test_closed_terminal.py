"""A terminal that is closed ends what it runs as `agent stop --now` does, unless the person has said nohup; a pipe
that has no reader any more ends nothing."""

import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest

from agent.report.heard import UNREAD
from tests.e2e.slow import SLOW, make, running, settled, titles
from tests.e2e.terminal import AGENT, ENV, START
from tests.processes import until

pytestmark = pytest.mark.slow
QUIET = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"


def test_what_runs_is_cancelled_and_settled_when_the_terminal_is_closed(tmp_path: Path) -> None:
    root = make(tmp_path / "work", SLOW)
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may have said nohup
        os.chdir(root)
        os.execve(AGENT[0], [*AGENT, *START], {**ENV, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"})
    said = [b""]

    def seen() -> bool:
        said[0] += os.read(terminal, 65536)  # who does not read what is shown stops it
        return running(root, "slow")

    until(seen, 60, "the slow idea runs")
    os.close(terminal)
    ended: list[int] = []

    def over() -> bool:
        gone, status = os.waitpid(pid, os.WNOHANG)
        ended.extend([os.waitstatus_to_exitcode(status)] if gone else [])
        return gone == pid

    try:
        until(over, 30, "its end")
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
        raise
    assert b"\x1b[" in said[0], "it was shown in a terminal"
    assert "cancelled" in settled(root, "stopped") and ended == [0]


def test_under_nohup_it_goes_on(tmp_path: Path) -> None:
    root = make(tmp_path / "work", SLOW)
    with (tmp_path / "nohup.out").open("w") as out:
        child = subprocess.Popen(
            [AGENT[0], "-c", QUIET, *AGENT, *START], cwd=root, env=ENV, stdout=out, stderr=out, process_group=0
        )
    until(lambda: running(root, "slow"), 60, "the slow idea runs")
    child.send_signal(signal.SIGHUP)
    assert child.wait(90) == 0, (tmp_path / "nohup.out").read_text()
    assert set(settled(root, "finished")) == {"done"} and titles(root)["slow"] != "cancelled"


@pytest.mark.parametrize(
    ("words", "read"), [((), ("stdout",)), ((), ("stdout", "stderr")), (("--json",), ("stdout", "stderr"))]
)
def test_it_goes_on_when_what_it_says_has_no_reader_any_more(
    tmp_path: Path, words: tuple[str, ...], read: tuple[str, ...]
) -> None:
    root, log = make(tmp_path / "work", SLOW), tmp_path / "said"
    with log.open("w") as out:
        into = {name: subprocess.PIPE if name in read else out for name in ("stdout", "stderr")}
        child = subprocess.Popen([*AGENT, *START, *words], cwd=root, env=ENV, **into)  # type: ignore[call-overload]
    try:
        for name in read:  # as `| head -c 1` does
            pipe = getattr(child, name)
            assert words or name == "stderr" or pipe.read(1)
            pipe.close()
        assert child.wait(90) == 0
    finally:
        child.kill()
    assert set(settled(root, "finished")) == {"done"}
    assert log.read_text() == ("" if "stderr" in read else f"{UNREAD}\n")


def test_ctrl_c_that_ends_the_reader_too_finishes_what_runs(tmp_path: Path) -> None:
    root = make(tmp_path / "work", SLOW)
    child = subprocess.Popen([*AGENT, *START], cwd=root, env=ENV, stdout=subprocess.PIPE, process_group=0)
    try:
        until(lambda: running(root, "slow"), 60, "the slow idea runs")
        child.stdout.close()  # type: ignore[union-attr]
        child.send_signal(signal.SIGINT)
        assert child.wait(90) == 0
    finally:
        child.kill()
    assert set(settled(root, "stopped")) == {"done"}
