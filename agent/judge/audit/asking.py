"""One session of an audit: a fresh process that is asked before it is shown, in lanes.

Takes a `Plan`; gives `Said`. With state it gets the chunks again, a chunk's questions before the chunk. Some questions
are asked twice, last in their chunk and in another batch.
"""

import math
import random
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from agent.judge import protocol
from agent.judge.audit.lanes import Lanes, frames, parts, split
from agent.judge.audit.rules import Answer
from agent.judge.candidate import TOLD, Candidate, Files
from agent.judge.protocol import Floats, Peek
from agent.judge.scoring import Chunk, Scores, Stream, ask_chunk, chunks, start
from agent.judge.task import Manifest, Numerics, Task

TWICE = 0.01  # of the questions are asked a second time
LEAST_TWICE = 4
ACROSS = 8  # documents of which the first tokens are asked with other tokens before them
MOVED: dict[Numerics, float] = {"fp32": 1e-3, "bf16": 0.02}  # of a probability: more is no noise


@dataclass(frozen=True)
class Plan:
    """What one session is asked. The draws may share positions."""

    lanes: Lanes
    uniform: Sequence[int]
    source: random.Random  # of what is drawn on the way
    surprising: Sequence[int] = ()
    draws: int = 0  # that these are of: fewer where only so many surprise
    hidden: Sequence[int] = ()  # uniform ones among the documents that no score is made of
    accused: Sequence[int] = ()  # where an earlier session gave other answers than were claimed
    twice: Sequence[int] = ()  # that are asked a second time, beside those that are drawn for it
    within_s: float | None = None  # for questions; those that would take longer are left out, by chance
    least: int = 0  # questions that are asked all the same
    across: bool = False  # whether it is asked, at last, for what comes of the documents before

    def positions(self) -> frozenset[int]:
        return frozenset((*self.uniform, *self.surprising, *self.hidden, *self.accused))


@dataclass
class Said:
    """All that a session answered."""

    manifest: Manifest
    answers: dict[int, Answer] = field(default_factory=dict)  # by position, in the order of asking
    twice: list[tuple[Answer, Answer]] = field(default_factory=list)
    replayed: Floats | None = None  # scores again, minus those claimed
    begins: list[int] = field(default_factory=list)  # of the chunks of the replay
    across: tuple[int, int] = (
        0,
        0,
    )  # documents that were asked for what comes of the one before, and those where it did
    start_s: float = 0.0
    cpu_s: float = 0.0

    def of(self, positions: Sequence[int]) -> list[Answer]:
        return [self.answers[position] for position in positions if position in self.answers]


def session(task: Task, files: Files, scores: Scores, plan: Plan, deadline: float, told: int = TOLD) -> Said:
    """CandidateError where the process does not answer, or says other things of itself than before."""
    began = time.monotonic()
    with Candidate(task, files, "score", deadline, told) as candidate:
        manifest = start(candidate, task)
        if manifest != scores.manifest:
            raise candidate.failed("says other things of itself than it did before")
        said = Said(manifest, start_s=time.monotonic() - began)
        again: list[Floats] = []
        planned = sorted(plan.positions())
        for chunk in segments(scores, task.chunk_tokens):
            here = planned[bisect_left(planned, chunk.begin) : bisect_left(planned, chunk.end)]
            drawn = set(here)
            wanted = [p for p in here if not gives_away(scores.everything, plan.lanes, p, drawn)]
            asked = _fitting(candidate, scores, plan, wanted, said)
            _twice(candidate, scores, plan, asked, said)
            if manifest.state == "chunk":
                nats = ask_chunk(candidate, scores.everything, chunk)
                again.append(nats - scores.all_nats[chunk.begin : chunk.end])
                said.begins.append(chunk.begin)
        if again:
            said.replayed = np.concatenate(again)
        if plan.across:
            said.across = _across(candidate, scores, plan.source)
        said.cpu_s = candidate.end().cpu_s
    return said


def gives_away(stream: Stream, lanes: Lanes, position: int, drawn: set[int]) -> bool:
    """Whether the start of its document, which a question says, tells of a separator that may still be asked for: in
    its own lane that comes first."""
    separator = stream.start_of(position) - 1
    return stream.separator is not None and separator in drawn and lanes.lane(separator) != lanes.lane(position)


def segments(scores: Scores, size: int) -> list[Chunk]:
    """Stretches whose questions can be asked at once: without state, everything."""
    if scores.manifest.state == "none":
        return [Chunk(0, len(scores.everything.tokens), [])]
    return [*chunks(scores.stream, size), *chunks(scores.everything, size, len(scores.stream.tokens))]


def _fitting(candidate: Candidate, scores: Scores, plan: Plan, wanted: list[int], said: Said) -> list[int]:
    """Asks all of it; or first some lanes, and of the others as many positions as the time is for by that pace."""
    if plan.within_s is None:
        return _ask(candidate, scores, plan.lanes, wanted, said)
    began = time.monotonic()
    first, rest = split(plan.lanes, wanted, plan.least, plan.source)
    if len(first) > 2 * plan.least:  # few lanes
        first = sorted(plan.source.sample(first, plan.least))
        rest = []
    asked = _ask(candidate, scores, plan.lanes, first, said)
    took = time.monotonic() - began
    fit = int((plan.within_s - took) / (took / max(1, len(asked))))
    rest = sorted(plan.source.sample(rest, max(0, min(fit, len(rest)))))
    return asked + _ask(candidate, scores, plan.lanes, rest, said)


def _ask(candidate: Candidate, scores: Scores, lanes: Lanes, positions: list[int], said: Said) -> list[int]:
    for frame in frames(lanes, positions, scores.manifest.vocab):
        for one in ask(candidate, scores, frame):
            said.answers[one.position] = one
    return positions


def _twice(candidate: Candidate, scores: Scores, plan: Plan, asked: list[int], said: Said) -> None:
    """By now the tokens there were shown, in contexts of other questions: who looks at them answers differently."""
    whole = scores.manifest.state == "none"
    count = max(LEAST_TWICE if whole else 1, math.ceil(TWICE * len(asked)))
    chosen = plan.source.sample(asked, min(count, len(asked)))
    chosen += sorted((set(plan.twice) & set(asked)) - set(chosen))
    for frame in parts(chosen, scores.manifest.vocab):
        said.twice += [(said.answers[one.position], one) for one in ask(candidate, scores, frame)]


def ask(candidate: Candidate, scores: Scores, positions: Sequence[int]) -> list[Answer]:
    """One frame of questions."""
    stream, nats = scores.everything, scores.all_nats
    table = _table(candidate, [_item(stream, p, scores.manifest) for p in positions], scores.manifest)
    return [compare(row, int(stream.tokens[p]), p, float(nats[p])) for row, p in zip(table, positions, strict=True)]


def _across(candidate: Candidate, scores: Scores, source: random.Random) -> tuple[int, int]:
    """At the starts of documents: whether an answer is another one where other tokens stood before it. That may be, so
    it accuses nobody."""
    stream, manifest = scores.stream, scores.manifest
    asked = moved = 0
    for at in source.sample(stream.starts[1:], min(ACROSS, len(stream.starts) - 1)):
        item = _item(stream, at, manifest)
        end = source.randint(len(item.context), len(stream.tokens))
        other = item._replace(context=stream.tokens[end - len(item.context) : end])
        if not np.array_equal(item.context, other.context):
            one, two = (np.exp(_table(candidate, [it], manifest)[0]) for it in (item, other))
            asked += 1
            moved += not np.abs(one - two).max() <= MOVED[manifest.numerics]
    return asked, moved


def _item(stream: Stream, position: int, manifest: Manifest) -> Peek:
    return Peek(position, stream.start_of(position), stream.tokens[max(0, position - manifest.context) : position])


def _table(candidate: Candidate, items: Sequence[Peek], manifest: Manifest) -> Floats:
    size = 4 * len(items) * manifest.vocab
    payload = candidate.ask(protocol.PEEK, protocol.peek(items), protocol.LOGPROBS, most=size)
    with candidate.reading():
        return protocol.read_logprobs(payload, len(items), manifest.vocab)


def compare(row: Floats, token: int, position: int, claimed: float) -> Answer:
    """Renormalised here, in double precision, before it is compared."""
    with np.errstate(all="ignore"):
        top = row.max()
        log_sum = float(top + np.log(np.exp(row - top).sum()))
        return Answer(position, log_sum, float(log_sum - row[token] - claimed))
