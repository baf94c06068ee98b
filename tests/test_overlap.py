"""Validation documents that stand in the training data: every document is compared, of text and of token shards."""

import json
from pathlib import Path

import numpy as np
import pytest

from agent.corpus import disjoint
from agent.errors import UserError
from agent.judge import overlap
from agent.judge.overlap import Overlap, of_documents
from tests.commanding import console
from tests.shards import write_shard
from trainer.data.manifest import File, Manifest, Part, data_sha, sha_of, sha_over, write


def text_corpus(folder: Path, train: list[str], val: list[str]) -> Path:
    parts = []
    for side, texts in (("train", train), ("val", val)):
        (folder / side).mkdir(parents=True)
        path = folder / side / "docs.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        file = File(f"{side}/docs.jsonl", path.stat().st_size, sha_of(path))
        parts.append(Part((file,), len(texts), sum(len(text.encode()) for text in texts), file.sha256))
    write(Manifest("docs", {}, *parts, data_sha("docs", *parts, None)), folder)
    return folder


def shard_corpus(folder: Path, train: list[list[int]], val: list[int]) -> Path:
    home = folder / "datasets" / "x"
    home.mkdir(parents=True)
    sides = {"train": train, "val": [val]}
    parts = {}
    for side, shards in sides.items():
        files = []
        for number, tokens in enumerate(shards):
            path = home / f"fineweb_{side}_{number:06d}.bin"
            write_shard(path, np.array(tokens))
            files.append(File(f"datasets/x/{path.name}", path.stat().st_size, sha_of(path)))
        parts[side] = Part(
            tuple(files), None, sum(one.bytes for one in files), sha_over(tuple(files)), sum(map(len, shards))
        )
    named = data_sha("fineweb", parts["train"], parts["val"], None)
    write(Manifest("fineweb", {}, parts["train"], parts["val"], named, variant="x"), folder)
    return folder


def test_of_any_documents() -> None:
    found = of_documents("d", [b"a", b"b", b"b", b"c"], [b"b", b"x", b"b", b"c"])
    assert (found.training, found.validation, found.shared) == (4, 4, 3)
    assert found.examples == (
        "validation document 0 is training document 1",
        "validation document 3 is training document 3",
    )
    assert found.words() == "3 of 4 validation documents stand in 4 training documents, 75.00%"
    assert of_documents("d", [b"a"], [b"aa", b""]).shared == 0
    assert of_documents("d", [], []).words() == "0 of 0 validation documents stand in 0 training documents"


def test_a_text_corpus(tmp_path: Path) -> None:
    folder = text_corpus(tmp_path / "c", ["one", "two", " three\n"], ["four", "three", "tw"])
    found = overlap.overlap(folder, tmp_path / ".caddie")
    assert (found.training, found.validation, found.shared) == (3, 3, 1)
    assert found.examples == ("validation document 1 is training document 2",)


def test_token_shards_and_documents_across_them(tmp_path: Path) -> None:
    """Documents are what stands between separators; the last of a shard may go on in the next."""
    train = [[1, 5, 6, 1, 7, 8], [9, 1, 300, 301, 1]]
    val = [1, 7, 8, 9, 1, 5, 7, 1, 300, 301, 1, 5, 6, 7]
    found = overlap.overlap(shard_corpus(tmp_path / "c", train, val), tmp_path / ".caddie")
    assert (found.training, found.validation, found.shared) == (3, 4, 2)
    assert found.examples == (
        "validation document 0 is training document 1",
        "validation document 2 is training document 2",
    )


def test_what_was_found_is_kept_by_the_data(tmp_path: Path) -> None:
    folder = text_corpus(tmp_path / "c", ["one"], ["two"])
    cache = tmp_path / ".caddie"
    found = overlap.overlap(folder, cache)
    (folder / "train" / "docs.jsonl").write_text('{"bad"}\n')  # as many bytes: it is not read again
    (folder / "train" / "docs.jsonl").write_text(json.dumps({"text": "two"}) + "\n")
    assert overlap.overlap(folder, cache) == found == overlap.known(found.data_sha, cache)
    (kept,) = (cache / overlap.FOLDER).iterdir()
    kept.write_text("{}")
    assert overlap.known(found.data_sha, cache) is None
    assert overlap.overlap(folder, cache).shared == 1
    assert overlap.known("another", cache) is None


def test_what_is_no_corpus_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no corpus"):
        overlap.overlap(tmp_path, tmp_path / ".caddie")
    folder = text_corpus(tmp_path / "c", ["one"], ["two"])
    (folder / "val" / "docs.jsonl").write_text('{"t": "abc"}   \n')
    with pytest.raises(UserError):
        overlap.overlap(folder, tmp_path / ".caddie")
    assert overlap.cheap(text_corpus(tmp_path / "d", ["one"], ["two"]))


def test_the_shipped_corpus_is_disjoint(tmp_path: Path) -> None:
    from trainer.data import prepare

    prepare("synth", tmp_path / "synth", say=lambda _: None)
    found = overlap.overlap(tmp_path / "synth", tmp_path / ".caddie")
    assert isinstance(found, Overlap) and found.shared == 0 and found.training > 100 and found.validation > 10


def test_a_start_is_refused_where_scores_would_mean_nothing(tmp_path: Path) -> None:
    told: list[str] = []
    texts = [str(number) for number in range(300)]
    spoilt = text_corpus(tmp_path / "a", texts, [*texts[:10], *(f"v{number}" for number in range(100))])
    with pytest.raises(UserError, match="make the data anew"):
        disjoint(spoilt, tmp_path / ".caddie", told.append)
    near = text_corpus(tmp_path / "b", texts, ["1", *(f"v{number}" for number in range(200))])
    disjoint(near, tmp_path / ".caddie", told.append)
    assert told == ["1 of 201 validation documents stand in 300 training documents, 0.50%"]


def test_submissions_and_logs_are_judged_with_the_data_that_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The corpus of the track that a submission names, else the contest's; whether it was trained on it nobody says."""
    root = tmp_path / "trainer"
    data = root / ".caddie" / "data"
    text_corpus(data / "docs", ["one", "two"], ["two"])
    shard_corpus(data / "fineweb", [[1, 5, 6, 1, 7]], [1, 8])
    sent = root / "sent"
    sent.mkdir()
    (sent / "train.log").write_text("step:1/1 train_loss:2.0\n")
    agent = console(root, monkeypatch, capfd, tmp_path)

    def third(what: str, track: object) -> dict[str, object]:
        (sent / "submission.json").write_text(json.dumps({"track": track}))
        found = json.loads(agent("judge", what, "--json").out)
        return next(one for one in found["rulings"] if one["rule"] == 3)

    mine = third("sent", "tiny")
    assert (mine["state"], mine["severity"]) == ("violated", "flag")
    assert "1 of 1 validation documents stand in 2 training documents" in str(mine["words"])
    for what, track in (("sent", "track_10min_16mb"), ("sent", "../x.toml"), ("sent", 7), ("sent/train.log", "tiny")):
        told = third(what, track)
        assert told["state"] == "passed" and "that it was trained on these is not known" in str(told["words"]), told
        assert "in 2 training documents" in str(told["words"])
    (data / "fineweb" / "manifest.json").unlink()
    assert third("sent/train.log", "")["words"] == "the data it was trained on are not here"
