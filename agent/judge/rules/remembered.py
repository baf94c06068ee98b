"""The newest answers to questions about texts, by the texts themselves: an idea changes few statements of a script.

Takes a key that says all that an answer depends on, and how to find it; gives the answer. Keys are compared whole,
never by a digest, so what a hostile script leaves here is only ever the answer for its own text.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")
_MOST_CHARACTERS = 4_000_000
_LEAST = 256  # characters that an answer counts as beside its text's


class Remembered(Generic[T]):
    """Bounded by what its texts have together. Threads may share it."""

    def __init__(self, most: int = _MOST_CHARACTERS) -> None:
        self._most = most
        self._size = 0
        self._answers: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._lock = threading.Lock()

    def answer(self, key: Hashable, characters: int, find: Callable[[], T]) -> T:
        with self._lock:
            known = self._answers.get(key)
            if known is not None:
                self._answers.move_to_end(key)
                return known[0]
        found = find()  # two threads may look at once, and find the same
        with self._lock:
            if key not in self._answers:
                self._answers[key] = found, characters + _LEAST
                self._size += characters + _LEAST
            while self._size > self._most:
                _, (_, size) = self._answers.popitem(last=False)
                self._size -= size
        return found
