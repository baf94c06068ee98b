"""A scope around a command: a stand-in for systemd-run shows what it is asked, the real one what becomes of that.

The real one answers where systemd has booted the machine (`make booted` boots one).
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import groups, in_force, scope
from tests.confining import BOMB, PYTHON, Lab
from tests.processes import linux

pytestmark = linux
PLACES = groups._places
STAND_IN = """#!/bin/sh
printf '%s ' "$XDG_RUNTIME_DIR" "$@" >> {folder}/calls; echo >> {folder}/calls
test -e {folder}/refuses && exit 1
test -e {folder}/hangs && exec sleep 30
while test "$1" != --; do shift; done; shift
INVOCATION_ID=added exec "$@"
"""


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "systemd"
    folder.mkdir()
    tool = folder / "systemd-run"
    tool.write_text(STAND_IN.format(folder=folder))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    monkeypatch.setattr(scope, "BOOTED", folder)
    monkeypatch.setattr(groups, "_places", list)
    scope.manager.cache_clear()
    yield folder
    scope.manager.cache_clear()


def test_a_command_in_a_scope_is_our_child_and_gets_its_environment_only(tmp_path: Path, systemd: Path) -> None:
    lab = Lab(tmp_path)
    code = "import json, os; print(json.dumps([os.getpid(), os.getppid(), dict(os.environ)]))"
    confined = lab.start(code, env={"A": "b c=d", "LC_CTYPE": "C.UTF-8"}, memory_mb=800, processes=3)
    assert confined.wait().ok
    seen = json.loads((tmp_path / "log").read_text())
    assert seen == [confined.pid, os.getpid(), {"A": "b c=d", "LC_CTYPE": "C.UTF-8"}]
    asked, call = (systemd / "calls").read_text().splitlines()
    whose = "" if os.getuid() == 0 else "--user "
    assert asked == f"/run/user/7 {whose}--scope --quiet --collect -- true "
    bounds = "--property MemoryMax=964000000 --property MemorySwapMax=0 --property TasksMax=112"
    head = f"/run/user/7 {whose}--scope --quiet --collect --description=caddie {bounds} -- /usr/bin/env -i A=b c=d "
    assert call.startswith(head) and PYTHON[0] in call
    assert in_force()[-2:] == ("task-group", "memory-group")
    assert lab.start("while True: pass", wall_s=0.4).wait().cause == "wall"
    assert len((systemd / "calls").read_text().splitlines()) == 3  # whether it answers is asked once


@pytest.mark.parametrize("how", ["refuses", "hangs", "not booted", "not there"])
def test_without_a_systemd_that_answers_the_command_stays_as_it_is(
    systemd: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(scope, "ANSWER_S", 0.3)
    if how == "not booted":
        monkeypatch.setattr(scope, "BOOTED", systemd / "none")
    elif how == "not there":
        monkeypatch.setenv("PATH", "/nowhere")
    else:
        (systemd / how).touch()
    limits = Lab(systemd).limits()
    assert scope.around(("a", "b"), {"C": "d"}, limits) == ["a", "b"]
    assert in_force() == ("env", "process-group", "rlimits", "watchdog")


def test_control_groups_of_our_own_come_first(tmp_path: Path, systemd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "_places", PLACES)
    group = groups.Group.make(1, 1 << 20)
    if group is None:
        pytest.skip("no control group that we may make")
    group.remove()
    assert Lab(tmp_path).start("pass").wait().ok
    assert not (systemd / "calls").exists()


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if not scope.BOOTED.is_dir():
        pytest.skip("systemd has not booted this machine (make booted)")
    monkeypatch.setattr(groups, "_places", list)
    scope.manager.cache_clear()
    assert scope.manager() is not None
    yield
    scope.manager.cache_clear()


def test_the_kernel_has_the_bounds_that_systemd_was_told(tmp_path: Path, real: None) -> None:
    lab = Lab(tmp_path)
    code = "from pathlib import Path\n"
    code += "own = Path('/sys/fs/cgroup' + Path('/proc/self/cgroup').read_text().strip().split('::')[1])\n"
    code += "print(own.suffix, *[(own / name).read_text() for name in ('memory.max', 'memory.swap.max', 'pids.max')])"
    ended = lab.run(code, memory_mb=800, processes=3)
    suffix, memory, swap, tasks = ended.log.decode().split()
    limits = lab.limits(memory_mb=800, processes=3)
    assert ended.exit.ok and suffix == ".scope" and (swap, tasks) == ("0", str(limits.tasks))
    assert limits.memory_bound - 4096 < int(memory) <= limits.memory_bound


def test_who_passes_a_bound_of_a_real_scope_is_refused_or_ended(tmp_path: Path, real: None) -> None:
    lab = Lab(tmp_path)
    bound = lab.limits(memory_mb=60).memory_bound
    assert lab.run(f"x = bytearray({bound + 20_000_000})", memory_mb=60).exit.cause == "memory"
    forks = "import os\nfailed = 0\nfor _ in range(700):\n  try:\n    if os.fork() == 0: os._exit(0)\n"
    forks += "  except BlockingIOError: failed += 1\nprint(failed)"
    ended = lab.run(forks, processes=30, wall_s=60)
    assert int(ended.log) == 700 - (lab.limits(processes=30).tasks - 1)
    assert lab.run(BOMB.format("pass"), processes=20, wall_s=60).exit.cause == "processes"
