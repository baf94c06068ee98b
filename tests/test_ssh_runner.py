"""Runs on a machine over ssh: a real sshd, a real shepherd, real walls and the real judge."""

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import reach
from agent import track as tracks
from agent.errors import InfraError, MissingError
from agent.job.folder import Loss
from agent.judge.measure import kept_reference
from agent.judge.task import Auditing, Measured, Reference
from agent.runners.far.mirror import lose
from agent.runners.local import LocalRunner
from agent.runners.ssh import machines as ssh_machines
from agent.runners.ssh import mirror
from agent.runners.ssh import runner as ssh_runner
from agent.runners.ssh.errand import SURELY_OVER_S, Errand, surely_over
from agent.runners.ssh.link import Thread
from agent.runners.ssh.machine import Machine
from agent.runners.ssh.runner import SshRunner
from agent.tables import GRACE_S
from sandbox import level
from tests import far, processes, sshd
from tests.far import LONG, begun, was_trained_once
from tests.processes import until
from tests.zoo_runs import TOML
from trainer.data.manifest import load

pytestmark = pytest.mark.slow


@pytest.fixture
def world(tmp_path: Path, lasting_server: sshd.Sshd, toy_corpus: Path) -> Iterator[far.World]:
    found = far.World(tmp_path, lasting_server, corpus=toy_corpus)
    yield found
    found.close()


@pytest.mark.long
def test_a_run_is_trained_and_scored_there_and_all_of_it_is_here(world: far.World) -> None:
    runner = world.runner()
    order = world.order(seed=3)
    paths = world.place(order)
    runner.submit(order, paths.folder, runner.slots[0])
    assert far.ended(runner, paths) == "done", runner.loss(paths.folder)
    result = runner.collect(paths.folder)
    assert (result.outcome, result.ran, [phase.name for phase in result.phases]) == ("ok", True, ["train", "judge"])
    measured = Measured.from_json(paths.measure.read_text())
    assert measured.status == "ok" and measured.nats and measured.artifact_bytes
    assert (paths.out / "final_model.bin").stat().st_size == measured.artifact_bytes
    assert paths.train_log.stat().st_size > 0


@pytest.mark.long
def test_the_scores_of_a_baseline_come_back_and_go_along_with_the_next_run(world: far.World) -> None:
    runner, words = world.runner(), []
    reference = None
    for run_id in (1, 2):
        order = world.order(run_id, auditing=Auditing("full", min_gain=0.01, reference=reference))
        paths = world.place(order)
        runner.submit(order, paths.folder, runner.slots[0])
        assert far.ended(runner, paths) == "done", runner.loss(paths.folder)
        found = Measured.from_json(paths.measure.read_text()).audit
        assert found is not None and found.strength == "full"
        words.append(found.reference)
        sha = kept_reference(paths)
        assert sha is not None and paths.reference.stat().st_size > 0
        reference = Reference(f"r{run_id}/{paths.reference.name}", sha)
    assert words == ["a bigram model of the judge's", "the baseline's scores for 100 % of the tokens"]


@pytest.mark.long
def test_what_one_machine_has_trained_is_scored_on_another(world: far.World) -> None:
    hosts = [world.sshd.host(world.far), world.sshd.host(world.root / "other", "lab/other")]
    runner = world.runner(hosts=hosts)
    trained = world.place(world.order(1, seed=3))
    runner.submit(world.order(1, seed=3), trained.folder, "lab/box/0")
    assert far.ended(runner, trained) == "done", runner.loss(trained.folder)
    limits = world.order().limited.limits
    order = world.order(2, seed=3, phases=("judge",), wall_s=limits.judge_wall_s() + GRACE_S)
    paths = world.place(order)
    (paths.out / "final_model.bin").write_bytes((trained.out / "final_model.bin").read_bytes())
    runner.submit(order, paths.folder, "lab/other/0")
    assert far.ended(runner, paths) == "done", runner.loss(paths.folder)
    result = runner.collect(paths.folder)
    assert (result.outcome, result.ran, [phase.name for phase in result.phases]) == ("ok", True, ["judge"])
    assert result.walls and set(result.walls) == set(runner.collect(trained.folder).walls)
    first, second = (Measured.from_json(one.measure.read_text()) for one in (trained, paths))
    assert set(result.walls) == set(second.walls) and level(result.walls) == level(first.walls)
    assert second.artifact_sha == first.artifact_sha and second.nats == pytest.approx(first.nats, rel=1e-6)
    assert runner.lease("lab/box/0") != runner.lease("lab/other/0")
    assert not list((world.root / "other").glob("jobs/*/night.jobs.r1*")), "nothing was trained there"


@pytest.mark.long
def test_a_link_that_is_half_open_while_it_is_scored_comes_back_to_the_one_score(
    world: far.World, lasting_server: sshd.Sshd
) -> None:
    runner = world.runner()
    order = world.order(auditing=Auditing("full", min_gain=0.01))
    paths = world.place(order)
    runner.submit(order, paths.folder, runner.slots[0])
    until(lambda: list(world.far.glob("jobs/*/night.jobs.r1.judge/started")), 120, "the start of the scoring")
    there = world.there("r1.judge")
    assert not there.result.exists(), "it was over before the link was cut"
    asked = mirror.read(paths.folder)
    stopped = lasting_server.sessions()
    assert lasting_server.cut(signal.SIGSTOP) > 0
    try:
        assert far.ended(runner, paths) == "done", runner.loss(paths.folder)
    finally:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    result = runner.collect(paths.folder)
    assert (result.outcome, [phase.name for phase in result.phases]) == ("ok", ["train", "judge"])
    assert Measured.from_json(paths.measure.read_text()).status == "ok"
    known = mirror.read(paths.folder)
    assert asked is not None and known is not None and known.judged == asked.judged, "it was started a second time"


@pytest.fixture
def long(tmp_path: Path, lasting_server: sshd.Sshd, toy_corpus: Path) -> Iterator[far.World]:
    """A run that trains until it is stopped, after 4 seconds."""
    found = far.World(tmp_path, lasting_server, toml=LONG, corpus=toy_corpus)
    yield found
    found.close()


@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_link_that_breaks_or_is_half_open_costs_the_run_nothing(
    long: far.World, lasting_server: sshd.Sshd, how: signal.Signals
) -> None:
    runner, paths = begun(long)
    stopped = lasting_server.sessions()
    assert lasting_server.cut(how) > 0
    was_trained_once(long, runner, paths)
    assert not set(stopped) & set(lasting_server.sessions()) or how == signal.SIGSTOP
    for pid in stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_another_controller_takes_over_what_the_first_began(long: far.World) -> None:
    first, paths = begun(long)
    first.close()
    second = long.runner()
    second.sweep(paths.folder.parent)  # which leaves alone what somebody waits for
    was_trained_once(long, second, paths)
    until(lambda: "night.jobs.r1" not in [path.name for path in long.far.glob("jobs/*/*")])


def test_a_run_can_be_cancelled_before_it_is_sent_and_while_it_runs(long: far.World) -> None:
    runner, paths = begun(long, train_wall_s=100)
    runner.cancel(paths.folder)
    assert far.ended(runner, paths) == "done" and runner.collect(paths.folder).outcome == "cancelled"
    assert runner.collect(paths.folder).ran


@pytest.mark.long
def test_the_validation_text_is_never_on_the_disk_there(world: far.World) -> None:
    """It is looked for while it is scored, too, in all files of the machine's folder and beside it."""
    runner = world.runner()
    order = world.order()
    paths = world.place(order)
    text = load(world.workspace / ".caddie/data/docs", verify=False).val.files[0]
    secret = (world.workspace / ".caddie/data/docs" / text.path).read_bytes()[20:120]
    runner.submit(order, paths.folder, runner.slots[0])
    judged, code = [], []
    while runner.poll(paths.folder) not in ("done", "lost"):
        assert not holding(world.far, secret)
        judged += list(world.far.glob("jobs/*/night.jobs.r1.judge/measure.json"))
        trained = list(world.far.glob("jobs/*/night.jobs.r1/result.json"))
        if not code:
            code = list(world.far.glob("trees/*/agent/judge/session.py"))
            assert trained or not code, "the judge's code came before the training was over"
    assert runner.collect(paths.folder).outcome == "ok" and judged and code
    until(lambda: not list(world.far.glob("trees/*/agent/judge/session.py")), 30)


def test_nothing_is_scored_while_the_training_lives(long: far.World) -> None:
    runner, paths = begun(long, train_wall_s=100)
    machine = runner.machines.named("lab/box") or pytest.fail("it is there")
    order = long.order(phases=("judge",))
    header = {
        "job": "night.jobs.r1.judge",
        "trained": "night.jobs.r1",
        "order": order.to_json(),
        "code": {},
        "artifact": "0" * 64,
        "documents": None,
        "hidden": None,
        "reference": False,
        "gpus": [],
        "env": {},
        "box": "",
        "core": None,
        "before": machine.soon(),
    }
    started = []
    with pytest.raises(InfraError, match="the training still runs"):
        runner.machines.opened().wait(machine.judge(header, [b"text"], lambda: started.append(1)), 60)
    assert not list(long.far.glob("jobs/*/night.jobs.r1.judge"))
    runner.cancel(paths.folder)
    assert far.ended(runner, paths) == "done"


def holding(folder: Path, secret: bytes) -> list[Path]:
    """Files come and go meanwhile."""
    found = []
    for path in (Path(at) / name for at, _, names in os.walk(folder) for name in names):
        with contextlib.suppress(OSError):
            if path.is_file() and secret in path.read_bytes():
                found.append(path)
    return found


# ---------------------------------------------------------------- machines that go away


def test_a_machine_that_is_gone_for_sure_loses_its_run_at_once_and_one_that_is_silent_does_not(
    long: far.World, lasting_server: sshd.Sshd
) -> None:
    """As long as it may still be running there, its seed is not free."""
    runner, paths = begun(long, train_wall_s=100)
    lasting_server.stop()
    try:
        until(lambda: runner.slots == (), 60, "the machine is known to be silent")
        assert runner.poll(paths.folder) == "running"
        assert not surely_over(paths.folder, mirror.read(paths.folder) or pytest.fail("it was placed"))
        runner.remove("lab/box")
        assert far.ended(runner, paths, 20) == "lost"
        loss = runner.loss(paths.folder)
        assert loss.ran and loss.slot_s > 0 and "given back" in loss.reason
    finally:
        lasting_server.start()


def test_a_machine_that_is_still_starting_is_looked_at_again_soon(tmp_path: Path, server: sshd.Sshd) -> None:
    """It was rented a moment ago, and each moment in which it waits is paid."""
    world = far.World(tmp_path, server)
    runner = SshRunner([], world.workspace, world.order().limited)
    assert runner.slots == ()
    server.stop()
    runner.machines.add(server.host(world.far))
    until(lambda: runner.machines.wrong("lab/box"), 10, "the first look")
    server.start()
    until(lambda: runner.slots, 30, "the second")
    runner.close()


def test_what_was_given_up_is_ended_there_by_the_next_sweep(long: far.World) -> None:
    runner, paths = begun(long, train_wall_s=100)
    shepherd = json.loads(long.there("r1").pid.read_text())["pid"]
    runner.close()
    lose(paths.folder, Loss(True, 1.0, "given up"))
    later = long.runner()
    assert later.poll(paths.folder) == "lost" and processes.alive(shepherd)
    later.sweep(paths.folder.parent)
    until(lambda: not processes.alive(shepherd), 30)
    until(lambda: not list(long.far.glob("jobs/*/night.jobs.r1")), 30)
    assert later.poll(paths.folder) == "lost"


def test_a_folder_that_was_taken_away_there_is_no_way_to_be_trained_again(long: far.World) -> None:
    runner, paths = begun(long, train_wall_s=100)
    there = long.there("r1").folder
    shepherd = json.loads(long.there("r1").pid.read_text())["pid"]
    os.kill(shepherd, signal.SIGSTOP)  # it would write who did it
    there.rename(there.with_name("elsewhere"))
    os.kill(shepherd, signal.SIGKILL)
    assert far.ended(runner, paths) == "lost"
    loss = runner.loss(paths.folder)
    assert loss.ran and "taken away after it had begun" in loss.reason and not there.exists()


def test_a_run_is_lost_when_its_shepherd_is(long: far.World) -> None:
    runner, paths = begun(long, train_wall_s=100)
    os.kill(json.loads(long.there("r1").pid.read_text())["pid"], signal.SIGKILL)
    assert far.ended(runner, paths) == "lost"
    loss = runner.loss(paths.folder)
    assert loss.ran and "shepherd" in loss.reason
    until(lambda: not list(long.far.glob("jobs/*/night.jobs.r1")), 30)


def test_a_job_whose_machine_nobody_names_any_more(tmp_path: Path, lasting_server: sshd.Sshd, toy_corpus: Path) -> None:
    world = far.World(tmp_path, lasting_server, corpus=toy_corpus)
    paths = world.place(world.order())
    runner = SshRunner([], world.workspace, world.order().limited)
    asked = time.time() - world.order().wall_s - SURELY_OVER_S
    mirror.write(paths.folder, mirror.Placed("lab/old/0", "lab/old", asked + 60))
    assert runner.poll(paths.folder) == "starting"
    mirror.write(paths.folder, mirror.Placed("lab/old/0", "lab/old", asked - 1))
    assert runner.poll(paths.folder) == "lost" and runner.loss(paths.folder).ran
    runner.close()


def test_a_run_has_one_errand_whoever_asks_for_it_first(
    tmp_path: Path, lasting_server: sshd.Sshd, toy_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop asks how it is while another thread hands it over, as the keeper of a rented machine does."""
    world = far.World(tmp_path, lasting_server, corpus=toy_corpus)
    paths = world.place(world.order())
    runner = SshRunner([lasting_server.host(world.far, "lab/gone", port=1)], world.workspace, world.order().limited)
    mirror.write(paths.folder, mirror.Placed("lab/gone/0", "lab/gone"))
    made, together = list[Path](), threading.Barrier(2)

    class Counted(Errand):
        def __init__(self, machine: Machine, folder: Path, *rest: Any) -> None:
            made.append(folder)
            with contextlib.suppress(threading.BrokenBarrierError):
                together.wait(1.0)
            super().__init__(machine, folder, *rest)

    monkeypatch.setattr(ssh_runner, "Errand", Counted)
    askers = [threading.Thread(target=runner.poll, args=(paths.folder,)) for _ in range(2)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    runner.close()
    assert made == [paths.folder]


def test_machines_that_can_not_be_used_are_named(tmp_path: Path, lasting_server: sshd.Sshd) -> None:
    world = far.World(tmp_path, lasting_server)
    hosts = [
        lasting_server.host(world.far, "lab/good"),
        lasting_server.host(world.far, "lab/gone", port=1, connect_s=5.0),
        lasting_server.host(world.far, "lab/bare", python="no-such-python"),
    ]
    runner = SshRunner(hosts, world.workspace, world.order().limited)
    assert runner.slots == ("lab/good/0",)
    notes = " ".join(runner.notes)
    assert "lab/gone" in notes and "no no-such-python there" in notes
    here = LocalRunner(1)
    assert runner.hardware_class("lab/good/0") == here.hardware_class("local/0")
    asked = reach.asked(world.order().limited, world.workspace)
    assert runner.level(asked) == here.level(asked)
    with pytest.raises(InfraError, match="Did you mean 'lab/good'"):
        runner.price("lab/goood/0")
    runner.close()
    none = SshRunner(hosts[1:2], world.workspace, world.order().limited)
    with pytest.raises(MissingError, match="no machine can be used"):
        none.level(asked)
    none.close()


def test_several_who_ask_first_have_one_thread_of_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What belongs to the event loop of one thread is of no use in another's."""
    made: list[Thread] = []

    class Slow(Thread):
        def __init__(self, name: str) -> None:
            super().__init__(name)
            made.append(self)
            time.sleep(0.05)

    monkeypatch.setattr(ssh_machines, "Thread", Slow)
    runner = SshRunner([], tmp_path, tracks.parse(TOML, "toy.toml"))
    asking = [threading.Thread(target=lambda: runner.slots) for _ in range(4)]
    for one in asking:
        one.start()
    for one in asking:
        one.join(30)
    assert len(made) == 1
    runner.close()
