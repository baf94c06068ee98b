"""The contest's own count of tokens and bytes over a validation stream.

Takes the tokens block by block, in order; gives `Official`. The rules: the stream is cut into windows of equal length,
and a rest that fills none is dropped; every token but the first is predicted, also the separators; a token has the
bytes of its piece, a leading space counts unless a mark stands before it, a mark has none.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.pieces import SPACE, Pieces

WINDOW = 1024  # tokens: what the contest's baseline trains and is scored with

Tokens = NDArray[np.uint16]


@dataclass(frozen=True)
class Official:
    """What the contest divides by."""

    window: int
    tokens: int
    """That are predicted, separators included."""
    separators: int
    """Of these; they cost nats and have no bytes."""
    bytes: int
    rest_bytes: int
    """Of the tokens that fill no window, by the same rule."""
    sha256: str
    """Of all tokens that are predicted, as little-endian numbers of 32 bits: by it the judge knows them again."""


class Count:
    """Adds up a stream whose length is known."""

    def __init__(self, pieces: Pieces, length: int) -> None:
        self._last = max(0, (length - 1) // WINDOW * WINDOW)  # so many predicted tokens count
        self._predicted = 0
        self._before = np.zeros(0, dtype=np.uint16)
        self._bytes = self._rest_bytes = self._separators = 0
        self._separator, self._digest = pieces.separator, hashlib.sha256()
        texts = pieces.texts
        self._marks = np.array([text is None for text in texts])
        self._spaced = np.array([token not in pieces.singles and _spaced(pieces, token) for token in range(len(texts))])
        self._sizes = np.array([_size(pieces, token) for token in range(len(texts))]) - self._spaced

    def add(self, block: Tokens) -> None:
        stream = np.concatenate([self._before, block])
        before, predicted = stream[:-1], stream[1:]
        sizes = self._sizes[predicted] + (self._spaced[predicted] & ~self._marks[before])
        counted = max(0, self._last - self._predicted)  # of this block
        self._bytes += int(sizes[:counted].sum())
        self._rest_bytes += int(sizes[counted:].sum())
        self._separators += int((predicted[:counted] == self._separator).sum())
        self._predicted += len(predicted)
        self._digest.update(predicted.astype("<u4").tobytes())
        self._before = stream[-1:]

    def counted(self) -> Official:
        sha = self._digest.hexdigest()
        return Official(WINDOW, self._last, self._separators, self._bytes, self._rest_bytes, sha)


def _spaced(pieces: Pieces, token: int) -> bool:
    return pieces.texts[token] is not None and pieces.names[token].startswith(SPACE)


def _size(pieces: Pieces, token: int) -> int:
    """Bytes with a leading space as one. A space mark further inside is not taken for a space: it has three."""
    text = pieces.texts[token]
    if text is None or token in pieces.singles:
        return len(text or b"")
    name = pieces.names[token]
    return len(name.removeprefix(SPACE).encode()) + name.startswith(SPACE)
