"""Cuts a stream of tokens so that no question of an audit holds the answer to another.

Takes a context, a length and a source of chance; gives `Lanes`, drawn positions, and the frames to ask them in. Pure.
In lanes of four contexts, one position of each lane and frame, in ascending order, none of a lane's first context:
no frame and no earlier frame holds a token that is still to be asked.
"""

import random
from collections.abc import Sequence
from itertools import groupby, zip_longest
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.judge import protocol
from agent.judge.protocol import Floats

LANE_CONTEXTS = 4


class Lanes(NamedTuple):
    """A cut of the stream into lanes; `shift` is secret."""

    context: int
    shift: int

    @classmethod
    def draw(cls, context: int, count: int, source: random.Random) -> "Lanes":
        """With a long context, a cut in the stream can close nearly all of it: such a cut is drawn again."""
        sample = [source.randrange(count) for _ in range(200)]
        while True:
            lanes = cls(context, source.randrange(LANE_CONTEXTS * context))
            if sum(map(lanes.open, sample)) >= len(sample) // 2:
                return lanes

    def lane(self, position: int) -> int:
        return (position + self.shift) // (LANE_CONTEXTS * self.context)

    def open(self, position: int) -> bool:
        """Whether the contexts of this lane's questions lie in the lane. The first has none before it."""
        size = LANE_CONTEXTS * self.context
        return position + self.shift < size or (position + self.shift) % size >= self.context

    def opened(self, count: int) -> NDArray[np.bool_]:
        """`open` of every position of a stream of this length."""
        size, at = LANE_CONTEXTS * self.context, np.arange(count) + self.shift
        found: NDArray[np.bool_] = (at < size) | (at % size >= self.context)
        return found


def draw(lanes: Lanes, count: int, peeks: int, source: random.Random, *, begin: int = 0) -> list[int]:
    """Different open positions from `begin` to `count`, each as likely as any other."""
    found: set[int] = set()
    for _ in range(20 * peeks):
        position = source.randrange(begin, count)
        if lanes.open(position):
            found.add(position)
        if len(found) == peeks:
            break
    return sorted(found)


def draw_weighted(lanes: Lanes, weights: Floats, peeks: int, source: random.Random) -> list[int]:
    """Different open positions, one after the other, each as likely as it weighs among those that are left."""
    likely = np.flatnonzero(np.where(lanes.opened(len(weights)), weights, 0.0) > 0)
    chance = np.random.default_rng(source.getrandbits(128))
    late = chance.exponential(size=len(likely)) / weights[likely]
    soonest = np.argpartition(late, peeks)[:peeks] if peeks < len(late) else slice(None)
    return sorted(likely[soonest].tolist())


def split(lanes: Lanes, positions: Sequence[int], least: int, source: random.Random) -> tuple[list[int], list[int]]:
    """The positions of some lanes, at least so many, and those of all others. No part waits for the other."""
    each: dict[int, list[int]] = {}
    for position in positions:
        each.setdefault(lanes.lane(position), []).append(position)
    order = list(each)
    source.shuffle(order)
    first: list[int] = []
    while order and len(first) < least:
        first += each.pop(order.pop())
    return sorted(first), sorted(position for lane in order for position in each[lane])


def frames(lanes: Lanes, positions: Sequence[int], vocab: int) -> list[list[int]]:
    """The i-th position of every lane goes into frame i; frames whose answer would be too long are split."""
    each = [list(group) for _, group in groupby(sorted(positions), key=lanes.lane)]
    found = []
    for ranked in zip_longest(*each):
        found += parts([position for position in ranked if position is not None], vocab)
    return found


def parts(positions: Sequence[int], vocab: int) -> list[list[int]]:
    """As many frames as their answers need."""
    most = max(1, protocol.LARGEST // (8 * vocab))
    return [list(positions[at : at + most]) for at in range(0, len(positions), most)]
