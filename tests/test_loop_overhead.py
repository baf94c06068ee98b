"""What the loop costs per idea, from where the clocks stood: of a whole campaign, and of one that was interrupted."""

import re

import pytest

from benchmarks.loop_overhead import Mark, Marking, shown


def read(most: int, every: int, asked: int) -> Marking:
    """A planner that was asked so often, by a clock that stands at the number of ideas."""
    planner = Marking(most, every)
    for made in range(asked):
        if made % every == 0:
            planner.marks.append(Mark(made, 0.04 * made, 0.02 * made, 0.01 * made))
        planner.made = made + 1
    return planner


def test_a_whole_campaign_is_measured_by_its_parts(capsys: pytest.CaptureFixture[str]) -> None:
    marks = read(30, 10, 31).until_now()
    assert [one.proposals for one in marks] == [0, 10, 20, 30]
    assert shown(marks) == pytest.approx(30.0)
    rows = re.findall(r"^\| (\S+) \| 30.0 \| 10.0 \| 40.0 \|$", capsys.readouterr().out, re.M)
    assert rows == ["1-10", "11-20", "21-30"]


def test_a_campaign_that_was_interrupted_is_measured_as_far_as_it_went(capsys: pytest.CaptureFixture[str]) -> None:
    assert [one.proposals for one in read(30, 10, 24).until_now()] == [0, 10, 20, 24]
    marks = read(30, 10, 4).until_now()
    assert [one.proposals for one in marks] == [0, 4]
    shown(marks)
    assert "1-4" in capsys.readouterr().out


def test_one_that_ended_before_its_first_idea_was_not_measured() -> None:
    for planner in (read(30, 10, 0), read(30, 10, 1)):
        planner.made = 0  # asked, and not answered
        with pytest.raises(SystemExit, match="nothing was measured"):
            shown(planner.until_now())
