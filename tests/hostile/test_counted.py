"""Processor time is counted whoever waits for it: by a group, by the filter of a timed run, and of the dead."""

import os
from pathlib import Path

import pytest

from agent import reach
from agent.job.folder import JobPaths
from agent.track import load
from sandbox import Confined, Policy, groups, stack, syscalls
from sandbox.groups import Group, Place
from sandbox.seen import seen
from tests.confining import Lab
from tests.grouping import UNIFIED, joined
from tests.processes import linux, until

pytestmark = linux
# A second in children that most looks miss, and whose time the kernel forgets.
SHORT = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(50):
    if os.fork() == 0:
        while time.process_time() < 0.02: pass
        os._exit(0)
    try: os.wait()
    except ChildProcessError: pass
"""


def counts() -> bool:
    group = Group.make(10, 100_000_000)
    if group is None:
        return False
    group.remove()
    return group._cpu is not None


@pytest.mark.skipif(not counts(), reason="no control group that we may make counts processor time")
def test_a_group_counts_children_that_nobody_waited_for(lab: Lab) -> None:
    exit = lab.run(SHORT).exit
    assert exit.ok and 1.0 <= exit.cpu_s < 1.6
    assert lab.run(SHORT, cpu_s=0.6).exit.cause == "cpu"


@pytest.mark.skipif(not os.access(UNIFIED, os.W_OK), reason="no control group of version 2 that we may make")
def test_a_group_of_version_2_counts_them_too() -> None:
    folder = UNIFIED / f"{groups.PREFIX}counted-{os.getpid()}"
    folder.mkdir()
    group = Group([Place(folder, 2, ())])
    try:
        with joined(group, f"{SHORT}\nprint('done', flush=True)\nsys.stdin.read()") as process:
            assert process.stdout is not None and process.stdout.readline() == "done\n"
            assert 1.0 <= (group.cpu_s() or 0.0) < 1.6
            process.kill()
    finally:
        until(lambda: not group.pids())
        group.remove()


@pytest.mark.skipif(syscalls.this_machine() is None, reason="no filter for this machine")
def test_a_timed_run_can_not_have_its_children_forgotten(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "_places", list)
    out = lab.folder / "out"
    common = seen(())
    policy = Policy(str(out), (), common.programs, common.hidden, timed=True, minimum="base")
    if "seccomp" not in stack(policy).names:
        pytest.skip("no filter here")
    other = "signal.signal(signal.SIGTERM, signal.SIG_IGN); os.kill(os.getpid(), signal.SIGTERM)"
    ended = Confined(
        ("/usr/bin/python3", "-I", "-S", "-c", f"{SHORT}\n{other}"),
        cwd=out,
        env={},
        limits=lab.limits(),
        log=lab.folder / "log",
        folder=out,
        policy=policy,
    ).wait()
    assert ended.ok and ended.cpu_s >= 1.0, (lab.folder / "log").read_text()


def test_the_dead_count_before_anybody_waits_for_them(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "_places", list)
    code = (
        "import os, time\n"
        "for _ in range(50):\n"
        "  if (pid := os.fork()) == 0:\n"
        "    while time.process_time() < 0.02: pass\n"
        "    os._exit(0)\n"
        "  os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)\n"
        "time.sleep(20)"
    )
    exit = lab.run(code, cpu_s=0.6, wall_s=15).exit
    assert exit.cause == "cpu"


def test_none_of_it_is_forgotten_where_a_track_says_what_training_costs(tmp_path: Path) -> None:
    track, _ = load("tiny", tmp_path)
    limited = track.limits.model_copy(update={"train_cpu_s": 60.0})
    free = track.model_copy(update={"compute": None})
    for one, timed in ((track, True), (free, False), (free.model_copy(update={"limits": limited}), True)):
        assert reach.training(one, JobPaths(tmp_path), tmp_path, reach.Reach("base")).timed is timed
        assert not reach.scoring(one, reach.Reach("base")).timed
