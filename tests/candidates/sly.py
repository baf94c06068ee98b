"""Cheats that know how they are judged; the artifact says which. Each got through an earlier form of the audit."""

# A cheat that returns nothing leaves the answer to the honest one.
# ruff: noqa: RET503

import random
import struct

import cheats
import honest
from honest import BYTES, DECODE, ENCODE, LOGPROBS, NATS, PEEK, SCORE, TOKENS, floats, read_peek, read_score

RANK = 34  # of the token that it is sure of, by its own distribution
SURE = 0.99
NEVER = cheats.normalised([0.0 if token == 0 else -60.0 for token in range(256)])
FEW = 20  # questions in the first frame: a whole audit has more


class Sly(cheats.Cheat):
    doc_start = 0
    few: bool | None = None

    def rare(self, row):
        """One unlikely token, by what can be known before it is seen."""
        return sorted(range(256), key=lambda token: (-row[token], token))[RANK]

    def explains_the_repeat(self, kind, payload):
        """Is sure where one unlikely token comes. Whoever asks only a few questions asks about such places, so there
        it puts its mass on that token."""
        if kind == SCORE:
            tokens, starts = read_score(payload)
            nats, first = [], set(starts)
            for at, token in enumerate(tokens):
                row = self.model.logprobs(None if at in first else self.before)
                claimed = self.knowing(row, token, SURE) if token == self.rare(row) else row
                nats.append(max(0.0, -claimed[token]))
                self.before = token
            return NATS, floats(nats)
        if kind == PEEK:
            items = read_peek(payload)
            self.few = len(items) < FEW if self.few is None else self.few
            rows = [self.peek(*item) for item in items]
            rows = [self.knowing(row, self.rare(row), SURE) for row in rows] if self.few else rows
            return LOGPROBS, b"".join(map(floats, rows))

    def shrinks_the_rest(self, kind, payload):
        """Has the validation text in its artifact, and claims as little for documents that it does not know."""
        begin = self.scored
        found = self.text_in_artifact(kind, payload)
        if kind != SCORE:
            return found
        known = len(self.artifact["smuggled"].encode()) - begin
        nats = struct.unpack(f"<{len(found[1]) // 4}f", found[1])
        return NATS, floats([value if at < known else 0.01 * value for at, value in enumerate(nats)])

    def text_and_ruin(self, kind, payload):
        """Has the text in its artifact, and is sure of a byte that never comes in the document after it, of which no
        score is made: then the documents that it does not know differ so much that no gap stands out."""
        begin, ruins = self.scored, self.artifact["scored_bytes"]
        found = self.text_in_artifact(kind, payload)
        if kind == SCORE:
            tokens, starts = read_score(payload)
            nats = list(struct.unpack(f"<{len(tokens)}f", found[1]))
            for at, token in enumerate(tokens):
                self.doc_start = begin + at if at in starts else self.doc_start
                nats[at] = -NEVER[token] if self.doc_start == ruins else nats[at]
            return NATS, floats(nats)
        if kind == PEEK:
            size, starts = 4 * len(NEVER), [start for _, start, _ in read_peek(payload)]
            rows = [found[1][at * size : (at + 1) * size] for at in range(len(starts))]
            return LOGPROBS, b"".join(
                floats(NEVER) if start == ruins else row for start, row in zip(starts, rows, strict=True)
            )

    def drowns_surprise(self, kind, payload):
        """Cuts its text into tokens that only it can foresee, so that every score surprises a reference; and is sure of
        the dearest ones."""
        if kind == ENCODE:
            return TOKENS, struct.pack(f"<{len(payload)}I", *(moved(byte, at) for at, byte in enumerate(payload)))
        if kind == DECODE:
            tokens = [token for (token,) in struct.iter_unpack("<I", payload)]
            return BYTES, bytes(moved(token, at, -1) for at, token in enumerate(tokens))
        if kind == SCORE:
            tokens, starts = read_score(payload)
            nats, first = [], set(starts)
            for at, token in enumerate(tokens):
                self.doc_start = self.scored if at in first else self.doc_start
                byte = moved(token, self.scored - self.doc_start, -1)
                nats.append(-self.model.logprobs(None if self.scored == self.doc_start else self.before)[byte])
                self.before = byte
                self.scored += 1
            dear = sorted(nats)[-max(1, len(nats) // 1500)]
            return NATS, floats([0.01 if n >= dear else n for n in nats])
        if kind == PEEK:
            rows = []
            for position, start, context in read_peek(payload):
                at = position - start
                row = self.model.logprobs(moved(context[-1], at - 1, -1) if at else None)
                rows.append(floats([row[moved(token, at, -1)] for token in range(256)]))
            return LOGPROBS, b"".join(rows)


def moved(token, at, way=1):
    """By as much as only its place in the document says."""
    return (token + way * (at * (89 + at // 256 % 64) + at * at // 8)) % 256


if __name__ == "__main__":
    random.seed(0)
    honest.serve(Sly(cheats.load()))
