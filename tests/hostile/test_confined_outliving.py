"""Every way to outlive a confined process fails, with real processes that try."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sandbox import groups, in_force, tree
from tests.confining import BOMB, PYTHON, Lab
from tests.processes import alive, linux, until

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
    monkeypatch.setattr(groups, "_places", list)
    assert "task-group" not in in_force()
    ended = lab.run(DAEMON)
    assert ended.exit.ok and not alive(int((ended.out / "pid").read_text()))
    assert lab.start(BOMB.format("pass")).wait().cause == "processes"


@linux
def test_zombies_of_sessions_of_their_own_leave_nothing(lab: Lab) -> None:
    """Grandchildren that end at once, unwaited for, below children that live on elsewhere."""
    before = tree.children(os.getpid())
    ended = lab.run(
        "import os, time\n"
        "for i in range(8):\n"
        "  if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    for _ in range(4):\n"
        "      if os.fork() == 0: os.setsid(); os._exit(0)\n"
        "    open(f'pid{i}', 'w').write(str(os.getpid()))\n"
        "    while True: time.sleep(0.05)\n"
        "while len([n for n in os.listdir() if os.path.getsize(n)]) < 8: time.sleep(0.01)\n",
        processes=60,
    )
    assert ended.exit.ok
    assert not [path for path in ended.out.glob("pid*") if alive(int(path.read_text()))]
    assert tree.children(os.getpid()) == before


@linux
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
def test_a_signal_to_its_group_reaches_nobody_else(lab: Lab, number: int) -> None:
    """It has a session of its own. What stops a signal straight to its parent is a pid namespace."""
    ended = lab.run(f"import os\nos.fork()\nos.killpg(0, {int(number)})\nwhile True: pass", wall_s=1.0).exit
    stopped = number == signal.SIGSTOP
    assert (ended.cause, ended.signal) == ("wall", 9) if stopped else ("exited", number)


@linux
def test_nothing_is_written_after_the_time_limit(lab: Lab) -> None:
    """By nobody, whatever session it is in, to the log or to a file that was opened before."""
    ended = lab.run(
        "import os, time\n"
        "f = open('late', 'ab', buffering=0)\n"
        "for n in range(4):\n"
        "  if os.fork() == 0: os.setsid() if n % 2 else None\n"
        "while True: os.write(1, b'x'); f.write(b'x'); time.sleep(0.001)\n",
        wall_s=0.5,
        processes=20,
    )
    assert ended.exit.cause == "wall"
    sizes = [path.stat().st_size for path in (lab.folder / "log", ended.out / "late")]
    assert min(sizes) > 0
    time.sleep(0.1)
    assert [path.stat().st_size for path in (lab.folder / "log", ended.out / "late")] == sizes


@linux
def test_two_at_once_do_not_end_each_other(tmp_path: Path) -> None:
    first, second = Lab(tmp_path / "a"), Lab(tmp_path / "b")
    for each in (first, second):
        each.folder.mkdir()
    two = second.start("import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)")
    one = first.start(DAEMON + "time.sleep(60)")
    until(lambda: one.poll() is None and (first.folder / "out/late").exists())
    daemon = int((first.folder / "out/pid").read_text())
    until(lambda: one.poll() is None and daemon in one.processes())  # it came to us while both were there
    (second.folder / "out/go").touch()
    assert two.wait().ok
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
        "  policy=None, log=here / 'log', limits=Limits(60, None, 500, 10, 1, 5))\n"
        "print(c.pid, flush=True); c.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        pid = int(supervisor.stdout.readline())
        assert alive(pid)
        supervisor.send_signal(signal.SIGKILL)
    until(lambda: not alive(pid))
    until(lambda: pid not in groups.left_behind())  # and its group goes with the next look


@linux
def test_what_was_killed_gets_its_time_to_end_however_long_the_looks_take() -> None:
    with subprocess.Popen([*PYTHON, "import time; time.sleep(60)"]) as process:

        def find() -> dict[int, tree.Proc]:
            time.sleep(0.15)  # a busy machine
            return tree.descendants([process.pid])

        assert tree.end_all(find, 0.2) == {}
        assert not alive(process.pid)
