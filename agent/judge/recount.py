"""Whether a reported score and its loss belong together: bits per byte come from nats per token by a constant.

Takes what a log says; gives a `Recount`. Pure. That constant, tokens per byte, depends on the tokenizer and the
validation set alone: a wrong denominator, a part of the set or another set show in it, a forged loss does not.
"""

import math
import re
from dataclasses import dataclass

LEAST_BYTES, MOST_BYTES = 151_070_000, 151_090_000  # all exports of the 50,000 documents lie in between
TOLERANCE = 4e-4  # relative: four printed digits of the loss and of the score
BYTES = 0.01  # whose tokens are bytes has one a byte, but for separators, on any text
# In the names of the contest's shards and tokenizers; its loader calls every corpus' shards fineweb_val_*.bin.
_CONTEST = re.compile(r"fineweb_?\d", re.IGNORECASE | re.ASCII)
WINDOW = 8192  # tokens of the longest window: so many may be dropped at the end


@dataclass(frozen=True)
class Export:
    """The validation documents in the tokens of one tokenizer."""

    name: str
    tokens: int  # that are scored
    per_byte: float
    old: bool = False  # another set of documents: not to be compared with the others

    def bytes(self) -> int:
        return round(self.tokens / self.per_byte)


EXPORTS = (
    Export("sp1024, as published", 62_021_632, 0.410521),
    Export("sp4096 (clarkkev)", 45_508_608, 0.301234),
    Export("sp4096 (dexhunter)", 45_514_752, 0.301273),
    Export("sp8192", 40_540_160, 0.268339),
    Export("CaseOps sp8192", 47_851_520, 0.316741),
    Export("byte260, separators counted", 151_130_112, 1.000331),
    Export("sp1024 of the first baseline", 63_779_840, 0.409449, old=True),
)


@dataclass(frozen=True)
class Recount:
    """What the constant says."""

    per_byte: float
    export: str  # whose constant it is; empty: nobody's
    implied_bytes: int | None  # where the log says how many tokens were scored
    fine: bool | None  # None: there is too little to tell
    words: str


def recount(bpb: float | None, loss: float | None, tokens: int | None, tokenizer: str = "") -> Recount | None:
    """None where the log does not say both score and loss."""
    if bpb is None or loss is None or not (math.isfinite(loss) and loss > 0):
        return None
    per_byte = bpb * math.log(2) / loss
    implied = round(min(tokens / per_byte, 1e15)) if tokens is not None and per_byte > 0 else None
    near = sorted(EXPORTS, key=lambda one: abs(one.per_byte - per_byte))
    same = [one for one in near if abs(one.per_byte - per_byte) <= TOLERANCE * one.per_byte]
    fine, words = _judged(same, near[0], tokens, implied)
    named = f" ({tokenizer})" if tokenizer else ""
    text = f"{per_byte:.6f} tokens per byte{named}: {words}"
    return Recount(per_byte, same[0].name if same else "", implied, fine, text)


def of_contest(told: Recount, tokens: int | None, *names: str) -> bool:
    """Whether anything says that the contest's validation set was scored, or a part of it: the `names` of shards and
    tokenizer, a constant of one of its tokenizers, or as many tokens as it has."""
    constant = bool(told.export) and abs(told.per_byte - 1) > BYTES
    count = tokens is not None and any(abs(tokens - one.tokens) <= WINDOW for one in EXPORTS)
    return constant or count or any(map(_CONTEST.search, names))


def _judged(same: list[Export], nearest: Export, tokens: int | None, implied: int | None) -> tuple[bool | None, str]:
    """Whether it fits, and in words why. `same`: exports with this constant, the nearest first."""
    if same and same[0].old:
        return False, f"the constant of {same[0].name}, another validation set: not comparable with later figures"
    constant = f"the constant of {same[0].name} ({same[0].per_byte})" if same else ""
    if tokens is None or implied is None:
        if same:
            return True, f"{constant}; the log does not say how many tokens were scored"
        return None, f"no known export has it; the nearest is {nearest.name} with {nearest.per_byte}"
    if any(abs(tokens - one.tokens) <= WINDOW for one in same):
        return True, f"{constant}, and its {tokens:,} tokens"
    said = f"{tokens:,} tokens make {implied:,} bytes"
    if LEAST_BYTES <= implied <= MOST_BYTES:
        return True, f"{said}, as many as the validation set has"
    what = f"{constant}, but {said}" if same else said
    return False, f"{what}; the validation set has {LEAST_BYTES / 1e6:.2f} to {MOST_BYTES / 1e6:.2f} million"
