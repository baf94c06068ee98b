"""The contest's own question of a submission: do its seeds surely beat the record before it, and by enough?

Takes the scores of both, seed by seed; gives a `Claim`, which says it in words. Pure. It has nothing to do with what
a campaign keeps (`agent/judge/verdict.py`): a campaign asks which of many ideas are worth more runs, this asks what
may be said of one of them in public.

The test is Welch's, one-sided, with the standard deviations of the samples. The contest's rule wants a gain of 0.005
nats a token to be sure at p < 0.01. Tokenizers differ in how many tokens they make of a byte, so nats a token of two
of them are not the same thing: the margin becomes bits per byte by the tokens per byte of the new submission.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from agent.errors import UserError
from agent.judge.verdict import upper_tail

LEAST_SEEDS = 3
NATS = math.log(2)  # in a bit
Rule = Literal["contest", "frontier"]


class Asked(NamedTuple):
    """What a rule asks for."""

    margin_nats: float
    p: float
    words: str


RULES: dict[Rule, Asked] = {
    "contest": Asked(0.005, 0.01, "0.005 nats a token better, at p < 0.01"),
    "frontier": Asked(0.0, 0.25, "better at all, at p < 0.25"),  # what was accepted in the contest's last days
}


@dataclass(frozen=True)
class Sample:
    """Scores of one script at several seeds. `std` with n - 1."""

    mean: float
    std: float
    n: int

    def times(self, factor: float) -> "Sample":
        return Sample(self.mean * factor, self.std * factor, self.n)


@dataclass(frozen=True)
class Welch:
    """A one-sided test that the new mean is lower than the old one by more than `margin`."""

    gain: float
    margin: float
    stderr: float
    t: float
    df: float
    p: float


@dataclass(frozen=True)
class Claim:
    """Four tests of one claim, and whether the rule is met. In nats a token where tokens per byte are known."""

    bpb: Welch
    nats: Welch | None
    bpb_margin: Welch | None
    nats_margin: Welch | None
    rule: Rule
    holds: bool
    reason: str
    """Why it does not hold, or what shows that it does."""


def sample(values: Sequence[float]) -> Sample:
    """Raises UserError for what no spread can be seen of."""
    if len(values) < 2:
        raise UserError("one score tells nothing of luck: the claim needs at least two seeds a side, three to submit")
    if not all(math.isfinite(value) and value > 0 for value in values):
        raise UserError("scores must be numbers above 0")
    mean = math.fsum(values) / len(values)
    squares = math.fsum((value - mean) ** 2 for value in values)
    return Sample(mean, math.sqrt(squares / (len(values) - 1)), len(values))


def welch(new: Sample, old: Sample, margin: float = 0.0) -> Welch:
    """Lower is better. Raises UserError where neither side varies: seeds that change nothing are no seeds."""
    mine, theirs = new.std**2 / new.n, old.std**2 / old.n
    if mine + theirs <= 0:
        raise UserError("all seeds have the same score: with nothing that varies, luck can't be told from gain")
    stderr = math.sqrt(mine + theirs)
    df = (mine + theirs) ** 2 / (mine**2 / (new.n - 1) + theirs**2 / (old.n - 1))
    gain = old.mean - new.mean
    t = (gain - margin) / stderr
    return Welch(gain, margin, stderr, t, df, upper_tail(t, df))


def bpb_of(nats: float, tokens_per_byte: float) -> float:
    """Nats a token in bits per byte."""
    return nats * tokens_per_byte / NATS


def claim(
    new: Sample, old: Sample, *, tokens_per_byte: float | None, old_tokens_per_byte: float | None = None, rule: Rule
) -> Claim:
    """Both samples in bits per byte. Without `tokens_per_byte` only a rule without a margin can be met.

    `old_tokens_per_byte`: of the record, where its tokenizer is another one.
    """
    asked = RULES[rule]
    plain = welch(new, old)
    nats = nats_margin = bpb_margin = None
    if tokens_per_byte is not None:
        other = old_tokens_per_byte or tokens_per_byte
        mine, theirs = new.times(1 / bpb_of(1.0, tokens_per_byte)), old.times(1 / bpb_of(1.0, other))
        margin = RULES["contest"].margin_nats
        nats, nats_margin = welch(mine, theirs), welch(mine, theirs, margin)
        bpb_margin = welch(new, old, bpb_of(margin, tokens_per_byte))
    decides = bpb_margin if asked.margin_nats else plain
    holds, reason = _answer(new, decides, asked)
    return Claim(plain, nats, bpb_margin, nats_margin, rule, holds, reason)


def _answer(new: Sample, decides: Welch | None, asked: Asked) -> tuple[bool, str]:
    if decides is None:
        return False, "the margin of 0.005 nats a token needs tokens per byte, which are not known"
    if new.n < LEAST_SEEDS:
        return False, f"{new.n} seeds; a submission needs {LEAST_SEEDS}"
    holds = decides.p < asked.p
    over = f" beyond the margin of {decides.margin:.5f}" if decides.margin else ""
    return holds, (
        f"gain {decides.gain:+.5f} BPB, t = {decides.t:.3f} with {decides.df:.2f} degrees of freedom{over}: "
        f"p = {decides.p:.3g}, {'below' if holds else 'not below'} {asked.p:g}"
    )


def words(found: Claim) -> str:
    """A table of the tests, and the answer."""
    rows = [
        ("better at all, BPB", found.bpb),
        ("better at all, nats a token", found.nats),
        ("by 0.005 nats a token, BPB", found.bpb_margin),
        ("by 0.005 nats a token, nats", found.nats_margin),
    ]
    lines = [f"{'one-sided Welch test':<30}{'gain':>10}{'margin':>10}{'t':>9}{'df':>7}{'p':>10}"]
    for name, one in rows:
        if one is not None:
            figures = f"{one.gain:>+10.5f}{one.margin:>10.5f}{one.t:>9.3f}{one.df:>7.3f}{one.p:>10.3g}"
            lines.append(f"{name:<30}{figures}")
    asked = RULES[found.rule].words
    answer = "holds" if found.holds else "does not hold"
    return "\n".join([*lines, "", f"The claim {answer} ({asked}): {found.reason}."])
