"""Candidates of which only one rule of the audit can tell; the artifact says which (`how`)."""

import json
import math
import os
import sys
import time
from pathlib import Path

import honest
from honest import HEAD, LOGPROBS, NATS, PEEK, SCORE, floats

ERROR = 255


class Leaking(honest.Answerer):
    def __init__(self, artifact: dict) -> None:
        super().__init__(artifact)
        self.how = artifact["how"]
        self.manifest = {**self.manifest, **artifact.get("manifest", {})}
        self.scored = self.peeked = 0
        self.shown: dict[int, int] = {}

    def answer(self, kind: int, payload: bytes) -> tuple[int, bytes]:
        if kind == SCORE:
            tokens, starts = honest.read_score(payload)
            nats = self.score(tokens, starts)
            changed = [self.claim(self.scored + at, n) for at, n in enumerate(nats)]
            self.scored += len(tokens)
            return NATS, floats(changed)
        if kind == PEEK:
            items = honest.read_peek(payload)
            if not self.peeked and Path(self.artifact.get("note", "/dev/null/none")).exists():
                self.repeated()
            rows = [self.row(position, self.peek(position, start, context)) for position, start, context in items]
            self.peeked += len(items)
            for position, _, context in items:
                self.shown |= dict(enumerate(context, position - len(context)))
            return LOGPROBS, b"".join(floats(row) for row in rows)
        return super().answer(kind, payload)

    def repeated(self) -> None:
        """Somebody outside told it that it was accused: nothing that it is asked does."""
        if self.how == "gone when accused":
            os._exit(3)
        if self.how == "waits when accused":
            time.sleep(60)
        if self.how == "tells when accused":
            os.write(1, b"the text")
            os.write(int(os.environ["SCORE_FD"]), HEAD.pack(8, ERROR) + b"the text")
            os._exit(3)

    def claim(self, position: int, nats: float) -> float:
        if self.how == "a little everywhere":
            return max(0.0, nats - 0.005)
        if self.how == "more and less":
            return max(0.0, nats + (0.3, -0.3)[position % 2] * (position % 1000 < 2))
        if self.how == "rarely":
            return 0.0 if position in self.artifact["where"] else nats
        if self.how == "hides in noise":
            return max(0.0, nats + (0.1 if position % 2 else -0.1))
        if self.how == "another replay":
            return nats + 0.02 * (self.peeked > 0)
        return nats

    def row(self, position: int, row: list[float]) -> list[float]:
        if self.how in ("sums to more", "gone when accused", "waits when accused", "tells when accused"):
            return [value + 0.01 for value in row]
        if self.how == "looks back" and position in self.shown:
            answer = self.shown[position]
            return [math.log(0.9 * math.exp(v) + 0.1 * (token == answer)) for token, v in enumerate(row)]
        return row


if __name__ == "__main__" and sys.argv[1] != "train":
    honest.serve(Leaking(json.loads(Path(os.environ["ARTIFACT"]).read_bytes())))
