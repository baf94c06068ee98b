"""The contest's own count of a score: what stands between documents costs nats and has no bytes.

Takes what the contest counts in the published shards, and the scored stream; gives `Contest`. The contest predicts
every token of its stream but the first, which is a separator: these are the tokens of the judge's stream. Pure.
"""

import hashlib
import math

import numpy as np

from agent.judge.protocol import Floats
from agent.judge.recount import EXPORTS, LEAST_BYTES, MOST_BYTES
from agent.judge.scoring import Stream
from agent.judge.task import Contest
from agent.judge.texts import Documents, Official
from agent.records import Finding

ALL_DOCS = 50_000
WITHIN = 1e-5  # tokens per byte are published with six digits


def contest_count(official: Official, stream: Stream, nats: Floats) -> Contest:
    """Tokens as published: the contest's windows, without the rest that fills none. Other tokens: all of them, over all
    bytes that the contest counts in the same text, because its rest is one of the published tokens."""
    published = hashlib.sha256(np.ascontiguousarray(stream.tokens, dtype="<u4").data).hexdigest() == official.sha256
    last = official.tokens if published else len(stream.tokens)
    return Contest(
        nats=math.fsum(nats[:last]),
        tokens=last,
        separators=int((stream.tokens[:last] == stream.separator).sum()),
        bytes=official.bytes if published else official.bytes + official.rest_bytes,
        published=published,
    )


def other_bytes(documents: Documents | None) -> tuple[Finding, ...]:
    """The corpus' own count against what is known of the published one: a wrong table of bytes shows here."""
    official = documents.official if documents else None
    if documents is None or official is None:
        return ()
    known = next((one.bytes() for one in EXPORTS if one.tokens == official.tokens and not one.old), None)
    size = official.bytes + official.rest_bytes
    if known is not None and abs(official.bytes - known) > WITHIN * known:
        text = f"{official.bytes:,} bytes in {official.tokens:,} tokens, the published set has {known:,}"
    elif documents.docs == ALL_DOCS and not LEAST_BYTES <= size <= MOST_BYTES:
        text = f"{size:,} bytes in {ALL_DOCS:,} documents, {LEAST_BYTES:,} to {MOST_BYTES:,} are usual"
    else:
        return ()
    return (Finding("implied_bytes", "flag", f"the validation text is not the published one: {text}"),)
