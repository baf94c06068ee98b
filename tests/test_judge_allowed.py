"""What our clocks saw, against what the contest allows."""

from dataclasses import replace

import pytest

from agent.judge import logs
from agent.judge.allowed import clocks, left_out
from agent.judge.task import Clocks, no_score
from agent.tables import Limits

LIMITS = Limits(train_wall_s=900, score_wall_s=900, train_clock_s=600, score_clock_s=600, memory_mb=100)
SCORED = Clocks(1.0, 1.0, 599.0, 700.0, 700.0, 5.0, 5.0, 800.0)


def found(train_s: float | None, own_ms: int | None, score_s: float = 599.0, limits: Limits = LIMITS) -> list[str]:
    said = logs.reported("" if own_ms is None else f"step:9/9 train_loss:2.0 train_time:{own_ms}ms step_avg:1ms\n")
    measured = replace(no_score("ok", ""), clocks=replace(SCORED, score_answers=score_s))
    allowed = limits.train_clock_s, limits.score_clock_s
    return [f"{one.severity} {one.rule}: {one.text}" for one in clocks(*allowed, train_s, said, measured)]


@pytest.mark.parametrize(
    ("train_s", "own_ms", "severity"),
    [
        (590.0, 580_000, ""),
        (590.0, None, ""),
        (700.0, 600_020, "note"),  # the last step began in time
        (700.0, 601_153, "invalid"),  # its own word
        (610.0, None, "flag"),
        (901.0, 300_000, "flag"),  # whatever its own clock says: nothing takes that long besides
        (580.0, 650_000, "invalid"),
    ],
)
def test_training(train_s: float | None, own_ms: int | None, severity: str) -> None:
    told = found(train_s, own_ms)
    assert [line.split(":")[0] for line in told] == ([f"{severity} train_clock"] if severity else [])
    if severity:
        assert f"training took {train_s:.1f} s by ours" in told[0]
        assert ("its own clock says nothing" in told[0]) is (own_ms is None)


def test_training_of_a_script_that_scores_itself() -> None:
    """No clock of ours sees it alone: only the script's own counts."""
    assert found(None, 600_900) == found(None, None) == []
    (line,) = found(None, 650_000)
    assert line == "invalid train_clock: training took 650.0 s by its own clock; the contest allows 600 s"


def test_scoring() -> None:
    assert found(10.0, 9000, 600.0) == []
    (line,) = found(10.0, 9000, 617.0)
    assert line == "flag score_clock: scoring took 617.0 s, the contest allows 600 s"


def test_tracks_that_say_nothing_of_it() -> None:
    free = LIMITS.model_copy(update={"train_clock_s": None, "score_clock_s": None})
    assert found(5000.0, None, 5000.0, free) == []


@pytest.mark.parametrize(
    ("usual", "more"),
    [
        ([40.0] * 3, 20.0),  # a thirtieth of the contest's clock
        ([36.0, 38.0, 40.0, 42.0, 44.0], 20.0),
        ([30.0, 40.0, 50.0], 30.0),  # three standard deviations
        ([0.0, 40.0, 80.0], 60.0),
        ([40.0, 40.0], 60.0),  # too few to say how much it varies
        ([40.0], 60.0),
    ],
)
def test_how_much_more_than_the_base_a_clock_may_leave_out(usual: list[float], more: float) -> None:
    assert left_out(LIMITS, 640.0 + more, 600.0, usual) == []
    (found,) = left_out(LIMITS, 640.1 + more, 600.0, usual)
    assert (found.rule, found.severity) == ("clock_left_out", "flag")
    assert f"the base's leaves out 40.0 s, and {more:.0f} s more need a reason" in found.text
    assert left_out(LIMITS, 640.1 + more, 600.0, []) == left_out(LIMITS, 599.0, 100.0, usual) == []
