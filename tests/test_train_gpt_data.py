"""The trainer's tokenizer, and what it makes of documents and shards."""

import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.shards import write_shard
from tests.training import config, make_docs, small_tokenizer
from trainer import train_gpt as t


@pytest.fixture(scope="module")
def tokenizer() -> t.Tokenizer:
    return small_tokenizer()


def test_the_tokenizer_is_the_same_every_time_and_is_kept_as_its_pieces(tokenizer: t.Tokenizer) -> None:
    again = t.Tokenizer.train(make_docs(30, 1), 300)
    assert again.pieces == tokenizer.pieces
    assert tokenizer.vocab == 300 == len(tokenizer.bytes_of)
    rebuilt = t.Tokenizer.from_proto(tokenizer.to_proto())
    assert rebuilt.pieces == tokenizer.pieces
    text = make_docs(1, 7)[0]
    assert rebuilt.encode(text.encode()) == tokenizer.encode_all([text])[0]
    assert len(rebuilt.encode(text.encode())) < 0.85 * len(text)


def test_hand_written_model_files_encode_as_sentencepiece_itself_does() -> None:

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(make_docs(30, 1)),
        model_writer=model,
        model_type="bpe",
        vocab_size=400,
        byte_fallback=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        num_threads=1,
        minloglevel=2,
    )
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ours = t.Tokenizer.from_proto(model.getvalue())
    for text in [*make_docs(20, 3), "  two  spaces ", "", "\n\ttabs", "ſtrange ﬁ ①"]:
        plain = text.replace("▁", "_")
        assert ours.encode(plain.encode()) == theirs.encode(plain)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda s: s.encode("utf-8", "ignore"))))
def test_decoding_gives_back_any_bytes(tokenizer: t.Tokenizer, data: bytes) -> None:
    for document in (data, data + "▁".encode() + data):
        ids = tokenizer.encode(document)
        assert tokenizer.decode(ids) == document
        assert all(t.FIRST_BYTE <= i < tokenizer.vocab for i in ids)


def test_the_seed_draws_the_order_of_documents(tokenizer: t.Tokenizer) -> None:
    docs = make_docs(100, 2)

    def head(seed: int) -> list[int]:
        return next(t.doc_stream(docs, tokenizer, seed)).tolist()  # one round

    assert head(1) == head(1) != head(2)
    assert sorted(head(1)) == sorted(head(2))
    assert head(1).count(t.BOS) == 100 and head(1)[0] == t.BOS


def test_shards_are_read_strictly_and_every_token_comes_once_a_round(tmp_path: Path) -> None:
    shards = [np.arange(at, at + 50) for at in (0, 50, 100)]
    for i, tokens in enumerate(shards):
        write_shard(tmp_path / f"fineweb_train_{i:06d}.bin", tokens)
    found = [t.read_shard(path) for path in t.find_shards(SimpleNamespace(data_path=tmp_path), "train")]
    rounds = {}
    for seed in range(4):
        stream = t.shard_stream(found, seed)
        rounds[seed] = np.concatenate([next(stream) for _ in range(4)]).tolist()
        assert sorted(rounds[seed]) == list(range(150))
    assert len({tuple(order) for order in rounds.values()}) == 4
    broken = tmp_path / "fineweb_train_000000.bin"
    broken.write_bytes(broken.read_bytes()[:-2])
    with pytest.raises(SystemExit, match="size does not match"):
        t.read_shard(broken)
    broken.write_bytes(b"\0" * 2000)
    with pytest.raises(SystemExit, match="no token shard"):
        t.read_shard(broken)


def some_stream() -> Iterator[np.ndarray]:
    for at in range(0, 1 << 15, 37):
        yield np.arange(at, at + 37).astype(np.uint16)


@pytest.mark.parametrize("mixed", [0, 48])
def test_a_batch_is_the_same_however_many_share_it(mixed: int) -> None:
    c = config(train_batch_tokens=16 * 16, train_seq_len=16, shuffle_rows=mixed)
    alone = t.Batches(some_stream(), c, 1, 0, 1)
    shared = [t.Batches(some_stream(), c, 2, rank, 4) for rank in range(4)]
    dealt = []
    for _ in range(6):
        (whole,) = alone.next()
        parts = [batches.next() for batches in shared]
        assert np.array_equal(np.concatenate([parts[r][m] for m in range(2) for r in range(4)]), whole)
        dealt.append(whole)
    rows = np.concatenate(dealt)
    assert all(np.array_equal(row, np.arange(row[0], row[0] + 17)) for row in rows)
    firsts = rows[:, 0].tolist()
    assert sorted(firsts) == list(range(0, 96 * 16, 16))  # nothing twice, nothing left out
    assert (firsts == sorted(firsts)) == (mixed == 0)
    with pytest.raises(SystemExit, match="no multiple"):
        t.Batches(some_stream(), c, 3, 0, 1)
    with pytest.raises(SystemExit, match="train_batch_tokens=-256 is no multiple"):
        t.Batches(some_stream(), config(train_batch_tokens=-16 * 16, train_seq_len=16), 1, 0, 1)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="ab\n", max_size=200), st.integers(0, 30))
def test_a_document_is_cut_at_the_ends_of_lines(doc: str, size: int) -> None:
    pieces = list(t.cut(doc, size))
    assert "".join(pieces) == doc
    assert all(piece.endswith("\n") and len(piece) >= size for piece in pieces[:-1])
    assert size or len(pieces) == 1
