"""The frames that judge and candidate exchange, and their contents.

Takes and gives bytes and arrays. Everything that a candidate answers is checked here before it is used;
`BadAnswer` says in words what is wrong with it. Pure.
"""

import json
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.judge.task import Manifest
from agent.strict import strict

HEAD = struct.Struct("<IB")  # length of the payload, type
LARGEST = 64 << 20
RESET, SCORE, PEEK, ENCODE, DECODE = 1, 2, 3, 4, 5
MANIFEST, NATS, LOGPROBS, TOKENS, BYTES, ERROR = 129, 130, 131, 132, 133, 255
NAMES = {
    MANIFEST: "a manifest",
    NATS: "nats",
    LOGPROBS: "log-probabilities",
    TOKENS: "tokens",
    BYTES: "bytes",
}
MAX_MANIFEST = 4096
MAX_ERROR = 4096
VOCAB = range(2, (1 << 22) + 1)
CONTEXT = range(1, (1 << 22) + 1)

Tokens = NDArray[np.uint32]
Floats = NDArray[np.float64]


class BadAnswer(ValueError):
    """The candidate answered something that can't be used."""


class Peek(NamedTuple):
    """One question: how likely is every token at this position?"""

    position: int
    doc_start: int
    context: Tokens


def reset(seed: int) -> bytes:
    return struct.pack("<Q", seed)


def score(tokens: Tokens, starts: Sequence[int]) -> bytes:
    head = struct.pack("<II", len(tokens), len(starts))
    return head + tokens.astype("<u4").tobytes() + np.asarray(starts, dtype="<u4").tobytes()


def peek(items: Sequence[Peek]) -> bytes:
    parts = [struct.pack("<I", len(items))]
    for item in items:
        parts.append(struct.pack("<QQI", item.position, item.doc_start, len(item.context)))
        parts.append(item.context.astype("<u4").tobytes())
    return b"".join(parts)


def tokens_bytes(tokens: Tokens) -> bytes:
    return tokens.astype("<u4").tobytes()


def read_manifest(payload: bytes) -> Manifest:
    try:
        found = strict(Manifest, payload.decode())
    except (ValueError, RecursionError) as error:
        raise BadAnswer(f"its manifest can't be read: {error}") from error
    if found.vocab not in VOCAB or found.context not in CONTEXT:
        raise BadAnswer(f"its manifest is out of range: vocab {found.vocab}, context {found.context}")
    if found.separator is not None and found.separator not in range(found.vocab):
        raise BadAnswer(f"its manifest is out of range: separator {found.separator}, vocab {found.vocab}")
    return found


def read_tokens(payload: bytes) -> Tokens:
    if len(payload) % 4:
        raise BadAnswer(f"{len(payload)} bytes are no list of tokens")
    return np.frombuffer(payload, dtype="<u4").astype(np.uint32)


def read_nats(payload: bytes, count: int) -> Floats:
    """One number for each token: finite and not below 0, because no probability is above 1."""
    if len(payload) != 4 * count:
        raise BadAnswer(f"{len(payload)} bytes of nats for {count} tokens, expected {4 * count}")
    nats = _floats(payload)
    if np.isnan(nats).any():
        raise BadAnswer(f"the nats of token {_first(np.isnan(nats))} of a chunk are NaN")
    if np.isinf(nats).any():
        raise BadAnswer(f"the nats of token {_first(np.isinf(nats))} of a chunk are infinite")
    if (nats < 0).any():
        where = _first(nats < 0)
        raise BadAnswer(f"the nats of token {where} of a chunk are {nats[where]:.3g}: a probability above 1")
    return nats


def read_logprobs(payload: bytes, count: int, vocab: int) -> Floats:
    """Log-probabilities as they came, one row for each question; NaN and sums are the audit's business."""
    if len(payload) != 4 * count * vocab:
        raise BadAnswer(
            f"{len(payload)} bytes of log-probabilities, expected {count} x {vocab} x 4 = {4 * count * vocab}"
        )
    return _floats(payload).reshape(count, vocab)


def read_error(payload: bytes) -> str:
    """The candidate's own words, fit to be shown."""
    text = payload[:MAX_ERROR].decode("utf-8", errors="replace")
    return json.dumps(text[:300], ensure_ascii=True)


def _floats(payload: bytes) -> Floats:
    """Whatever bits they are: some kinds of NaN make numpy print a warning."""
    with np.errstate(invalid="ignore"):
        return np.frombuffer(payload, dtype="<f4").astype(np.float64)


def _first(mask: NDArray[np.bool_]) -> int:
    return int(np.argmax(mask))
