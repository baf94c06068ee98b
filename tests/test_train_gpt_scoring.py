"""The trainer's scores: each from earlier tokens of its document alone, however they come."""

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from tests.training import config, make_docs, random_model, small_tokenizer
from trainer import train_gpt as t


def scorer_of(stride: int) -> tuple[t.Scorer, np.ndarray, list[int]]:
    c = config(eval_stride=stride)
    lengths = [1, 40, 16, 5, 90, 17, 200, 33]
    tokens = np.random.default_rng(0).integers(4, 300, sum(lengths))
    starts = np.cumsum([0, *lengths[:-1]]).tolist()
    return t.Scorer(random_model(c), c, 64), tokens, starts


def in_chunks(scorer: t.Scorer, tokens: np.ndarray, starts: list[int], cuts: list[int]) -> np.ndarray:
    scorer.reset()
    edges = [0, *cuts, len(tokens)]
    return np.concatenate(
        [scorer.score(tokens[a:b], [s - a for s in starts if a <= s < b]) for a, b in pairwise(edges)]
    )


@pytest.mark.parametrize("stride", [16, 8, 5, 1])
def test_scores_depend_on_neither_chunks_nor_batches_and_agree_with_peeks(stride: int) -> None:
    scorer, tokens, starts = scorer_of(stride)
    whole = in_chunks(scorer, tokens, starts, [])
    assert (whole > 0).all()
    for cuts in ([1, 2, 100], [150, 151, 300], list(range(7, 400, 13))):
        scorer.batch_tokens = 16 * len(cuts)
        assert np.abs(in_chunks(scorer, tokens, starts, cuts) - whole).max() < 1e-5
    items = []
    for position in range(len(tokens)):
        start = max(s for s in starts if s <= position)
        items.append((position, start, tokens[max(0, position - 16) : position]))
    for batch in (1, 1000):
        scorer.batch_tokens = batch
        found = scorer.peek(items)
        assert np.abs(np.exp(found.astype(np.float64)).sum(axis=1) - 1).max() < 1e-5
        assert np.abs(-found[np.arange(len(tokens)), tokens] - whole).max() < 1e-5


@pytest.mark.parametrize("stride", [16, 4])
def test_a_score_depends_on_earlier_tokens_of_its_document_alone(stride: int) -> None:
    scorer, tokens, starts = scorer_of(stride)
    whole = in_chunks(scorer, tokens, starts, [])
    for at in (0, 3, 41, 60, 170, 200, 350):
        changed = tokens.copy()
        changed[at] = (changed[at] + 11) % 296 + 4
        after = in_chunks(scorer, changed, starts, [])
        end = min([s for s in starts if s > at], default=len(tokens))
        reach = [i for i in range(len(tokens)) if abs(after[i] - whole[i]) > 1e-5]
        assert at in reach
        assert all(at <= i <= min(end - 1, at + 16) for i in reach)


@pytest.mark.parametrize("stream", [1, 0])
@pytest.mark.parametrize("stride", [16, 4])
def test_a_stream_with_separators_is_evaluated_as_it_is_scored(stream: int, stride: int) -> None:
    """Whole or as a document after the other, by one process or several, and as the judge asks for it."""
    c = config(eval_stream=stream, separators=1, eval_stride=stride)
    tokenizer = small_tokenizer()
    docs = [tokenizer.encode(text.encode())[:n] for text, n in zip(make_docs(9, 4), range(3, 90, 9), strict=False)]
    tokens = np.array([token for doc in docs for token in (t.BOS, *doc)])
    tokens = tokens[: (len(tokens) - 1) // 16 * 16 + 1]
    scorer = t.Scorer(random_model(c), c, 64)
    loss, _ = t.evaluate_tokens(scorer, tokenizer, tokens.astype(np.uint16), t.Processes())
    parts = [SimpleNamespace(rank=rank, world=3, sum=lambda *found: list(found)) for rank in range(3)]
    shares = [t.evaluate_tokens(scorer, tokenizer, tokens.astype(np.uint16), part)[0] for part in parts]
    assert math.fsum(shares) == pytest.approx(loss, rel=1e-6)
    starts = np.flatnonzero(tokens[:-1] == t.BOS).tolist()
    whole = in_chunks(scorer, tokens[1:], starts, [])
    assert loss == pytest.approx(float(whole.mean()), rel=1e-6)
    assert np.abs(in_chunks(scorer, tokens[1:], starts, [1, 60, 61, 150]) - whole).max() < 1e-5
    items = [(p, max(s for s in starts if s <= p), tokens[1:][max(0, p - 16) : p]) for p in range(len(whole))]
    assert np.abs(-scorer.peek(items)[np.arange(len(whole)), tokens[1:]] - whole).max() < 1e-5
    apart = np.array(tokens)
    apart[2] = apart[2] % 40 + 5
    moved = np.flatnonzero(np.abs(in_chunks(scorer, apart[1:], starts, []) - whole) > 1e-5)
    assert (moved.max() >= starts[1]) == bool(stream), "a document reaches into the next one only where all is a stream"


def test_smaller_strides_give_more_context() -> None:
    c = config()
    scorer = t.Scorer(random_model(c), c)
    contexts = {}
    for stride in (16, 8, 1):
        scorer.stride = stride
        contexts[stride] = [offset - scorer.window(offset) for offset in range(200)]
        assert max(contexts[stride]) <= 16
    assert contexts[16][16:32] == list(range(1, 17))
    assert min(contexts[8][16:]) == 9
    assert set(contexts[1][15:]) == {16}


def test_the_official_count_of_bytes() -> None:
    c = config(vocab_size=400, model_dim=16, eval_stream=1)
    tokenizer = t.Tokenizer.train(make_docs(30, 1), 400)
    docs = ["the model returns", " the rows é", "x" * 40 + " rows " * 30]
    tokens = np.array([i for doc in docs for i in (t.BOS, *tokenizer.encode(doc.encode()))], dtype=np.uint16)
    tokens = tokens[: (len(tokens) - 1) // 16 * 16 + 1]
    scorer = t.Scorer(random_model(c), c, 64)
    loss, bpb = t.evaluate_tokens(scorer, tokenizer, tokens, t.Processes())
    size = len(tokenizer.decode(tokens.tolist()))
    size -= 1  # the space that follows a BOS is not counted
    assert bpb == pytest.approx(loss / math.log(2) * (len(tokens) - 1) / size, rel=1e-9)
    nats = in_chunks(scorer, tokens[1:].astype(np.int64), [0], [])
    assert loss == pytest.approx(float(nats.mean()), rel=1e-5)
