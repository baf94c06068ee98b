"""What a model that the candidate never saw needs for its tokens, so that too good a score stands out.

Takes the candidate's tokens and, where there is one, the file with the baseline's scores; gives nats of every token.
The baseline has other tokens perhaps, so both are laid out over the bytes of the documents. Which bytes a token stands
for is asked of the candidate's own decoder and believed where the pieces join to the document. Where that fails, and
where there is no file, a bigram model that learns as it reads stands in: it is weak, but nobody gave it to the judge.
"""

import hashlib
import io
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.job.folder import JobPaths
from agent.job.reading import read_plain
from agent.judge import protocol
from agent.judge.candidate import TOLD_OF_A_SCORE, Candidate, CandidateError, Files
from agent.judge.protocol import Floats, Tokens
from agent.judge.scoring import Scores, Stream
from agent.judge.task import Reference, Task
from sandbox.limits import MB

STEP = 1 / 16  # nats: how finely the scores are kept
MOST_FILE = 512 * MB
MOST_PIECE = 256  # bytes of a token
BLOCK = 1 << 22  # tokens after which the bigram model begins anew, so that its memory is bounded
BELIEF = 5.0  # tokens that the unigrams are worth to the bigrams

Lengths = NDArray[np.int64]


class Known(NamedTuple):
    """Nats of every token by somebody else, and in words by whom."""

    nats: Floats
    words: str


class Laid(NamedTuple):
    """The bytes of each token. A document whose bytes are not known has none."""

    lengths: Lengths  # of every token
    known: NDArray[np.bool_]  # for every document


def of(task: Task, scores: Scores, laid: Laid) -> Known:
    """The best there is: the baseline's scores where they can be had and laid beside ours."""
    stream, vocab = scores.stream, scores.manifest.vocab
    weak = learnt(stream.tokens, vocab)
    held = task.auditing.reference
    if held is None:
        return Known(weak, "a bigram model of the judge's")
    try:
        kept = read(held)
        nats, share = beside(kept, stream, laid)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        return Known(weak, f"a bigram model of the judge's; the baseline's scores can't be read: {error}"[:300])
    words = f"the baseline's scores for {100 * share:.3g} % of the tokens"
    return Known(np.where(np.isnan(nats), weak, nats), words + (", else a bigram model" if share < 1 else ""))


# ---------------------------------------------------------------- a model that learns as it reads


def learnt(tokens: Tokens, vocab: int) -> Floats:
    """Nats by counts of what came before: after this token, and anywhere. No token counts for itself."""
    found = np.empty(len(tokens))
    for at in range(0, len(tokens), BLOCK):
        part = tokens[at : at + BLOCK].astype(np.int64)
        before = np.concatenate([[vocab], part[:-1]])
        alone = (_earlier(part) + 1.0) / (np.arange(len(part)) + vocab)
        after = _earlier(before * (vocab + 1) + part)
        found[at : at + BLOCK] = -np.log((after + BELIEF * alone) / (_earlier(before) + BELIEF))
    return found


def _earlier(keys: Lengths) -> Lengths:
    """How often each key was there before."""
    order = np.argsort(keys, kind="stable")
    sorted_keys = keys[order]
    begins = np.flatnonzero(np.concatenate([[True], sorted_keys[1:] != sorted_keys[:-1]]))
    groups = np.diff([*begins, len(keys)])
    found = np.empty(len(keys), dtype=np.int64)
    found[order] = np.arange(len(keys)) - np.repeat(begins, groups)
    return found


# ---------------------------------------------------------------- which bytes a token stands for


def lay_out(task: Task, files: Files, stream: Stream, texts: Sequence[bytes], deadline: float) -> Laid:
    """Asks a decoder for each token that occurs, alone. One that fails here tells nothing; it is no accusation."""
    counts = np.diff([*stream.starts, len(stream.tokens)])
    try:
        pieces = _pieces(task, files, np.unique(stream.tokens[stream.tokens != stream.separator]), deadline)
    except CandidateError as error:
        if error.found:
            raise
        return Laid(np.zeros(len(stream.tokens), dtype=np.int64), np.zeros(len(counts), dtype=np.bool_))
    if stream.separator is not None:  # it says nothing, whatever a decoder would make of it: nothing is asked about it
        pieces[stream.separator] = b""
    table = np.zeros(max(pieces) + 1, dtype=np.int64)
    for token, piece in pieces.items():
        table[token] = len(piece)
    lengths = table[stream.tokens]
    known = np.zeros(len(counts), dtype=np.bool_)
    for number, (begin, count) in enumerate(zip(stream.starts, counts, strict=True)):
        tokens = stream.tokens[begin : begin + count].tolist()
        known[number] = b"".join(pieces[token] for token in tokens) == texts[number]
    lengths[~np.repeat(known, counts)] = 0
    return Laid(lengths, known)


def _pieces(task: Task, files: Files, tokens: Tokens, deadline: float) -> dict[int, bytes]:
    with Candidate(task, files, "decode", deadline, told=TOLD_OF_A_SCORE) as candidate:
        return {
            int(token): candidate.ask(
                protocol.DECODE, protocol.tokens_bytes(np.asarray([token])), protocol.BYTES, MOST_PIECE
            )
            for token in tokens
        }


# ---------------------------------------------------------------- the file


def write(paths: JobPaths, scores: Scores, laid: Laid) -> str | None:
    """Keeps the scores for the audits of later runs; gives the file's sha256. None: nobody could use them."""
    if not laid.known.any() or laid.lengths.max() >= MOST_PIECE:
        return None
    counts = np.diff([*scores.stream.starts, len(scores.stream.tokens)])
    raw = io.BytesIO()
    np.savez_compressed(
        raw,
        counts=counts.astype(np.uint32),
        known=laid.known,
        lengths=laid.lengths.astype(np.uint8),
        nats=np.minimum(np.round(scores.nats / STEP), 255).astype(np.uint8),
    )
    data = raw.getvalue()
    if len(data) > MOST_FILE:
        return None
    aside = paths.reference.with_name(f".tmp-{paths.reference.name}")
    aside.write_bytes(data)
    aside.replace(paths.reference)
    return hashlib.sha256(data).hexdigest()


class Kept(NamedTuple):
    """What is in the file."""

    counts: Lengths
    laid: Laid
    nats: Floats


def read(held: Reference) -> Kept:
    """ValueError if it is not the file that was written."""
    path = Path(held.path)
    # What is only held open, for a session on another machine, has no name that somebody could have put a trap behind.
    held_open = path.parent.name == "fd" and path.is_relative_to("/proc")
    data = path.read_bytes() if held_open else read_plain(path.parent, path.name, MOST_FILE)
    if hashlib.sha256(data).hexdigest() != held.sha256:
        raise ValueError(f"{path.name} was changed")
    with np.load(io.BytesIO(data), allow_pickle=False) as found:
        laid = Laid(found["lengths"].astype(np.int64), found["known"])
        return Kept(found["counts"].astype(np.int64), laid, found["nats"] * STEP)


def beside(kept: Kept, stream: Stream, laid: Laid) -> tuple[Floats, float]:
    """What the other model needs for the bytes of each of our tokens, NaN where that is not known, and for how many
    it is."""
    counts = np.diff([*stream.starts, len(stream.tokens)])
    if len(kept.counts) != len(counts):
        raise ValueError(f"{len(kept.counts)} documents instead of {len(counts)}")
    both = kept.laid.known & laid.known
    theirs, ours = np.repeat(both, kept.counts), np.repeat(both, counts)
    nats = np.full(len(stream.tokens), math.nan)
    if both.any():
        ends = np.cumsum(kept.laid.lengths[theirs])
        total = np.cumsum(kept.nats[theirs])
        mine = np.cumsum(laid.lengths[ours])
        if mine[-1] != ends[-1]:
            raise ValueError(f"documents of {ends[-1]} bytes instead of {mine[-1]}")
        reached = np.interp(mine, np.concatenate([[0], ends]), np.concatenate([[0.0], total]))
        nats[ours] = np.diff(reached, prepend=0.0)
    nats[laid.lengths == 0] = math.nan  # marks without bytes
    return nats, float(1 - np.isnan(nats).mean())
