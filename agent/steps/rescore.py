"""verdict -> promote: what is accepted is scored once more on a machine that did not train it, or its row says why not.

Takes an idea that passed; starts a run that only scores, on another lease of the same class, and compares what came of
it with the first score. An artifact that scores well where it was trained alone has left something there. Which lease
that is follows from the slots that there are: nothing is rented for it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from agent.errors import InfraError
from agent.job.folder import JobPaths, JobResult
from agent.job.reading import read_plain
from agent.judge import gates
from agent.judge.audit.rules import TOLERANCES, Tolerance
from agent.judge.measure import DIM, session_answer
from agent.records import Measurement, Proposal, Run
from agent.runners import LATER, NEW, lease_of, pinned
from agent.setting import Setting, known
from agent.steps import anchors
from agent.steps.losses import MAX_ATTEMPTS
from agent.steps.wanted import Wanted, in_flight
from agent.store import Reads, Scored, Tx, rescores
from agent.store.rescores import Rescore
from sandbox.limits import MB


class Due(NamedTuple):
    item: Wanted
    slot: str


class Answer(NamedTuple):
    """What is known of an idea's second score."""

    waits: bool = False
    against: str = ""
    """Why it can't be accepted."""


def look(setting: Setting, tx: Tx, proposal: Proposal) -> Answer:
    """Whether an idea may be accepted as far as its second score goes. Where there will be none, its row says why."""
    one = rests_on(setting, tx, proposal)
    if one is None:
        return Answer()
    if (row := rescores.of_run(tx, one.run.id)) is not None:
        return Answer(against="" if row.agrees is not False else row.words)
    tries = _tries(tx, one.run)
    if in_flight(tries):
        return Answer(waits=True)
    why = _hopeless(tries) or _why_not(setting, one.run) or _no_lease(setting, tx, one.run)
    if not why:
        return Answer(waits=True)
    rescores.add(tx, one.run, _not(one.run, why))
    return Answer()


def due(setting: Setting, slots: Sequence[str]) -> list[Due]:
    """One for each idea that waits for it, where one of these free slots is of another lease."""
    found: list[Due] = []
    with setting.store.read() as reads:
        for proposal, run in awaited(setting, reads):
            if in_flight(tries := _tries(reads, run)):
                continue
            taken = {slot for _, slot in found}
            slot = next((slot for slot in _elsewhere(setting, reads, run, slots) if slot not in taken), None)
            if slot is not None and not _why_not(setting, run):
                found.append(Due(_item(proposal, run, len(tries)), slot))
    return found


def awaited(setting: Setting, reads: Reads) -> list[tuple[Proposal, Run]]:
    """Ideas that passed, of which nothing is known yet, each with the run that is to be scored again."""
    waiting = reads.proposals(setting.campaign.id, {"auditing"})
    best = [(proposal, one.run) for proposal in waiting if (one := rests_on(setting, reads, proposal)) is not None]
    return [(proposal, run) for proposal, run in best if rescores.of_run(reads, run.id) is None]


def unpaid(setting: Setting, proposal: Proposal) -> None:
    """The budget does not cover it: its row says so, and the idea goes on."""
    with setting.store.write() as tx:
        one = rests_on(setting, tx, proposal)
        if one is not None and rescores.of_run(tx, one.run.id) is None:
            rescores.add(tx, one.run, _not(one.run, "the budget does not cover it"))


def compared(setting: Setting, tx: Tx, run: Run, result: JobResult, measured: Measurement) -> None:
    """Writes down what a run that only scores came to. One without a score says something at its last try."""
    first = scored_by(tx, run)
    old = tx.measurement(first.id)
    if old is None:
        return
    there = f"r{first.id}, trained on {first.lease}, was scored on {run.lease} by r{run.id}"
    if why := _no_score(setting, result, measured):
        if sum(one.state == "done" for one in _tries(tx, first)) >= MAX_ATTEMPTS:
            rescores.add(tx, first, _against(first, run, f"{there}, for the third time in vain: {why}"))
        return
    broken = [one for one in measured.findings if one.severity == "invalid"]
    if broken:
        rescores.add(tx, first, _against(first, run, f"{there}: {broken[0].rule}: {broken[0].text}"))
        return
    allowed = _tolerance(JobPaths(setting.job(run.id)), result)
    apart = _apart(old, measured)
    if apart <= allowed.mean and (_unknown(run.lease) or run.lease == first.lease):  # which says nothing of another
        where = "on a machine that nobody knows" if _unknown(run.lease) else f"on {run.lease} too, which trained it"
        rescores.add(tx, first, _not(first, f"r{run.id}, which was to do so, was {where}"))
        return
    words = (
        f"{there}: {measured.bpb:.6f} BPB and {old.bpb:.6f} are {apart:.2g} nats a token apart, {allowed.mean:g} are "
        f"allowed ({allowed.why})"
    )
    row = Rescore(first.id, run.id, first.lease, run.lease, measured.bpb, None, allowed.mean, None, words)
    rescores.add(tx, first, row._replace(apart_nats=_finite(apart), agrees=apart <= allowed.mean))


def _no_score(setting: Setting, result: JobResult, measured: Measurement) -> str:
    """Why it says nothing; empty: it does. What an audit has against it is no reason to ask once more."""
    if any(one.severity == "invalid" for one in measured.findings):
        return ""
    if measured.bpb is None:
        found = [one.text for one in measured.findings if one.rule == "no_score"]
        return "; ".join(found) or result.reason
    # These would be so another time, too.
    never = any(one.rule == DIM for one in measured.findings) or "unsafe" in result.walls
    if setting.track.trust == "blind" and measured.trust != "blind" and not never:
        return "it was not audited in full"
    return ""


def rests_on(setting: Setting, reads: Reads, proposal: Proposal) -> Scored | None:
    """The run by which the idea looks best, of those that decided."""
    rung = setting.track.decision.rung
    scored = reads.scored(setting.campaign.id, proposal_id=proposal.id, documents=False)
    mine = [one for one in scored if one.run.baseline_id == proposal.baseline_id and one.run.rung == rung]
    counted = [one for one in gates.effective(mine) if one.measurement.bpb is not None and not one.run.set_aside]
    return min(counted, key=lambda one: known(one.measurement.bpb), default=None)


def scored_by(reads: Reads, run: Run) -> Run:
    """The run whose artifact a run that only scores has: of the same seed, in the same test."""
    runs = reads.runs(run.campaign_id, proposal_id=run.proposal_id, states={"done"})
    same = (run.baseline_id, run.seed, run.rung)
    return [one for one in runs if one.purpose != "rescore" and (one.baseline_id, one.seed, one.rung) == same][-1]


def _tries(reads: Reads, first: Run) -> list[Run]:
    runs = reads.runs(first.campaign_id, proposal_id=first.proposal_id, purposes={"rescore"})
    return [one for one in runs if (one.baseline_id, one.seed) == (first.baseline_id, first.seed)]


def _hopeless(tries: Sequence[Run]) -> str:
    lost = [one for one in tries if one.state in ("lost", "cancelled")]
    if len(lost) < MAX_ATTEMPTS:
        return ""
    return f"{len(lost)} tries were lost; the last, r{lost[-1].id}: {lost[-1].reason}"


def _why_not(setting: Setting, run: Run) -> str:
    """What makes it impossible wherever it were scored."""
    script = setting.track.script
    if not script.score:
        return "the track has no command that scores"
    try:
        read_plain(JobPaths(setting.job(run.id)).out, script.artifact, setting.track.limits.disk_mb * MB)
    except (OSError, ValueError) as error:
        return f"its artifact is not here: {error}"
    return ""


def _no_lease(setting: Setting, reads: Reads, run: Run) -> str:
    if _unknown(run.lease):
        return "nobody knows which machine trained it"
    if _elsewhere(setting, reads, run, setting.runner.slots):
        return ""
    return f"no other machine of the class {run.hardware_class} is known than {run.lease}, which trained it"


def _elsewhere(setting: Setting, reads: Reads, run: Run, slots: Sequence[str]) -> list[str]:
    """Those that are of its class, and of a lease that did not train it. Where jobs get their machine when they begin,
    these are slots that mean one machine; that on which a run was last comes first, for it is the likeliest there."""
    if _unknown(run.lease):
        return []
    runner = setting.runner
    alone = reversed(pinned(runner, lambda: _seen(reads, run)).values())
    alike = [slot for slot in (*slots, *alone) if runner.hardware_class(slot) == run.hardware_class]
    other = [slot for slot in alike if lease_of(runner, slot) not in ("", NEW, LATER, run.lease)]
    return anchors.usable(setting, other) if other else []


def _seen(reads: Reads, run: Run) -> list[str]:
    """The leases on which runs of its class were, the newest last."""
    runs = sorted(reads.runs(run.campaign_id, states={"done"}), key=lambda one: one.id)
    return [one.lease for one in runs if one.hardware_class == run.hardware_class]


def _unknown(lease: str) -> bool:
    """Whether nobody can say which machine it was: see `collect`."""
    return not lease or lease.startswith(f"{NEW}/")


def _item(proposal: Proposal, run: Run, tries: int) -> Wanted:
    classes = (run.hardware_class,)
    return Wanted(proposal, "rescore", run.baseline_id, run.seed, tries + 1, True, run.rung, classes)


def _not(run: Run, why: str) -> Rescore:
    words = f"r{run.id} was not scored a second time: {why}"
    return Rescore(run.id, None, run.lease, "", None, None, None, None, words)


def _against(first: Run, run: Run, words: str) -> Rescore:
    return Rescore(first.id, run.id, first.lease, run.lease, None, None, None, False, words)


def _apart(old: Measurement, new: Measurement) -> float:
    """Nats a token between two scores of one artifact. Another number of tokens is another score."""
    if not old.tokens_scored or old.tokens_scored != new.tokens_scored or old.bytes_scored != new.bytes_scored:
        return math.inf
    return abs(known(new.nats) - known(old.nats)) / old.tokens_scored


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _tolerance(paths: JobPaths, result: JobResult) -> Tolerance:
    """Of the arithmetic that the artifact's manifest names; the strictest where it names none."""
    try:
        manifest = session_answer(paths, result).manifest
    except InfraError:
        manifest = None
    return TOLERANCES["fp32" if manifest is None else manifest.numerics]
