"""The judge's phase of a job: what it may see, what counts as code."""

from dataclasses import asdict
from pathlib import Path

import pytest

from agent import hardware
from agent import track as tracks
from agent.errors import MissingError, TrackError
from agent.job.folder import JobPaths
from agent.judge.phase import judge_phase, own_mb
from agent.judge.task import Task
from agent.judge.texts import Documents, documents, hidden_documents
from agent.tables import Data
from agent.track import Track
from agent.workspace import corpus_folder
from sandbox import Policy
from tests import fineweb
from tests.judging import SCORED, make_corpus, toy
from trainer.data import prepare, synth
from trainer.data.decoded import prepare_documents
from trainer.data.manifest import Damaged

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


def test_the_phase_of_readable_scripts_counts_every_file_that_they_could_read(tmp_path: Path) -> None:
    task = phase_task(tmp_path, toy(SCORED + ", pack = false"))
    code = tmp_path / "job" / "code"
    assert not task.alone and task.code == (str(code / "a" / "train.py"), str(code))


def test_a_scoring_command_ends_with_its_role(tmp_path: Path) -> None:
    with pytest.raises(TrackError, match="last word"):
        phase_task(tmp_path, toy(SCORED.replace('"score"]', '"serve"]')))


def test_shards_are_scored_by_the_documents_decoded_from_them(tmp_path: Path) -> None:
    track = toy().model_copy(update={"data": Data(corpus="fineweb", variant=fineweb.VARIANT, train_shards=1)})
    fineweb.make_corpus(tmp_path, fineweb.tokens_of(fineweb.stories(9, 1)))
    with pytest.raises(MissingError, match="not decoded yet"):
        documents(track, tmp_path)
    made = prepare_documents(tmp_path, lambda line: None)
    found = documents(track, tmp_path)
    assert found is not None and found.floor_bits is None
    assert (found.docs, found.bytes, found.path) == (9, made.bytes, str(tmp_path / "val/docs.jsonl"))
    assert found.official is not None and asdict(found.official) == asdict(made.official)
    fineweb.make_corpus(tmp_path, fineweb.tokens_of(fineweb.stories(9, 2)))
    with pytest.raises(Damaged, match="other shards"):
        documents(track, tmp_path)


def test_hidden_documents_come_along_where_the_corpus_has_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synth, "TRAINING_BYTES", 20_000)
    monkeypatch.setattr(synth, "VALIDATION_BYTES", 20_000)
    corpus = tmp_path / "corpus"
    made = prepare("synth", corpus, say=lambda line: None)
    paths = JobPaths(tmp_path / "job")
    phase = judge_phase(toy(), paths, script=paths.code / "train.py", seed=11, corpus=corpus, policy=POLICY)
    hidden = Task.from_json(phase.argv[-1]).hidden
    assert hidden is not None and made.hidden is not None
    assert (hidden.docs, hidden.bytes, hidden.floor_bits) == (made.hidden.docs, made.hidden.bytes, None)
    assert hidden.path == str(corpus / "val/hidden.jsonl") and hidden.sha256 == made.hidden.sha256
    make_corpus(tmp_path / "older")
    assert hidden_documents(toy(), tmp_path / "older") is None
    shards = toy().model_copy(update={"data": Data(corpus="fineweb", variant=fineweb.VARIANT, train_shards=1)})
    with pytest.raises(MissingError, match="no corpus in"):
        hidden_documents(shards, tmp_path / "none")


def test_what_the_session_holds_of_long_texts_is_allowed_for() -> None:
    """Measured: about 10 bytes for each byte of the text, with two and a half to a token."""
    assert own_mb(None) == 400
    assert own_mb(Documents("", "", 50_000, 151_000_000, None)) == 400 + 4832


def test_no_track_is_refused_for_its_shards_and_the_command_that_gets_them_is_named(tmp_path: Path) -> None:
    golf, upstream = (tracks.load(name, tmp_path)[0] for name in ("golf-1xh100", "golf-upstream"))
    folder = corpus_folder(tmp_path, golf.data.corpus)
    for track, decodes in ((golf, True), (upstream, False)):
        (words,) = [line for line in hardware.missing(track, tmp_path) if "FineWeb" in line]
        assert f"{folder} has 0" in words and f"--train-shards {track.data.train_shards}" in words
        assert ("--documents" in words) is decodes
    dataset = folder / "datasets/fineweb10B_sp1024"
    dataset.mkdir(parents=True)
    for name in ("val_000000", *(f"train_{number:06d}" for number in range(10))):
        (dataset / f"fineweb_{name}.bin").touch()
    assert not [line for line in hardware.missing(golf, tmp_path) if "FineWeb" in line]
    (dataset / "fineweb_val_000000.bin").rename(dataset / "other.bin")
    assert [line for line in hardware.missing(golf, tmp_path) if "has 10" in line]
