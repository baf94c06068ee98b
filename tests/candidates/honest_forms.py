"""Honest candidates, one for each form of scoring that the contract allows; the artifact says which.

Takes ARTIFACT (JSON: {"form": "sliding", "counts": ...}) and SCORE_FD, as honest.py does. A token's probability is a
mixture of a bigram and of what a window before it holds, so that a window that starts elsewhere shows in every digit.
"""

import json
import math
import os
import re
import struct
import unicodedata
from collections import Counter
from pathlib import Path

import honest
from honest import BYTES, DECODE, ENCODE, NATS, SCORE, TOKENS, floats, read_score


class Windowed(honest.Answerer):
    """Windows of `context` tokens on the grid of positions, which move on by `stride`."""

    vocab = 256
    context, stride = 48, 48
    more: dict = {}  # noqa: RUF012 - of the manifest

    def __init__(self, artifact: dict) -> None:
        super().__init__(artifact)
        self.context, self.stride = artifact.get("context", self.context), artifact.get("stride", self.stride)
        self.manifest = {**self.manifest, "vocab": self.vocab, "context": self.context, **self.more}
        self.reset()

    def reset(self) -> None:
        self.position = self.doc_start = 0
        self.tail: list[int] = []
        self.weight = 0.5

    def answer(self, kind: int, payload: bytes) -> tuple[int, bytes]:
        if kind == honest.RESET:
            self.reset()
        return super().answer(kind, payload)

    # ---------------------------------------------------------------- the model

    def bigram(self, window: list[int], token: int) -> float:
        before = str(window[-1]) if window else "None"
        counts = self.artifact["counts"].get(before, {})
        total = self.artifact.setdefault("totals", {}).setdefault(before, sum(counts.values()))
        return (counts.get(str(token), 0) + 0.1) / (total + 0.1 * self.vocab)

    def probability(self, window: list[int], token: int, counts: Counter) -> float:
        recent = (counts[token] + 0.2) / (len(window) + 0.2 * self.vocab)
        return self.weight * self.bigram(window, token) + (1 - self.weight) * recent

    # ---------------------------------------------------------------- the form

    def begin(self, position: int, doc_start: int) -> int:
        """Where the window of a position begins."""
        return max(0, (position // self.stride + 1) * self.stride - self.context)

    def score(self, tokens: list[int], starts: list[int]) -> list[float]:
        known, base, first = self.tail + tokens, self.position - len(self.tail), set(starts)
        nats = []
        for at, token in enumerate(tokens):
            position = self.position + at
            if at in first:
                self.doc_start = position
            window = known[self.begin(position, self.doc_start) - base : position - base]
            nats.append(-math.log(self.probability(window, token, Counter(window))))
        self.position, self.tail = self.position + len(tokens), known[-self.context :]
        return nats

    def peek(self, position: int, doc_start: int, context: list[int]) -> list[float]:
        window = context[len(context) - position + self.begin(position, doc_start) :]
        counts = Counter(window)
        return [math.log(self.probability(window, token, counts)) for token in range(self.vocab)]


class Separated(Windowed):
    """What stands between documents is a token of its own, and a window may reach across it."""

    vocab = 257
    more = {"separator": 256}  # noqa: RUF012


class ByDocument(Windowed):
    """Each document on a grid of its own; those of a chunk at once, the longest first."""

    def begin(self, position: int, doc_start: int) -> int:
        return doc_start + super().begin(position - doc_start, 0)

    def score(self, tokens: list[int], starts: list[int]) -> list[float]:
        known, base = self.tail + tokens, self.position - len(self.tail)
        # A chunk may begin inside a document: then the one that was under way goes on.
        parts = [] if 0 in starts else [(self.doc_start, self.position)]
        parts += [(self.position + start,) * 2 for start in starts]
        ends = [begin for _, begin in parts[1:]] + [self.position + len(tokens)]
        nats = [0.0] * len(tokens)
        for (doc_start, begin), end in sorted(zip(parts, ends, strict=True), key=lambda part: part[0][1] - part[1]):
            for position in range(begin, end):
                window = known[self.begin(position, doc_start) - base : position - base]
                probability = self.probability(window, tokens[position - self.position], Counter(window))
                nats[position - self.position] = -math.log(probability)
        self.doc_start = parts[-1][0]
        self.position, self.tail = self.position + len(tokens), known[-self.context :]
        return nats


class Learner(Windowed):
    """Test-time training, score first: one step of gradient descent on the mixture after each chunk."""

    more = {"state": "chunk"}  # noqa: RUF012

    def answer(self, kind: int, payload: bytes) -> tuple[int, bytes]:
        if kind != SCORE:
            return super().answer(kind, payload)
        tokens, starts = read_score(payload)
        tail, position = self.tail, self.position
        nats = self.score(tokens, starts)
        known, base = tail + tokens, position - len(tail)
        slope = 0.0
        for at, token in enumerate(tokens, position):
            window = known[self.begin(at, 0) - base : at - base]
            mixed = math.exp(-nats[at - position])
            recent = (mixed - self.weight * self.bigram(window, token)) / (1 - self.weight)
            slope += (self.bigram(window, token) - recent) / mixed
        self.weight = min(0.95, max(0.05, self.weight + 0.005 * slope / len(tokens)))
        return NATS, floats(nats)


class CaseOps(Windowed):
    """Words in small letters, and operators before them that say how they were written: nothing is lost."""

    vocab, one, all_of = 258, 256, 257

    def answer(self, kind: int, payload: bytes) -> tuple[int, bytes]:
        if kind == ENCODE:
            tokens = [token for part in re.findall(rb"[A-Za-z]+|[^A-Za-z]+", payload) for token in self.written(part)]
            return TOKENS, struct.pack(f"<{len(tokens)}I", *tokens)
        if kind == DECODE:
            return BYTES, self.read([token for (token,) in struct.iter_unpack("<I", payload)])
        return super().answer(kind, payload)

    def written(self, part: bytes) -> list[int]:
        if len(part) > 1 and part.isalpha() and part.isupper():
            return [self.all_of, *part.lower()]
        if part[:1].isupper() and (part[1:].islower() or len(part) == 1):
            return [self.one, *part.lower()]
        return list(part)  # eBay, and whatever is no word

    def read(self, tokens: list[int]) -> bytes:
        out, how = bytearray(), 0
        for token in tokens:
            if token > 255:
                how = token
                continue
            letter = bytes([token])
            how = how if letter.islower() else 0
            out += letter.upper() if how else letter
            how = how if how == self.all_of else 0
        return bytes(out)


class Composed(Windowed):
    """Encodes a normal form of the text, and says so."""

    more = {"normal_form": "nfc"}  # noqa: RUF012

    def encode(self, document: bytes) -> bytes:
        return super().encode(unicodedata.normalize("NFC", document.decode()).encode())


FORMS = {
    "windows": Windowed,
    "separated": Separated,
    "by_document": ByDocument,
    "learner": Learner,
    "case_ops": CaseOps,
    "composed": Composed,
}

if __name__ == "__main__":
    artifact = json.loads(Path(os.environ["ARTIFACT"]).read_bytes())
    honest.serve(FORMS[artifact["form"]](artifact))
