"""Runs through a real Slurm, held by real shepherds on its nodes: every way a run can end, and what dies on the way."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.errors import UserError
from agent.job.folder import JobPaths
from agent.runners import LATER
from agent.runners.local import LocalRunner
from agent.runners.shepherd import boot
from agent.runners.slurm import next_step
from agent.runners.slurm.mirror import LOG
from agent.runners.slurm.shell import Said
from tests.processes import until
from tests.slurm import NODES, Cluster
from tests.slurm_field import GPU_TOML, WAIT, WRITE, Counting, Field, done, lost, words_of

pytestmark = pytest.mark.slow


def test_a_run_from_here_to_a_node_and_back(field: Field) -> None:
    runner = field.runner()
    folder = field.submit(runner, 1)
    result = done(runner, folder)
    assert (result.outcome, result.ran) == ("ok", True) and 0 < result.slot_s < 60
    assert (folder / "out" / "a.bin").read_text() == "101"
    assert JobPaths(folder).train_log.read_text() == "seed 101\n"
    until(lambda: field.far() == [], what="nothing is left on the cluster")
    runner.submit(*field.order(1), "lab/0")
    assert runner.poll(folder) == "done" and field.shell.asked["sbatch"] == 1


@pytest.mark.long
def test_a_node_is_a_lease_from_one_boot_to_the_next(field: Field) -> None:
    runner = field.runner()
    first = field.submit(runner, 1)
    assert runner.began_on(first) == ""
    done(runner, first)
    lease = runner.began_on(first)
    name, node, booted = lease.split("/")
    assert (name, booted) == ("lab", boot()[:13]) and node in NODES
    assert runner.lease("lab/0") == LATER == runner.lease(f"lab/@{node}")
    seen = ["other/n1/x", f"lab/{node}/before", lease]
    assert runner.pinned(lambda: seen) == {lease: f"lab/@{node}"} and runner.lease(f"lab/@{node}") == lease
    (other,) = set(NODES) - {node}
    order, there = field.order(2)
    runner.submit(order, there, f"lab/@{other}")
    done(runner, there)
    assert runner.began_on(there) == f"lab/{other}/{booted}"
    runner.refuse(lease, "it has become slower")
    third = field.submit(runner, 3)
    done(runner, third)
    assert runner.began_on(third) == f"lab/{other}/{booted}" and runner.pinned(lambda: seen) == {}


@pytest.mark.long
def test_a_job_that_is_for_one_node_does_not_wait_for_ever_for_it(
    field: Field, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(next_step, "NOWHERE_S", 2.0)
    field.own.run("scontrol", "update", "NodeName=n1", "State=DRAIN", "Reason=test")
    runner = field.runner()
    order, alone = field.order(1)
    runner.submit(order, alone, "lab/@n1")
    assert "the node that it is for can't be used" in lost(runner, alone)
    until(lambda: field.own.jobs() == {}, what="its place in the queue")
    field.own.run("scontrol", "update", "NodeName=n1", "State=RESUME")
    field.own.until_idle()


def test_seeds_of_one_idea_are_one_array(field: Field) -> None:
    runner = field.runner()
    folders = [field.submit(runner, number) for number in (1, 2, 3)]
    other = field.submit(runner, 4, f"{WRITE}print('another idea')\n")
    assert [done(runner, folder).outcome for folder in (*folders, other)] == ["ok"] * 4
    assert [(folder / "out" / "a.bin").read_text() for folder in folders] == ["101", "102", "103"]
    notes = [field.note(folder) for folder in folders]
    assert len({(note.name, note.job) for note in notes}) == 1 and [note.index for note in notes] == [0, 1, 2]
    assert field.note(other).index == -1 and field.shell.asked["sbatch"] == 2


@pytest.mark.long
def test_sixteen_slots_by_one_question(field: Field) -> None:
    runner = field.runner(every_s=1.0)
    assert len(runner.slots) == 16
    began = time.monotonic()
    folders = [field.submit(runner, number, f"import time\ntime.sleep(1)\n{WRITE}#{number}") for number in range(16)]
    until(lambda: all(runner.poll(folder) == "done" for folder in folders), what="16 runs", within_s=120)
    looks = time.monotonic() - began
    assert field.shell.asked["squeue"] <= looks / 1.0 + 3  # the first submissions do not wait for a second to pass


def test_cancelled_while_it_runs_and_while_it_waits(field: Field) -> None:
    runner = field.runner(cpus=64)
    running = [field.submit(runner, number, WAIT) for number in (1, 2)]
    until(lambda: all(runner.progress(folder) for folder in running))
    waiting = field.submit(runner, 3, WAIT)
    until(lambda: "PENDING" in field.own.jobs().values())
    for folder in (running[0], waiting):
        runner.cancel(folder)
    assert (done(runner, waiting).outcome, done(runner, waiting).ran) == ("cancelled", False)
    result = done(runner, running[0])
    assert (result.outcome, result.ran) == ("cancelled", True) and result.slot_s > 0
    assert runner.poll(running[1]) == "running" and len(field.own.jobs()) == 1


def test_how_long_the_queue_is_is_told_by_the_job_that_waits_longest(field: Field) -> None:
    runner = field.runner(cpus=64)
    running = [field.submit(runner, number, WAIT) for number in (1, 2)]
    until(lambda: all(runner.progress(folder) for folder in running) and runner.wait_s("lab/5") == 0)
    order, alone = field.order(3)
    runner.submit(order, alone, "lab/@n1")
    until(lambda: "PENDING" in field.own.jobs().values())
    looks = field.shell.asked["squeue"]
    until(lambda: field.shell.asked["squeue"] > looks + 2)
    assert runner.wait_s("lab/5") == 0  # what is for one node alone says nothing of the others
    waiting = field.submit(runner, 4, WAIT)
    until(lambda: runner.wait_s("lab/5") > 1.0)
    runner.cancel(waiting)
    assert done(runner, waiting).outcome == "cancelled"
    until(lambda: runner.wait_s("lab/5") == 0)


def test_a_run_that_crashes_is_the_ideas_fault(field: Field) -> None:
    runner = field.runner()
    result = done(runner, field.submit(runner, 1, "import sys; print('no'); sys.exit(3)"))
    assert (result.outcome, result.ran) == ("crashed", True) and "exit code 3" in result.reason


@pytest.mark.long
def test_a_node_dies_before_the_run_began(field: Field) -> None:
    """Slurm starts it again on another node: there is nothing to be counted."""
    field.own.run("scontrol", "update", "NodeName=n2", "State=DRAIN", "Reason=test")
    slow = field.root / "python"
    slow.write_text(f'#!/bin/sh\n[ "$SLURMD_NODENAME" = n1 ] && sleep 100\nexec {sys.executable} "$@"\n')
    slow.chmod(0o755)
    runner = field.runner(python=str(slow))
    folder = field.submit(runner, 1)
    until(lambda: "RUNNING" in field.own.jobs().values())
    field.own.kill("n1")
    field.own.run("scontrol", "update", "NodeName=n2", "State=RESUME")
    until(lambda: "PENDING" in field.own.jobs().values() or runner.poll(folder) == "lost")
    assert runner.poll(folder) == "starting", words_of(folder)
    field.own.run("scontrol", "update", f"JobId={field.note(folder).job}", "StartTime=now")
    result = done(runner, folder)
    assert result.outcome == "ok"


def test_an_answer_of_sbatch_gets_lost(field: Field) -> None:
    runner = field.runner()
    field.shell.lose_next = "sbatch"
    folder = field.submit(runner, 1)
    assert done(runner, folder).outcome == "ok"
    assert field.shell.asked["sbatch"] == 1 and "not sure" in (folder / LOG).read_text()
    assert field.note(folder).job.isdecimal()


def test_the_controller_is_killed_between_sbatch_and_its_note(field: Field) -> None:
    order, folder = field.order(1, f"{WRITE}open(f'ran-{{os.getpid()}}', 'w')")
    pid = os.fork()
    if pid == 0:  # the controller

        class Deadly(Counting):
            def run(self, words: Sequence[str], stdin: bytes = b"", **options: float) -> Said:
                said = super().run(words, stdin, **options)
                if words[0] == "sbatch":
                    os.kill(os.getpid(), 9)
                return said

        field.shell = Deadly(field.own)
        first = field.runner()
        first.submit(order, folder, "lab/0")
        time.sleep(60)
    assert os.waitpid(pid, 0)[1] == 9
    assert field.note(folder).job == ""  # its name alone is known
    runner = field.runner()
    runner.submit(order, folder, "lab/0")
    assert done(runner, folder).outcome == "ok"
    assert field.shell.asked["sbatch"] == 0 and field.note(folder).job.isdecimal()
    assert (
        len(field.own.run("squeue", "--noheader", "--states=all", f"--name={field.note(folder).name}").split("\n")) == 2
    )


@pytest.mark.long
def test_nobody_is_at_home_for_a_while(field: Field) -> None:
    """No run is lost, and none is begun twice, while slurmctld is down."""
    runner = field.runner()
    running = field.submit(runner, 1, f"{WRITE}time.sleep(3)")
    until(lambda: runner.progress(running))
    field.own.kill("slurmctld")
    later = field.submit(runner, 2)
    until(lambda: (later / LOG).is_file())
    time.sleep(5)
    assert (runner.poll(running), runner.poll(later)) == ("running", "starting")
    field.own.start_one("slurmctld")
    assert [done(runner, folder).outcome for folder in (running, later)] == ["ok", "ok"]


@pytest.mark.long
def test_a_queue_that_is_cut_short_loses_nobody(field: Field) -> None:
    runner = field.runner(cpus=64)
    running = [field.submit(runner, number, WAIT) for number in (1, 2)]
    until(lambda: all(runner.progress(folder) for folder in running))
    waiting = field.submit(runner, 3, WAIT)
    until(lambda: "PENDING" in field.own.jobs().values() and field.note(waiting).job)
    field.shell.queue = b""
    until(lambda: field.shell.asked["scontrol"] >= 2)  # the one that waits is asked for by itself
    assert [runner.poll(folder) for folder in (*running, waiting)] == ["running", "running", "starting"]
    field.shell.queue = b"Welcome to the cluster!\n"
    before = field.shell.asked["squeue"]
    until(lambda: field.shell.asked["squeue"] > before + 6)
    assert [runner.poll(folder) for folder in (*running, waiting)] == ["running", "running", "starting"]
    field.shell.queue = None
    runner.cancel(waiting)
    assert done(runner, waiting).outcome == "cancelled"


def test_a_node_without_what_is_needed(field: Field) -> None:
    runner = field.runner(python="/opt/no/python3")
    words = lost(runner, field.submit(runner, 1))
    assert "it left no result: Slurm says FAILED" in words and "/opt/no/python3" in words
    assert not runner.loss(field.jobs / "r1").ran


def test_gpus_that_slurm_gives_and_the_driver_does_not_see(own_cluster: Cluster, tmp_path: Path) -> None:
    field = Field(own_cluster, tmp_path, GPU_TOML)
    runner = field.runner(gres="gpu:h100", cpus_per_gpu=1)
    words = lost(runner, field.submit(runner, 1))
    assert "needs 8 GPUs, and has 0 (SLURM_JOB_GPUS: [0, 1, 2, 3, 4, 5, 6, 7]; seen: none)" in words
    assert not runner.loss(field.jobs / "r1").ran
    runner.close()


def test_what_nobody_knows_of_is_swept(field: Field) -> None:
    runner = field.runner()
    folder = field.submit(runner, 1, WAIT)
    until(lambda: runner.progress(folder))
    # A runner of this machine that shares the jobs' folder takes no process of the node for one of its own.
    assert json.loads((folder / "heartbeat.json").read_text())["processes"] == {}
    assert LocalRunner(1).sweep(field.jobs) == [] and runner.poll(folder) == "running"
    damaged = field.jobs / "r9"
    damaged.mkdir()
    (damaged / "slurm.json").write_text("{")
    runner.close()
    kept = field.submit(second := field.runner(), 2, WAIT)
    until(lambda: second.progress(kept))
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    assert len(field.far()) == 4
    assert second.sweep(field.jobs) == []
    until(lambda: list(field.own.jobs()) == [field.note(kept).job])
    until(lambda: len(field.far()) == 2)
    assert second.poll(kept) == "running"


def test_a_cluster_that_would_not_take_it(own_cluster: Cluster, tmp_path: Path) -> None:
    field = Field(own_cluster, tmp_path, GPU_TOML)
    field.runner(gres="gpu:h100").check()
    with pytest.raises(UserError, match="would not take a run of track toy: sbatch"):
        field.runner(partition="none").check()
    with pytest.raises(UserError, match="would not take a run of track toy: sbatch"):
        field.runner(gres="gpu:a100").check()
    with pytest.raises(UserError, match="gpus_per_node is 4"):
        field.runner(gpus_per_node=4).check()
    field.toml = GPU_TOML.replace("train_wall_s = 60", "train_wall_s = 90000")
    with pytest.raises(UserError, match="1505 minutes with its margin; partition gpu gives 1440"):
        field.runner(gres="gpu:h100", partition="gpu").check()
