"""Campaigns in simulated time: nothing is waited for, and what takes time takes it by the simulated clock."""

from pathlib import Path

import pytest

from agent.errors import InfraError
from benchmarks import night
from benchmarks.scale import simulate
from benchmarks.simulated import SimulatedClock


def test_the_clock_steps_to_what_happens_next() -> None:
    clock, seen = SimulatedClock(), list[str]()
    clock.at(clock.now() + 100.0, lambda: seen.append("late"))
    clock.at(clock.now() + 5.0, lambda: seen.append("soon"))
    clock.rest(0.05, 1000.0)
    assert seen == ["soon"] and clock.now() == pytest.approx(5.0, abs=1.0)
    clock.rest(0.05, 1.0)
    assert seen == ["soon"]
    clock.rest(0.05, 1000.0)
    assert seen == ["soon", "late"] and clock.now() == pytest.approx(100.0, abs=2.0)


def test_whoever_sleeps_sees_all_that_came_meanwhile() -> None:
    clock, seen = SimulatedClock(), list[str]()
    for after in (0.2, 0.7, 5.0):
        clock.at(clock.now() + after, lambda after=after: seen.append(f"{after}"))  # type: ignore[misc]
    before = clock.now()
    clock.rest(1.0, 1.0)
    assert seen == ["0.2", "0.7"] and clock.now() == pytest.approx(before + 1.0, abs=0.5)


def test_what_is_raised_beside_the_loop_comes_with_the_answer() -> None:
    def fails() -> None:
        raise InfraError("no process can start")

    assert isinstance(SimulatedClock().background("fails", fails).exception(0), InfraError)


def test_the_night_has_the_recorded_hours_whatever_is_drawn() -> None:
    for seed in range(3):
        planned = night.durations(seed)
        assert len(planned) == 113 and sum(seconds for seconds, _ in planned) * 8 / 3600 == pytest.approx(238.0)
        assert not any(failed for _, failed in planned[: night.FIRST])
    serial = night.serial(planned)
    assert serial.wall_h > 238 / 8 and serial.paid == pytest.approx(8 * serial.wall_h) and 0 < serial.idle < 0.3


@pytest.mark.long
def test_slots_are_busy_and_the_store_is_asked_little(tmp_path: Path) -> None:
    found = simulate(tmp_path / "work", 20, 90)
    assert found.proposals == 90 and found.busy > 0.97
    assert found.reads < 80 and found.writes < 20
