"""Validation shards become documents: the text of their tokens, once, whole, and counted as the contest counts."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from sentencepiece import SentencePieceProcessor

from agent.errors import MissingError, UserError
from tests.fineweb import BOS, MODEL, make_corpus, processor, stories, tokens_of, train_model
from trainer.data import contest, decoded, manifest
from trainer.data.contest import Official
from trainer.data.decoded import Decoded, prepare_documents
from trainer.data.manifest import Damaged, read_documents
from trainer.data.pieces import read


def quiet(line: str) -> None:
    pass


def texts_of(folder: Path, found: Decoded) -> list[str]:
    raw = read_documents(folder / found.file.path, found.file.sha256, found.docs, found.bytes)
    return [document.decode() for document in raw]


def normal(text: str) -> str:
    """By SentencePiece's own words."""
    return processor().normalize(text).replace("\u2581", " ")


def contest_loop(tokens: list[int], window: int) -> Official:
    """The contest's count, token by token."""
    one = processor()
    last = (len(tokens) - 1) // window * window
    sizes = []
    for before, token in pairwise(tokens):
        size = 0
        if one.is_byte(token):
            size = 1
        elif not marks(one, token):
            piece = one.id_to_piece(token)
            size = len(piece.removeprefix("\u2581").encode()) + (piece[0] == "\u2581" and not marks(one, before))
        sizes.append(size)
    sha = hashlib.sha256(b"".join(token.to_bytes(4, "little") for token in tokens[1:])).hexdigest()
    return Official(window, last, tokens[1 : last + 1].count(BOS), sum(sizes[:last]), sum(sizes[last:]), sha)


def marks(one: SentencePieceProcessor, token: int) -> bool:
    return one.is_control(token) or one.is_unknown(token) or one.is_unused(token)


@pytest.mark.parametrize(("block", "shards"), [(1 << 20, 1), (1 << 20, 3), (7, 3), (1, 1), (1000, 2)])
def test_documents_are_the_text_of_their_tokens_wherever_blocks_and_shards_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, shards: int
) -> None:
    monkeypatch.setattr(decoded, "BLOCK", block)
    raw = [*stories(30, 2, 60), "x", "", *stories(3, 3)]
    tokens = tokens_of(raw)
    corpus = make_corpus(tmp_path, tokens, val_shards=shards)
    found = prepare_documents(tmp_path, quiet)
    assert texts_of(tmp_path, found) == [normal(text) for text in raw if text]
    assert "ﬁ" in raw[0] and "find 42 漢字 🐈" in texts_of(tmp_path, found)[0]
    assert (found.docs, found.empty, found.changed, found.tokens) == (34, 1, 0, len(tokens) - 35)
    assert found.normal_form == "nmt_nfkc, extra spaces dropped"
    assert (found.shards, found.model) == (corpus.val.sha256, corpus.extra[0].sha256)
    assert found.official == contest_loop(tokens, 1024)
    assert manifest.load(tmp_path) == corpus, "the corpus itself is what it was"
    assert (tmp_path / "val").stat().st_mode & 0o077 == 0
    assert not (tmp_path / ".part/val").exists()


def hidden_of(folder: Path, found: Decoded) -> list[str]:
    assert found.hidden is not None
    told = found.hidden
    raw = read_documents(folder / told.file.path, told.file.sha256, told.docs, told.bytes)
    return [document.decode() for document in raw]


@pytest.mark.parametrize("block", [1 << 20, 7])
def test_the_first_whole_documents_of_a_shard_that_is_kept_back_are_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    """The shard begins and ends inside documents; which are hidden depends on nothing else."""
    monkeypatch.setattr(decoded, "BLOCK", block)
    monkeypatch.setattr(decoded, "HIDDEN_LEAST", 2)
    folder = tmp_path / "data"
    val, kept = tokens_of(stories(200, 2, 60)), stories(40, 11, 60)
    shard = tokens_of(kept)[5:-3]
    corpus = make_corpus(folder, val, kept_back=shard)
    found = prepare_documents(folder, quiet)
    hidden = hidden_of(folder, found)
    assert hidden == [normal(text) for text in kept[1 : 1 + len(hidden)]] and 2 <= len(hidden) < 30
    assert found.hidden is not None and found.hidden.shard == corpus.hidden.sha256  # type: ignore[union-attr]
    least = decoded.HIDDEN_SHARE * len(val)
    assert least <= found.hidden.tokens < least + max(len(processor().encode(text)) for text in hidden)
    assert corpus.data_sha == make_corpus(tmp_path / "other", val).data_sha, "no score depends on them"
    assert prepare_documents(folder, quiet) == found
    # All of a small shard, but for what its end may have cut.
    monkeypatch.setattr(decoded, "HIDDEN_SHARE", 10.0)
    (folder / "val/decoded.json").unlink()
    assert hidden_of(folder, prepare_documents(folder, quiet)) == [normal(text) for text in kept[1:-1]]


def test_hidden_documents_of_another_shard_are_made_anew(tmp_path: Path) -> None:
    val = tokens_of(stories(30, 2, 60))
    make_corpus(tmp_path, val)
    assert prepare_documents(tmp_path, quiet).hidden is None
    for seed in (11, 12):
        corpus = make_corpus(tmp_path, val, kept_back=tokens_of(stories(20, seed, 60)))
        with pytest.raises(Damaged, match="has hidden documents of another shard, or none"):
            decoded.load(tmp_path, corpus, verify=False)
        found = prepare_documents(tmp_path, quiet)
        assert hidden_of(tmp_path, found)[0].startswith(f"Story {seed}.1:") and found.hidden.docs == 16  # type: ignore[union-attr]
    path = tmp_path / "val/hidden.jsonl"
    path.write_bytes(path.read_bytes()[:-2] + b" \n")
    with pytest.raises(Damaged, match=r"hidden\.jsonl was changed"):
        decoded.load(tmp_path, corpus, verify=True)
    make_corpus(tmp_path / "short", val, kept_back=tokens_of(stories(2, 3)))
    with pytest.raises(UserError, match="holds no documents that could be hidden"):
        prepare_documents(tmp_path / "short", quiet)


@pytest.mark.parametrize("length", [0, 1, 2, 63, 64, 65, 128, 129, 130, 3000])
@pytest.mark.parametrize("block", [1, 50, 64, 5000])
def test_the_contests_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int, block: int) -> None:
    """Any tokens in any order: spaces after marks, marks after marks, single bytes."""
    monkeypatch.setattr(contest, "WINDOW", 64)
    (tmp_path / "m").write_bytes(MODEL)
    pieces = read(tmp_path / "m")
    draw = random.Random(length)
    tokens = [draw.choice((0, 1, 2, 3, draw.randrange(4, len(pieces.texts)))) for _ in range(length)]
    count = contest.Count(pieces, length)
    for at in range(0, length, block):
        count.add(np.array(tokens[at : at + block], dtype=np.uint16))
    assert count.counted() == contest_loop(tokens or [BOS], 64)
    if length == 3000:
        assert 0 < count.counted().separators < count.counted().tokens == 2944


def test_text_that_looks_like_a_token_is_none(tmp_path: Path) -> None:
    model = train_model(["<0x41> is written like a byte\n"] * 50, user_defined_symbols=["<0x41>x", "<s>y"])
    (tmp_path / "m").write_bytes(model)
    pieces = read(tmp_path / "m")
    assert pieces.texts[pieces.names.index("<0x41>")] == b"A"
    assert pieces.texts[pieces.names.index("<0x41>x")] == b"<0x41>x"
    assert pieces.texts[:4] == (None,) * 4


def test_a_normal_form_that_does_not_stay_is_counted_and_its_text_kept(tmp_path: Path) -> None:
    raw = [*stories(150, 4, 20), "ﬁ\u0301 x"]  # the ligature goes first, and then i has an accent
    make_corpus(tmp_path, tokens_of(raw))
    found = prepare_documents(tmp_path, quiet)
    assert found.changed == 1 and found.docs == 151
    assert texts_of(tmp_path, found)[-1] == "fi\u0301 x", "as its tokens say, not as the model would have it"


def test_another_model_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    other = train_model(stories(60, 9)[::-1] + ["quite other words, so other pieces"] * 99)
    make_corpus(tmp_path, tokens_of(stories(40, 5)), model=other)
    with pytest.raises(UserError, match="is not the model that the validation shards were made with"):
        prepare_documents(tmp_path, quiet)
    assert not (tmp_path / "val").exists()


KNOWN = tokens_of(["a the"])


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ([BOS, 4 + 0xE6, 4 + 0xBC], "document 0 of the validation shards is no text"),
        ([*KNOWN, BOS, 4 + 0xFF], "document 1 of the validation shards is no text"),
        ([*KNOWN, BOS, 3, KNOWN[-1]], "document 1 .* a token that stands for no text"),
        ([*KNOWN, 2], "document 0 .* a token that stands for no text"),
        ([BOS, 60_000], "token 60000, their model has"),
        ([*KNOWN, *KNOWN[1:] * 20], r"no separator \(token 1\)"),
        ([BOS, BOS], "0 of 0 documents"),
    ],
)
def test_shards_that_are_no_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokens: list[int], words: str
) -> None:
    monkeypatch.setattr(decoded, "LONGEST", 20)
    make_corpus(tmp_path, tokens)
    with pytest.raises(UserError, match=words):
        prepare_documents(tmp_path, quiet)
    assert not (tmp_path / "val").exists()


def test_a_stream_need_not_begin_with_a_separator(tmp_path: Path) -> None:
    make_corpus(tmp_path, tokens_of(["one", "two"])[1:])
    assert texts_of(tmp_path, prepare_documents(tmp_path, quiet)) == ["one", "two"]


def test_what_is_there_and_intact_stays_and_the_rest_is_decoded_anew(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, tokens_of(stories(20, 6)))
    with pytest.raises(MissingError, match=r"not decoded yet: .*trainer.data fineweb --documents"):
        decoded.load(tmp_path, corpus, verify=False)
    found = prepare_documents(tmp_path, quiet)
    path = tmp_path / found.file.path
    made = path.stat().st_ino
    assert prepare_documents(tmp_path, quiet) == found == decoded.load(tmp_path, corpus, verify=True)
    assert path.stat().st_ino == made

    def again(words: str) -> None:
        said: list[str] = []
        with pytest.raises(Damaged):
            decoded.load(tmp_path, manifest.load(tmp_path), verify=True)
        remade = prepare_documents(tmp_path, said.append)
        assert words in said[0] and "anew" in said[0]
        assert decoded.load(tmp_path, manifest.load(tmp_path), verify=True) == remade
        assert not (tmp_path / ".part").exists() or not list((tmp_path / ".part").iterdir())

    raw = path.read_bytes()
    path.write_bytes(raw[:-2] + b"\n")
    again("changed")
    path.write_bytes(raw.replace(b"the", b"teh", 1))
    assert decoded.load(tmp_path, corpus, verify=False) == found, "of its size: the session's sha finds that"
    again("changed")
    path.unlink()
    again("missing")
    about = tmp_path / "val/decoded.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "docs": "20"}))
    again("can't be read")
    about.write_text(about.read_text().replace('"empty": 0,', ""))
    again("can't be read")
    about.write_text(about.read_text().replace('"format": 3', '"format": 2'))
    again("another version")
    make_corpus(tmp_path, tokens_of(stories(5, 7)))
    again("other shards")
    assert json.loads(about.read_text())["docs"] == 5


def test_a_shard_that_was_changed_is_not_decoded(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, tokens_of(stories(5, 8)))
    path = tmp_path / corpus.val.files[0].path
    path.write_bytes(path.read_bytes()[:-2] + b"\5\0")
    with pytest.raises(Damaged, match="was changed since it came: fetch it again with --verify"):
        prepare_documents(tmp_path, quiet)


def test_a_model_is_needed(tmp_path: Path) -> None:
    make_corpus(tmp_path, KNOWN, model=b"\x1a\x05no")
    with pytest.raises(UserError, match="is no SentencePiece model"):
        prepare_documents(tmp_path, quiet)
    (tmp_path / "tokenizers/fineweb_400_bpe.model").rename(tmp_path / "tokenizers/bytes.json")
    corpus = make_corpus(tmp_path, KNOWN)
    (tmp_path / "tokenizers/fineweb_400_bpe.model").unlink()
    extra = tuple(file for file in corpus.extra if file.path.endswith(".json"))
    named = manifest.data_sha("fineweb", corpus.train, corpus.val, None, extra)
    manifest.write(
        manifest.Manifest("fineweb", {}, corpus.train, corpus.val, named, variant="b", extra=extra), tmp_path
    )
    with pytest.raises(UserError, match="variant 'b' has no SentencePiece model"):
        prepare_documents(tmp_path, quiet)


def test_little_of_it_is_held_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded, "BLOCK", 1 << 12)
    monkeypatch.setattr(decoded, "AT_ONCE", 4)
    make_corpus(tmp_path, tokens_of(stories(1200, 10)))
    said: list[str] = []
    tracemalloc.start()
    try:
        found = prepare_documents(tmp_path, said.append)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.bytes > 600_000 and peak < 1_500_000, peak  # of that, the model's tables take most
    shares = [line for line in said if "% of the validation text" in line]
    assert len(shares) == 10 and " 30 %" in shares[2] and " 100 %" in shares[-1]


def test_a_kill_leaves_the_old_documents_or_none(tmp_path: Path) -> None:
    folder = tmp_path / "fineweb"
    tokens = tokens_of(stories(300, 11)) * 40
    assert len(tokens) > 1_000_000
    make_corpus(folder, tokens)
    program = "import sys; from pathlib import Path; from trainer.data.decoded import prepare_documents as prepare\n"
    program += "prepare(Path(sys.argv[1]), print)"
    argv = [sys.executable, "-c", program, str(folder)]
    aside = folder / ".part/val/docs.jsonl"
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not aside.exists() or aside.stat().st_size < 200_000:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    assert not (folder / "val").exists()
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True)
    assert "100 % of the validation text is decoded" in ended.stdout
    found = decoded.load(folder, manifest.load(folder), verify=True)
    assert found.docs == 12_000 and not aside.exists()


def test_the_command_decodes_where_it_is_asked_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from trainer.data.__main__ import main

    folder = tmp_path / "fineweb"
    corpus = make_corpus(folder, tokens_of(stories(5, 12)))
    argv = ["fineweb", "--variant", corpus.variant, "--out", str(folder)]
    assert main(argv) == 0 and not (folder / "val").exists()
    assert main([*argv, "--documents"]) == 0
    assert decoded.load(folder, corpus, verify=True).docs == 5
    assert "the contest counts" in capsys.readouterr().err
