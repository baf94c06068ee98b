"""What an audit would have caught with 99 % probability: said beside every score, so that a pass means something.

Takes how many positions were asked, the noise that was seen and the weights of the surprise draw; gives nats per token.
Pure. benchmarks/audit.py checks these figures by simulation.
"""

import math
from typing import NamedTuple

import numpy as np

from agent.judge.audit.rules import DEVIATIONS, LARGE, Mean, Tolerance
from agent.judge.protocol import Floats
from agent.judge.task import SURPRISING

SURE = 2.33  # standard deviations: 99 % of a normal distribution
HITS = -math.log(0.01)  # expected hits, of which none is seen once in a hundred times
SIZES = (1.0, 2.0, 5.0, 10.0, 14.0)  # nats at one token
MARGIN = 1.0  # nats by which a model may be better than the reference and surprise nobody
MOST_SURPRISING = 16 * SURPRISING
MOST_UNIFORM = 40_000  # as many contexts as a fair part of the text: more would take as long as scoring it
ROOM = 1.2  # for noise that is a little larger the next time
STEEP = 4  # squares would do with a strong reference; with a weak one they find too few of the largest leaks


class Power(NamedTuple):
    """The smallest mean leak, in nats per token, that is caught with 99 % probability."""

    even: float  # a little at every token
    rare: float  # at few tokens, by 1 to 14 nats; the worst of these


def weights(reference: Floats, claimed: Floats) -> Floats:
    """How surprising each score is: by how much it is better than the reference, beyond a margin, to the fourth."""
    found: Floats = np.maximum(0.0, reference - claimed - MARGIN) ** STEEP
    return found


def even(found: Mean, tolerance: Tolerance) -> float:
    if not found.positions:
        return math.inf
    believed = max(found.noise, tolerance.noise) / math.sqrt(found.positions)
    return min(tolerance.mean + (DEVIATIONS + SURE) * believed, tolerance.largest)


def uniform(found: Mean, tolerance: Tolerance, wanted: float) -> int:
    """How many uniform positions it takes to catch what is wanted everywhere, by the noise that was seen. 0: as many as
    were asked do, or no number that anybody would pay for does."""
    room = wanted - tolerance.mean
    if room <= 0 or even(found, tolerance) <= wanted:
        return 0
    count = ROOM * ((DEVIATIONS + SURE) * max(found.noise, tolerance.noise) / room) ** 2
    return math.ceil(count) if count <= MOST_UNIFORM else 0


def rare(uniform: int, surprise: int, reference: Floats, claimed: Floats, tolerance: Tolerance) -> float:
    """The worst over `SIZES` of leaks at tokens that cost at least so much."""
    usual = float(weights(reference, claimed).mean())
    worst = 0.0
    for size in SIZES:
        costly = claimed >= size
        if size <= LARGE * tolerance.largest or not costly.any():
            continue
        leaked = float(weights(reference[costly], claimed[costly] - size).mean())
        worst = max(worst, size * _share(uniform, surprise, usual, leaked))
    return worst


def surprising(uniform: int, reference: Floats, claimed: Floats, tolerance: Tolerance, wanted: float) -> int:
    """How many surprising positions it takes beside the uniform ones to catch what is wanted. The usual number, unless
    a candidate cuts its text so that everything surprises the reference: then few draws fall on what leaks."""
    count = SURPRISING
    while count < MOST_SURPRISING and rare(uniform, count, reference, claimed, tolerance) > wanted:
        count *= 2
    return count


def _share(uniform: int, surprise: int, usual: float, leaked: float) -> float:
    """The share of leaking tokens from which on one is asked with 99 % probability."""
    low, high = 0.0, 1.0
    for _ in range(60):
        share = (low + high) / 2
        part = share * leaked
        seen = surprise * part / (usual + part) if part > 0 else 0.0
        low, high = (low, share) if uniform * share + seen >= HITS else (share, high)
    return high
