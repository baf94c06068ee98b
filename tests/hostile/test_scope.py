"""A scope around a command, with a stand-in for systemd-run: the real one needs a machine that systemd has booted."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import groups, in_force, scope
from tests.confining import PYTHON, Lab
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
