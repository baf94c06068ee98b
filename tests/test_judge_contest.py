"""The contest's own count: against sums by hand, and against the script that evaluates itself in the contest's way."""

import hashlib
import math
import subprocess
import sys
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from agent.judge import task as judged
from agent.judge.audit.asking import gives_away
from agent.judge.audit.lanes import Lanes
from agent.judge.contest import contest_count, other_bytes
from agent.judge.measure import contest_count as note_of
from agent.judge.measure import score_of
from agent.judge.scoring import Stream, chunks
from agent.judge.task import Contest, Measured
from agent.judge.texts import Documents, Official
from tests import fineweb
from tests.fineweb import BOS
from tests.judging import make_job, run_session
from trainer import train_gpt as t
from trainer.data.decoded import prepare_documents

ROOT = Path(__file__).parents[1]


def stream_of(*documents: list[int], separator: int | None = 9) -> Stream:
    return Stream.of([np.array(document, dtype=np.uint32) for document in documents], separator)


def sha_of(tokens: list[int]) -> str:
    return hashlib.sha256(b"".join(token.to_bytes(4, "little") for token in tokens)).hexdigest()


def test_a_separator_stands_between_documents_and_ends_the_one_before_it() -> None:
    stream = stream_of([1, 2], [3], [4, 5, 6])
    assert stream.tokens.tolist() == [1, 2, 9, 3, 9, 4, 5, 6] and stream.starts == (0, 3, 5)
    # Asked what comes at 2 and 4, nobody is told that a document starts there.
    assert [stream.start_of(position) for position in range(8)] == [0, 0, 0, 3, 3, 5, 5, 5]
    apart = stream_of([1, 2], [3], [4, 5, 6], separator=None)
    assert apart.tokens.tolist() == [1, 2, 3, 4, 5, 6] and apart.starts == (0, 2, 3)
    assert stream_of([7], separator=0).tokens.tolist() == [7]
    assert stream_of([7], [8], separator=0).tokens.tolist() == [7, 0, 8]


def test_no_start_gives_a_separator_away_that_is_still_to_be_asked_for() -> None:
    stream, lanes = stream_of([1] * 9, [2] * 30), Lanes(2, 0)  # the separator is token 9, of the lane from 8 to 15
    drawn = {3, 9, 12, 15, 16, 30}
    assert [p for p in sorted(drawn) if gives_away(stream, lanes, p, drawn)] == [16, 30]
    assert not any(gives_away(stream, lanes, p, drawn - {9}) for p in drawn)
    assert not any(gives_away(replace(stream, separator=None), lanes, p, drawn) for p in drawn)


def test_chunks_end_after_a_separator() -> None:
    stream = stream_of([1] * 5, [2] * 30, [3], [4])
    assert [tuple(chunk) for chunk in chunks(stream, 4)] == [
        (0, 6, [0]),
        (6, 14, [0]),
        (14, 22, []),
        (22, 30, []),
        (30, 37, []),  # the rest of the long one, and its separator
        (37, 40, [0, 2]),
    ]


def test_published_tokens_are_counted_as_published() -> None:
    stream = stream_of([1, 2], [3], [4, 5, 6])
    nats = np.arange(1.0, 9.0)
    official = Official(4, 4, 1, 100, 33, sha_of([1, 2, 9, 3, 9, 4, 5, 6]))
    assert contest_count(official, stream, nats) == Contest(10.0, 4, 1, 100, True)
    other = replace(official, sha256="0" * 64)
    assert contest_count(other, stream, nats) == Contest(36.0, 8, 2, 133, False)


def answer(**changes: object) -> Measured:
    empty = judged.no_score("ok", "")
    return replace(empty, **{"nats": 36.0, "tokens": 8, "bytes": 90, **changes})  # type: ignore[arg-type]


def test_the_contests_count_decides_and_the_plain_one_stands_beside_it() -> None:
    found = answer(contest=Contest(10.0, 4, 1, 100, True))
    assert score_of(found) == pytest.approx(10 / math.log(2) / 100)
    (note,) = note_of(found)
    assert (note.rule, note.severity) == ("contest_count", "note")
    assert f"{36 / math.log(2) / 90:.5f} BPB for all 8 tokens over the 90 raw bytes" in note.text
    assert "100 bytes, 4 tokens (the published ones), of which 1 are separators" in note.text
    assert score_of(answer()) == pytest.approx(36 / math.log(2) / 90) and note_of(answer()) == []
    failed = replace(judged.no_score("failed", "no"), contest=Contest(10.0, 4, 1, 100, True))
    assert score_of(failed) is None and note_of(failed) == []


def test_where_separators_are_scored_they_must_be_named(tmp_path: Path) -> None:
    task = make_job(tmp_path / "job", script="honest.py")
    assert task.documents is not None
    documents = replace(task.documents, official=Official(4, 4, 1, 100, 33, "0" * 64))
    found = run_session(task, documents=documents, separators=True)
    assert found.status == "failed" and 'its manifest must say "separator"' in found.reason


@pytest.mark.parametrize(
    ("docs", "tokens", "size", "rest", "words"),
    [
        (50_000, 62_021_632, 151_080_364, 400, ""),
        (50_000, 62_021_632, 151_080_364 - 1400, 400, ""),  # as far as six digits of tokens a byte go
        (50_000, 62_021_632, 155_769_746, 0, "155,769,746 bytes in 62,021,632 tokens, the published set has 151,08"),
        (50_000, 45_508_608, 151_074_052, 900, ""),
        (50_000, 45_508_608, 164_600_000, 0, "164,600,000 bytes in 45,508,608 tokens, the published set has 151,07"),
        (50_000, 44_000_000, 151_075_000, 900, ""),
        (
            50_000,
            44_000_000,
            164_600_000,
            0,
            "164,600,000 bytes in 50,000 documents",
        ),
        (10_000, 9_000_000, 30_000_000, 0, ""),
    ],
)
def test_the_published_set_has_its_known_size(docs: int, tokens: int, size: int, rest: int, words: str) -> None:
    documents = Documents("", "", docs, size + rest, None, Official(1024, tokens, 9, size, rest, ""))
    told = other_bytes(documents)
    assert [(one.rule, one.severity) for one in told] == ([("implied_bytes", "flag")] if words else [])
    assert all(words in one.text for one in told)
    assert other_bytes(replace(documents, official=None)) == other_bytes(None) == ()


# ---------------------------------------------------------------- the script that evaluates itself

SHAPE = {"NUM_LAYERS": 2, "MODEL_DIM": 16, "NUM_HEADS": 2, "NUM_KV_HEADS": 1, "TRAIN_BATCH_TOKENS": 1024}


def contest_by_hand(artifact: bytes, tokens: list[int]) -> tuple[float, int, int]:
    """Nats, tokens and bytes of the contest: its windows one by one, its table of bytes token by token."""
    model = t.from_artifact(artifact)[0]
    one, nats, last = fineweb.processor(), 0.0, (len(tokens) - 1) // 1024 * 1024
    for at in range(0, last, 1024):
        window = torch.tensor([tokens[at : at + 1025]])
        with torch.no_grad():
            logits = model.logits(model.hidden(window[:, :-1]))[0].double()
        nats += float(torch.nn.functional.cross_entropy(logits, window[0, 1:], reduction="sum"))
    size = 0
    for before, token in pairwise(tokens[: last + 1]):
        piece = one.id_to_piece(token)
        if one.is_byte(token):
            size += 1
        elif token > 3:
            size += len(piece.removeprefix("\u2581").encode()) + (piece[0] == "\u2581" and before > 3)
    return nats, last, size


@pytest.mark.long
def test_three_ways_to_the_contests_figure(tmp_path: Path) -> None:
    """The judge's, the script's own as it prints it, and one by hand."""
    raw = fineweb.stories(90, 3, 300)
    tokens = fineweb.tokens_of(raw)
    corpus = tmp_path / "corpus"
    fineweb.make_corpus(corpus, tokens, train=[fineweb.tokens_of(fineweb.stories(40, 4))], val_shards=2)
    made = prepare_documents(corpus, lambda line: None)
    assert made.empty == 0 and made.official.tokens > 8192 and made.official.rest_bytes > 0
    task = make_job(tmp_path / "job", script="train_gpt.py")
    Path(task.script).write_bytes((ROOT / "trainer/train_gpt.py").read_bytes())
    out = Path(task.artifact).parent
    env = {
        **task.env,
        **{name: str(value) for name, value in SHAPE.items()},
        "PRESET": "tiny",
        "EVAL_STREAM": "1",
        "SEPARATORS": "1",
        "ITERATIONS": "4",
        "HOLDOUT": "2000",
        "TRAIN_SEQ_LEN": "1024",
        "EVAL_STRIDE": "1024",
        "VOCAB_SIZE": str(fineweb.processor().get_piece_size()),
        "DATA_PATH": str(corpus / f"datasets/fineweb10B_{fineweb.VARIANT}"),
        "OMP_NUM_THREADS": "1",
        "TOKENIZER_PATH": str(corpus / "tokenizers/fineweb_400_bpe.model"),
    }
    ended = subprocess.run([sys.executable, task.script], cwd=out, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    (printed,) = [line for line in ended.stdout.splitlines() if "_roundtrip_exact" in line]
    documents = Documents(
        str(corpus / made.file.path),
        made.file.sha256,
        made.docs,
        made.bytes,
        None,
        Official(**asdict(made.official)),
    )
    task = replace(task, documents=documents, env=env, memory_mb=2000, wall_s=200, alone=True, separators=True)
    found, larger = run_session(task, chunk_tokens=3000), run_session(task, chunk_tokens=32768)
    assert larger.contest is not None and larger.nats == pytest.approx(found.nats, rel=1e-6)
    assert (found.status, found.findings) == ("ok", ()), found.reason
    assert found.contest is not None and found.contest.published
    nats, count, size = contest_by_hand(Path(task.artifact).read_bytes(), tokens)
    assert (found.contest.tokens, found.contest.bytes) == (count, size) == (made.official.tokens, made.official.bytes)
    assert found.contest.separators == tokens[1 : count + 1].count(BOS) > 50
    assert found.contest.nats == pytest.approx(nats, rel=1e-6)
    bpb = score_of(found)
    assert bpb == pytest.approx(nats / math.log(2) / size, rel=1e-6)
    assert bpb == pytest.approx(float(printed.split("val_bpb:")[1]), rel=1e-6)
    # All tokens over all bytes: the rest is scored too, and not counted.
    assert (
        found.tokens == len(tokens) - 1 and found.bytes == made.bytes == made.official.bytes + made.official.rest_bytes
    )
    assert found.nats is not None and found.nats > found.contest.nats
