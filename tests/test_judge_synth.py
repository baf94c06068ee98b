"""Measured bits per byte are a model's true cross-entropy: worked out again, in double precision and other code."""

import json
import math
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.judge.measure import score_of
from agent.judge.task import Task
from tests.candidates import honest
from tests.judging import make_job, run_session, write_documents
from tests.training import config, random_model, weights_of
from trainer import train_gpt as t
from trainer.data import synth

ROOT = Path(__file__).parents[1]
Array = NDArray[np.float64]
TEXTS = list(synth.tell(11, 20_000).texts)
FLOOR = synth.information(TEXTS)
TRAINING = list(synth.tell(12, 300_000).texts)
SEQ, EPS = 64, float(np.finfo(np.float32).eps)


def measured(task: Task) -> float:
    found = run_session(task, documents=write_documents(Path(task.folder) / "docs.jsonl", TEXTS, FLOOR))
    assert (found.status, found.findings) == ("ok", ()), found.reason
    bpb = score_of(found)
    assert bpb is not None and bpb * sum(map(len, TEXTS)) > FLOOR
    return bpb


@pytest.mark.slow
def test_of_bytes(tmp_path: Path) -> None:
    """256 tokens: a bigram of bytes, smoothed."""
    counts: dict[tuple[int | None, int], int] = {}
    for text in TRAINING[:50]:
        for pair in pairwise([None, *text.encode()]):
            counts[pair] = counts.get(pair, 0) + 1  # type: ignore[index, arg-type]
    total = {before: sum(n for (b, _), n in counts.items() if b == before) for before in {b for b, _ in counts}}
    bits = 0.0
    for text in TEXTS:
        for before, token in pairwise([None, *text.encode()]):
            p = (counts.get((before, token), 0) + 0.1) / (total.get(before, 0) + 25.6)  # type: ignore[arg-type]
            bits -= math.log2(p if before in total else 1 / 256)
    task = make_job(tmp_path, script="honest.py")
    Path(task.artifact).write_text(json.dumps({"counts": honest.count([text.encode() for text in TRAINING[:50]])}))
    assert measured(task) == pytest.approx(bits / sum(map(len, TEXTS)), abs=1e-6)


# ---------------------------------------------------------------- the trainer's model, in numpy


def cut(text: str, ranks: dict[str, int], known: dict[str, list[int]]) -> list[int]:
    """Byte-pair encoding by the book: the pair that makes the earliest piece goes first, the leftmost of equals."""
    if text not in known:
        parts = list(text.replace(" ", "\u2581"))
        while pairs := [(ranks[a + b], i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in ranks]:
            at = min(pairs)[1]
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        known[text] = [token for part in parts for token in piece(part, ranks)]
    return known[text]


def piece(part: str, ranks: dict[str, int]) -> list[int]:
    return [260 + ranks[part]] if part in ranks else [4 + byte for byte in part.replace("\u2581", " ").encode()]


def words(text: str) -> Iterator[str]:
    """Pieces never reach over the beginning of a word."""
    at = 0
    for end in [i for i in range(1, len(text)) if text[i] == " "] + [len(text)]:
        yield text[at:end]
        at = end


def norm(x: Array) -> Array:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS)


def turned(x: Array, base: float) -> Array:
    half = x.shape[-1] // 2
    angle = np.outer(np.arange(len(x)), base ** (-np.arange(half) / half))[:, None]
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * np.cos(angle) + b * np.sin(angle), b * np.cos(angle) - a * np.sin(angle)], -1)


class Model:
    """What the artifact means."""

    def __init__(self, artifact: bytes) -> None:
        model, self.tokenizer, self.c = t.from_artifact(artifact)
        self.w = {name: value.numpy().astype(np.float64) for name, value in model.state_dict().items()}

    def attention(self, x: Array, at: str) -> Array:
        c, w = self.c, self.w
        q, k, v = ((x @ w[f"{at}.{one}"].T).reshape(len(x), -1, c.model_dim // c.num_heads) for one in "qkv")
        q = turned(norm(q), c.rope_base) * w[f"{at}.gain"][:, None]
        k = turned(norm(k), c.rope_base)
        out = np.zeros((len(x), c.num_heads, q.shape[-1]))
        for head in range(c.num_heads):
            shared = head * c.num_kv_heads // c.num_heads
            scores = q[:, head] @ k[:, shared].T / math.sqrt(q.shape[-1])
            scores[np.triu_indices(len(x), 1)] = -np.inf
            p = np.exp(scores - scores.max(1, keepdims=True))
            out[:, head] = p / p.sum(1, keepdims=True) @ v[:, shared]
        return out.reshape(len(x), -1) @ w[f"{at}.out"].T

    def nats(self, tokens: list[int]) -> float:
        """Of all tokens but the first."""
        c, w = self.c, self.w
        x = x0 = norm(w["embedding"][tokens[:-1]])
        skips: list[Array] = []
        for i in range(c.num_layers):
            at, second = f"blocks.{i}", i - (c.num_layers - c.num_layers // 2)
            if second >= 0:
                x = x + w["skip"][len(skips) - 1] * skips.pop()
            x = w[f"{at}.mix"][0] * x + w[f"{at}.mix"][1] * x0
            x = x + w[f"{at}.attention_scale"] * self.attention(norm(x), f"{at}.attention")
            hidden = np.maximum(norm(x) @ w[f"{at}.mlp.up"].T, 0) ** 2
            x = x + w[f"{at}.mlp_scale"] * (hidden @ w[f"{at}.mlp.down"].T)
            if i < c.num_layers // 2:
                skips.append(x)
        z = c.logit_softcap * np.tanh(norm(x) @ w["embedding"].T / c.logit_softcap)
        top = z.max(1)
        return float((top + np.log(np.exp(z - top[:, None]).sum(1)) - z[range(len(z)), tokens[1:]]).sum())

    def bits(self, texts: list[str]) -> float:
        """Windows that do not overlap, each document on its own."""
        ranks = {one: rank for rank, one in enumerate(self.tokenizer.pieces)}
        known: dict[str, list[int]] = {}
        nats = 0.0
        for text in texts:
            tokens = [1, *(token for word in words(text) for token in cut(word, ranks, known))]
            nats += math.fsum(self.nats(tokens[at : at + SEQ + 1]) for at in range(0, len(tokens) - 1, SEQ))
        return nats / math.log(2)


@pytest.mark.slow
@pytest.mark.parametrize("vocab", [512, 1024, 2048, 4096])
def test_of_pieces(tmp_path: Path, vocab: int) -> None:
    c = config(vocab_size=vocab, model_dim=16, num_heads=2, num_kv_heads=1, train_seq_len=SEQ, eval_stride=SEQ)
    draw = random.Random(vocab)
    tokenizer = t.Tokenizer.train(draw.sample(TRAINING, len(TRAINING)), vocab)
    artifact = t.to_artifact(weights_of(random_model(c, vocab)), tokenizer, c)
    task = make_job(tmp_path, script="train_gpt.py")
    Path(task.script).write_bytes((ROOT / "trainer/train_gpt.py").read_bytes())
    Path(task.artifact).write_bytes(artifact)
    env = {**task.env, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    bpb = measured(replace(task, env=env, alone=True, memory_mb=2000, wall_s=200, chunk_tokens=8192))
    assert bpb == pytest.approx(Model(artifact).bits(TEXTS) / sum(map(len, TEXTS)), abs=1e-6)
