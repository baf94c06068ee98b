"""Which validation paragraphs repeat training text, word for word over a long stretch.

Takes training texts and a candidate validation document (both lists of paragraphs); gives the paragraphs
that may stay. Nothing that shares `RUN` or more normalised characters with a training document is missed,
also across paragraphs.

The method: remember the training text in pieces of `PIECE` characters, cut one after the other; slide a
window of `PIECE` characters over the validation text, one character at a time. A shared run of `2 * PIECE
- 1` characters covers at least one whole piece of the training text, wherever the cuts fall, so the window
meets it. Some shorter runs are met too: those paragraphs are dropped as well.
"""

import re
from collections import Counter
from collections.abc import Iterable

RUN = 119
PIECE = (RUN + 1) // 2
_WORD = re.compile(r"[^\W_]+")


def normalise(paragraph: str) -> str:
    """Words in lower case, single spaces: what is left when layout, markup and punctuation do not count."""
    return " ".join(_WORD.findall(paragraph.lower()))


class Seen:
    """Training text, remembered as whole paragraphs and as pieces."""

    def __init__(self) -> None:
        self._paragraphs: set[str] = set()
        self._pieces: set[str] = set()

    def add(self, paragraphs: Iterable[str]) -> list[str]:
        """Remembers a training document; gives its paragraphs that were not there before."""
        fresh = []
        for paragraph in paragraphs:
            key = normalise(paragraph)
            if key and key not in self._paragraphs:
                self._paragraphs.add(key)
                fresh.append(paragraph)
        text = " ".join(map(normalise, fresh))
        self._pieces.update(text[at : at + PIECE] for at in range(0, len(text) - PIECE + 1, PIECE))
        return fresh

    def unseen(self, paragraphs: Iterable[str]) -> list[str]:
        """The paragraphs of a validation document that training does not hold, whole or in a long run."""
        kept = [paragraph for paragraph in paragraphs if normalise(paragraph) not in self._paragraphs]
        while repeated := self._repeated(kept):
            # Leaving a paragraph out joins its neighbours: look again, until nothing is found.
            kept = [paragraph for number, paragraph in enumerate(kept) if number not in repeated]
        return kept

    def _repeated(self, paragraphs: list[str]) -> set[int]:
        """Numbers of the paragraphs that hold most of a known piece."""
        text, owner = "", []
        for number, paragraph in enumerate(paragraphs):
            part = normalise(paragraph)
            if not part:  # no words: it must not widen the space between its neighbours
                continue
            part += " "
            text += part
            owner += [number] * len(part)
        found: set[int] = set()
        for at in range(len(text) - PIECE + 1):
            if text[at : at + PIECE] in self._pieces:
                found.add(Counter(owner[at : at + PIECE]).most_common(1)[0][0])
        return found
