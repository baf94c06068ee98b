"""Honest candidates with one fault each, of the kind that people make; the artifact says which.

What is at fault lies in one method, named by the clause of the contract that it breaks.
"""

# A fault that returns nothing leaves the answer to the honest one.
# ruff: noqa: RET503

import json
import math
import os
import random
import struct
from itertools import pairwise
from pathlib import Path

import honest
from honest import ENCODE, LOGPROBS, NATS, PEEK, RESET, SCORE, TOKENS, floats, read_peek, read_score


class Faulty(honest.Answerer):
    def __init__(self, artifact: dict) -> None:
        super().__init__(artifact)
        self.manifest = {**self.manifest, **artifact.get("manifest", {})}
        self.fault = getattr(self, artifact["fault"])
        self.position, self.tail, self.lucky = 0, [], random.SystemRandom().random()
        self.learnt: dict[int, int] = {}

    def answer(self, kind: int, payload: bytes) -> tuple[int, bytes]:
        if kind == RESET:
            self.position, self.tail = 0, []
        changed = self.fault(kind, payload)
        return super().answer(kind, payload) if changed is None else changed

    def each(self, kind, payload, change):
        """The honest distributions, changed: score and peek by the same function of (item, log-probabilities)."""
        if kind == SCORE:
            tokens, starts = read_score(payload)
            nats, begin = [], self.position
            for at, token in enumerate(tokens):
                before = None if at in set(starts) else self.before
                row = change(begin + at, [*self.tail, *tokens[:at]], self.model.logprobs(before))
                nats.append(-row[token])
                self.before = token
            self.position, self.tail = begin + len(tokens), [*self.tail, *tokens][-4096:]
            return NATS, floats(nats)
        if kind == PEEK:
            rows = [change(p, context, self.peek(p, start, context)) for p, start, context in read_peek(payload)]
            return LOGPROBS, b"".join(map(floats, rows))

    @staticmethod
    def leaning(row, token, weight=0.3):
        """The distribution, with a part of its mass moved to one token."""
        return [math.log((1 - weight) * math.exp(value) + weight * (at == token)) for at, value in enumerate(row)]

    # ---------------------------------------------------------------- one method a clause

    def starts(self, kind, payload):
        if kind == RESET:
            raise KeyError("model.layers.0.weight")

    def encodes(self, kind, payload):
        if kind == ENCODE and b"\x0c" in payload:
            return TOKENS, b""

    def decodes(self, kind, payload):
        if kind == ENCODE:
            payload = payload.strip()
            return TOKENS, struct.pack(f"<{len(payload)}I", *payload)

    def answers(self, kind, payload):
        if kind == SCORE:
            nats = self.score(*read_score(payload))
            return NATS, floats([math.nan if n > 7 else n for n in nats])

    def causal(self, kind, payload):
        """Normalises by a mean over the whole chunk."""
        if kind == SCORE:
            nats = self.score(*read_score(payload))
            return NATS, floats([n * 3 / (sum(nats) / len(nats)) for n in nats])

    def causal_ends(self, kind, payload):
        """Knows how long a document is from where the next one starts."""
        if kind == SCORE:
            tokens, starts = read_score(payload)
            last = {start - 1 for start in starts}
            return NATS, floats([n / 2 if at in last else n for at, n in enumerate(self.score(tokens, starts))])

    def reset(self, kind, payload):
        """Counts go on through a reset."""
        if kind == SCORE:
            tokens, starts = read_score(payload)
            nats = self.score(tokens, starts)
            self.learn(tokens)
            return NATS, floats(nats)

    def learn(self, tokens):
        counts = self.artifact["counts"]
        for before, token in pairwise(tokens):
            row = counts.setdefault(str(before), {})
            row[str(token)] = row.get(str(token), 0) + 1
        self.model = honest.Bigram(counts)

    def reset_elsewhere(self, kind, payload):
        """A weight that is drawn when it is loaded, and in no artifact."""
        return self.each(kind, payload, lambda p, before, row: self.leaning(row, 32, self.lucky))

    def chunk_borders(self, kind, payload):
        """Takes the beginning of a chunk for the beginning of a document."""
        if kind == SCORE:
            tokens, starts = read_score(payload)
            return NATS, floats(self.score(tokens, sorted({0, *starts})))

    def state(self, kind, payload):
        """Learns from every chunk, says so to nobody, and forgets on a reset."""
        if kind == RESET:
            self.artifact["counts"] = json.loads(self.artifact.setdefault("kept", json.dumps(self.artifact["counts"])))
            self.model = honest.Bigram(self.artifact["counts"])
            return None
        return self.reset(kind, payload)

    def context(self, kind, payload):
        """Reads one token more than it says."""

        def change(position, before, row):
            earlier = self.model.logprobs(before[-2] if len(before) > 1 else None)
            return [math.log((math.exp(a) + math.exp(b)) / 2) for a, b in zip(row, earlier, strict=True)]

        return self.each(kind, payload, change)

    def sums(self, kind, payload):
        return self.each(kind, payload, lambda p, before, row: [value + 0.01 for value in row])

    def batch(self, kind, payload):
        """A statistic over the items of a frame."""
        if kind == PEEK:
            items = read_peek(payload)
            mean = sum(sum(context) for *_, context in items) / len(items)
            return LOGPROBS, b"".join(floats(self.leaning(self.peek(*item), int(mean) % 256)) for item in items)

    def peek_changes_nothing(self, kind, payload):
        """What it was asked last is what it goes on with."""
        if kind == PEEK:
            self.before = read_peek(payload)[-1][2][-1:] or [0]
            self.before = self.before[0] ^ 1

    def doc_starts(self, kind, payload):
        """At a document's start it still goes by the token before it."""
        if kind == PEEK:
            rows = [self.model.logprobs(context[-1] if context else None) for *_, context in read_peek(payload)]
            return LOGPROBS, b"".join(map(floats, rows))

    def positions(self, kind, payload):
        """Counts positions where it scores, and tokens where it is asked."""

        def change(position, before, row):
            return self.leaning(row, 32) if min(position, len(before)) % 2 else row

        if kind == PEEK:
            rows = [change(len(context), context, self.peek(p, s, context)) for p, s, context in read_peek(payload)]
            return LOGPROBS, b"".join(map(floats, rows))
        return self.each(kind, payload, lambda p, before, row: change(p, [0] * p, row))

    def numerics(self, kind, payload):
        """Rounds as bf16 does, and to another side in another batch."""

        def change(position, before, row):
            draw = random.Random(f"{kind} {position}")
            row = [value + (draw.uniform(-0.04, 0.04) if draw.random() < 0.1 else 0.0) for value in row]
            total = math.log(sum(map(math.exp, row)))
            return [value - total for value in row]

        return self.each(kind, payload, change)

    def same_answer(self, kind, payload):
        """Is sharper where it scores."""

        def sharper(position, before, row):
            total = math.log(sum(math.exp(1.5 * value) for value in row))
            return [1.5 * value - total for value in row]

        return self.each(kind, payload, sharper) if kind == SCORE else None

    def same_answer_leaning(self, kind, payload):
        """A thousandth of a nat better than it is, everywhere."""
        if kind == SCORE:
            return NATS, floats([max(0.0, n - 0.001) for n in self.score(*read_score(payload))])

    def plain(self, kind, payload):
        return None

    def answers_to_peek(self, kind, payload):
        """A distribution over the wrong number of tokens."""
        if kind == PEEK:
            return LOGPROBS, bytes(4 * 255 * len(read_peek(payload)))


if __name__ == "__main__":
    artifact = json.loads(Path(os.environ["ARTIFACT"]).read_bytes())
    honest.serve(Faulty(artifact))
