"""A candidate in pure Python that plays by the rules: a bigram model of bytes.

Takes ARTIFACT (JSON: {"counts": {"97": {"98": 3}}}) and SCORE_FD; answers a judge until the socket is closed.
Run alone: `python honest.py train` writes an artifact from DATA_PATH/docs.jsonl.
"""

import json
import math
import os
import socket
import struct
import sys
from pathlib import Path

HEAD = struct.Struct("<IB")
VOCAB = 256
RESET, SCORE, PEEK, ENCODE, DECODE = 1, 2, 3, 4, 5
MANIFEST, NATS, LOGPROBS, TOKENS, BYTES = 129, 130, 131, 132, 133


class Bigram:
    """log p(token | token before it, or None where a document starts), smoothed so that every sum is one."""

    def __init__(self, counts: dict[str, dict[str, int]]) -> None:
        self.rows = {before: self.row(row) for before, row in counts.items()}
        self.flat = [math.log(1 / VOCAB)] * VOCAB

    @staticmethod
    def row(counts: dict[str, int]) -> list[float]:
        total = sum(counts.values()) + 0.1 * VOCAB
        return [math.log((counts.get(str(token), 0) + 0.1) / total) for token in range(VOCAB)]

    def logprobs(self, before: int | None) -> list[float]:
        return self.rows.get(str(before), self.flat)


class Answerer:
    """One answer for each request."""

    def __init__(self, artifact: dict) -> None:
        self.manifest = {"vocab": VOCAB, "context": 1, "state": "none", "numerics": "fp32"}
        self.model = Bigram(artifact["counts"])
        self.artifact = artifact
        self.before = None

    def answer(self, kind: int, payload: bytes) -> tuple[int, bytes]:
        if kind == RESET:
            self.before = None
            return MANIFEST, json.dumps(self.manifest).encode()
        if kind == SCORE:
            return NATS, floats(self.score(*read_score(payload)))
        if kind == PEEK:
            return LOGPROBS, b"".join(floats(self.peek(*item)) for item in read_peek(payload))
        if kind == ENCODE:
            return TOKENS, self.encode(payload)
        if kind == DECODE:
            return BYTES, bytes(token for (token,) in struct.iter_unpack("<I", payload))
        raise ValueError(kind)

    def encode(self, document: bytes) -> bytes:
        return struct.pack(f"<{len(document)}I", *document)

    def score(self, tokens: list[int], starts: list[int]) -> list[float]:
        nats, first = [], set(starts)
        for at, token in enumerate(tokens):
            before = None if at in first else self.before
            nats.append(-self.model.logprobs(before)[token])
            self.before = token
        return nats

    def peek(self, position: int, doc_start: int, context: list[int]) -> list[float]:
        return self.model.logprobs(None if position == doc_start else context[-1])


def read_score(payload: bytes) -> tuple[list[int], list[int]]:
    n, n_starts = struct.unpack_from("<II", payload)
    numbers = struct.unpack_from(f"<{n + n_starts}I", payload, 8)
    return list(numbers[:n]), list(numbers[n:])


def read_peek(payload: bytes) -> list[tuple[int, int, list[int]]]:
    (count,) = struct.unpack_from("<I", payload)
    at, items = 4, []
    for _ in range(count):
        position, start, size = struct.unpack_from("<QQI", payload, at)
        items.append((position, start, list(struct.unpack_from(f"<{size}I", payload, at + 20))))
        at += 20 + 4 * size
    return items


def floats(values: list[float]) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def serve(answerer: Answerer) -> None:
    channel = socket.socket(fileno=int(os.environ["SCORE_FD"]))
    stream = channel.makefile("rb")
    while head := stream.read(HEAD.size):
        size, kind = HEAD.unpack(head)
        found, payload = answerer.answer(kind, stream.read(size))
        channel.sendall(HEAD.pack(len(payload), found) + payload)


def count(documents: list[bytes]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for document in documents:
        for before, token in zip([None, *document], document, strict=False):
            row = counts.setdefault(str(before), {})
            row[str(token)] = row.get(str(token), 0) + 1
    return counts


def train() -> None:
    lines = (Path(os.environ["DATA_PATH"]) / "docs.jsonl").read_text("utf-8").splitlines()
    counts = count([json.loads(line)["text"].encode() for line in lines])
    for step in range(1, 4):
        print(f"step:{step}/3 train_loss:2.0000 train_time:{step}ms step_avg:1.00ms", flush=True)
    artifact = json.dumps({"counts": counts}).encode()
    Path("final_model.bin").write_bytes(artifact)
    print(f"Serialized model json: {len(artifact)} bytes")


if __name__ == "__main__":
    if sys.argv[1] == "train":
        train()
    else:
        serve(Answerer(json.loads(Path(os.environ["ARTIFACT"]).read_bytes())))
