"""Which of the validation documents a rung scores, where it does not score all.

Takes documents and a share; gives the documents that are scored, in order. Pure. A hash of the track's name and the
text draws them, so they are the same for every run, commit and machine, and nobody can choose them. A score of a part
is compared with scores of the same part only: its number of bytes is another one (`agent/judge/comparable.py`).
"""

import hashlib
from collections.abc import Sequence


def chosen(texts: Sequence[bytes], share: float, track: str) -> list[bytes]:
    """About `share` of the documents, one at least."""
    if share >= 1:
        return list(texts)
    drawn = [_draw(text, track) for text in texts]
    least = min(drawn, default=0.0)
    return [text for text, at in zip(texts, drawn, strict=True) if at < share or at == least]


def _draw(text: bytes, track: str) -> float:
    """Between 0 and 1."""
    digest = hashlib.sha256(track.encode() + b"\0" + text).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
