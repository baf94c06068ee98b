"""Asks a second, fresh process what it thinks of some tokens before it has seen them, and compares.

Takes the scores of the first process and a secret; gives `Audit` and findings. A candidate that looked at the
tokens it was scored on can't do so here: in lanes of four contexts, one position of each lane and frame, in
ascending order, no frame and no earlier frame holds a token that is still to be asked.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby, zip_longest
from typing import NamedTuple

import numpy as np

from agent.judge import protocol
from agent.judge.candidate import Candidate, Files
from agent.judge.protocol import Peek
from agent.judge.scoring import Chunk, Scores, ask_chunk, chunks, start
from agent.judge.task import Audit, Manifest, Task
from agent.records import Finding

LANE_CONTEXTS = 4
SUM_TOLERANCE = 1e-3
TAU = {"fp32": 0.01, "bf16": 0.5}  # nats; honest differences stay below 5e-6 and 0.09
REPEATED = 16  # accused positions that are asked again at most


class Lanes(NamedTuple):
    """A cut of the stream into lanes; `shift` is secret."""

    context: int
    shift: int

    @classmethod
    def draw(cls, context: int, count: int, source: random.Random) -> "Lanes":
        """With a long context, a cut in the stream can close nearly all of it: such a cut is drawn again."""
        sample = [source.randrange(count) for _ in range(200)]
        while True:
            lanes = cls(context, source.randrange(LANE_CONTEXTS * context))
            if sum(map(lanes.open, sample)) >= len(sample) // 2:
                return lanes

    def lane(self, position: int) -> int:
        return (position + self.shift) // (LANE_CONTEXTS * self.context)

    def open(self, position: int) -> bool:
        """Whether the contexts of this lane's questions lie in the lane. The first has none before it."""
        size = LANE_CONTEXTS * self.context
        return position + self.shift < size or (position + self.shift) % size >= self.context


class Answer(NamedTuple):
    position: int
    log_sum: float  # of the probabilities; NaN if the answer holds a NaN
    difference: float  # nats by this distribution, minus nats claimed

    def normal(self) -> bool:
        return abs(self.log_sum) <= SUM_TOLERANCE  # false for NaN


@dataclass
class Answers:
    """All that a session said, the rules that it breaks among them."""

    manifest: Manifest
    answers: list[Answer] = field(default_factory=list)

    def accused(self) -> list[Answer]:
        tau = TAU[self.manifest.numerics]
        return [one for one in self.answers if not (one.normal() and abs(one.difference) <= tau)]


class Found(NamedTuple):
    audit: Audit
    findings: tuple[Finding, ...]
    cpu_s: float


def audit(task: Task, files: Files, scores: Scores, secret: str, deadline: float) -> Found:
    """Asks `task.peeks` positions; what is accused is asked again in another process, with other lanes."""
    source = random.Random(f"first {secret}")
    count = len(scores.stream.tokens)
    lanes = Lanes.draw(scores.manifest.context, count, source)
    drawn = sorted(draw(lanes, count, task.peeks, source))
    first, cpu_s = session(task, files, scores, lanes, drawn, deadline)
    findings: tuple[Finding, ...] = ()
    accused = first.accused()
    if accused:
        again, more_s = repeat(task, files, scores, accused, secret, deadline)
        findings, cpu_s = (verdict(accused, again.accused()),), cpu_s + more_s
    return Found(
        Audit(
            len(first.answers),
            secret,
            finite(max((abs(one.difference) for one in first.answers), default=0.0)),
            finite(max((abs(one.log_sum) for one in first.answers), default=0.0)),
        ),
        findings,
        cpu_s,
    )


def draw(lanes: Lanes, count: int, peeks: int, source: random.Random) -> list[int]:
    """Different open positions, each as likely as any other."""
    found: set[int] = set()
    for _ in range(20 * peeks):
        position = source.randrange(count)
        if lanes.open(position):
            found.add(position)
        if len(found) == peeks:
            break
    return list(found)


def repeat(
    task: Task, files: Files, scores: Scores, accused: Sequence[Answer], secret: str, deadline: float
) -> tuple[Answers, float]:
    """The accused positions once more, with lanes that leave most of them open."""
    source = random.Random(f"again {secret}")
    chosen = sorted(one.position for one in source.sample(list(accused), min(REPEATED, len(accused))))
    tries = [Lanes.draw(scores.manifest.context, len(scores.stream.tokens), source) for _ in range(32)]
    lanes = max(tries, key=lambda one: sum(map(one.open, chosen)))
    return session(task, files, scores, lanes, [p for p in chosen if lanes.open(p)], deadline)


def verdict(accused: Sequence[Answer], confirmed: Sequence[Answer]) -> Finding:
    worst = max(confirmed or accused, key=lambda one: (not one.normal(), abs(one.difference)))
    if not worst.normal():
        rule, what = "not_normalised", f"its probabilities sum to exp({worst.log_sum:.4g})"
    else:
        rule = "scores_not_repeated"
        more = "less" if worst.difference > 0 else "more"
        what = f"it claimed {abs(worst.difference):.4g} nats {more} than before it has seen the token"
    text = f"at position {worst.position} of the validation stream {what}"
    if confirmed:
        return Finding(rule, "invalid", f"{text}; a second fresh process says the same")
    return Finding(rule, "flag", f"{text}; a second fresh process did not repeat it")


def session(
    task: Task, files: Files, scores: Scores, lanes: Lanes, positions: Sequence[int], deadline: float
) -> tuple[Answers, float]:
    """One fresh process. With state, it gets the chunks again, and a chunk's questions before the chunk."""
    with Candidate(task, files, "score", deadline) as candidate:
        manifest = start(candidate, task.seed)
        if manifest != scores.manifest:
            raise candidate.failed("says other things of itself than it did before")
        answers = Answers(manifest)
        for chunk in segments(scores, task.chunk_tokens):
            inside = [p for p in positions if chunk.begin <= p < chunk.end]
            for frame in frames(lanes, inside, manifest.vocab):
                answers.answers += ask(candidate, scores, manifest, frame)
            if manifest.state == "chunk":
                ask_chunk(candidate, scores.stream, chunk)
        ended = candidate.end()
    return answers, ended.cpu_s


def segments(scores: Scores, size: int) -> list[Chunk]:
    """Stretches whose questions can be asked at once: without state, everything."""
    if scores.manifest.state == "none":
        return [Chunk(0, len(scores.stream.tokens), [])]
    return list(chunks(scores.stream, size))


def frames(lanes: Lanes, positions: Sequence[int], vocab: int) -> list[list[int]]:
    """The i-th position of every lane goes into frame i; frames whose answer would be too long are split."""
    each = [list(group) for _, group in groupby(sorted(positions), key=lanes.lane)]
    most = max(1, protocol.LARGEST // (8 * vocab))
    found = []
    for ranked in zip_longest(*each):
        row = [position for position in ranked if position is not None]
        found += [row[at : at + most] for at in range(0, len(row), most)]
    return found


def ask(candidate: Candidate, scores: Scores, manifest: Manifest, positions: Sequence[int]) -> list[Answer]:
    stream = scores.stream
    items = [Peek(p, stream.start_of(p), stream.tokens[max(0, p - manifest.context) : p]) for p in positions]
    size = 4 * len(items) * manifest.vocab
    payload = candidate.ask(protocol.PEEK, protocol.peek(items), protocol.LOGPROBS, most=size)
    with candidate.reading():
        table = protocol.read_logprobs(payload, len(items), manifest.vocab)
    return [
        compare(row, int(stream.tokens[p]), p, float(scores.nats[p])) for row, p in zip(table, positions, strict=True)
    ]


def compare(row: protocol.Floats, token: int, position: int, claimed: float) -> Answer:
    """Renormalised here, in double precision, before it is compared."""
    with np.errstate(all="ignore"):
        top = row.max()
        log_sum = float(top + np.log(np.exp(row - top).sum()))
        return Answer(position, log_sum, float(log_sum - row[token] - claimed))


def finite(value: float) -> float:
    """JSON has no infinity and no NaN."""
    return value if np.isfinite(value) else 1e30
