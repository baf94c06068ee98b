"""What the contract asks of a candidate's scoring: each clause in words, how to mend it, and the answer of a test.

docs/candidates.md explains them to people who write candidates; agent/judge/clauses.py finds out which hold.
"""

import json
from dataclasses import asdict, dataclass
from typing import Literal

from agent.judge.task import Status
from agent.strict import strict

State = Literal["holds", "broken", "untested"]
BUSY = ". Where the machine was busy with other work, try again"

ASKS = {
    "trains": "training leaves an artifact",
    "starts": "the scoring process starts and describes itself when it is reset",
    "encodes": "every document becomes tokens below `vocab`",
    "decodes": "tokens become the bytes of their document again",
    "answers": "`score` gives a finite number, 0 or more, for every token; `peek` gives `vocab` for every item",
    "causal": "the nats of a token depend on no later token, and not on where its document ends",
    "reset": "`reset` brings back what was there after loading, in this process and in another one",
    "chunk_borders": "nats do not depend on where chunks end",
    "state": "what changes while tokens are scored is declared, and changes only after a chunk was answered",
    "context": "tokens further back than `context` do not matter",
    "sums": "the probabilities of a `peek` sum to one",
    "batch": "the answer to an item does not depend on the others in its frame",
    "peek_changes_nothing": "`peek` leaves everything as it was",
    "doc_starts": "the first token of a document is the same in `peek` and in `score`",
    "positions": "`peek` goes by the position that it is told, not by how many tokens it gets",
    "numerics": "the declared arithmetic is the one that is used",
    "same_answer": "`score` claims of a token what `peek` gives it",
}
"""Every clause, in the order in which they are mended best."""

FIXES = {
    "trains": "the end of the log says what happened; the script must write the track's artifact in a short run, too",
    "starts": "load everything from the file that ARTIFACT names, with nothing but the standard environment; answer "
    '`reset` with {"vocab": int, "context": int, "state": "none" or "chunk", "numerics": "fp32" or "bf16"}, and on '
    'tracks of token shards "separator": the token that stands between documents',
    "encodes": "`encode` must take any text, one document at a time: what it has no piece for needs tokens, too",
    "decodes": "nothing may be stripped or replaced: what the tokenizer has no piece for becomes bytes. A normal form "
    "of Unicode is allowed where the manifest names it",
    "answers": "answer with one float32 for each token of the chunk, in the order of the chunk; take logarithms of no "
    "probability that can be 0 or above 1",
    "causal": "something looks ahead: a mask, the padding of a convolution, a statistic or an order over the whole "
    "chunk, the length of a document. Token i may be read only after its own nats are known",
    "reset": "on `reset` forget positions, caches, counts and adapted weights, and draw nothing that the artifact does "
    "not hold: seed generators with the seed that `reset` brings",
    "chunk_borders": "a document goes on in the next chunk unless offset 0 is listed as a start: keep its last "
    "`context` tokens. Lay windows on the grid of positions, or of the document's offsets, never on the chunk's",
    "state": 'declare "state": "chunk" if the model learns from what it has scored, and let it learn only after the '
    "whole chunk is answered; otherwise find what is kept from chunk to chunk beyond the last tokens",
    "context": "declare as `context` how many tokens before the predicted one can matter: a window of 256 that "
    "begins with the token before it needs 257. It is at most what is declared that `peek` gets",
    "sums": "answer `peek` with log_softmax over all of `vocab`, in float32; a cache or a mixture must be normalised "
    "over the whole vocabulary, too",
    "batch": "mask what pads shorter items, and use no statistic over the batch",
    "peek_changes_nothing": "answer `peek` without touching what `score` keeps: caches, counts, positions, random "
    "generators, adapted weights",
    "doc_starts": "where an item's position is its document's start, what comes before belongs to other documents: "
    "begin as `score` does there, with the same mark, if there is one",
    "positions": "an item holds position, start of its document and the last tokens; compute offsets and windows from "
    "the first two as `score` does, since the tokens are cut to `context`",
    "numerics": 'declare "numerics": "bf16", or compute logits and log_softmax in float32',
    "same_answer": "give both requests one function from (position, document start, tokens before) to "
    "log-probabilities; what only `score` knows, the token itself and those after it, must have no way into it",
}


@dataclass(frozen=True)
class Clause:
    """One thing that the contract asks, and what was seen of it."""

    name: str
    asks: str
    state: State
    seen: str
    fix: str


@dataclass(frozen=True)
class Conformance:
    """What came of the test. `status` and `reason` are those of any judge's answer."""

    status: Status
    """ok: it could be made, whatever came of it."""
    reason: str
    tokens: int
    peeks: int
    clauses: tuple[Clause, ...]
    walls: tuple[str, ...] = ()
    capped: bool = False
    """It was ended by a clock: on a machine that has less to do it may not be."""

    @property
    def broken(self) -> tuple[Clause, ...]:
        return tuple(one for one in self.clauses if one.state == "broken")

    def to_json(self) -> str:
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Conformance":
        return strict(cls, text)


def clause(name: str, broken: str = "", untested: str = "") -> Clause:
    state: State = "broken" if broken else "untested" if untested else "holds"
    return Clause(name, ASKS[name], state, broken or untested, FIXES[name] if broken else "")


def up_to(name: str, words: str) -> tuple[Clause, ...]:
    """All clauses, where one was broken so that those after it can't be tried."""
    names = list(ASKS)
    at = names.index(name)
    return (
        *(clause(one) for one in names[:at]),
        clause(name, words),
        *(clause(one, untested=f"can be told once `{name}` holds") for one in names[at + 1 :]),
    )
