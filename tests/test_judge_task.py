"""The judge's phase of a job: what it may see, what counts as code."""

from pathlib import Path

import pytest

from agent import hardware
from agent import track as tracks
from agent.errors import MissingError, TrackError
from agent.judge.task import Task, documents, judge_phase
from agent.runners.job import JobPaths
from agent.track import Track
from sandbox import Policy
from tests.judging import SCORED, make_corpus, toy

POLICY = Policy("", ("/usr/lib",))


def phase_task(tmp_path: Path, track: Track) -> Task:
    make_corpus(tmp_path / "corpus")
    paths = JobPaths(tmp_path / "job")
    script = paths.code / ("train.py" if track.script.pack else track.script.path)
    phase = judge_phase(track, paths, script=script, seed=11, corpus=tmp_path / "corpus", policy=POLICY)
    assert phase.policy is None and phase.name == "judge" and phase.limits.wall_s == 20
    assert str(tmp_path / "corpus") not in str(phase.env)
    return Task.from_json(phase.argv[-1])


def test_the_phase_of_a_packed_script(tmp_path: Path) -> None:
    task = phase_task(tmp_path, toy())
    code = str(tmp_path / "job" / "code" / "train.py")
    assert task.alone and task.script == code and task.code == (code,)
    assert task.command[1:] == ("{script}", "{role}")
    assert task.artifact == str(tmp_path / "job" / "out" / "model.bin")
    assert task.documents is not None
    assert (task.documents.docs, task.documents.bytes, task.documents.floor_bits) == (1, 6, 12.5)
    assert task.env["PRESET"] == "tiny" and task.env["OMP_NUM_THREADS"] == "1"
    assert not [value for value in task.env.values() if "corpus" in value or "val" in value]


def test_the_phase_of_readable_scripts_counts_every_editable_file(tmp_path: Path) -> None:
    task = phase_task(tmp_path, toy(SCORED + ", pack = false"))
    code = tmp_path / "job" / "code" / "a"
    assert not task.alone and task.code == (str(code / "train.py"), str(code / "more.py"))


def test_a_scoring_command_ends_with_its_role(tmp_path: Path) -> None:
    with pytest.raises(TrackError, match="last word"):
        phase_task(tmp_path, toy(SCORED.replace('"score"]', '"serve"]')))


def test_shards_are_refused_before_anybody_gets_a_machine_or_data_for_them(tmp_path: Path) -> None:
    golf, upstream = (tracks.load(name, tmp_path)[0] for name in ("golf-1xh100", "golf-upstream"))
    missing = hardware.missing(golf, tmp_path)[0]
    assert missing.startswith("the judge can't score FineWeb shards yet") and "golf-upstream" in missing
    with pytest.raises(MissingError, match="the judge can't score FineWeb shards yet"):
        hardware.require(golf, tmp_path)
    with pytest.raises(TrackError) as refused:
        documents(golf, tmp_path)
    assert missing in str(refused.value)
    assert not [words for words in hardware.missing(upstream, tmp_path) if "judge can't" in words]
