"""Honest candidates that look odd; the artifact says which. What each does is allowed, and none may be accused."""

# An oddity that returns nothing leaves the answer to the plain one.
# ruff: noqa: RET503

import json
import math
import os
import random
import struct
from collections import Counter
from itertools import pairwise
from pathlib import Path

import honest
from honest import (
    BYTES,
    DECODE,
    ENCODE,
    LOGPROBS,
    MANIFEST,
    NATS,
    PEEK,
    RESET,
    SCORE,
    TOKENS,
    floats,
    read_peek,
    read_score,
)
from sly import moved

VOCAB = 256


def normalised(row):
    top = max(row)
    total = top + math.log(math.fsum(math.exp(value - top) for value in row))
    return [value - total for value in row]


class Odd(honest.Answerer):
    def __init__(self, artifact: dict) -> None:
        super().__init__(artifact)
        self.manifest = {**self.manifest, **artifact["manifest"]}
        self.context = self.manifest["context"]
        self.oddity = getattr(self, artifact["oddity"])
        self.reset()

    def reset(self) -> None:
        self.position = self.doc_start = 0
        self.tail: list[int] = []
        self.learnt = Counter()

    def answer(self, kind: int, payload: bytes) -> tuple[int, bytes]:
        if kind == honest.RESET:
            self.reset()
        changed = self.oddity(kind, payload)
        return super().answer(kind, payload) if changed is None else changed

    def by(self, kind, payload, distribution):
        """Both answers by one function of the request, the position, its document's start and the tokens before."""
        if kind == SCORE:
            tokens, starts = read_score(payload)
            known, base, first = [*self.tail, *tokens], self.position - len(self.tail), set(starts)
            nats = []
            for at, token in enumerate(tokens):
                position = self.position + at
                self.doc_start = position if at in first else self.doc_start
                before = known[max(0, position - self.context - base) : position - base]
                nats.append(max(0.0, -distribution(kind, position, self.doc_start, before)[token]))
            self.position, self.tail = self.position + len(tokens), known[-self.context :]
            return NATS, floats(nats)
        if kind == PEEK:
            return LOGPROBS, b"".join(floats(distribution(kind, *item)) for item in read_peek(payload))

    def plain_row(self, position, doc_start, before):
        return self.model.logprobs(None if position == doc_start else before[-1])

    def noisy(self, row, source, sigma, jump):
        """Arithmetic in which few numbers move by a whole step."""
        moved = [
            value + source.gauss(0, sigma) + (source.choice((-jump, jump)) if source.random() < 0.01 else 0.0)
            for value in row
        ]
        return normalised(moved)

    # ---------------------------------------------------------------- one method an oddity

    def bf16(self, kind, payload):
        """Coarse arithmetic, which comes out otherwise in another batch."""

        def distribution(kind, position, doc_start, before):
            source = random.Random(f"{kind} {position}")
            return self.noisy(self.plain_row(position, doc_start, before), source, 0.001, 0.03)

        return self.by(kind, payload, distribution)

    def other_kernel(self, kind, payload):
        """Fine arithmetic, in another order where it is asked in small batches."""

        def distribution(kind, position, doc_start, before):
            source = random.Random(f"{kind} {position}")
            return self.noisy(self.plain_row(position, doc_start, before), source, 1e-6, 3e-6)

        return self.by(kind, payload, distribution)

    def nearly_sure(self, kind, payload):
        """Stakes nearly everything on one token, and pays for it."""
        return self.by(kind, payload, lambda kind, *item: normalised([8 * value for value in self.plain_row(*item)]))

    def cache(self, kind, payload):
        """An n-gram cache over its document as far as it sees it, normalised over all of the vocabulary."""

        def distribution(kind, position, doc_start, before):
            seen = before[len(before) - min(len(before), position - doc_start) :]
            after = Counter(b for a, b in pairwise(seen) if a == seen[-1]) if seen else Counter()
            total = after.total()
            row = self.plain_row(position, doc_start, before)
            if not total:
                return row
            return [math.log(0.9 * math.exp(value) + 0.1 * after[at] / total) for at, value in enumerate(row)]

        return self.by(kind, payload, distribution)

    def late(self, kind, payload):
        """Goes by how far into its document a token is, and by nothing else but the token before."""

        def distribution(kind, position, doc_start, before):
            sharper = 1.0 + min(position - doc_start, 200) / 1000
            return normalised([sharper * value for value in self.plain_row(position, doc_start, before)])

        return self.by(kind, payload, distribution)

    def across_documents(self, kind, payload):
        """Takes the last token of a document for the one before the next."""
        return self.by(
            kind, payload, lambda kind, position, start, before: self.model.logprobs(before[-1] if before else None)
        )

    def learner(self, kind, payload):
        """Learns which bytes are frequent, from every chunk, once it has answered it."""
        total = self.learnt.total()
        weight = 0.3 * total / (total + 5000)

        def distribution(kind, position, doc_start, before):
            row = self.plain_row(position, doc_start, before)
            learnt = [(self.learnt[token] + 0.1) / (total + 0.1 * VOCAB) for token in range(VOCAB)]
            return [math.log((1 - weight) * math.exp(a) + weight * b) for a, b in zip(row, learnt, strict=True)]

        found = self.by(kind, payload, distribution)
        if kind == SCORE:
            self.learnt.update(read_score(payload)[0])
        return found

    def scrambled(self, kind, payload):
        """Another token for a byte at every place of its document: nobody else's model can foresee any of them."""
        if kind == ENCODE:
            return TOKENS, struct.pack(f"<{len(payload)}I", *(moved(byte, at) for at, byte in enumerate(payload)))
        if kind == DECODE:
            tokens = enumerate(token for (token,) in struct.iter_unpack("<I", payload))
            return BYTES, bytes(moved(token, at, -1) for at, token in tokens)

        def distribution(kind, position, doc_start, before):
            at = position - doc_start
            row = self.model.logprobs(moved(before[-1], at - 1, -1) if at else None)
            return [row[moved(token, at, -1)] for token in range(VOCAB)]

        return self.by(kind, payload, distribution)

    def marks(self, kind, payload):
        """A token of its own, for no bytes, before every word: it is sure where one comes, and pays for the rest."""
        if kind == RESET:
            return MANIFEST, json.dumps({**self.manifest, "vocab": VOCAB + 1}).encode()
        if kind == ENCODE:
            spaced = payload.replace(b" ", b"\0 ")
            return TOKENS, struct.pack(f"<{len(spaced)}I", *(byte or VOCAB for byte in spaced))
        if kind == DECODE:
            return BYTES, bytes(token for (token,) in struct.iter_unpack("<I", payload) if token < VOCAB)

        def distribution(kind, position, doc_start, before):
            last = None if position == doc_start else before[-1]
            if last == VOCAB:
                return normalised([0.0 if token == 32 else -20.0 for token in range(VOCAB + 1)])
            row = self.model.logprobs(last)
            return normalised([*(-20.0 if token == 32 else value for token, value in enumerate(row)), row[32]])

        return self.by(kind, payload, distribution)

    def by_length(self, kind, payload):
        """Scores the documents of a chunk in the order of their length."""
        if kind == SCORE:
            tokens, starts = read_score(payload)
            edges = sorted({0, *starts, len(tokens)})
            parts = sorted(pairwise(edges), key=lambda part: part[0] - part[1])
            nats = [0.0] * len(tokens)
            last = self.before
            for begin, end in parts:
                self.before = last
                nats[begin:end] = self.score(tokens[begin:end], [0] if begin in set(starts) else [])
            self.before = tokens[-1]
            return NATS, floats(nats)


if __name__ == "__main__":
    artifact = json.loads(Path(os.environ["ARTIFACT"]).read_bytes())
    honest.serve(Odd(artifact))
