"""Choices of known probability that make a text, and their recovery from it.

A grammar makes its choices through a `Source`. `Teller` draws them from a seed and writes the text;
`Reader` walks the same grammar over a text and recovers them. Each choice puts its word or letter into the
text at once, and the options differ, so what comes next decides it: a text has one parse, and its
information content is the sum of -log2 p over its choices. `Reader` checks that at every choice, for the
text at hand.

Only `random.random()` is used, so a seed gives the same text on every version of Python. It has 53 bits:
the probability of a choice is off by less than 2^-53, which for a whole corpus is far below a millionth of
a bit.
"""

import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol


class Weights:
    """Integer weights of the options of one choice: probabilities without rounding."""

    def __init__(self, weights: Sequence[int]) -> None:
        self.total = sum(weights)
        self.upto = list(accumulate(weights))
        self.bits = [math.log2(self.total / weight) if weight else math.inf for weight in weights]


class Source(Protocol):
    """What a story is told by (`Teller`) or recognised by (`Reader`)."""

    def text(self, literal: str) -> None:
        """Words that are certain."""

    def word(self, words: Sequence[str], weights: Weights) -> int:
        """A choice of one of several different words; gives its number."""

    def letter(self, letters: str, weights: Weights) -> int:
        """A choice of one of several different letters; gives its number."""


class Teller:
    """Draws the choices and writes the text."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random
        self._parts: list[str] = []
        self.bits = 0.0
        self.choices: list[int] = []

    def text(self, literal: str) -> None:
        self._parts.append(literal)

    def word(self, words: Sequence[str], weights: Weights) -> int:
        at = bisect_right(weights.upto, self._random() * weights.total)
        self.bits += weights.bits[at]
        self.choices.append(at)
        self._parts.append(words[at])
        return at

    letter = word

    def finish(self) -> str:
        """The text since the last call."""
        text = "".join(self._parts)
        self._parts.clear()
        return text


class NoStory(ValueError):
    """The text is not one that the grammar tells."""


class Reader:
    """Recovers the choices from a text. What comes next decides each choice, or there is no parse."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self.bits = 0.0
        self.choices: list[int] = []

    def text(self, literal: str) -> None:
        if not self._text.startswith(literal, self._at):
            raise NoStory(f"expected {literal!r} at {self._at}, found {self._text[self._at :][:20]!r}")
        self._at += len(literal)

    def word(self, words: Sequence[str], weights: Weights) -> int:
        end = self._at
        while end < len(self._text) and self._text[end].isalpha():
            end += 1
        return self._choose(self._text[self._at : end], words, weights)

    def letter(self, letters: str, weights: Weights) -> int:
        return self._choose(self._text[self._at : self._at + 1], letters, weights)

    def _choose(self, found: str, options: Sequence[str], weights: Weights) -> int:
        fitting = [number for number, option in enumerate(options) if option == found]
        if len(fitting) != 1 or len(options) != len(weights.bits) or math.isinf(weights.bits[fitting[0]]):
            raise NoStory(f"{len(fitting)} ways to read {found!r} at {self._at}")
        self._at += len(found)
        self.bits += weights.bits[fitting[0]]
        self.choices.append(fitting[0])
        return fitting[0]

    def finish(self) -> None:
        if self._at != len(self._text):
            raise NoStory(f"{len(self._text) - self._at} characters are left over")
