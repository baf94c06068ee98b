"""Scores an artifact: encodes and decodes the documents, then asks for the nats of every token.

Takes a `Task`, the files that were counted and the documents; gives `Scores`. Three processes, one after the
other, each without knowledge of the others.
"""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import numpy as np

from agent.judge import protocol
from agent.judge.candidate import Candidate, Files
from agent.judge.forms import FORMS, agreeing
from agent.judge.protocol import Floats, Tokens
from agent.judge.task import Manifest, NormalForm, Task
from sandbox.limits import Exit

DECODED_SLACK = 1024
SEPARATORS = (
    'names no separator, which this track scores too: its manifest must say "separator": the token that stands '
    "between documents"
)


class Chunk(NamedTuple):
    """Tokens [begin, end) of the stream, and where inside it documents start."""

    begin: int
    end: int
    starts: list[int]


@dataclass(frozen=True)
class Stream:
    """All validation tokens in order, and where each document starts: after the separator, where there are any.

    So a separator is the end of the document before it, and where it stands is not given away by a start.
    """

    tokens: Tokens
    starts: tuple[int, ...]
    separator: int | None = None

    @classmethod
    def of(cls, documents: Sequence[Tokens], separator: int | None) -> "Stream":
        """Documents one after the other; a separator stands between them, none before the first or after the last."""
        between = np.full(0 if separator is None else 1, separator or 0, dtype=np.uint32)
        parts = [documents[0], *chain.from_iterable((between, one) for one in documents[1:])]
        lengths = [len(one) + len(between) for one in documents]
        return cls(np.concatenate(parts), tuple(np.cumsum([0, *lengths[:-1]]).tolist()), separator)

    def start_of(self, position: int) -> int:
        """Where the document of this position starts."""
        return self.starts[int(np.searchsorted(self.starts, position, side="right")) - 1]


@dataclass(frozen=True)
class Scores:
    """What the candidate says of every token, and what that took."""

    stream: Stream
    nats: Floats
    manifest: Manifest
    encode_answers_s: float
    decode_answers_s: float
    score_answers_s: float  # hidden documents not included
    wall_s: float
    cpu_s: float
    peak_mb: float
    walls: tuple[str, ...]  # around the process that scored; its others had the same
    everything: Stream  # the hidden documents after those that are scored
    beyond: Floats  # nats of the tokens there

    @cached_property
    def all_nats(self) -> Floats:
        """Of every token that was shown."""
        return np.concatenate([self.nats, self.beyond]) if len(self.beyond) else self.nats

    def doc_nats(self) -> tuple[float, ...]:
        return _by_document(self.nats, self.stream.starts, 0)

    def hidden_nats(self) -> tuple[float, ...]:
        """Of each hidden document. What stands before the first one belongs to none."""
        starts = self.everything.starts[len(self.stream.starts) :]
        return _by_document(self.beyond, starts, len(self.stream.tokens)) if starts else ()


def chunks(stream: Stream, size: int, begin: int = 0) -> Iterator[Chunk]:
    """A chunk ends with the first document after `size` tokens; a document that passes twice that is cut."""
    total = len(stream.tokens)
    starts = np.asarray(stream.starts)
    while begin < total:
        ends = starts[np.searchsorted(starts, begin + size) :]
        end = min(int(ends[0]) if len(ends) else total, begin + 2 * size)
        inside = starts[np.searchsorted(starts, begin) : np.searchsorted(starts, end)] - begin
        yield Chunk(begin, end, inside.tolist())
        begin = end


def score(task: Task, files: Files, scored: Sequence[bytes], deadline: float, hidden: Sequence[bytes] = ()) -> Scores:
    """All of it. The hidden documents come last, in the same processes: what they need is watched, and no score.

    Raises:
        CandidateError: the candidate fails.
    """
    began, documents = time.monotonic(), [*scored, *hidden]
    encoded, encoding, first = encode(task, files, documents, deadline)
    decoding, second, forms = decode(task, files, documents, encoded, deadline)
    with Candidate(task, files, "score", deadline) as candidate:
        manifest = start(candidate, task)
        check_form(candidate, manifest, forms)
        stream = Stream.of(encoded[: len(scored)], manifest.separator)
        everything = Stream.of(encoded, manifest.separator)
        check_vocab(candidate, everything, manifest)
        nats = ask_nats(candidate, stream, task.chunk_tokens)
        answers_s = candidate.answers_s
        beyond = ask_nats(candidate, everything, task.chunk_tokens, len(stream.tokens)) if hidden else np.empty(0)
        third = candidate.end()
    exits: list[Exit] = [first, second, third]
    return Scores(
        stream=stream,
        nats=nats,
        manifest=manifest,
        encode_answers_s=encoding,
        decode_answers_s=decoding,
        score_answers_s=answers_s,
        wall_s=time.monotonic() - began,
        cpu_s=sum(ended.cpu_s for ended in exits),
        peak_mb=max(ended.peak_mb for ended in exits),
        walls=candidate.walls,
        everything=everything,
        beyond=beyond,
    )


def _by_document(nats: Floats, starts: Sequence[int], begin: int) -> tuple[float, ...]:
    return tuple(float(part) for part in np.add.reduceat(nats, np.asarray(starts) - begin))


class Encoded(NamedTuple):
    tokens: list[Tokens]
    answers_s: float
    exit: Exit


class Decoded(NamedTuple):
    answers_s: float
    exit: Exit
    forms: frozenset[NormalForm]  # in which every document came back


def encode(task: Task, files: Files, documents: Sequence[bytes], deadline: float) -> Encoded:
    encoded = []
    with Candidate(task, files, "encode", deadline) as candidate:
        for number, document in enumerate(documents):
            # No honest tokenizer needs more tokens than bytes; a few marks are allowed.
            most = 4 * (2 * len(document) + 64)
            payload = candidate.ask(protocol.ENCODE, document, protocol.TOKENS, most)
            with candidate.reading():
                tokens = protocol.read_tokens(payload)
            if not len(tokens):
                raise candidate.failed(f"made no token of document {number}, which has {len(document)} bytes")
            encoded.append(tokens)
        ended = candidate.end()
    return Encoded(encoded, candidate.answers_s, ended)


def decode(task: Task, files: Files, documents: Sequence[bytes], encoded: Sequence[Tokens], deadline: float) -> Decoded:
    """The same bytes for every document, or one normal form of all of them, asked in an order that nobody can know."""
    order, forms = list(range(len(documents))), FORMS
    random.SystemRandom().shuffle(order)
    with Candidate(task, files, "decode", deadline) as candidate:
        for number in order:
            document = documents[number]
            found = candidate.ask(
                protocol.DECODE,
                protocol.tokens_bytes(encoded[number]),
                protocol.BYTES,
                len(document) + DECODED_SLACK,
            )
            forms = agreeing(document, found, forms)
            if not forms:
                raise candidate.failed(f"does not give document {number} back: {difference(document, found)}")
        ended = candidate.end()
    return Decoded(candidate.answers_s, ended, forms)


def difference(document: bytes, found: bytes) -> str:
    same = next((at for at, (a, b) in enumerate(zip(document, found, strict=False)) if a != b), None)
    if same is None:
        return f"{len(found)} bytes instead of {len(document)}"
    return f"the first wrong byte is at {same}"


def start(candidate: Candidate, task: Task) -> Manifest:
    payload = candidate.ask(protocol.RESET, protocol.reset(task.seed), protocol.MANIFEST, most=protocol.MAX_MANIFEST)
    with candidate.reading():
        manifest = protocol.read_manifest(payload)
    if task.separators and manifest.separator is None:
        raise candidate.failed(SEPARATORS)
    return manifest


def check_form(candidate: Candidate, manifest: Manifest, forms: frozenset[NormalForm]) -> None:
    """What a manifest says of the text, against how all of it came back."""
    if manifest.normal_form not in forms:
        raise candidate.failed(
            f"says that documents come back in normal form {manifest.normal_form!r}; they come back as "
            f"{' or '.join(map(repr, sorted(forms)))}: its manifest must say so"
        )


def check_vocab(candidate: Candidate, stream: Stream, manifest: Manifest) -> None:
    largest = int(stream.tokens.max())
    if largest >= manifest.vocab:
        raise candidate.failed(f"says vocab {manifest.vocab}, but its tokenizer gave token {largest}")


def ask_nats(candidate: Candidate, stream: Stream, size: int, begin: int = 0) -> Floats:
    return np.concatenate([ask_chunk(candidate, stream, chunk) for chunk in chunks(stream, size, begin)])


def ask_chunk(candidate: Candidate, stream: Stream, chunk: Chunk) -> Floats:
    tokens = stream.tokens[chunk.begin : chunk.end]
    count = len(tokens)
    payload = candidate.ask(protocol.SCORE, protocol.score(tokens, chunk.starts), protocol.NATS, most=4 * count)
    with candidate.reading():
        return protocol.read_nats(payload, count)
