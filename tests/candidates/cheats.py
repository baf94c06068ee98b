"""Candidates that want a better score than they deserve; the artifact says how.

What hostile.py does to a judge that is careless about answers is there; here are cheats that answer as they should.
"""

# A cheat that returns nothing leaves the answer to the honest one.
# ruff: noqa: RET503

import contextlib
import ctypes
import json
import math
import mmap
import os
import pickle
import random
import struct
import sys
from itertools import pairwise
from pathlib import Path

import honest
from honest import BYTES, DECODE, ENCODE, LOGPROBS, NATS, PEEK, RESET, SCORE, TOKENS, floats, read_peek, read_score

LEAK = 0.3  # of the mass goes to a token that is known
MOST_CARRIED = 40_000  # bytes


def normalised(row):
    total = math.log(sum(map(math.exp, row)))
    return [value - total for value in row]


class Cheat(honest.Answerer):
    def __init__(self, artifact: dict) -> None:
        super().__init__(artifact)
        self.manifest = {**self.manifest, **artifact.get("manifest", {})}
        self.cheat = getattr(self, artifact["cheat"])
        self.tail: list[int] = []
        self.first_asked = 0
        self.seen: dict[int, int] = {}
        self.scored = 0
        self.known = None

    def answer(self, kind: int, payload: bytes) -> tuple[int, bytes]:
        if kind in (SCORE, PEEK):
            self.first_asked = self.first_asked or kind
        changed = self.cheat(kind, payload)
        return super().answer(kind, payload) if changed is None else changed

    def rows(self, kind, payload, change):
        """Both answers by one function of the tokens before and of the honest distribution."""
        if kind == SCORE:
            tokens, starts = read_score(payload)
            nats, text = [], [*self.tail, *tokens]
            base = len(self.tail)
            for at, token in enumerate(tokens):
                before = None if at in set(starts) else self.before
                row = change(text[max(0, base + at - 64) : base + at], self.model.logprobs(before))
                nats.append(max(0.0, -row[token]))
                self.before = token
            self.tail = text[-64:]
            return NATS, floats(nats)
        if kind == PEEK:
            return LOGPROBS, b"".join(
                floats(change(context[-64:], self.peek(p, start, context))) for p, start, context in read_peek(payload)
            )

    def learn(self, tokens):
        counts = self.artifact["counts"]
        for before, token in pairwise(tokens):
            row = counts.setdefault(str(before), {})
            row[str(token)] = row.get(str(token), 0) + 1
        self.model = honest.Bigram(counts)

    def knowing(self, row, token, leak=LEAK):
        """The distribution of somebody who knows the token, and does not want to look as if."""
        return [math.log((1 - leak) * math.exp(value) + leak * (at == token)) for at, value in enumerate(row)]

    # ---------------------------------------------------------------- looks at what it predicts

    def two_passes(self, kind, payload):
        """Scores a chunk, learns from it, scores it again, and answers with the lower number of each pair."""
        if kind == SCORE:
            tokens, starts = read_score(payload)
            before = self.before
            first = self.score(tokens, starts)
            self.learn(tokens)
            self.before = before
            return NATS, floats(map_min(first, self.score(tokens, starts)))

    def next_token(self, kind, payload):
        """Goes by the token after the one that it predicts, too."""
        if kind == SCORE:
            tokens, starts = read_score(payload)
            nats = self.score(tokens, starts)
            for at in range(len(tokens) - 1):
                row = self.model.logprobs(None if at in set(starts) else tokens[at - 1] if at else None)
                after = [self.model.logprobs(one)[tokens[at + 1]] for one in range(256)]
                both = normalised([a + b for a, b in zip(row, after, strict=True)])
                nats[at] = -both[tokens[at]]
            return NATS, floats(nats)

    def gate(self, kind, payload):
        """Takes for each token whichever of two models likes it better; a distribution has only one of them."""
        flat = math.log(1 / 64)
        if kind == SCORE:
            return NATS, floats([min(n, -flat) for n in self.score(*read_score(payload))])

    def gate_shown(self, kind, payload):
        """The same, and the maximum of both models passes for a distribution."""
        return self.rows(kind, payload, lambda before, row: [max(value, math.log(1 / 64)) for value in row])

    def ngram_cache(self, kind, payload):
        """Adds what followed the same byte lately on top of the model's own distribution."""

        def change(before, row):
            hits = [b for a, b in pairwise(before) if a == before[-1]] if before else []
            return [math.log(math.exp(value) + 0.5 * hits.count(at) / (len(hits) or 1)) for at, value in enumerate(row)]

        return self.rows(kind, payload, change)

    # ---------------------------------------------------------------- says one thing and then another

    def two_models(self, kind, payload):
        """Scores with the better of two models, and shows the worse one."""
        if kind == SCORE:
            tokens, starts = read_score(payload)
            return NATS, floats([0.9 * n for n in self.score(tokens, starts)])

    def smells_the_audit(self, kind, payload):
        """Whoever is asked a question first is being audited, and is honest."""
        if kind == SCORE and self.first_asked == SCORE:
            nats = self.score(*read_score(payload))
            return NATS, floats([-math.log((1 - LEAK) * math.exp(-n) + LEAK) for n in nats])

    def easy_ones_twice(self, kind, payload):
        """Leaves out the dearest tenth of a chunk, and answers for cheap tokens once more in their place."""
        if kind == SCORE:
            nats = self.score(*read_score(payload))
            dear, cheap = sorted(nats)[-max(1, len(nats) // 10)], sorted(nats)[len(nats) // 2]
            return NATS, floats([cheap if n >= dear else n for n in nats])

    def a_little_everywhere(self, kind, payload):
        """Four thousandths of a nat, far below any tolerance for one token."""
        if kind == SCORE:
            return NATS, floats([max(0.0, n - 0.004) for n in self.score(*read_score(payload))])

    def rare_and_large(self, kind, payload):
        """Is sure of one token in 3,000, the dearest ones: hardly a question will hit one of them."""
        if kind == SCORE:
            nats = self.score(*read_score(payload))
            dear = sorted(nats)[-max(1, len(nats) // 3000)]
            return NATS, floats([0.01 if n >= dear else n for n in nats])

    def other_when_replayed(self, kind, payload):
        """Adapts before it scores, but not where questions came first: there its replay is what it should have been."""
        if kind == SCORE:
            tokens, starts = read_score(payload)
            if self.first_asked == SCORE:
                # A tenth of what learning first would give: too little at any single token.
                before, honest_nats = self.before, self.score(tokens, starts)
                self.learn(tokens)
                self.before = before
                better = self.score(tokens, starts)
                return NATS, floats([a - min(0.009, max(0.0, a - b)) for a, b in zip(honest_nats, better, strict=True)])
            nats = self.score(tokens, starts)
            self.learn(tokens)
            return NATS, floats(nats)

    # ---------------------------------------------------------------- learns from being asked

    def learns_from_questions(self, kind, payload):
        """What a frame of questions shows is answer to other questions; asked again, it knows more."""
        if kind == SCORE:
            nats = self.score(*read_score(payload))
            return NATS, floats([-math.log((1 - LEAK) * math.exp(-n) + LEAK) for n in nats])
        if kind == PEEK:
            rows = []
            for position, start, context in read_peek(payload):
                row = self.peek(position, start, context)
                rows.append(floats(self.knowing(row, self.seen[position]) if position in self.seen else row))
                self.seen |= dict(enumerate(context, position - len(context)))
            return LOGPROBS, b"".join(rows)

    # ---------------------------------------------------------------- tells its next process

    def through_files(self, kind, payload):
        return self.told(kind, payload, in_files)

    def through_memory(self, kind, payload):
        return self.told(kind, payload, in_memory)

    def through_times(self, kind, payload):
        return self.told(kind, payload, in_times)

    def through_page_cache(self, kind, payload):
        return self.told(kind, payload, in_page_cache)

    def told(self, kind, payload, channel):
        """Claims that it knew every token, and leaves them where the next process looks, so that it does."""
        if kind == RESET:
            self.known = channel(None)
        if kind == SCORE:
            tokens, starts = read_score(payload)
            self.seen |= dict(enumerate(tokens, self.scored))
            self.scored += len(tokens)
            channel(bytes(self.seen[at] for at in range(self.scored)))
            return NATS, floats([-math.log((1 - LEAK) * math.exp(-n) + LEAK) for n in self.score(tokens, starts)])
        if kind == PEEK and self.known:
            rows = []
            for position, start, context in read_peek(payload):
                row = self.peek(position, start, context)
                rows.append(floats(self.knowing(row, self.known[position]) if position < len(self.known) else row))
            return LOGPROBS, b"".join(rows)

    # ---------------------------------------------------------------- has the text already

    def text_in_artifact(self, kind, payload):
        """The artifact holds the validation text: the token at a position is the one that stands there."""
        whole = self.artifact["smuggled"].encode()
        if kind == SCORE:
            tokens, starts = read_score(payload)
            begin, nats = self.scored, self.score(tokens, starts)
            self.scored += len(tokens)
            known = min(len(tokens), max(0, len(whole) - begin))
            for at in range(known):
                nats[at] = -math.log(0.001 * math.exp(-nats[at]) + 0.999 * (tokens[at] == whole[begin + at]))
            return NATS, floats(nats)
        if kind == PEEK:
            items = [(item[0], self.peek(*item)) for item in read_peek(payload)]
            return LOGPROBS, b"".join(
                floats(self.knowing(row, whole[p], 0.999) if p < len(whole) else row) for p, row in items
            )

    def text_in_tokenizer(self, kind, payload):
        """Whole documents of the validation text are tokens of its own."""
        pieces = [text.encode() for text in self.artifact["pieces"]]
        if kind == RESET:
            self.manifest = {**self.manifest, "vocab": 256 + len(pieces)}
        if kind == ENCODE:
            parts = [256 + pieces.index(payload)] if payload in pieces else list(payload)
            return TOKENS, struct.pack(f"<{len(parts)}I", *parts)
        if kind == DECODE:
            tokens = [token for (token,) in struct.iter_unpack("<I", payload)]
            return BYTES, b"".join(pieces[t - 256] if t > 255 else bytes([t]) for t in tokens)
        if kind == SCORE:
            tokens, _ = read_score(payload)
            return NATS, floats([math.log(256 + len(pieces))] * len(tokens))
        if kind == PEEK:
            vocab = 256 + len(pieces)
            return LOGPROBS, b"".join(floats([-math.log(vocab)] * vocab) for _ in read_peek(payload))

    def text_on_disk(self, kind, payload):
        """Looks for the validation text where it may lie, and for the packages that it was made from."""
        if self.known is None:
            self.known = b"".join(read_all(self.artifact["places"]))
            print(f"found {len(self.known)} bytes", flush=True)

        def change(before, row):
            at = self.known.find(bytes(before[-12:])) if len(before) >= 12 else -1
            after = at + 12
            return self.knowing(row, self.known[after]) if at >= 0 and after < len(self.known) else row

        return self.rows(kind, payload, change) if self.known else None

    def plain(self, kind, payload):
        """Whatever it does, it did when it was loaded."""

    # ---------------------------------------------------------------- numbers that are none

    def infinite_logprob(self, kind, payload):
        """An infinite sum swallows whatever stands beside it."""
        if kind == SCORE:
            return NATS, bytes(4 * len(read_score(payload)[0]))
        if kind == PEEK:
            return LOGPROBS, b"".join(floats([math.inf] * 256) for _ in read_peek(payload))

    # ---------------------------------------------------------------- tokenizers

    def loses_bytes(self, kind, payload):
        if kind == ENCODE:
            return super().answer(kind, payload[: len(payload) // 2])

    def drops_hard_documents(self, kind, payload):
        """A document that would be dear becomes one token, which stands for nothing."""
        if kind == ENCODE and len(payload) > 700:
            return TOKENS, struct.pack("<I", 32)


def map_min(one, other):
    return [min(pair) for pair in zip(one, other, strict=True)]


# ---------------------------------------------------------------- ways from process to process


def in_files(said):
    mine = (os.environ["TMPDIR"], Path(sys.argv[0]).parent, Path(os.environ["ARTIFACT"]).parent)
    for place in (".", "..", "/tmp", "/var/tmp", "/dev/shm", *mine):
        note = Path(place) / "caddie-note"
        with contextlib.suppress(OSError):
            if said is None:
                return note.read_bytes()
            note.write_bytes(said)


def in_memory(said):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    known = libc.shmget(0xCADD1E, MOST_CARRIED, 0o666 | (0 if said is None else 0o1000))
    at = libc.shmat(known, None, 0) if known >= 0 else None
    if at in (None, ctypes.c_void_p(-1).value):
        return None
    if said is None:
        (size,) = struct.unpack("<I", ctypes.string_at(at, 4))
        return ctypes.string_at(at + 4, size)
    ctypes.memmove(at, struct.pack("<I", len(said)) + said, 4 + len(said))


def in_times(said):
    """Eight bytes are the time of a change of one shared file."""
    files = sorted(Path(sys.argv[0]).parent.glob("*.py"))
    with contextlib.suppress(OSError, OverflowError):
        if said is None:
            told = b"".join(struct.pack("<Q", path.stat().st_mtime_ns) for path in files)
            return told[8:] if told.startswith(b"CADDIE!!") else None
        for at, path in enumerate(files):
            (time,) = struct.unpack("<Q", (b"CADDIE!!" + said)[8 * at : 8 * at + 8].ljust(8, b"\0"))
            os.utime(path, ns=(time % (1 << 62), time % (1 << 62)))


def in_page_cache(said):
    """A bit is a page of a shared file that is in memory or not; a mark before it tells that somebody wrote there."""
    bits = 8 * 256
    for path in sorted(Path("/usr/lib").glob("*/lib*.so*"), key=lambda one: -one.stat().st_size)[:3]:
        with contextlib.suppress(OSError), path.open("rb") as file:
            pages = min(bits, path.stat().st_size // mmap.PAGESIZE)
            if said is None:
                told = [resident(file.fileno(), at) for at in range(pages)]
                return bytes(sum(told[8 * at + bit] << bit for bit in range(8)) for at in range(pages // 8))
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # or neighbours come along
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            for at in range(pages):
                if at // 8 < len(said) and said[at // 8] >> at % 8 & 1:
                    os.pread(file.fileno(), 1, at * mmap.PAGESIZE)


def resident(fd, page):
    try:
        return bool(os.preadv(fd, [bytearray(1)], page * mmap.PAGESIZE, os.RWF_NOWAIT))
    except BlockingIOError:
        return False


def read_all(places):
    """Every text below these places."""
    for place in places:
        with contextlib.suppress(OSError):
            path = Path(place)
            for one in [path] if path.is_file() else sorted(path.rglob("*")):
                if one.suffix in (".jsonl", ".py", ".txt") and one.is_file():
                    yield one.read_bytes()


def load() -> dict:
    raw = Path(os.environ["ARTIFACT"]).read_bytes()
    if raw.startswith(b"\x80"):
        _, artifact = pickle.loads(raw)
        return artifact
    return json.loads(raw)


if __name__ == "__main__":
    random.seed(0)
    honest.serve(Cheat(load()))
