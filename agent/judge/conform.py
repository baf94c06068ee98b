"""Asks a candidate for one short text in several ways, to see whether it holds to the contract at all.

`python -m agent.judge.conform TASK HOW`, TASK a `Task` as JSON, HOW "dense" or "quick". Leaves a `Conformance` in the
job's measure.json. Its text is no validation text: stories that everybody has as training text, and short documents
that tokenizers find hard.
"""

import contextlib
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from agent import own_process
from agent.errors import InfraError
from agent.job.folder import JobPaths
from agent.job.writing import write_aside
from agent.judge import protocol
from agent.judge.candidate import Candidate, CandidateError, Files
from agent.judge.clauses import Asked, Mask, Peeked, clauses
from agent.judge.contract import BUSY, Conformance, clause, up_to
from agent.judge.protocol import Floats, Peek
from agent.judge.scoring import Chunk, Stream, ask_chunk, check_form, chunks, decode, encode, start
from agent.judge.session import read_counted
from agent.judge.task import Manifest, Task
from trainer.data import synth

How = Literal["dense", "quick"]
TOKENS = {"dense": 2000, "quick": 1500}  # at least: the text ends with a document
SMALL = 97  # tokens of a small chunk: no multiple of anybody's window, and most documents are cut
FRAME = 48
MOST_PEEKS = {"dense": 2000, "quick": 400}
MOST_READ = {"dense": 1 << 40, "quick": 20_000}  # tokens in all items together: a peek costs about a context
LEAST_PEEKS = 64
KEPT_S = 4.0  # for ending processes and writing the answer, on a busy machine
SEED = 0
FIRST = 3  # short parts of a story before the long document
AWKWARD = (
    "x",
    "é and 日本, \u2028 and \u2581 and \ufeff, ﬁ and A\u0301: none of these is like another.",
    "  Two spaces,\ttabs\r\n\n\n\nand MANY Capitals; 0123456789 \U0001f600!  ",
    "A page\x0cand another one\u00a0...",
)


class _Stopped(Exception):
    """The candidate went no further than this clause."""

    def __init__(self, name: str, error: CandidateError) -> None:
        self.capped = error.status == "capped"
        super().__init__(f"{error}{BUSY if self.capped else ''}")
        self.name = name


@contextlib.contextmanager
def _during(name: str) -> Iterator[None]:
    try:
        yield
    except CandidateError as error:
        raise _Stopped(name, error) from error


def conform(task: Task, files: Files, how: How, deadline: float) -> Conformance:
    try:
        asked, walls = _ask(task, files, how, deadline)
    except _Stopped as stopped:
        return Conformance("ok", "", 0, 0, up_to(stopped.name, str(stopped)), capped=stopped.capped)
    first = [clause(name) for name in ("trains", "starts", "encodes", "decodes", "answers")]
    found = (*first, *clauses(asked))
    return Conformance("ok", "", len(asked.stream.tokens), len(asked.peeks.positions), found, walls)


def texts() -> Iterator[bytes]:
    """Documents for as long as somebody wants more: some that are short, one that few contexts reach over, and more
    short ones."""
    first, *stories = synth.tell(synth.TRAINING_SEED, 120_000).texts
    yield from (text.encode() for text in (*AWKWARD, *first.split("\n\n")[:FIRST]))
    yield "\n\n".join(stories[:3]).encode()
    for story in stories[3:]:
        yield from (part.encode() for part in story.split("\n\n") if part)


# ---------------------------------------------------------------- the talk


def _ask(task: Task, files: Files, how: How, deadline: float) -> tuple[Asked, tuple[str, ...]]:
    with _during("starts"), Candidate(task, files, "score", deadline) as first:
        manifest = start(first, task)
        stream = _stream(task, files, first, manifest, TOKENS[how], deadline)
        talk = _Talk(task, first, manifest, stream, how)
        with _during("answers"):
            scored = talk.scores()
            if how == "quick":
                asked = talk.peeks(scored, None)
            first.end()
    if how == "dense":
        with _during("reset"), Candidate(task, files, "score", deadline) as second:
            talk = _Talk(task, second, manifest, stream, how)
            if talk.restart() != manifest:
                raise second.failed("says other things of itself than the one before it")
            with _during("answers"):
                asked = talk.peeks(scored, talk.score(talk.whole))
                second.end()
    return asked, first.walls


def _stream(task: Task, files: Files, first: Candidate, manifest: Manifest, least: int, deadline: float) -> Stream:
    """Enough documents, as the candidate's tokenizer cuts them and puts them together again."""
    source, documents, count = texts(), [], 0
    while count < least:
        documents.append(next(source))
        count += len(documents[-1]) // 3  # tokens, and mostly more
    with _during("encodes"):
        encoded, _, _ = encode(task, files, documents, deadline)
        enough = 1 + int(np.searchsorted(np.cumsum([len(tokens) for tokens in encoded]), least))
        documents, encoded = documents[:enough], encoded[:enough]
        largest = max(int(tokens.max()) for tokens in encoded)
        if largest >= manifest.vocab:
            words = f"the encode process gave token {largest}, and vocab is {manifest.vocab}"
            raise CandidateError("failed", words)
    with _during("decodes"):
        check_form(first, manifest, decode(task, files, documents, encoded, deadline).forms)
    return Stream.of(encoded, manifest.separator)


class _Scored(NamedTuple):
    whole: Floats
    whole_again: Floats
    small: Floats
    other_end: Floats
    other_begin: Floats | None
    beyond: Mask
    other_past: Floats
    past: Mask


class _Talk:
    """What one process is asked."""

    def __init__(self, task: Task, candidate: Candidate, manifest: Manifest, stream: Stream, how: How) -> None:
        self._task, self._candidate, self._manifest, self._stream, self._how = task, candidate, manifest, stream, how
        self.whole = [Chunk(0, len(stream.tokens), list(stream.starts))]
        self.pieces = list(chunks(stream, SMALL))
        self._random = random.Random(SEED)

    def restart(self) -> Manifest:
        return start(self._candidate, self._task)

    def score(self, pieces: Sequence[Chunk], stream: Stream | None = None) -> Floats:
        return np.concatenate([ask_chunk(self._candidate, stream or self._stream, piece) for piece in pieces])

    def scores(self) -> _Scored:
        """Without a question. The process is reset before each way of asking but the first."""
        whole = self.score(self.whole)
        self.restart()
        again = self.score(self.whole)
        self.restart()
        small = self.score(self.pieces)
        at = self._after_longest()
        self.restart()
        others = self._with_others(slice(at, None))
        end = self.score([Chunk(0, len(whole), [s for s in self._stream.starts if s < at])], others)
        return _Scored(whole, again, small, end[:at], *self._other_begin(), *self._other_past())

    def _after_longest(self) -> int:
        """Where the longest of the documents ends and another one starts."""
        return max(pairwise(self._stream.starts), key=lambda pair: pair[1] - pair[0])[1]

    def _other_begin(self) -> tuple[Floats | None, Mask]:
        """Stretches of other tokens, a context long, after each of them two that stay: what counts is the second."""
        context, places = self._manifest.context, np.arange(len(self._stream.tokens))
        if 2 * context >= len(places):
            return None, np.zeros(len(places), dtype=bool)
        self.restart()
        nats = self.score(self.whole, self._with_others(places // context % 3 == 0))
        return nats, places // context % 3 == 2

    def _other_past(self) -> tuple[Floats, Mask]:
        """A third of the text is other; what counts is what comes a context later."""
        cut = self.pieces[len(self.pieces) // 3].begin
        self.restart()
        nats = self.score(self.pieces, self._with_others(slice(0, cut)))
        return nats, np.arange(len(nats)) >= cut + self._manifest.context

    def _with_others(self, where: slice | Mask) -> Stream:
        """The tokens there in the opposite order."""
        tokens = self._stream.tokens.copy()
        tokens[where] = tokens[where][::-1]
        return replace(self._stream, tokens=tokens)

    def peeks(self, scored: _Scored, elsewhere: Floats | None) -> Asked:
        """Each small chunk's questions, some of them twice, and then the chunk."""
        self.restart()
        wanted, first, again, nats = self._positions(), [], [], []
        frame = max(1, min(FRAME, protocol.LARGEST // (8 * self._manifest.vocab)))
        for piece in self.pieces:
            inside = [p for p in wanted if piece.begin <= p < piece.end]
            mixed = self._random.sample(inside, len(inside))
            first += [self._peek(mixed[at : at + frame]) for at in range(0, len(mixed), frame)]
            twice = self._random.sample(inside, min(len(inside), 1 + len(inside) // 16))
            again += [self._peek([position]) for position in twice]
            nats.append(ask_chunk(self._candidate, self._stream, piece))
        return Asked(
            manifest=self._manifest,
            stream=self._stream,
            pieces=self.pieces,
            **scored._asdict(),
            elsewhere=elsewhere,
            after_peeks=np.concatenate(nats),
            peeks=_joined(first),
            again=_joined(again),
        )

    def _positions(self) -> list[int]:
        """Where documents and chunks begin, what comes after that, and others: all of them, if that is not too many."""
        count = len(self._stream.tokens)
        most = min(MOST_PEEKS[self._how], max(LEAST_PEEKS, MOST_READ[self._how] // self._manifest.context))
        if count <= most:
            return list(range(count))
        begins = [*self._stream.starts, *(piece.begin for piece in self.pieces)]
        near = sorted({at + more for at in begins for more in (-1, 0, 1, 2) if 0 <= at + more < count})
        chosen = set(near if len(near) <= most // 2 else self._random.sample(near, most // 2))
        rest = [position for position in range(count) if position not in chosen]
        return sorted(chosen | set(self._random.sample(rest, most - len(chosen))))

    def _peek(self, positions: Sequence[int]) -> Peeked:
        tokens, vocab = self._stream.tokens, self._manifest.vocab
        items = [Peek(p, self._stream.start_of(p), tokens[max(0, p - self._manifest.context) : p]) for p in positions]
        payload = self._candidate.ask(
            protocol.PEEK, protocol.peek(items), protocol.LOGPROBS, most=4 * len(items) * vocab
        )
        with self._candidate.reading():
            table = protocol.read_logprobs(payload, len(items), vocab)
        with np.errstate(all="ignore"):
            top = table.max(axis=1, keepdims=True)
            sums = top[:, 0] + np.log(np.exp(table - top).sum(axis=1))
        of_tokens = table[np.arange(len(items)), tokens[list(positions)]]
        return Peeked(np.array(positions), sums - of_tokens, sums)


def _joined(parts: Sequence[Peeked]) -> Peeked:
    return Peeked(*(np.concatenate(part) for part in zip(*parts, strict=True)))


# ---------------------------------------------------------------- the process


def command(task: Task, how: How) -> tuple[str, ...]:
    return own_process.command(own_process.code("agent.judge.conform"), task.to_json(), how)


def run(task: Task, how: How, since: float) -> Conformance:
    try:
        counted = read_counted(task)
        return conform(task, Files(counted.artifact, counted.script), how, since + task.wall_s - KEPT_S)
    except (OSError, ValueError) as error:
        return Conformance("ok", "", 0, 0, up_to("trains", f"what it left can't be read: {error}"))
    except InfraError as error:
        return Conformance("broken", str(error), 0, 0, ())


def main(text: str, how: str) -> int:
    since = time.monotonic()
    task = Task.from_json(text)
    found = run(task, "dense" if how == "dense" else "quick", since)
    write_aside(JobPaths(Path(task.folder)).measure, found.to_json())
    print(found.reason or f"broken: {', '.join(one.name for one in found.broken) or 'nothing'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
