"""Anchors: runs of heads by which leases are compared, and by which a machine is known to be what it was.

Takes the store's rows; gives the anchors that are due, the leases that are closed, and what an idea gained over its
baseline within leases and across them. A lease is closed where the time of a step drifted between two of its anchors,
or where an anchor can't run; its runs since the last good anchor are set aside. On a track that asks for no anchors
nothing of this happens.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from agent.judge import gates, leases
from agent.judge.leases import Reading
from agent.judge.noise import Noise
from agent.judge.verdict import Gain
from agent.records import Proposal, Run
from agent.runners import LATER, NEW, Leases, lease_of, pinned, size_of
from agent.setting import Setting, known
from agent.steps.fresh import fresh
from agent.steps.losses import MAX_ATTEMPTS
from agent.steps.wanted import Wanted, in_flight, of_test, seed_of
from agent.store import Reads, Scored, Tx
from agent.store.anchors import StepTime, step_times

ANCHOR = -2  # which of a head's seeds anchors have: none of those that decide


class Due(NamedTuple):
    item: Wanted
    slot: str


class Closed(NamedTuple):
    """A lease on which nothing runs any more."""

    lease: str
    after: int  # the last anchor on it that was good, or 0: what ended later does not count
    words: str


def asked_for(setting: Setting) -> bool:
    return setting.track.hardware.anchor_every_s is not None


def due(setting: Setting, slots: Sequence[str], *, idle: bool = False) -> list[Due]:
    """One a lease at most, on one of these slots: it is the most urgent run there. What else runs beside it waits for
    it with its verdict. None on a lease that is closed.

    Where jobs get their machine when they begin, on a slot that means the machine. `idle`: nothing else is wanted, so
    only what a verdict waits for is due.
    """
    if not asked_for(setting):
        return []
    with setting.store.read() as reads:
        head = reads.head(setting.campaign.id)
        runs = reads.runs(setting.campaign.id, purposes={"anchor"})
        shut = {one.lease for one in closed(setting, reads)}
        alone = _alone(setting, reads, idle=idle)
        by_lease: dict[str, list[str]] = {}
        for slot in (*(() if idle else slots), *alone):
            lease = lease_of(setting.runner, slot)
            if lease != LATER and lease not in shut and _fits(setting, slot):
                by_lease.setdefault(slot if lease == NEW else lease, []).append(slot)
        found = []
        for lease, there in by_lease.items():
            mine = [run for run in runs if run.lease == lease]
            of = _due_of(setting, reads, head, mine)
            if of is not None and (slot := _where(setting, of, mine, there)):
                found.append(Due(_item(setting, of, mine, slot), slot))
    return found


def _fits(setting: Setting, slot: str) -> bool:
    """Whether it has the GPUs of a deciding run."""
    return size_of(setting.runner, slot) in (None, setting.track.gpus(setting.track.decision.rung))


def _where(setting: Setting, of: Proposal, runs: Sequence[Run], there: Sequence[str]) -> str:
    """A machine may have several slots, of different GPUs: what is timed again is timed on the same ones, and waits for
    them (empty). `runs`: the lease's anchors; `there`: its free slots."""
    first = next((run for run in runs if _good(run)), None)
    if first is None or first.slot in there:
        return there[0] if first is None else known(first.slot)
    runner, slot = setting.runner, known(first.slot)
    busy = of.id == first.proposal_id and slot in runner.slots and lease_of(runner, slot) == first.lease
    return "" if busy else there[0]


def usable(setting: Setting, slots: Sequence[str]) -> list[str]:
    """Those whose lease is not closed."""
    if not asked_for(setting):
        return list(slots)
    with setting.store.read() as reads:
        shut = {one.lease for one in closed(setting, reads)}
    return [slot for slot in slots if lease_of(setting.runner, slot) not in shut]


def _alone(setting: Setting, reads: Reads, *, idle: bool) -> list[str]:
    """Slots that mean one machine, where jobs get theirs when they begin; those of closed leases aside."""
    pins = pinned(setting.runner, lambda: _waiting(setting, reads))
    if not pins:
        return []
    shut = {one.lease for one in closed(setting, reads)}
    wanted = _waiting(setting, reads) if idle else pins
    return [slot for lease, slot in pins.items() if lease not in shut and lease in wanted]


def _waiting(setting: Setting, reads: Reads) -> list[str]:
    """Leases of runs that no verdict has looked at, the newest last."""
    proposals = reads.proposals(setting.campaign.id, {"measured", "confirming"})
    found = [run for proposal in proposals if (run := undecided(reads, proposal)) is not None]
    return [run.lease for run in sorted(found, key=lambda run: run.id)]


def _due_of(setting: Setting, reads: Reads, head: Proposal, runs: Sequence[Run]) -> Proposal | None:
    """The head, once; then, every few hours, what the lease was first anchored with, whichever head that was: only the
    same work can be timed twice. `runs`: the anchors of one lease, of any head."""
    if in_flight(list(runs)):
        return None
    good = [run for run in runs if _good(run)]
    if not any(run.proposal_id == head.id for run in good):
        return head
    first = good[0].proposal_id
    last = [run for run in good if run.proposal_id == first][-1]
    every = timedelta(seconds=known(setting.track.hardware.anchor_every_s))
    late = datetime.fromisoformat(known(last.started)) + every <= datetime.now(UTC)
    return reads.proposal(first) if late else None


def _good(run: Run) -> bool:
    return run.state == "done" and run.outcome == "ok"


def _item(setting: Setting, of: Proposal, runs: Sequence[Run], slot: str) -> Wanted:
    seed, where = seed_of(setting.campaign.seed, of.id, ANCHOR), setting.runner.hardware_class(slot)
    attempt = 1 + sum(run.proposal_id == of.id for run in runs)
    return Wanted(of, "anchor", None, seed, attempt, False, setting.track.decision.rung, (where,))


# ---------------------------------------------------------------- leases that are closed


def closed(setting: Setting, reads: Reads) -> list[Closed]:
    """It follows from the anchors alone, so it is found again after a crash, and never taken back."""
    runs = [run for run in reads.runs(setting.campaign.id, purposes={"anchor"}) if not in_flight([run])]
    steps = step_times(reads, setting.campaign.id)
    found = []
    for lease in dict.fromkeys(run.lease for run in runs if run.lease != NEW):
        mine = [run for run in runs if run.lease == lease]
        ends = [one for head in {run.proposal_id for run in mine} if (one := _end(head, mine, steps)) is not None]
        if ends:
            found.append(min(ends, key=lambda one: one.after))
    return found


def _end(head_id: int, runs: Sequence[Run], times: dict[int, StepTime]) -> Closed | None:
    """By the anchors of one head: only the same work can be timed twice."""
    mine = [run for run in runs if run.proposal_id == head_id]
    good = [run for run in mine if _good(run)]
    steps = _by_one_clock({run.id: times[run.id] for run in good if run.id in times})
    until = leases.good_until([steps.get(run.id) for run in good])
    if until < len(good):
        one, other = good[until - 1], good[until]
        first, last = next(steps[run.id] for run in good if run.id in steps), steps[other.id]
        words = f"the time of a step drifted by {100 * (last / first - 1):+.1f} % until r{other.id}"
        return Closed(one.lease, one.id, words)
    failed = [
        run for run in mine if not _good(run) and run.state != "cancelled" and run.id > (good[-1].id if good else 0)
    ]
    if len(failed) >= MAX_ATTEMPTS:
        words = f"an anchor could not run there {MAX_ATTEMPTS} times, r{failed[-1].id} the last"
        return Closed(failed[0].lease, good[-1].id if good else 0, words)
    return None


def _by_one_clock(times: dict[int, StepTime]) -> dict[int, float]:
    """The script's own, where all of them tell it: ours holds compiling and quantising too, at which a machine that has
    just begun is slower."""
    if all(one.own is not None for one in times.values()):
        return {run_id: one.own for run_id, one in times.items() if one.own is not None}
    return {run_id: one.wall for run_id, one in times.items()}


def close(setting: Setting) -> None:
    """Sets aside what ran on closed leases, and runs that nothing will ever be compared with; tells the runner."""
    if not asked_for(setting):
        return
    with setting.store.read() as reads:
        shut = closed(setting, reads)
        spoilt = [(run, one.words) for one in shut for run in _since(setting, reads, one)]
        stranded = _stranded(setting, reads, {one.lease for one in shut})
    for one in shut:
        if isinstance(setting.runner, Leases):
            setting.runner.refuse(one.lease, one.words)
    if spoilt or stranded:
        with setting.store.write() as tx:
            for run, words in (*spoilt, *stranded):
                _set_aside(tx, run, words)


def _since(setting: Setting, reads: Reads, one: Closed) -> list[Run]:
    """By when they ended: one that was booked before the anchor may have begun long after it."""
    runs = [run for run in reads.runs(setting.campaign.id, states={"done"}) if run.lease == one.lease]
    ends = {run.id: (known(run.ended), run.id) for run in runs}
    good = ends.get(one.after, ("", 0))
    return [run for run in runs if ends[run.id] > good and not run.set_aside]


def _stranded(setting: Setting, reads: Reads, shut: Collection[str]) -> list[tuple[Run, str]]:
    """Runs without a verdict whose machine is gone before the head ran on it: nothing will ever tie them to it."""
    here = {lease_of(setting.runner, slot) for slot in setting.runner.slots}
    here = (here | pinned(setting.runner, lambda: _waiting(setting, reads)).keys()) - set(shut)
    found = []
    for proposal in reads.proposals(setting.campaign.id, {"measured", "confirming"}):
        run = undecided(reads, proposal)
        if run is None or run.lease in here or run.outcome != "ok":
            continue
        theirs = fresh(setting, reads, reads.proposal(known(proposal.baseline_id)), run.hardware_class, documents=False)
        scored = reads.scored(proposal.campaign_id, proposal_id=proposal.id, documents=False)
        mine = [one for one in scored if one.run.baseline_id == proposal.baseline_id and not one.run.set_aside]
        if theirs and gain(setting, reads, mine, theirs, Noise(1.0, 1.0, 0.0)) is None:
            found.append((run, "its machine was gone before the head had run on it"))
    return found


def undecided(reads: Reads, proposal: Proposal) -> Run | None:
    """The run of the idea's test that no verdict has looked at: its last, for there is one verdict a run."""
    runs = of_test(reads.runs(proposal.campaign_id, proposal_id=proposal.id), proposal)
    done = [run for run in runs if run.state == "done"]
    decided = sum(one.baseline_id == proposal.baseline_id for one in reads.verdicts(proposal.id))
    return done[-1] if len(done) > decided else None


def _set_aside(tx: Tx, run: Run, words: str) -> None:
    """It counts for nothing. One that no verdict has looked at is made again: its machine failed, not the idea."""
    proposal = tx.proposal(run.proposal_id)
    last = undecided(tx, proposal) if run.baseline_id is not None else None
    tx.update_run(run.id, set_aside=words)
    if last is not None and last.id == run.id and proposal.state in ("measured", "confirming"):
        tx.update_run(run.id, state="lost", reason=words)
    else:
        tx.add_event(run.campaign_id, "set aside", words, proposal_id=run.proposal_id, run_id=run.id)


# ---------------------------------------------------------------- what was gained


def gain(setting: Setting, reads: Reads, mine: Sequence[Scored], theirs: Sequence[Scored], noise: Noise) -> Gain | None:
    """What one commit gained over the other; None where nothing ties their leases together yet."""
    mine, theirs = (gates.effective(side) for side in (mine, theirs))
    if not mine or not theirs:
        return None
    one = theirs[0].run
    anchors = [
        scored
        for head_id in {run.proposal_id for run in reads.runs(one.campaign_id, purposes={"anchor"}, states={"done"})}
        for scored in reads.scored(one.campaign_id, proposal_id=head_id, documents=False)
        if scored.run.purpose == "anchor" and scored.run.hardware_class == one.hardware_class
    ]
    readings = [
        Reading(scored.run.proposal_id, scored.run.lease, scored.run.seed, scored.measurement.bpb)
        for scored in (*mine, *theirs, *anchors)
        if scored.measurement.bpb is not None and scored.run.outcome == "ok" and not scored.run.set_aside
    ]
    return leases.compare(readings, mine[0].run.proposal_id, one.proposal_id, noise)
