"""The fake runner: the same files as a real one, the same answer for the same script and seed, at once."""

import statistics
import time
from pathlib import Path

import pytest

from agent.errors import InfraError
from agent.job.folder import JobPaths
from agent.judge.task import Measured
from agent.runners import Runner
from agent.runners.fake import FakeRunner, Imagined, read_knobs
from agent.runners.local import LocalRunner
from agent.runners.order import Order, place
from tests import ordering
from tests.e2e import world

SCRIPT = 'KNOBS = {"width": 4, "rate": 0.1, "bits": 8, "crash": 0}\nraise SystemExit("never executed")\n'


def job(folder: Path, script: str = SCRIPT, seed: int = 1, wall_s: float = 60.0) -> Order:
    order = ordering.order(world.TRACK, rung="decide", seed=seed, wall_s=wall_s)
    place(folder, order, lambda code: (code / "train.py").write_text(script) and None)
    return order


def measured(folder: Path, **options: object) -> Measured:
    runner = FakeRunner()
    runner.submit(job(folder, **options), folder, "fake/0")  # type: ignore[arg-type]
    assert runner.poll(folder) == "done"
    return Measured.from_json(JobPaths(folder).measure.read_text())


def test_the_same_script_and_seed_have_the_same_answer(tmp_path: Path) -> None:
    one, again, other = (measured(tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert one == again
    assert one.nats != other.nats and one.artifact_sha != other.artifact_sha
    assert one.nats == pytest.approx(sum(one.doc_nats))


def test_knobs_matter_more_than_noise_and_noise_is_there(tmp_path: Path) -> None:
    wide = SCRIPT.replace('"width": 4', '"width": 12')
    small = [measured(tmp_path / f"s{n}", seed=n) for n in range(30)]
    large = [measured(tmp_path / f"l{n}", script=wide, seed=n) for n in range(30)]
    nats = [[m.nats or 0.0 for m in group] for group in (small, large)]
    assert statistics.mean(nats[1]) < statistics.mean(nats[0])
    assert all(statistics.stdev(group) > 0 for group in nats)
    assert (large[0].artifact_bytes or 0) > (small[0].artifact_bytes or 0)


def test_a_crash_has_no_score(tmp_path: Path) -> None:
    found = measured(tmp_path / "a", script=SCRIPT.replace('"crash": 0', '"crash": 1'))
    result = FakeRunner().collect(tmp_path / "a")
    assert (result.outcome, result.ran, found.nats, found.status) == ("crashed", True, None, "failed")
    assert result.phases[0].exit.rc == 1


def test_a_killed_controller_finds_what_was_submitted(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    order = job(folder, seed=3)
    FakeRunner().submit(order, folder, "fake/0")
    before = JobPaths(folder).result.read_bytes()
    later = FakeRunner(world=lambda knobs, seed: Imagined(9.9, 1))
    later.submit(order, folder, "fake/0")
    assert later.poll(folder) == "done" and JobPaths(folder).result.read_bytes() == before


def test_a_result_can_be_kept_back_and_never_passes_what_was_reserved(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    runner = FakeRunner(seconds=0.3, world=lambda knobs, seed: Imagined(1.0, 10, seconds=1e6))
    runner.submit(job(folder, wall_s=33.0), folder, "fake/0")
    assert runner.poll(folder) == "running"
    deadline = time.monotonic() + 5
    while runner.poll(folder) != "done":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert runner.collect(folder).slot_s == 33.0


def test_what_was_never_submitted_is_lost(tmp_path: Path) -> None:
    runner = FakeRunner()
    assert runner.poll(tmp_path / "none") == "lost"
    with pytest.raises(InfraError):
        runner.collect(tmp_path / "none")
    with pytest.raises(InfraError, match="r1"):
        runner.submit(job(tmp_path / "a"), tmp_path / "other", "fake/0")


def test_scripts_are_read_and_never_run() -> None:
    assert read_knobs(SCRIPT) == {"width": 4, "rate": 0.1, "bits": 8, "crash": 0}
    assert read_knobs("x = 1") == {}
    with pytest.raises(ValueError):
        read_knobs("KNOBS = {'a': __import__('os').getpid()}")


def test_hundreds_of_runs_a_second(tmp_path: Path) -> None:
    orders = [(job(tmp_path / f"r{n}", seed=n), tmp_path / f"r{n}") for n in range(300)]
    runner = FakeRunner()
    before = time.process_time()
    for order, folder in orders:
        runner.submit(order, folder, "fake/0")
        assert runner.poll(folder) == "done"
    assert time.process_time() - before < 1.0


def test_both_runners_speak_the_protocol() -> None:
    runners: list[Runner] = [FakeRunner(slots=2), LocalRunner(1)]
    assert [runner.slots for runner in runners] == [("fake/0", "fake/1"), ("local/0",)]
    assert runners[1].hardware_class("local/0").startswith("cpu/")
    assert runners[1].hardware_class("local/0").endswith("/1-thread") and runners[1].price("local/0") == 0.0
