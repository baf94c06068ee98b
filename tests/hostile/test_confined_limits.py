"""Every limit of a confined process is kept, with real processes that pass it."""

import ctypes
import os
import signal
import time
from pathlib import Path

import pytest

from sandbox import groups, in_force, tree, watch
from tests.confining import BOMB, Lab
from tests.processes import linux, mentioning


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


@linux
@pytest.mark.parametrize("cpu_s", [None, 5.0])
def test_whoever_ends_like_a_process_without_time_left_has_not_met_a_limit(lab: Lab, cpu_s: float | None) -> None:
    ended = lab.run("import os, signal; os.kill(os.getpid(), signal.SIGXCPU)", cpu_s=cpu_s)
    assert (ended.exit.cause, ended.exit.signal) == ("exited", signal.SIGXCPU)


def test_cpu_is_counted_when_children_are_waited_for(lab: Lab) -> None:
    busy = "while time.process_time() < 0.4: pass"
    code = f"import os, time\nif os.fork() == 0:\n  {busy}\n  os._exit(0)\nos.wait()"
    exit = lab.run(code).exit
    assert exit.ok and 0.38 < exit.cpu_s < 0.6


@linux
def test_who_sleeps_was_not_ready_to_run_and_who_works_was_whoever_has_the_core(lab: Lab) -> None:
    """Several that want one core at once were ready no longer than the clock ran."""
    asleep = lab.run("import time; time.sleep(1.5)").exit
    assert asleep.ok and asleep.ready_s is not None and asleep.ready_s < asleep.wall_s - 1.0
    code = "import os\nos.sched_setaffinity(0, {0})\nfor _ in range(2): os.fork()\nwhile True: pass"
    working = lab.run(code, wall_s=2.0).exit
    assert working.cause == "wall" and working.ready_s is not None
    assert 1.4 < working.ready_s <= working.wall_s


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


grouped = pytest.mark.skipif("memory-group" not in in_force(), reason="no memory controller that we may use")


@linux
@pytest.mark.parametrize("bounded", [pytest.param(True, marks=grouped), False], ids=["by the kernel", "by looks"])
@pytest.mark.parametrize(
    ("code", "causes"),
    [
        ("import mmap; x = mmap.mmap(-1, 150_000_000); x[::4096] = bytes(len(x[::4096]))", {"memory"}),
        (
            "import os; x = [os.memfd_create('x') for _ in 'ab']; [os.write(f, bytes(75_000_000)) for f in x]",
            {"memory", "disk"},
        ),
        ("[open(f'/dev/shm/caddie-test{i}', 'wb').write(bytes(75_000_000)) for i in (1, 2)]", {"memory"}),
    ],
    ids=["shared mapping", "memfd", "tmpfs"],
)
def test_memory_that_is_no_processs_own(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, code: str, causes: set[str], bounded: bool
) -> None:
    if not bounded:
        monkeypatch.setattr(groups, "_places", list)
        if "/dev/shm" in code:
            pytest.skip("without a box only the kernel knows whose it is")
    try:
        ended = lab.run(f"{code}\nimport time; time.sleep(9)", memory_mb=100, disk_mb=100)
        assert ended.exit.cause in causes
        assert ended.exit.wall_s < 5 and ended.exit.peak_mb < 200
    finally:
        for path in Path("/dev/shm").glob("caddie-test*"):
            path.unlink()


@linux
@grouped
@pytest.mark.parametrize("then", ["os.wait()", "time.sleep(9)", "os.wait(); time.sleep(9)"])
def test_memory_that_grows_faster_than_anybody_looks(lab: Lab, then: str) -> None:
    """The kernel ends the child that took it; the verdict is that of the tree."""
    bound = lab.limits(memory_mb=60).memory_bound
    code = f"import os, time\nif os.fork() == 0:\n  x = bytearray({bound + 20_000_000})\n  time.sleep(20)\n{then}"
    confined = lab.start(code, memory_mb=60)
    time.sleep(0.6)  # nobody looks
    ended = confined.wait()
    assert ended.cause == "memory" and ended.wall_s < 3, ended


@linux
@grouped
def test_memory_that_others_lack_is_not_ours(lab: Lab) -> None:
    """Somebody else's process is killed for lack of memory, and this one by somebody's signal: no connection."""
    other = Lab(lab.folder / "other")
    other.folder.mkdir()
    confined = lab.start("import os, time; time.sleep(0.2); os.kill(os.getpid(), 9)")
    greedy = other.start("x = bytearray(200_000_000)", memory_mb=60)
    time.sleep(0.6)
    assert (greedy.wait().cause, confined.wait().cause) == ("memory", "exited")


def test_reading_much_is_not_using_much(lab: Lab) -> None:
    big = lab.folder / "shards"
    big.write_bytes(bytes(300_000_000))
    ended = lab.run(f"f = open({str(big)!r}, 'rb')\nwhile f.read(1 << 20): pass", memory_mb=60)
    assert ended.exit.ok and ended.exit.peak_mb < 60, ended.exit


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


@linux
def test_files_that_an_ordinary_user_may_not_look_at_are_not_taken_for_none() -> None:
    read, write = os.pipe()
    ordinary = os.fork()
    if ordinary == 0:
        try:
            if os.getuid() == 0:
                os.setresuid(65534, 65534, 65534)
            hides = os.fork()
            if hides == 0:
                ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
                time.sleep(30)
            time.sleep(0.3)
            try:
                said = str(tree.open_but_deleted(hides))
            except PermissionError:
                said = "hidden"
            os.kill(hides, signal.SIGKILL)
            time.sleep(0.1)
            said += f", then {tree.open_but_deleted(hides)}"  # a zombie, which nobody may look at either
            os.write(write, said.encode())
        finally:
            os._exit(0)
    os.waitpid(ordinary, 0)
    os.close(write)
    with os.fdopen(read) as pipe:
        assert pipe.read() == "hidden, then {}"


def test_hidden_files_are_too_many(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(pid: int) -> dict[tuple[int, int], int]:
        raise PermissionError

    monkeypatch.setattr(tree, "open_but_deleted", hidden)
    assert lab.run("import time; time.sleep(5)").exit.cause == "disk"


def test_disk_of_too_many_entries(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MAX_ENTRIES", 2000)
    ended = lab.run("i = 0\nwhile True:\n  open(f'{i}', 'wb').close(); i += 1", disk_mb=500)
    assert ended.exit.cause == "disk"


def test_disk_of_one_huge_file_is_refused_by_the_kernel(lab: Lab) -> None:
    ended = lab.run("f = open('x', 'wb'); f.truncate(10_000_000_000)")
    assert not ended.exit.ok and b"too large" in ended.log
    assert (ended.out / "x").stat().st_size == 0


def test_disk_of_sparse_files_is_what_they_hold(lab: Lab) -> None:
    hollow = (
        "for i in range(50):\n  f = open(str(i), 'wb'); f.truncate(19_000_000); f.seek(9_000_000); f.write(bytes({}))"
    )
    assert lab.run(hollow.format(4096), disk_mb=20).exit.ok
    assert lab.run(hollow.format(900_000), disk_mb=20).exit.cause == "disk"


@linux
@pytest.mark.parametrize(("size", "sleep", "cause"), [(10, 0, "exited"), (200, 0, "disk"), (200, 5, "disk")])
def test_room_behind_the_end_of_the_log_is_disk_and_is_not_kept(lab: Lab, size: int, sleep: int, cause: str) -> None:
    """Neither its length nor the bound on the length of files says anything of it."""
    code = (
        "import ctypes, time\nprint('said', flush=True)\n"
        f"got = ctypes.CDLL(None).fallocate(1, 1, ctypes.c_long(0), ctypes.c_long({size} << 20))\n"
        f"time.sleep({sleep})\nraise SystemExit(7 if got else 0)"
    )
    ended = lab.run(code, disk_mb=20, log_mb=2)
    if ended.exit.rc == 7:
        pytest.skip("this file system has no such room")
    assert (ended.exit.cause, ended.log) == (cause, b"said\n") and ended.exit.wall_s < 4
    assert (lab.folder / "log").stat().st_blocks * 512 <= 2_000_000


def test_disk_is_looked_at_once_more_at_the_end(lab: Lab) -> None:
    ended = lab.run("for i in range(3): open(f'{i}', 'wb').write(bytes(9_000_000))", disk_mb=20)
    assert ended.exit.cause == "disk"


@pytest.mark.parametrize(
    "each", ["pass", "os.setsid() if os.getpgid(0) != os.getpid() else 0"], ids=["plain", "setsid"]
)
def test_fork_bomb(lab: Lab, each: str) -> None:
    confined = lab.start(BOMB.format(each), processes=20, env={"CADDIE_TEST": str(lab.folder)})
    exit = confined.wait()
    assert exit.cause == "processes"
    assert exit.wall_s < 4
    assert not confined.left
    assert mentioning(str(lab.folder)) == []


@linux
@pytest.mark.skipif("task-group" not in in_force(), reason="no pids controller that we may use")
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
