"""What providers keep of prompts, as their documentation says: for benchmarks, which can't ask them.

Takes calls in the order of their times; gives of each how many of its input tokens would be read from a cache.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Protocol

from agent.context.tokens import estimate
from agent.llm import Part

READY_S = 3.0  # from a call's start until what it wrote can be read: the first token of its answer


@dataclass(frozen=True)
class Call:
    """One request: tools, system, prompt and the turns so far, in blocks."""

    at: float
    first: bool
    """Of its conversation."""
    parts: tuple[Part, ...]

    @cached_property
    def tokens(self) -> list[int]:
        """Of each prefix of whole blocks."""
        total, found = 0, []
        for part in self.parts:
            total += _tokens(part.text)
            found.append(total)
        return found

    @cached_property
    def digests(self) -> list[str]:
        """Of each prefix of whole blocks."""
        running, found = hashlib.sha256(), []
        for part in self.parts:
            running.update(f"{len(part.text)}\n{part.text}".encode())
            found.append(running.hexdigest())
        return found


class Cache(Protocol):
    """One provider, from nothing."""

    @property
    def expiry_s(self) -> float: ...

    def read(self, call: Call) -> int:
        """Input tokens that are read from the cache."""


class _Entry(NamedTuple):
    tokens: int
    since: float
    until: float


@dataclass
class Breakpoints:
    """Anthropic's: a prefix is kept where a breakpoint stands, four a request at most, the last of them at the end of
    the conversation; it lives for five minutes from its last use, and is looked for at a breakpoint and the blocks
    before it, 20 in all."""

    least: int
    """Tokens, below which nothing is kept."""
    expiry_s: float = 300.0
    most: int = 4
    back: int = 20
    entries: dict[str, _Entry] = field(default_factory=dict)

    def read(self, call: Call) -> int:
        marked = [n for n, part in enumerate(call.parts) if part.stable]
        last = len(call.parts) - 1
        points = [*marked[: self.most - 1], last]
        found = 0
        for point in points:
            for n in range(point, max(-1, point - self.back), -1):
                entry = self.entries.get(call.digests[n])
                if entry and entry.since <= call.at <= entry.until:
                    self.entries[call.digests[n]] = entry._replace(until=call.at + self.expiry_s)
                    found = max(found, entry.tokens)
                    break
        for point in points:
            known = self.entries.get(call.digests[point])
            if call.tokens[point] >= self.least and (known is None or known.until < call.at):
                self.entries[call.digests[point]] = _Entry(
                    call.tokens[point], call.at + READY_S, call.at + self.expiry_s
                )
        return found


@dataclass
class Prefixes:
    """OpenAI's: the longest beginning that a recent request had, from 1,024 tokens on in steps of 128. It lives for
    five to ten minutes without use; five are counted here."""

    expiry_s: float = 300.0
    least: int = 1024
    step: int = 128
    recent: list[Call] = field(default_factory=list)

    def read(self, call: Call) -> int:
        self.recent = [one for one in self.recent if call.at - one.at <= self.expiry_s]
        common = max((_common(call, one) for one in self.recent if call.at - one.at >= READY_S), default=0)
        self.recent.append(call)
        return common // self.step * self.step if common >= self.least else 0


def _common(call: Call, other: Call) -> int:
    """Tokens of the text that both begin with."""
    same = 0
    for n, (mine, theirs) in enumerate(zip(call.digests, other.digests, strict=False)):
        if mine != theirs:
            return same + estimate(_beginning(call.parts[n].text, other.parts[n].text))
        same = call.tokens[n]
    return same


def _beginning(mine: str, theirs: str) -> str:
    differ = (n for n, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b)
    return mine[: next(differ, min(len(mine), len(theirs)))]


_KNOWN: dict[str, int] = {}


def _tokens(text: str) -> int:
    key = hashlib.sha256(text.encode()).hexdigest()
    if key not in _KNOWN:
        _KNOWN[key] = estimate(text)
    return _KNOWN[key]


class Share(NamedTuple):
    """Of input tokens, those that were read from the cache."""

    all_calls: float
    within: float
    """Of calls that came within the expiry after another one of the campaign."""
    first: float
    """Of the first call of each conversation alone."""
    first_within: float
    tokens: int


def share(cache: Cache, calls: Sequence[Call]) -> Share:
    """Over a whole campaign."""
    totals = {name: [0, 0] for name in Share._fields[:4]}
    before = float("-inf")
    for call in sorted(calls, key=lambda one: one.at):
        cached, total = cache.read(call), call.tokens[-1]
        within = call.at - before <= cache.expiry_s
        counts = {"all_calls": True, "within": within, "first": call.first, "first_within": call.first and within}
        for name, is_one in counts.items():
            if is_one:
                totals[name][0] += cached
                totals[name][1] += total
        before = call.at
    every, near, first, first_near = (cached / total if total else 0.0 for cached, total in totals.values())
    return Share(every, near, first, first_near, totals["all_calls"][1])
