"""Confined processes: every limit, every way to outlive one, with real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from sandbox import Confined, Exit, Limits, StartError, tasks, tree, walls, watch, wrap
from sandbox.walls import Policy

PYTHON = (sys.executable, "-I", "-S", "-c")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel interface is Linux's")


class Ended(NamedTuple):
    exit: Exit
    log: bytes
    out: Path


class Lab(NamedTuple):
    """A folder to run candidates in."""

    folder: Path

    def limits(self, **changed: float | None) -> Limits:
        usual = {"wall_s": 10, "cpu_s": None, "memory_mb": 400, "disk_mb": 20, "log_mb": 2, "processes": 20}
        return Limits(**{**usual, **changed})  # type: ignore[arg-type]

    def start(self, code: str, env: Mapping[str, str] | None = None, **changed: float | None) -> Confined:
        out = self.folder / "out"
        out.mkdir(exist_ok=True)
        return Confined(
            (*PYTHON, code),
            cwd=out,
            env=env or {},
            limits=self.limits(**changed),
            log=self.folder / "log",
            folder=out,
        )

    def run(self, code: str, **changed: float | None) -> Ended:
        exit = self.start(code, **changed).wait()
        return Ended(exit, (self.folder / "log").read_bytes(), self.folder / "out")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def until(true: Callable[[], object], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.005)


def alive(pid: int) -> bool:
    row = tree.look(pid)
    return row is not None and not row.zombie


# ---------------------------------------------------------------- what it gets


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
        "core": 0,
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


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf")])
def test_limits_are_numbers_above_zero(lab: Lab, bad: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        lab.limits(wall_s=bad)


# ---------------------------------------------------------------- every limit


def test_wall(lab: Lab) -> None:
    ended = lab.run(
        "import signal, time\n"
        "for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(s, signal.SIG_IGN)\n"
        "while True: time.sleep(1)",
        wall_s=0.4,
    )
    assert ended.exit.cause == "wall"
    assert 0.4 <= ended.exit.wall_s < 1.5


def test_cpu_of_the_whole_tree(lab: Lab) -> None:
    """Each child is short and under the limit; its parent lets the kernel forget their time."""
    ended = lab.run(
        "import os, signal, time\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "while True:\n"
        "  if os.fork() == 0:\n"
        "    while time.process_time() < 0.3: pass\n"
        "    os._exit(0)\n"
        "  try: os.wait()\n"
        "  except ChildProcessError: pass\n",
        cpu_s=1.0,
    )
    assert ended.exit.cause == "cpu"
    assert 1.0 < ended.exit.cpu_s < 2.5


def test_cpu_is_counted_when_children_are_waited_for(lab: Lab) -> None:
    busy = "while time.process_time() < 0.4: pass"
    code = f"import os, time\nif os.fork() == 0:\n  {busy}\n  os._exit(0)\nos.wait()"
    exit = lab.run(code).exit
    assert exit.ok and 0.38 < exit.cpu_s < 0.6


def test_memory(lab: Lab) -> None:
    ended = lab.run("a = []\nwhile True: a.append(bytearray(5_000_000))", memory_mb=150)
    assert ended.exit.cause == "memory"
    assert 150 < ended.exit.peak_mb < 450


def test_memory_of_many_is_added_up_but_shared_pages_count_once(lab: Lab) -> None:
    fork = (
        "import os, time\na = bytearray(40_000_000)\nfor _ in range(5):\n"
        "  if os.fork() == 0:\n    {}\n    time.sleep({})\n    os._exit(0)\n{}"
    )
    shared = lab.run(fork.format("pass", 0.6, "[os.wait() for _ in range(5)]"), memory_mb=150)
    assert shared.exit.ok, shared.exit
    own = lab.run(fork.format("b = bytearray(40_000_000)", 9, "time.sleep(9)"), memory_mb=150)
    assert own.exit.cause == "memory"


def test_memory_hidden_behind_a_dead_first_thread(lab: Lab) -> None:
    ended = lab.run(
        "import ctypes, threading, time\n"
        "def grow():\n"
        "  a = []\n"
        "  while True: a.append(bytearray(2_000_000)); time.sleep(0.004)\n"
        "threading.Thread(target=grow).start()\n"
        "libc = ctypes.CDLL(None); libc.syscall(60, 0)\n",  # exit of this thread alone
        memory_mb=100,
    )
    assert ended.exit.cause == "memory", ended.exit


@pytest.mark.parametrize(
    "code",
    [
        "while True: print('x' * 100_000)",
        "import os\nos.ftruncate(1, 15_000_000)",
        "import sys\nsys.stdout.write('x' * 3_000_000)",
    ],
    ids=["for ever", "sparse", "at once"],
)
def test_log(lab: Lab, code: str) -> None:
    ended = lab.run(code)
    assert ended.exit.cause == "log"
    assert len(ended.log) <= 2_000_000
    assert ended.exit.wall_s < 3


def test_disk_of_many_small_files(lab: Lab) -> None:
    code = "import os\ni = 0\nwhile True:\n  open(f'{i}', 'wb').write(bytes(3_000_000)); i += 1"
    ended = lab.run(code, disk_mb=20)
    assert ended.exit.cause == "disk"


def test_disk_of_files_without_a_name(lab: Lab) -> None:
    ended = lab.run(
        "import os, time\nkept = []\nfor i in range(9):\n"
        "  f = open('x', 'wb'); os.unlink('x'); f.write(bytes(4_000_000)); f.flush(); kept.append(f)\n"
        "time.sleep(9)",
        disk_mb=20,
    )
    assert ended.exit.cause == "disk"


def test_disk_of_too_many_entries(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MAX_ENTRIES", 2000)
    ended = lab.run("i = 0\nwhile True:\n  open(f'{i}', 'wb').close(); i += 1", disk_mb=500)
    assert ended.exit.cause == "disk"


def test_disk_of_one_huge_file_is_refused_by_the_kernel(lab: Lab) -> None:
    ended = lab.run("f = open('x', 'wb'); f.truncate(10_000_000_000)")
    assert not ended.exit.ok and b"too large" in ended.log
    assert (ended.out / "x").stat().st_size == 0


def test_disk_is_looked_at_once_more_at_the_end(lab: Lab) -> None:
    ended = lab.run("for i in range(3): open(f'{i}', 'wb').write(bytes(9_000_000))", disk_mb=20)
    assert ended.exit.cause == "disk"


# Every bomb below is bounded by itself: 2**9 processes, each of which an alarm ends. A broken watchdog must
# not take the machine along.
BOMB = "import os, signal, time\nfor _ in range(9):\n  os.fork()\n  signal.alarm(6)\n  {}\ntime.sleep(30)"


@pytest.mark.parametrize(
    "each", ["pass", "os.setsid() if os.getpgid(0) != os.getpid() else 0"], ids=["plain", "setsid"]
)
def test_fork_bomb(lab: Lab, each: str) -> None:
    confined = lab.start(BOMB.format(each), processes=20, env={"CADDIE_TEST": str(lab.folder)})
    exit = confined.wait()
    assert exit.cause == "processes"
    assert exit.wall_s < 4
    assert not confined.left
    assert marked(str(lab.folder)) == []


@linux
@pytest.mark.skipif("task-group" not in walls(), reason="no pids controller that we may use")
def test_the_kernel_refuses_what_the_watchdog_does_not_see(lab: Lab) -> None:
    code = (
        "import os, signal, time\nsignal.alarm(6)\nfailed = 0\n"
        "for _ in range(700):\n"
        "  try:\n"
        "    if os.fork() == 0: os._exit(0)\n"  # zombies: tasks, but not alive
        "  except BlockingIOError: failed += 1\n"
        "print(failed)"
    )
    ended = lab.run(code, processes=30)
    assert int(ended.log) == 700 - (lab.limits(processes=30).tasks - 1)
    assert ended.exit.cause == "processes"


def test_threads_count(lab: Lab) -> None:
    code = (
        "import threading, time\n"
        "for _ in range(400): threading.Thread(target=time.sleep, args=(5,), daemon=True).start()\n"
        "time.sleep(5)"
    )
    assert lab.run(code, processes=2).exit.cause == "processes"


# ---------------------------------------------------------------- outliving


def marked(marker: str) -> list[int]:
    """Processes that carry the marker in their environment."""
    found = []
    for pid in tree.every_pid():
        try:
            if marker.encode() in Path(f"/proc/{pid}/environ").read_bytes() and alive(pid):
                found.append(pid)
        except OSError:
            continue
    return found


DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open('pid', 'w').write(str(os.getpid()))
        while True: time.sleep(0.05); open('late', 'a').write('x')
    os._exit(0)
os.wait()
while not os.path.exists('late'): time.sleep(0.01)
"""


@linux
@pytest.mark.parametrize("after", ["", "time.sleep(60)"], ids=["parent ends", "parent is killed"])
def test_a_daemon_does_not_survive(lab: Lab, after: str) -> None:
    ended = lab.run(DAEMON + after, wall_s=0.5 if after else 10)
    assert ended.exit.cause == ("wall" if after else "exited")
    pid = int((ended.out / "pid").read_text())
    assert not alive(pid)
    size = (ended.out / "late").stat().st_size
    time.sleep(0.15)
    assert (ended.out / "late").stat().st_size == size


@linux
def test_a_daemon_does_not_survive_without_a_task_group(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_parent", lambda: None)
    assert "task-group" not in walls()
    ended = lab.run(DAEMON)
    assert ended.exit.ok and not alive(int((ended.out / "pid").read_text()))
    assert lab.start(BOMB.format("pass")).wait().cause == "processes"


@linux
def test_two_at_once_do_not_end_each_other(tmp_path: Path) -> None:
    first, second = Lab(tmp_path / "a"), Lab(tmp_path / "b")
    for each in (first, second):
        each.folder.mkdir()
    two = second.start("import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)")
    one = first.start(DAEMON + "time.sleep(60)")
    until(lambda: one.poll() is None and (first.folder / "out/late").exists())
    until(lambda: one.poll() is None and len(one.processes()) == 2)  # it came to us while both were there
    (second.folder / "out/go").touch()
    assert two.wait().ok
    daemon = int((first.folder / "out/pid").read_text())
    assert one.poll() is None and alive(daemon)
    assert one.kill().cause == "killed"
    assert not alive(daemon)


@linux
def test_other_children_of_the_supervisor_are_left_alone(lab: Lab) -> None:
    with subprocess.Popen([*PYTHON, "import time; time.sleep(60)"], start_new_session=True) as bystander:
        assert lab.start("pass").wait().ok
        assert lab.start("while True: pass", wall_s=0.2).wait().cause == "wall"
        assert bystander.poll() is None
        bystander.kill()


@linux
def test_it_dies_with_its_supervisor(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from sandbox import Confined, Limits\n"
        f"here = Path({str(tmp_path)!r})\n"
        "c = Confined([sys.executable, '-c', 'import time; time.sleep(60)'], cwd=here, env={}, folder=here,\n"
        "  log=here / 'log', limits=Limits(60, None, 500, 10, 1, 5))\n"
        "print(c.pid, flush=True); c.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        pid = int(supervisor.stdout.readline())
        assert alive(pid)
        supervisor.send_signal(signal.SIGKILL)
    until(lambda: not alive(pid))
    until(lambda: pid not in tasks.left_behind())  # and its group goes with the next look


# ---------------------------------------------------------------- the rest


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
    assert {"env", "process-group", "rlimits", "watchdog"} <= set(walls())
    assert wrap(("a", "b"), Policy(writable=tmp_path)) == ["a", "b"]
