"""How far a run is and what it still takes, as the view says it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from agent import track as tracks
from agent.job.folder import Heartbeat, JobPaths, Progress
from agent.report.live import Job, _clocks, _how_far
from agent.runners.progress import progress
from tests.measuring import RUN

AT = Progress(5000, 20000, 3.25, 390.0, "train", 0.0, 300.0)


def test_a_clock_that_ends_training_says_how_far_it_is() -> None:
    job = Job(RUN, "title", AT, clock_s=600.0)
    assert (job.share, job.left_s) == (0.5, 300.0)
    assert _how_far(job) == "5000/20000  loss 3.250  5 min 00 s left"
    without = replace(job, clock_s=None)
    assert (without.share, without.left_s) == (0.25, 1170.0)
    assert replace(job, progress=replace(AT, trained_s=9e9)).share == 1.0


def test_which_clock_ends_training_is_in_the_track(tmp_path: Path) -> None:
    assert _clocks(tracks.load("golf-8xh100", tmp_path)[1]) == {"full": 600.0, "proxy": 150.0}
    assert set(_clocks(tracks.load("tiny", tmp_path)[1]).values()) == {None}


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "inf", "nan"])
def test_what_is_no_time_ends_nothing(tmp_path: Path, seconds: str) -> None:
    text = tracks.load("golf-1xh100", tmp_path)[1].replace('CLOCK_SECONDS = "600"', f'CLOCK_SECONDS = "{seconds}"')
    assert None in _clocks(text).values()


def test_a_log_that_counts_percent_tells_how_far_it_is(tmp_path: Path) -> None:
    paths = JobPaths(tmp_path)
    beat = Heartbeat(at="2026-01-01T00:00:00", boot="b", phase="train", seconds=150.0, root=1, processes={})
    paths.heartbeat.write_text(json.dumps(vars(beat)))
    paths.train_log.write_text("\rstep 00999 (50.0%) | loss: 2.500000 | lrm: 1.00 | remaining: 150s    ")
    job = Job(RUN, "title", progress(tmp_path))
    assert (job.share, job.left_s) == (0.5, 150.0)
    assert _how_far(job) == "2 min 30 s  loss 2.500  2 min 30 s left"
