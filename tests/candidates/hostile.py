"""Candidates that don't play by the rules, one for each way of not doing so; the artifact says which."""

# A trick that returns nothing leaves the answer to the honest one.
# ruff: noqa: RET503

import json
import math
import os
import signal
import socket
import struct
import sys
import time
import unicodedata
from itertools import pairwise
from pathlib import Path

import honest
from honest import BYTES, DECODE, ENCODE, HEAD, LOGPROBS, MANIFEST, NATS, PEEK, RESET, SCORE, TOKENS, floats

ROLE = sys.argv[1]


class Hostile(honest.Answerer):
    def __init__(self, artifact: dict) -> None:
        super().__init__(artifact)
        self.seen: dict[int, int] = {}
        self.scored = 0
        self.how = artifact["how"]
        if "manifest" in artifact:
            self.manifest = {**self.manifest, **artifact["manifest"]}

    def answer(self, kind: int, payload: bytes) -> tuple[int, bytes]:
        trick = getattr(self, self.how)
        changed = trick(kind, payload)
        return super().answer(kind, payload) if changed is None else changed

    # ---------------------------------------------------------------- in encode and decode

    def loses_bytes(self, kind, payload):
        if kind == DECODE:
            return BYTES, super().answer(kind, payload)[1].replace(b"e", b"E")

    def composes(self, kind, payload):
        """Encodes another form of the text without a word about it."""
        if kind == ENCODE:
            return super().answer(kind, unicodedata.normalize("NFC", payload.decode()).encode())

    def small_letters(self, kind, payload):
        if kind == ENCODE:
            return super().answer(kind, payload.lower())

    def no_tokens(self, kind, payload):
        if kind == ENCODE:
            return TOKENS, b""

    def odd_tokens(self, kind, payload):
        if kind == ENCODE:
            return TOKENS, b"\0\0\0\0\0"

    def too_many_tokens(self, kind, payload):
        if kind == ENCODE:
            return TOKENS, bytes(4 * (3 * len(payload) + 200))

    def foreign_tokens(self, kind, payload):
        if kind == ENCODE:
            return TOKENS, struct.pack(f"<{len(payload)}I", *(byte + 1000 for byte in payload))
        if kind == DECODE:
            return BYTES, bytes(token - 1000 for (token,) in struct.iter_unpack("<I", payload))

    def spills(self, kind, payload):
        if kind == ENCODE:
            os.write(1, payload)
        if kind in (DECODE, SCORE) and not self.scored:
            self.scored = 1
            os.write(1, b"found %d bytes\n" % os.fstat(1).st_size)

    def spills_and_fails(self, kind, payload):
        self.spills(kind, payload)
        if payload == b"x":
            os.write(1, b"no idea")
            raise SystemExit(1)

    def spills_where_nothing_rests_on_it(self, kind, payload):
        """In the decoder that is asked for one token after the other, whose failure costs no score."""
        self.scored = self.scored + 1 if kind == DECODE and len(payload) == 4 else 0
        if self.scored == 3:
            os.write(1, b"the text")
            raise SystemExit(1)

    # ---------------------------------------------------------------- in score

    def silent(self, kind, payload):
        if kind == SCORE:
            time.sleep(1000)

    def dies(self, kind, payload):
        if kind == SCORE:
            os.kill(os.getpid(), signal.SIGKILL)

    def leaves(self, kind, payload):
        if kind == SCORE:
            raise SystemExit(7)

    def hangs_up(self, kind, payload):
        if kind == SCORE:
            os.close(int(os.environ["SCORE_FD"]))
            time.sleep(1000)

    def gives_up(self, kind, payload):
        if kind == SCORE:
            return 255, b"\x1b[31mno idea"

    def wrong_type(self, kind, payload):
        if kind == SCORE:
            return TOKENS, b"\0\0\0\0"

    def huge(self, kind, payload):
        if kind == SCORE:
            os.write(int(os.environ["SCORE_FD"]), HEAD.pack(0xFFFFFFFF, NATS))
            time.sleep(1000)

    def one_too_few(self, kind, payload):
        if kind == SCORE:
            return NATS, super().answer(kind, payload)[1][:-4]

    def talks_on(self, kind, payload):
        if kind == SCORE:
            nats = super().answer(kind, payload)[1]
            os.write(int(os.environ["SCORE_FD"]), 2 * (HEAD.pack(len(nats), NATS) + nats))
            raise SystemExit

    def talks_on_at_the_end(self, kind, payload):
        if kind == SCORE:
            self.scored += 1
            if self.scored == self.artifact["chunks"]:
                return self.talks_on(kind, payload)

    def floods(self, kind, payload):
        if kind == SCORE:
            while True:
                os.write(1, b"noise " * 4096)

    def with_number(self, kind, payload, number):
        if kind == SCORE:
            nats = self.score(*honest.read_score(payload))
            return NATS, floats([*nats[:5], number, *nats[6:]])

    def nan(self, kind, payload):
        return self.with_number(kind, payload, math.nan)

    def infinite(self, kind, payload):
        return self.with_number(kind, payload, math.inf)

    def negative(self, kind, payload):
        return self.with_number(kind, payload, -0.5)

    def zeros(self, kind, payload):
        if kind == SCORE:
            return NATS, bytes(4 * len(honest.read_score(payload)[0]))

    def plain(self, kind, payload):
        return None

    def bad_manifest(self, kind, payload):
        if kind == RESET:
            return MANIFEST, self.artifact["answer"].encode()

    # ---------------------------------------------------------------- between score and peek

    def remembers(self, kind, payload):
        """The model, but a hundredth of its mass on the token that comes, wherever it was ever shown."""
        if kind == SCORE:
            tokens, starts = honest.read_score(payload)
            self.seen |= dict(enumerate(tokens, self.scored))
            at = self.scored
            self.scored += len(tokens)
            nats = self.score(tokens, starts)
            return NATS, floats([-self.mixed(-n, 1.0) for at, n in enumerate(nats, at)])
        if kind == PEEK:
            items = honest.read_peek(payload)
            for position, _, context in items:
                self.seen |= dict(enumerate(context, position - len(context)))
            rows = []
            for position, start, context in items:
                row = self.peek(position, start, context)
                if position in self.seen:
                    answer = self.seen[position]
                    row = [self.mixed(value, float(token == answer)) for token, value in enumerate(row)]
                rows.append(floats(row))
            return LOGPROBS, b"".join(rows)

    @staticmethod
    def mixed(logprob: float, hit: float) -> float:
        return math.log(0.9 * math.exp(logprob) + 0.1 * hit)

    def unnormalised(self, kind, payload):
        """Scores and distribution agree, but the distribution sums to more than one."""
        if kind == SCORE:
            return NATS, floats([max(0.0, n - 0.5) for n in self.score(*honest.read_score(payload))])
        if kind == PEEK:
            return LOGPROBS, b"".join(
                floats([value + 0.5 for value in self.peek(*item)]) for item in honest.read_peek(payload)
            )

    def nan_distribution(self, kind, payload):
        """Claims half of all nats, too."""
        if kind == SCORE:
            return NATS, floats([n / 2 for n in self.score(*honest.read_score(payload))])
        if kind == PEEK:
            return LOGPROBS, b"".join(floats([math.nan] * 256) for _ in honest.read_peek(payload))

    def no_peeks(self, kind, payload):
        if kind == PEEK:
            raise SystemExit(3)

    def silent_when_asked(self, kind, payload):
        if kind == PEEK:
            time.sleep(1000)

    def first_here(self):
        """Nothing inside its walls tells it of an earlier session, so somebody outside takes a note for it."""
        note = Path(self.artifact["note"])
        first = not note.exists()
        print("was here", flush=True)
        while not note.exists():
            time.sleep(0.01)
        return first

    def moody(self, kind, payload):
        """Off in the first session with questions only: a machine that had a bad moment."""
        if kind == PEEK and self.first_here():
            return LOGPROBS, b"".join(floats([math.log(1 / 256)] * 256) for _ in honest.read_peek(payload))

    def turncoat(self, kind, payload):
        """Declares coarse arithmetic only where it is audited, for a wider tolerance."""
        if kind == RESET:
            numerics = "fp32" if self.first_here() else "bf16"
            return MANIFEST, json.dumps({**self.manifest, "numerics": numerics}).encode()

    def calls(self, kind, payload):
        """Tells somebody outside what it was asked for."""
        if kind == SCORE:
            with socket.create_connection(("192.0.2.2", 7000)) as talk:
                talk.sendall(payload)
                time.sleep(1)

    def stateful(self, kind, payload):
        """Honest, with counts that grow after each chunk: needs the chunks again to answer questions."""
        if kind == SCORE:
            tokens, starts = honest.read_score(payload)
            nats = self.score(tokens, starts)
            counts = self.artifact["counts"]
            for before, token in pairwise(tokens):
                row = counts.setdefault(str(before), {})
                row[str(token)] = row.get(str(token), 0) + 1
            self.model = honest.Bigram(counts)
            return NATS, floats(nats)

    def adapts_first(self, kind, payload):
        """The same, but a chunk's counts grow before it is scored."""
        if kind == SCORE:
            tokens, starts = honest.read_score(payload)
            before = self.before
            self.stateful(kind, payload)
            self.before = before
            return NATS, floats(self.score(tokens, starts))


if __name__ == "__main__":
    artifact = json.loads(Path(os.environ["ARTIFACT"]).read_bytes())
    if artifact["how"] == "early" and ROLE == "score":
        os.write(int(os.environ["SCORE_FD"]), HEAD.pack(4, NATS) + b"\0\0\0\0")
        artifact["how"] = "plain"
    elif artifact["how"] == "early":
        artifact["how"] = "plain"
    honest.serve(Hostile(artifact))
