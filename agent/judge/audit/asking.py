"""One session of an audit: a fresh process that is asked before it is shown, in lanes.

Takes a `Plan`; gives `Said`. With state it gets the chunks again, a chunk's questions before the chunk. Some questions
are asked twice, last in their chunk and in another batch.
"""

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from agent.judge import protocol
from agent.judge.audit.lanes import Lanes, frames, parts, split
from agent.judge.audit.rules import Answer
from agent.judge.candidate import Candidate, Files
from agent.judge.protocol import Floats, Peek
from agent.judge.scoring import Chunk, Scores, Stream, ask_chunk, chunks, start
from agent.judge.task import Manifest, Task

TWICE = 0.01  # of the questions are asked a second time
LEAST_TWICE = 4


@dataclass(frozen=True)
class Plan:
    """What one session is asked. `uniform` and `surprising` may share positions."""

    lanes: Lanes
    uniform: Sequence[int]
    source: random.Random  # of what is drawn on the way
    surprising: Sequence[int] = ()
    twice: Sequence[int] | None = None  # None: drawn
    within_s: float | None = None  # for questions; those that would take longer are left out, by chance
    least: int = 0  # questions that are asked all the same


@dataclass
class Said:
    """All that a session answered."""

    manifest: Manifest
    answers: dict[int, Answer] = field(default_factory=dict)  # by position, in the order of asking
    twice: list[tuple[Answer, Answer]] = field(default_factory=list)
    replayed: Floats | None = None  # scores again, minus those claimed
    begins: list[int] = field(default_factory=list)  # of the chunks of the replay
    start_s: float = 0.0
    cpu_s: float = 0.0

    def of(self, positions: Sequence[int]) -> list[Answer]:
        return [self.answers[position] for position in positions if position in self.answers]


def session(task: Task, files: Files, scores: Scores, plan: Plan, deadline: float) -> Said:
    """CandidateError where the process does not answer, or says other things of itself than before."""
    began = time.monotonic()
    with Candidate(task, files, "score", deadline) as candidate:
        manifest = start(candidate, task)
        if manifest != scores.manifest:
            raise candidate.failed("says other things of itself than it did before")
        said = Said(manifest, start_s=time.monotonic() - began)
        again: list[Floats] = []
        for chunk in segments(scores, task.chunk_tokens):
            drawn = {p for p in (*plan.uniform, *plan.surprising) if chunk.begin <= p < chunk.end}
            wanted = [p for p in sorted(drawn) if not gives_away(scores.stream, plan.lanes, p, drawn)]
            asked = _fitting(candidate, scores, plan, wanted, said)
            _twice(candidate, scores, plan, asked, said)
            if manifest.state == "chunk":
                nats = ask_chunk(candidate, scores.stream, chunk)
                again.append(nats - scores.nats[chunk.begin : chunk.end])
                said.begins.append(chunk.begin)
        if again:
            said.replayed = np.concatenate(again)
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
        return [Chunk(0, len(scores.stream.tokens), [])]
    return list(chunks(scores.stream, size))


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
    if plan.twice is None:
        whole = scores.manifest.state == "none"
        count = max(LEAST_TWICE if whole else 1, math.ceil(TWICE * len(asked)))
        chosen = plan.source.sample(asked, min(count, len(asked)))
    else:
        chosen = [position for position in plan.twice if position in set(asked)]
    for frame in parts(chosen, scores.manifest.vocab):
        said.twice += [(said.answers[one.position], one) for one in ask(candidate, scores, frame)]


def ask(candidate: Candidate, scores: Scores, positions: Sequence[int]) -> list[Answer]:
    """One frame of questions."""
    stream, manifest = scores.stream, scores.manifest
    items = [Peek(p, stream.start_of(p), stream.tokens[max(0, p - manifest.context) : p]) for p in positions]
    size = 4 * len(items) * manifest.vocab
    payload = candidate.ask(protocol.PEEK, protocol.peek(items), protocol.LOGPROBS, most=size)
    with candidate.reading():
        table = protocol.read_logprobs(payload, len(items), manifest.vocab)
    return [
        compare(row, int(stream.tokens[p]), p, float(scores.nats[p])) for row, p in zip(table, positions, strict=True)
    ]


def compare(row: Floats, token: int, position: int, claimed: float) -> Answer:
    """Renormalised here, in double precision, before it is compared."""
    with np.errstate(all="ignore"):
        top = row.max()
        log_sum = float(top + np.log(np.exp(row - top).sum()))
        return Answer(position, log_sum, float(log_sum - row[token] - claimed))
