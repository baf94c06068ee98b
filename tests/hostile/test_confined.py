"""Confined processes: what they get, how they end, and what is left open. With real processes."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from sandbox import Confined, StartError, in_force
from tests.confining import PYTHON, Lab
from tests.processes import linux


def test_gets_exactly_its_environment_and_nothing_else(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "secret")
    code = """
import json, os, resource as r, sys
print(json.dumps({
  'env': dict(os.environ), 'fds': sorted(os.listdir('/proc/self/fd'))[:-1],
  'sid': os.getsid(0) == os.getpid(), 'stdin': os.read(0, 1).decode(),
  'core': r.getrlimit(r.RLIMIT_CORE)[0], 'fsize': r.getrlimit(r.RLIMIT_FSIZE)[0],
  'files': r.getrlimit(r.RLIMIT_NOFILE)[0], 'cpu': r.getrlimit(r.RLIMIT_CPU)[0]}))
"""
    confined = lab.start(code, env={"ONLY": "this", "LC_CTYPE": "C.UTF-8"}, cpu_s=7)
    assert confined.wait().ok
    seen = json.loads((lab.folder / "log").read_text())
    assert seen == {
        "env": {"ONLY": "this", "LC_CTYPE": "C.UTF-8"},
        "fds": ["0", "1", "2"],
        "sid": True,
        "core": 1,
        "fsize": 20_000_000,
        "stdin": "",
        "files": 1024,
        "cpu": 8,
    }


@linux
def test_is_pinned_to_its_core(tmp_path: Path) -> None:
    core = max(os.sched_getaffinity(0))
    confined = Confined(
        (*PYTHON, "import os; print(os.sched_getaffinity(0))"),
        cwd=tmp_path,
        env={},
        limits=Lab(tmp_path).limits(),
        log=tmp_path / "log",
        folder=tmp_path,
        policy=None,
        core=core,
    )
    assert confined.wait().ok
    assert (tmp_path / "log").read_text().strip() == str({core})


def test_an_inherited_socket_is_passed_on(tmp_path: Path) -> None:
    read, write = os.pipe()
    confined = Confined(
        (*PYTHON, f"import os; os.write({write}, b'here')"),
        cwd=tmp_path,
        env={},
        limits=Lab(tmp_path).limits(),
        log=tmp_path / "log",
        folder=tmp_path,
        policy=None,
        pass_fds=(write,),
    )
    assert confined.wait().ok
    assert os.read(read, 10) == b"here"
    os.close(read)
    os.close(write)


def test_says_how_it_ended(lab: Lab) -> None:
    ended = lab.run("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
    assert (ended.exit.rc, ended.exit.signal, ended.exit.cause) == (3, None, "exited")
    assert b"out" in ended.log and b"err" in ended.log
    killed = lab.run("import os; os.kill(os.getpid(), 9)").exit
    assert (killed.rc, killed.signal, killed.cause, killed.ok) == (None, 9, "exited", False)


def test_a_command_that_is_not_there_is_nobodys_score(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="no-such-python"):
        Confined(
            ("/no-such-python",),
            cwd=tmp_path,
            env={},
            limits=Lab(tmp_path).limits(),
            log=tmp_path / "log",
            folder=tmp_path,
            policy=None,
        )


@pytest.mark.parametrize("plant", ["symlink", "fifo", "hardlink", "folder"])
def test_the_log_is_never_somebody_elses_file(lab: Lab, plant: str) -> None:
    precious, log = lab.folder / "precious", lab.folder / "log"
    precious.write_text("mine")
    if plant == "symlink":
        log.symlink_to(precious)
    elif plant == "fifo":
        os.mkfifo(log)
    elif plant == "hardlink":
        log.hardlink_to(precious)
    else:
        log.mkdir()
    with pytest.raises(StartError, match="log"):
        lab.start("print('overwritten')")
    assert precious.read_text() == "mine"


def test_a_crash_leaves_no_core_dump(lab: Lab) -> None:
    ended = lab.run("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert ended.exit.signal == signal.SIGSEGV and list(ended.out.iterdir()) == []


def test_rights_to_its_log_cannot_be_taken_away(lab: Lab) -> None:
    """Else it could not be opened for the next process, and that would look like the machine's fault."""
    ended = lab.run("import os; print(oct(os.fstat(1).st_mode)); os.fchmod(1, 0)")
    assert ended.exit.ok and ended.log == b"0o100600\n"
    assert (lab.folder / "log").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf")])
def test_limits_are_numbers_above_zero(lab: Lab, bad: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        lab.limits(wall_s=bad)


@pytest.mark.parametrize(
    "code",
    [
        "import os; os.close(1); os.close(2); print('x')",
        "import os; os.write(1, bytes(range(256)))",
        "import os; os.chmod('.', 0)",
        "import os, shutil; shutil.rmtree(os.getcwd())",
    ],
    ids=["closes stdout", "not UTF-8", "locks its folder", "deletes its folder"],
)
def test_odd_but_harmless(lab: Lab, code: str) -> None:
    ended = lab.run(code)
    assert ended.exit.cause in ("exited", "disk")  # a folder that can't be read counts as over its limit
    (lab.folder / "out").mkdir(exist_ok=True)
    (lab.folder / "out").chmod(0o700)


def test_kill_twice_and_poll_after_the_end(lab: Lab) -> None:
    confined = lab.start("import time; time.sleep(60)")
    first = confined.kill()
    assert (first.cause, first.rc, first.signal) == ("killed", None, signal.SIGKILL)
    assert confined.kill() is first and confined.poll() is first


@linux
def test_a_look_at_one_process_is_cheap(lab: Lab) -> None:
    confined = lab.start("import time; time.sleep(60)")
    eyes = confined._watch
    costs = []
    for _ in range(60):
        eyes.due = 0.0
        before = time.process_time()
        assert confined.poll() is None
        costs.append(time.process_time() - before)
    confined.kill()
    assert sorted(costs)[len(costs) // 2] < 0.002


def test_nothing_is_left_open(lab: Lab) -> None:
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(3):
        lab.run("pass")
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_the_seam(tmp_path: Path) -> None:
    assert {"env", "process-group", "rlimits", "watchdog"} <= set(in_force())
