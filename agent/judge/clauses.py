"""Whether a candidate's answers hold to the contract, and what it is that they break.

Takes `Asked`, what a candidate said of one short text that was asked for in several ways; gives a `Clause` for each
thing that the contract asks. Pure.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.judge.audit.rules import DEVIATIONS, SUM_TOLERANCE, TOLERANCES
from agent.judge.contract import ASKS, Clause, clause
from agent.judge.protocol import Floats
from agent.judge.scoring import Chunk, Stream
from agent.judge.task import Manifest

Mask = NDArray[np.bool_]


class Peeked(NamedTuple):
    """Answers to questions at some positions: nats of the token that comes, and the sum of all probabilities."""

    positions: NDArray[np.int64]
    nats: Floats
    log_sums: Floats


@dataclass(frozen=True)
class Asked:
    """One text, asked for in several ways. All nats are of the same tokens, as far as they go."""

    manifest: Manifest
    stream: Stream
    pieces: Sequence[Chunk]
    whole: Floats
    """All in one chunk."""
    whole_again: Floats
    """The same after a reset."""
    elsewhere: Floats | None
    """The same in another process, where there was one."""
    small: Floats
    """In small chunks."""
    after_peeks: Floats
    """In small chunks, the questions about each before it."""
    other_end: Floats
    """Nats of the first documents, where the tokens after them were others, and the last of them went on."""
    other_begin: Floats | None
    """With others in the place of some tokens; None: the context reaches over all of the text."""
    beyond: Mask
    """The tokens for which no other token of `other_begin` stands inside their context."""
    other_past: Floats
    """In small chunks, the first of which had others in the place of their tokens."""
    past: Mask
    """The tokens for which those lie further back than their context; none, if it reaches too far."""
    peeks: Peeked
    again: Peeked
    """Some of the questions once more, in other frames."""


def clauses(asked: Asked) -> tuple[Clause, ...]:
    """All that follow from answers, in the order of `ASKS`. After a broken one, many others could not but be broken."""
    broken = {name: look(asked) for name, look in ALONE.items()}
    untested: dict[str, str] = {}
    before = ""
    for name, look in CHAIN.items():
        if before:
            untested[name] = f"can be told once `{before}` holds"
        elif words := look(asked):
            broken[name], before = words, name
    if asked.other_begin is None and "context" not in untested:
        untested["context"] = f"a context of {asked.manifest.context:,} tokens reaches over all of the text"
    before = before or next((name for name in ALONE if broken[name]), "")
    if before:
        untested |= dict.fromkeys(PATTERNS, f"can be told once `{before}` holds")
    else:
        broken |= _mismatch(asked)
    told = {*ALONE, *CHAIN, *PATTERNS}
    return tuple(clause(name, broken.get(name, ""), untested.get(name, "")) for name in ASKS if name in told)


# ---------------------------------------------------------------- score against score


def _causal(asked: Asked) -> str:
    size = len(asked.other_end)
    moved = _apart(asked, asked.whole[:size], asked.other_end)
    if not moved.any():
        return ""
    return f"with other tokens from token {size} on, {_these(asked, np.arange(size), asked.whole, asked.other_end)}"


def _reset(asked: Asked) -> str:
    for nats, where in ((asked.whole_again, "after a reset"), (asked.elsewhere, "in another process")):
        if nats is not None and _apart(asked, asked.whole, nats).any():
            return f"{where} the same chunk has other nats: {_these(asked, np.arange(len(nats)), asked.whole, nats)}"
    return ""


def _state(asked: Asked) -> str:
    """Without state nothing matters that was scored longer ago than the context reaches."""
    if asked.manifest.state == "chunk" or not (_apart(asked, asked.small, asked.other_past) & asked.past).any():
        return ""
    words = _these(asked, np.flatnonzero(asked.past), asked.small, asked.other_past)
    return f'says state: "none", but where earlier chunks had other tokens, beyond its context, {words}'


def _chunk_borders(asked: Asked) -> str:
    """A model with state may differ once it has learnt."""
    free = 0 if asked.manifest.state == "none" else len(asked.whole) - asked.pieces[0].end
    told = np.arange(len(asked.whole) - free)
    if not _apart(asked, asked.whole[told], asked.small[told]).any():
        return ""
    words = _these(asked, told, asked.whole, asked.small)
    return f"cut into {len(asked.pieces)} chunks instead of one, {words}; chunks began at {_borders(asked)}"


def _context(asked: Asked) -> str:
    if asked.other_begin is None:
        return ""
    moved = _apart(asked, asked.whole, asked.other_begin) & asked.beyond
    if not moved.any():
        return ""
    there = np.flatnonzero(asked.beyond)
    words = _these(asked, there, asked.whole, asked.other_begin)
    return f"with other tokens more than {asked.manifest.context} before, {words}"


# ---------------------------------------------------------------- peek


def _sums(asked: Asked) -> str:
    sums = asked.peeks.log_sums
    bad = ~(np.abs(sums) <= SUM_TOLERANCE)  # true for NaN
    if not bad.any():
        return ""
    worst = int(np.argmax(np.where(np.isnan(sums), np.inf, np.abs(sums))))
    what = "are NaN" if np.isnan(sums[worst]) else f"sum to {np.exp(sums[worst]):.4g}"
    return f"at {int(bad.sum())} of {len(sums)} positions; at {asked.peeks.positions[worst]} they {what}"


def _batch(asked: Asked) -> str:
    first = dict(zip(asked.peeks.positions.tolist(), asked.peeks.nats, strict=True))
    before = np.array([first[position] for position in asked.again.positions.tolist()])
    moved = _apart(asked, before, asked.again.nats)
    if not moved.any():
        return ""
    worst = _worst(before, asked.again.nats)
    apart = abs(before[worst] - asked.again.nats[worst])
    return (
        f"asked alone and in another order, {int(moved.sum())} of {len(moved)} items differ, the one at position "
        f"{asked.again.positions[worst]} by {apart:.3g} nats"
    )


def _peek_changes_nothing(asked: Asked) -> str:
    moved = _apart(asked, asked.small, asked.after_peeks)
    if not moved.any():
        return ""
    return f"once it has been asked `peek`, {_these(asked, np.arange(len(moved)), asked.small, asked.after_peeks)}"


def _mismatch(asked: Asked) -> dict[str, str]:
    """By which pattern `peek` and `score` differ, if they do; the most special one that fits."""
    positions, claimed = asked.peeks.positions, asked.small[asked.peeks.positions]
    apart = asked.peeks.nats - claimed
    moved = ~(np.abs(apart) <= TOLERANCES[asked.manifest.numerics].largest)
    if not moved.any():
        return _leaning(asked, apart)
    worst = _worst(asked.peeks.nats, claimed)
    more = "less" if apart[worst] > 0 else "more"
    words = (
        f"at {int(moved.sum())} of {len(moved)} positions; at {positions[worst]} `score` claims "
        f"{abs(apart[worst]):.3g} nats {more} than `peek` gives the token"
    )
    at_start = np.isin(positions, asked.stream.starts)
    cut = positions > asked.manifest.context
    if not (moved & ~at_start).any():
        return {"doc_starts": words}
    if asked.manifest.numerics == "fp32" and _only_noise(apart):
        return {"numerics": f"differences up to {np.abs(apart).max():.3g} nats that lean to no side, as of bf16"}
    if (moved & cut).any() and not (moved & ~cut).any() and (~cut).any() and asked.other_begin is not None:
        return {"positions": f"{words}; never where all tokens since the beginning were given"}
    return {"same_answer": words}


def _leaning(asked: Asked, apart: Floats) -> dict[str, str]:
    """Differences that are small everywhere and all of one sign."""
    tolerance = TOLERANCES[asked.manifest.numerics]
    sigma = max(float(apart.std()), tolerance.noise)
    mean = float(apart.mean())
    if mean <= tolerance.mean + DEVIATIONS * sigma / np.sqrt(len(apart)):
        return {}
    return {"same_answer": f"`score` claims {mean:.3g} nats a token less than `peek` gives, on the average"}


def _only_noise(apart: Floats) -> bool:
    coarse = TOLERANCES["bf16"]
    if not np.isfinite(apart).all() or np.abs(apart).max() > coarse.largest or apart.std() > coarse.most_noise:
        return False
    sigma = max(apart.std(), coarse.noise)
    return bool(abs(apart.mean()) <= coarse.mean + DEVIATIONS * sigma / np.sqrt(len(apart)))


# ---------------------------------------------------------------- in words


def _apart(asked: Asked, one: Floats, other: Floats) -> Mask:
    found: Mask = ~(np.abs(one - other) <= TOLERANCES[asked.manifest.numerics].largest)  # true for NaN
    return found


def _worst(one: Floats, other: Floats) -> int:
    return int(np.argmax(np.nan_to_num(np.abs(one - other), nan=np.inf)))


def _these(asked: Asked, among: NDArray[np.int64], one: Floats, other: Floats) -> str:
    """How many of these tokens have other nats, and which the most."""
    moved = _apart(asked, one[among], other[among])
    at = int(among[_worst(one[among], other[among])])
    offset = at - asked.stream.start_of(at)
    return (
        f"{int(moved.sum())} of {len(among)} tokens have other nats; token {at} ({offset} into its document) has "
        f"{one[at]:.4g} and {other[at]:.4g}"
    )


def _borders(asked: Asked) -> str:
    begins = [piece.begin for piece in asked.pieces]
    return ", ".join(map(str, begins[:4])) + (" ..." if len(begins) > 4 else "")


ALONE: dict[str, Callable[[Asked], str]] = {"sums": _sums, "batch": _batch}
CHAIN: dict[str, Callable[[Asked], str]] = {
    "reset": _reset,
    "causal": _causal,
    "context": _context,
    "state": _state,
    "chunk_borders": _chunk_borders,
    "peek_changes_nothing": _peek_changes_nothing,
}
PATTERNS = ("doc_starts", "positions", "numerics", "same_answer")
"""Ways in which `peek` and `score` can differ, each told by where they do."""
