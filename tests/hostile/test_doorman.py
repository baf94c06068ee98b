"""The doorman as a process: whom it outlives, whom it ends, and where it can work at all."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox import doorman, seccomp
from sandbox.doorman import Handover
from tests.filtering import HEAD
from tests.processes import alive, until
from tests.visiting import said, visitor

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not doorman.works(), reason="no doorman can work here"
)
REPOSITORY = Path(__file__).parents[2]

# ---------------------------------------------------------------- the twin

SUPERVISOR = """
import os, subprocess, sys, time
from sandbox import seccomp
from sandbox.doorman import Doorman, Handover
doorkept, lock = sys.argv[1] == "doorkept", open(sys.argv[2], "w")
handover = Handover()
program = seccomp.program("open", loopback=doorkept, pinned=False)
def in_child():
    listener = seccomp.install(program, listener=doorkept)
    if listener is not None:
        handover.give(listener)
candidate = subprocess.Popen([sys.executable, "-c", sys.argv[3]], preexec_fn=in_child, start_new_session=True)
doorman = Doorman.start(handover.take() if doorkept else None, candidate.pid)
print(candidate.pid, doorman.pid, flush=True)
candidate.wait()
time.sleep(60)
"""
FAMILY = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        os.fork()
        break
open(os.environ["PIDS"], "a").write(f"{os.getpid()} ")
time.sleep(60)
"""


@contextlib.contextmanager
def supervised(tmp_path: Path, which: str, code: str) -> Iterator[tuple["subprocess.Popen[bytes]", int, int]]:
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, which, str(tmp_path / "lock"), code],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(REPOSITORY), "PIDS": str(tmp_path / "pids"), "PATH": os.environ["PATH"]},
        cwd=tmp_path,
    )
    assert process.stdout is not None
    candidate, twin = map(int, process.stdout.readline().split())
    try:
        yield process, candidate, twin
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(candidate, signal.SIGKILL)
        process.kill()
        process.communicate()


def pids(tmp_path: Path, count: int) -> list[int]:
    until(lambda: (tmp_path / "pids").exists() and len((tmp_path / "pids").read_text().split()) == count)
    return [int(word) for word in (tmp_path / "pids").read_text().split()]


@pytest.mark.parametrize("which", ["doorkept", "twin alone"])
def test_when_the_supervisor_is_killed_nobody_is_left_a_second_later(tmp_path: Path, which: str) -> None:
    with supervised(tmp_path, which, FAMILY) as (supervisor, candidate, twin):
        family = pids(tmp_path, 7)
        assert all(alive(pid) for pid in family)
        supervisor.kill()
        until(lambda: not any(alive(pid) for pid in [*family, candidate]), within_s=1)
        until(lambda: not alive(twin), within_s=6)


FLOOD = """
import os, socket, threading
def flood():
    while True:
        with socket.socket() as one:
            one.listen()
        with socket.socket(1) as one:
            one.bind(os.urandom(8).hex())
for _ in range(3):
    os.fork()
for _ in range(8):
    threading.Thread(target=flood).start()
open(os.environ["PIDS"], "a").write(f"{os.getpid()} ")
"""


def test_a_flood_of_calls_does_not_keep_the_twin_from_its_work(tmp_path: Path) -> None:
    with supervised(tmp_path, "doorkept", FLOOD) as (supervisor, candidate, twin):
        family = pids(tmp_path, 8)
        time.sleep(1)
        assert alive(twin) and all(alive(pid) for pid in family)
        supervisor.kill()
        until(lambda: not any(alive(pid) for pid in [*family, candidate]), within_s=1)


def test_the_twin_outlives_a_signal_to_the_supervisors_group(tmp_path: Path) -> None:
    with supervised(tmp_path, "doorkept", FAMILY) as (supervisor, candidate, twin):
        family = pids(tmp_path, 7)
        assert os.getpgid(twin) == twin
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(twin, number)
        time.sleep(0.1)
        assert alive(twin)
        supervisor.kill()
        until(lambda: not any(alive(pid) for pid in [*family, candidate]), within_s=1)


@pytest.mark.parametrize("which", ["doorkept", "twin alone"])
def test_the_twin_goes_when_the_candidate_has_gone(tmp_path: Path, which: str) -> None:
    with supervised(tmp_path, which, "import time; time.sleep(0.3)") as (supervisor, candidate, twin):
        assert alive(twin)
        until(lambda: not alive(candidate) and not alive(twin), within_s=5)
        assert supervisor.poll() is None


def test_the_twin_holds_none_of_the_supervisors_files(tmp_path: Path) -> None:
    with supervised(tmp_path, "doorkept", "import time; time.sleep(60)") as (_, _, twin):
        until(lambda: len(list(Path(f"/proc/{twin}/fd").iterdir())) == 5)
        found = sorted(str(link.readlink()) for link in Path(f"/proc/{twin}/fd").iterdir())
        assert [name for name in found if "seccomp" not in name and "pidfd" not in name] == ["/dev/null"] * 3


def test_without_its_doorman_a_candidate_gets_no_address() -> None:
    code = "import time; time.sleep(0.5)\nprint(json.dumps([tried(socket.socket().listen), tried(os.getcwd)]))"
    with visitor(code) as one:
        one.doorman.end()
        assert not one.doorman.alive() and one.doorman.failed()
        assert one.said() == [errno.ENOSYS, 0]


def test_a_doorman_that_found_nobody_left_has_not_failed() -> None:
    with visitor("print(1)") as one:
        assert not one.doorman.failed()
        until(lambda: not one.doorman.alive(), within_s=5)
        assert not one.doorman.failed()


def test_a_doorman_that_was_stopped_does_not_count_as_alive() -> None:
    with visitor("import time; time.sleep(60)") as one:
        assert one.doorman.alive()
        os.kill(one.doorman.pid, signal.SIGSTOP)
        until(lambda: not one.doorman.alive())
        assert not one.doorman.alive() and one.doorman.failed()
        one.doorman.end()
        assert not alive(one.doorman.pid)
        one.doorman.end()  # again is nothing


# ---------------------------------------------------------------- on which machines

# Root's capabilities go, so that it is like an ordinary user among its own.
ORDINARY = """
LIBC.prctl(28, 3, 0, 0, 0)
LIBC.capset((ctypes.c_uint * 2)(0x20080522, 0), (ctypes.c_uint * 6)())
"""


def test_it_works_for_an_ordinary_user_too() -> None:
    assert answered("from sandbox import doorman\nprint(json.dumps(doorman.works()))", ORDINARY) is True


def test_a_candidate_of_another_user_is_answered_by_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root starts candidates as somebody else")
    code = "os.setresuid(65534, 65534, 65534)\none = socket.socket()\n"
    assert said(code + "print(json.dumps([tried(one.listen), one.getsockname()[0]]))") == [0, "127.0.0.1"]


@pytest.mark.parametrize("call", ["pidfd_getfd", "process_vm_readv", "seccomp", "pidfd_open"])
def test_where_the_machine_forbids_a_part_of_it_that_is_found_out(call: str) -> None:
    number = {"pidfd_open": 434}.get(call) or seccomp.syscalls.number(call, seccomp.syscalls.this_machine())
    forbid = f"""
from sandbox import bpf, doorman, seccomp
no = bpf.branch("==", {number}, bpf.fail(errno.EPERM), bpf.ret(bpf.ALLOW))
seccomp.install(bpf.assemble(bpf.load(bpf.NUMBER, no)), listener=False)
print(json.dumps(doorman.works()))"""
    assert answered(forbid) is False


def answered(code: str, before: str = "") -> Any:
    ended = subprocess.run(
        [sys.executable, "-c", HEAD + before + code],
        env={"PYTHONPATH": str(REPOSITORY), "PATH": os.environ["PATH"]},
        capture_output=True,
        timeout=30,
    )
    assert ended.returncode == 0, ended.stderr.decode()
    return json.loads(ended.stdout)


def test_nothing_given_is_an_error_that_says_so() -> None:
    with pytest.raises(OSError, match="filter was refused"):
        Handover().take()
