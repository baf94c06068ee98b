"""Which planner is asked next, where there are several: whose ideas earn most for what they cost, by Thompson sampling.

Takes the campaign's newest ideas and what planners paid to language models; gives a planner's name. Pure and seeded:
the same rows, seed and number give the same answer, so nothing is kept in memory.

Each planner's ideas pay with an unknown chance (a Beta distribution from those that ended) and, when they do, by an
unknown gain (a Gamma distribution around the mean of those that paid). A draw of both, over what its ideas cost, is its
bid; the highest is asked. So who has hardly been tried is asked now and then, and who is worse seldom, but never
never: `FLOOR` of the questions go to each of them whatever it did, because a head that moves on, or a model that has
read more, changes what a planner is worth. For the same reason only the newest ideas count.
"""

import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.calibration import credible
from agent.records import Caps, ProposalState

if TYPE_CHECKING:
    from agent.store.promises import Promise

FIRST = 3  # ideas of each planner before anything is drawn: they take turns
FLOOR = 0.1  # of the questions for each planner, and half of them for all together at most
PRIOR = 4.0  # ideas that the belief "this planner is like the others" is worth
# A near miss is worth this part of what it gained: it may still be combined or taken up again.
NEAR_MISS = 0.25
# Where no caps say what a campaign's person thinks that time and models are worth: about an hour of one rented H100.
USD_PER_SLOT_HOUR = 2.0
SHARE_DRAWS = 2000

# States that say something of a planner: its idea was tried, or no check let it through.
_ENDED: frozenset[ProposalState] = frozenset(
    {
        *("edit_failed", "duplicate", "blocked", "invalid", "oversize", "crashed", "worse", "inconclusive"),
        *("promoted", "reverted"),
    }
)


@dataclass(frozen=True)
class Record:
    """What one planner has done so far."""

    planner: str
    ideas: int
    """Those under way included."""
    decided: int
    """Those that ended in a way that says something of the planner."""
    promoted: int
    paid: int
    """Ideas with a gain that counts."""
    gain: float
    """Of those, near misses at a part of it."""
    slot_s: float
    """Of the ideas that were decided."""
    llm_usd: float
    """Of all its questions."""


def records(planners: Sequence[str], ideas: "Sequence[Promise]", paid: Mapping[str, float]) -> tuple[Record, ...]:
    """Of these planners, in this order. `paid`: dollars that each of them paid for calls.

    An idea that no check let through is charged what others run for: its question could have been another's.
    """
    ran = [idea.slot_s for idea in ideas if idea.slot_s > 0]
    usual_s = statistics.fmean(ran) if ran else 0.0
    by_name: dict[str, list[Promise]] = {name: [] for name in planners}
    for idea in ideas:
        if idea.planner in by_name:
            by_name[idea.planner].append(idea)
    return tuple(_record(name, mine, paid.get(name, 0.0), usual_s) for name, mine in by_name.items())


def slot_s_per_usd(caps: Caps) -> float:
    """What a dollar for a model is worth in slot-seconds: as the campaign's caps say, where it has both."""
    if caps.gpu_s and caps.llm_usd:
        return caps.gpu_s / caps.llm_usd
    return 3600.0 / USD_PER_SLOT_HOUR


def choose(known: Sequence[Record], slot_s_per_usd: float, seed: int, n: int) -> str:
    """Whom to ask for the n-th idea. `known` holds those that can be asked, at least one."""
    if len(known) == 1:
        return known[0].planner
    least = min(known, key=lambda record: record.ideas)  # the first of equals
    if least.ideas < FIRST:
        return least.planner
    return _draw(_bids(known, slot_s_per_usd), random.Random(f"bandit/{seed}/{n}"))


def shares(known: Sequence[Record], slot_s_per_usd: float) -> dict[str, float]:
    """The share of the next questions that each would get if nothing else were learnt: the draw itself, many times."""
    if len(known) == 1:
        return {known[0].planner: 1.0}
    bids, draw = _bids(known, slot_s_per_usd), random.Random("bandit/shares")
    names = [_draw(bids, draw) for _ in range(SHARE_DRAWS)]
    return {record.planner: names.count(record.planner) / SHARE_DRAWS for record in known}


Bid = Callable[[random.Random], float]


def _draw(bids: Mapping[str, Bid], draw: random.Random) -> str:
    floor = min(FLOOR * len(bids), 0.5)
    if draw.random() < floor:
        return draw.choice(list(bids))
    offered = {name: bid(draw) for name, bid in bids.items()}
    return max(offered, key=lambda name: offered[name])


def _bids(known: Sequence[Record], rate: float) -> dict[str, Bid]:
    decided = sum(record.decided for record in known)
    paid = sum(record.paid for record in known)
    chance = (paid + 1.0) / (decided + 10.0)  # of all planners' ideas; before any is known, one in ten
    size = sum(record.gain for record in known) / paid if paid else 1.0
    cost = sum(_cost(record, rate) for record in known) / decided if decided else 1.0
    return {record.planner: _bid(record, chance, size, max(cost, 1e-9), rate) for record in known}


def _bid(record: Record, chance: float, size: float, cost: float, rate: float) -> Bid:
    """`chance`, `size`, `cost`: what is believed of a planner that nothing is known of."""
    hits = record.paid + PRIOR * chance
    misses = record.decided - record.paid + PRIOR * (1.0 - chance)
    shape = record.paid + PRIOR
    mean = (record.gain + PRIOR * size) / shape
    own = (_cost(record, rate) + PRIOR * cost) / (record.decided + PRIOR)

    def bid(draw: random.Random) -> float:
        return draw.betavariate(hits, misses) * draw.gammavariate(shape, mean / shape) / own

    return bid


def _cost(record: Record, rate: float) -> float:
    return record.slot_s + rate * record.llm_usd


def _record(planner: str, mine: "list[Promise]", paid: float, usual_s: float) -> Record:
    ended = [idea for idea in mine if idea.state in _ENDED]
    gains = [gain for idea in ended if (gain := _earned(idea)) > 0]
    return Record(
        planner=planner,
        ideas=len(mine),
        decided=len(ended),
        promoted=sum(idea.state == "promoted" for idea in ended),
        paid=len(gains),
        gain=sum(gains),
        slot_s=sum(idea.slot_s or usual_s for idea in ended),
        llm_usd=max(paid, sum(idea.llm_usd for idea in mine)),
    )


def _earned(idea: "Promise") -> float:
    if idea.state == "promoted":
        return max(0.0, idea.gain or 0.0)
    if idea.state in ("worse", "inconclusive", "oversize"):
        return NEAR_MISS * credible(idea.gain, idea.stderr)
    return 0.0
