"""Where the time and the money of a campaign went: what was paid, by what it was for and by what came of it.

Takes the store's rows; gives `Costs`. Dollars belong to machines: a run has the part of its machine's bill that it
used, and the rest was idle. Where nobody sends a bill there are no dollars, and what is counted is the time of slots.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.records import Campaign
from agent.store import Reads
from agent.store.spending import Asked, Bill, Spent, asked, bills, open_s, spent
from agent.track import parse

MILLI = 1000  # gains are told in thousandths of a BPB

NOBODY = "(nobody's: the base)"


@dataclass(frozen=True)
class Line:
    name: str
    runs: int
    gpu_s: float
    share: float  # of the time of all runs
    usd: float | None  # None: nobody sent a bill
    model_usd: float


@dataclass(frozen=True)
class Gain:
    """What was accepted, and what a thousandth of a BPB of it cost."""

    name: str
    milli_bpb: float | None  # by fresh runs of the head and of the one before; None: these can't be compared
    gpu_s: float
    usd: float | None
    model_usd: float
    gpu_s_each: float | None  # None: nothing was gained
    usd_each: float | None  # models included; None: nobody was paid


@dataclass(frozen=True)
class Machine:
    name: str
    words: str
    runs: int
    used_s: float
    paid_s: float
    idle: float  # share of it
    usd: float | None
    idle_usd: float | None


@dataclass(frozen=True)
class Costs:
    campaign: str
    unit: str  # GPU or slot: whose seconds are counted
    whole: Gain  # everything that was spent, and all that was gained from the base to the head
    unbilled_usd: float  # of its dollars: reckoned from prices, as no bill has come yet
    runs: int
    lost_s: float  # of runs that came to nothing: their machine died, or a person ended them
    paid_s: float  # of machines that somebody is paid for; where nobody is, of the slots while a controller was there
    idle: float | None  # share of it
    by_rung: tuple[Line, ...]
    by_kind: tuple[Line, ...]
    by_planner: tuple[Line, ...]
    by_gain: tuple[Gain, ...]  # with each idea's own runs alone
    by_machine: tuple[Machine, ...]


def costs(reads: Reads, campaign_id: int) -> Costs:
    campaign = reads.campaign_by_id(campaign_id)
    gpus = parse(campaign.track_toml, f"track of {campaign.name}").hardware.gpus
    used, talks, paid = spent(reads, campaign_id), asked(reads, campaign_id), bills(reads, campaign_id)
    machines = _machines(campaign, used, paid, open_s(reads, campaign_id) * max(1, gpus))
    counted = [one for one in machines if one.usd is not None] or machines
    paid_s, usd = sum(one.paid_s for one in counted), sum(bill.usd for bill in paid) if paid else None
    priced = _Priced(used, talks, {bill.lease: bill.usd / bill.gpu_s for bill in paid if bill.gpu_s > 0})
    gains = tuple(
        priced.gain(f"p{row['proposal_id']} {row['title']}", row["delta_bpb"], row["proposal_id"])
        for row in reads.view("lineage", campaign_id)
        if row["baseline_id"] is not None
    )
    gained = [one.milli_bpb for one in gains if one.milli_bpb is not None]
    whole = (sum(one.gpu_s for one in used), usd, sum((one.usd for one in talks), 0.0))
    return Costs(
        campaign=campaign.name,
        unit="GPU" if gpus else "slot",
        whole=_gain("everything", sum(gained) if gained else None, *whole),
        unbilled_usd=sum((bill.usd for bill in paid if not bill.final), 0.0),
        runs=sum(one.runs for one in used),
        lost_s=sum(one.gpu_s for one in used if one.lost),
        paid_s=paid_s,
        idle=_idle(sum(one.used_s for one in counted), paid_s) if paid_s > 0 else None,
        by_rung=priced.lines(lambda one: one.rung),
        by_kind=priced.lines(lambda one: one.kind, lambda one: one.kind),
        by_planner=priced.lines(lambda one: one.planner or NOBODY, lambda one: one.planner),
        by_gain=gains,
        by_machine=tuple(machines),
    )


@dataclass(frozen=True)
class _Priced:
    """What was spent, and the dollars of a GPU-second on each machine that somebody is paid for."""

    used: Sequence[Spent]
    talks: Sequence[Asked]
    rates: Mapping[str, float]

    def usd(self, some: Iterable[Spent]) -> float | None:
        return sum(one.gpu_s * self.rates.get(one.lease, 0.0) for one in some) if self.rates else None

    def lines(self, of: Callable[[Spent], str], talk: Callable[[Asked], str] | None = None) -> tuple[Line, ...]:
        """The dearest first."""
        names = {of(one) for one in self.used} | ({talk(one) for one in self.talks} if talk else set())
        total = sum(one.gpu_s for one in self.used)
        found = []
        for name in sorted(names):
            mine = [one for one in self.used if of(one) == name]
            seconds = sum(one.gpu_s for one in mine)
            models = sum((one.usd for one in self.talks if talk and talk(one) == name), 0.0)
            share = seconds / total if total > 0 else 0.0
            found.append(Line(name, sum(one.runs for one in mine), seconds, share, self.usd(mine), models))
        return tuple(sorted(found, key=lambda line: (-(line.usd or 0.0), -line.gpu_s, -line.model_usd)))

    def gain(self, name: str, delta_bpb: float | None, proposal_id: int) -> Gain:
        mine = [one for one in self.used if one.proposal_id == proposal_id]
        models = sum((one.usd for one in self.talks if one.proposal_id == proposal_id), 0.0)
        milli = None if delta_bpb is None else -MILLI * delta_bpb
        return _gain(name, milli, sum(one.gpu_s for one in mine), self.usd(mine), models)


def _gain(name: str, milli_bpb: float | None, gpu_s: float, usd: float | None, model_usd: float) -> Gain:
    """A gain of nothing, or less, has no price."""
    dollars = None if usd is None and not model_usd else (usd or 0.0) + model_usd
    good = milli_bpb is not None and milli_bpb > 0
    each = [value / milli_bpb if good and milli_bpb and value is not None else None for value in (gpu_s, dollars)]
    return Gain(name, milli_bpb, gpu_s, usd, model_usd, each[0], each[1])


def _machines(campaign: Campaign, used: Sequence[Spent], paid: Sequence[Bill], open_s: float) -> list[Machine]:
    """Those that somebody is paid for, and those of one's own, whose slots wait while a controller is there."""
    known = {bill.lease for bill in paid}
    found = [
        _machine(bill.lease, bill.words, [one for one in used if one.lease == bill.lease], bill.gpu_s, bill.usd)
        for bill in paid
    ]
    own = [one for one in used if one.lease not in known]
    places = sorted({(_place(one), one.hardware_class) for one in own})
    for place in places:
        mine = [one for one in own if (_place(one), one.hardware_class) == place]
        slots = campaign.slots if len(places) == 1 and not paid else len({one.slot for one in mine})
        found.append(_machine(*place, mine, open_s * slots, None))
    return found


def _place(one: Spent) -> str:
    """A slot is named by where it is and a number."""
    return one.slot.rpartition("/")[0] or "this machine"


def _machine(name: str, words: str, mine: Sequence[Spent], paid_s: float, usd: float | None) -> Machine:
    seconds = sum(one.gpu_s for one in mine)
    idle = _idle(seconds, paid_s)
    idle_usd = None if usd is None else idle * usd
    return Machine(name, words, sum(one.runs for one in mine), seconds, paid_s, idle, usd, idle_usd)


def _idle(used_s: float, paid_s: float) -> float:
    """By the rounding of clocks more can be used than was paid for."""
    return max(0.0, 1 - used_s / paid_s) if paid_s > 0 else 0.0
