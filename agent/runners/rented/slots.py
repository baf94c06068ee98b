"""The slots of a runner that rents: of each size of machine as many as there may be, of the kind that is asked for now.

Takes sizes, kinds of GPU and how many machines there may be; gives names. A slot has one kind and one size, so that its
hardware class can be told before there is a machine.
"""

import re
import time
from collections.abc import Collection, Iterator
from typing import NamedTuple

TURN_S = 1800.0  # for which another kind of GPU is asked for, when the first is nowhere to be had


class Named(NamedTuple):
    slot: str
    kind: str
    gpus: int


class Slots:
    def __init__(self, name: str, kinds: tuple[str, ...], sizes: tuple[int, ...], most: int) -> None:
        """`kinds`: the liked one first; `sizes`: GPUs of a machine, those of a deciding run first."""
        self._name, self._kinds, self._sizes, self._most = name, kinds, sizes, most
        self._kind = dict.fromkeys(sizes, kinds[0])
        self._turned_at: dict[int, float] = {}  # since when another kind than the first is asked for

    def every(self) -> Iterator[Named]:
        """All that may ever be, whichever kind is asked for."""
        for gpus in self._sizes:
            for kind in self._kinds:
                yield from (Named(slot, kind, gpus) for slot in self._names(kind, gpus))

    def now(self, under_way: Collection[str], spare: Collection[str]) -> tuple[str, ...]:
        """Those with a job, and of each size as many as there may be beside them: machines that are there and idle
        (`spare`) before those that would have to be rented. Where jobs wait for the room of others, none."""
        self._back()
        room = max(0, self._most - len(under_way))
        found = list(under_way)
        for gpus in self._sizes:
            mine = [one.slot for one in self.every() if one.gpus == gpus and one.slot in spare]
            asked = [slot for slot in self._names(self._kind[gpus], gpus) if slot not in under_way and slot not in mine]
            found += [*mine, *asked][:room]
        return tuple(found)

    def turn(self, kind: str, gpus: int) -> str:
        """The next kind, for a while: then the first one is asked for again. Empty: there is no other."""
        kinds = self._kinds
        if kind == self._kind[gpus] and len(kinds) > 1:
            self._kind[gpus] = kinds[(kinds.index(kind) + 1) % len(kinds)]
            self._turned_at[gpus] = time.monotonic()
        return self._kind[gpus] if self._kind[gpus] != kind else ""

    def _back(self) -> None:
        for gpus, at in list(self._turned_at.items()):
            if time.monotonic() - at > TURN_S:
                self._kind[gpus] = self._kinds[0]
                del self._turned_at[gpus]

    def _names(self, kind: str, gpus: int) -> tuple[str, ...]:
        """NAME/0 and so on; those of another size or kind than the first say which."""
        word = re.sub(r"[^a-z0-9]+", "-", kind.lower().removeprefix("nvidia ")).strip("-")
        prefix = ("" if gpus == self._sizes[0] else f"{gpus}x-") + ("" if kind == self._kinds[0] else f"{word}-")
        return tuple(f"{self._name}/{prefix}{n}" for n in range(self._most))
