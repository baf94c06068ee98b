"""Asks a second, fresh process what it thinks of some tokens before it has seen them, and compares.

Takes the scores of the first process and a secret; gives `Audit`, findings and the seconds it took. `lanes` says which
questions may be asked together, `asking` asks them, `rules` says what is too far off, `reference` where a score is
surprisingly good, `power` what would have been caught.
"""

import math
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agent.job.folder import JobPaths
from agent.judge.audit import power, reference, rules
from agent.judge.audit.asking import Plan, Said, session
from agent.judge.audit.lanes import Lanes, draw, draw_weighted
from agent.judge.audit.rules import Accusation, Answer, Mean, Tolerance
from agent.judge.candidate import TOLD_OF_A_SCORE, CandidateError, Files
from agent.judge.contest import contest_count
from agent.judge.scoring import Scores
from agent.judge.task import UNFINISHED, Audit, Task
from agent.records import Finding

QUICK_SHARE = 0.1  # of the run's time
MOST_QUICK = 4000
QUICK_STATE = 256  # with state the replay costs a scoring anyway
REPEATED = 16  # accused positions that are asked again at most
AGAIN = 1.2  # times what a session took, that a deeper one takes at the least
LEAST_LEAK = 0.005  # nats per token


class Found(NamedTuple):
    audit: Audit
    findings: tuple[Finding, ...]
    cpu_s: float


class Basis(NamedTuple):
    """What questions are drawn by."""

    full: bool
    wanted: float  # the leak that has to be caught, in nats per token
    known: reference.Known | None = None
    laid: reference.Laid | None = None


def audit(
    task: Task,
    files: Files,
    scores: Scores,
    texts: Sequence[bytes],
    secret: str,
    deadline: float,
    run_s: float,
) -> Found:
    """Who is accused is audited once more, from the beginning. `run_s`: what the run has taken so far."""
    basis = basis_of(task, files, scores, texts, deadline)
    plan = first_plan(task, scores, basis, random.Random(f"first {secret}"), run_s)
    began = time.monotonic()
    said = session(task, files, scores, plan, deadline)
    took_s = time.monotonic() - began
    tolerance = rules.TOLERANCES[scores.manifest.numerics]
    accused = accusations(said, plan, tolerance)
    findings: tuple[Finding, ...] = ()
    cpu_s = said.cpu_s
    deeper = None if accused else deeper_plan(task, scores, basis, said.of(plan.uniform), f"deeper {secret}")
    if deeper is not None and deadline - time.monotonic() > AGAIN * took_s:  # else nothing would come of it
        try:
            said, plan = session(task, files, scores, deeper, deadline, TOLD_OF_A_SCORE), deeper
        except CandidateError as error:  # what was asked stands, and says how little it saw
            findings = error.found
        else:
            accused = accusations(said, plan, tolerance)
            cpu_s += said.cpu_s
    if accused:
        second = repeat_plan(task, scores, basis, said.of(plan.uniform), accused, random.Random(f"again {secret}"))
        try:
            again = session(task, files, scores, second, deadline, TOLD_OF_A_SCORE)
        except CandidateError as error:
            findings = (unfinished(accused, error), *error.found)
        else:
            repeated = accusations(again, second, tolerance)
            findings = (verdict(accused, repeated),)
            cpu_s += again.cpu_s
            if not repeated:  # a process that had a bad moment says nothing of the score
                plan, said = second, again
    made = _audit(scores, basis, plan, said, tolerance, secret)
    if basis.laid is not None and not findings:  # and no process of the candidate lives
        made = replace(made, reference_sha=reference.write(JobPaths(Path(task.folder)), scores, basis.laid))
    return Found(made, findings, cpu_s)


def bpb(task: Task, scores: Scores, size: int) -> float:
    """By the count that decides."""
    official = task.documents.official if task.documents else None
    if official is None:
        return math.fsum(scores.nats) / math.log(2) / size
    counted = contest_count(official, scores.stream, scores.nats)
    return counted.nats / math.log(2) / counted.bytes


# ---------------------------------------------------------------- what is asked


def basis_of(task: Task, files: Files, scores: Scores, texts: Sequence[bytes], deadline: float) -> Basis:
    size = sum(map(len, texts))
    wanted = wanted_leak(task, len(scores.nats), size)
    if not task.auditing.full(bpb(task, scores, size)):
        return Basis(False, wanted)
    laid = reference.lay_out(task, files, scores.stream, texts, deadline)
    return Basis(True, wanted, reference.of(task, scores, laid), laid)


def first_plan(task: Task, scores: Scores, basis: Basis, source: random.Random, run_s: float) -> Plan:
    lanes = Lanes.draw(scores.manifest.context, len(scores.all_nats), source)
    if basis.full:
        return full_plan(task, scores, basis, lanes, source)
    if scores.manifest.state == "chunk":
        return uniform_plan(scores, max(task.peeks, QUICK_STATE), lanes, source)
    # As many as a tenth of the run's time is for, by the pace of the first ones.
    plan = uniform_plan(scores, max(task.peeks, MOST_QUICK), lanes, source)
    return replace(plan, within_s=QUICK_SHARE * run_s, least=task.peeks)


def deeper_plan(task: Task, scores: Scores, basis: Basis, asked: Sequence[Answer], word: str) -> Plan | None:
    """Of all that is asked in full, with as many uniform positions as see through the noise of those that were asked.
    None: those do, or nothing would."""
    tolerance = rules.TOLERANCES[scores.manifest.numerics]
    count = power.uniform(mean_of(asked, tolerance), tolerance, basis.wanted)
    if not basis.full or task.uniform is not None or not len(asked) < count < len(scores.nats) / 2:
        return None
    source = random.Random(word)
    lanes = Lanes.draw(scores.manifest.context, len(scores.all_nats), source)
    return full_plan(replace(task, uniform=count), scores, basis, lanes, source)


def full_plan(task: Task, scores: Scores, basis: Basis, lanes: Lanes, source: random.Random) -> Plan:
    """Many uniform positions, and a draw of their own for the surprising ones: mixed, each would weaken the other."""
    assert basis.known is not None
    known, tolerance = basis.known.nats, rules.TOLERANCES[scores.manifest.numerics]
    plan = uniform_plan(scores, task.uniform or tolerance.uniform, lanes, source)
    count = task.surprising
    if count is None:
        count = power.surprising(len(plan.uniform), known, scores.nats, tolerance, basis.wanted)
    surprising = draw_weighted(lanes, power.weights(known, scores.nats), count, source)
    return replace(plan, surprising=surprising, draws=count, across=True)


def uniform_plan(scores: Scores, peeks: int, lanes: Lanes, source: random.Random) -> Plan:
    """Of what is scored; and as large a part of the hidden documents, whose nats are compared with these."""
    scored, shown = len(scores.nats), len(scores.all_nats)
    hidden = draw(lanes, shown, math.ceil(peeks * (shown - scored) / scored), source, begin=scored)
    return Plan(lanes, draw(lanes, scored, peeks, source), source, hidden=hidden)


def repeat_plan(
    task: Task,
    scores: Scores,
    basis: Basis,
    asked: Sequence[Answer],
    accused: Sequence[Accusation],
    source: random.Random,
) -> Plan:
    """All is drawn anew, and some of the accused positions with it. A process that was asked about these alone would
    know that it has to explain them, and by which they are what was claimed there; and one that had given enough wrong
    answers before would not be asked about the others again."""
    chosen = sorted({p for one in accused for p in some(one.positions, source)})
    tries = [Lanes.draw(scores.manifest.context, len(scores.all_nats), source) for _ in range(32)]
    lanes = max(tries, key=lambda one: sum(map(one.open, chosen)))
    if basis.full:  # by no fewer than saw it: a deeper audit accuses of what the usual number would mostly miss
        least = task.uniform or rules.TOLERANCES[scores.manifest.numerics].uniform
        plan = full_plan(replace(task, uniform=max(least, len(asked))), scores, basis, lanes, source)
    else:
        plan = uniform_plan(scores, max(task.peeks, len(asked)), lanes, source)
    chosen = [position for position in chosen if lanes.open(position)]
    changing = {p for one in accused if one.rule == rules.CHANGES for p in one.positions}
    return replace(plan, accused=chosen, twice=[p for p in chosen if p in changing])


def some(positions: Sequence[int], source: random.Random) -> Sequence[int]:
    return source.sample(positions, min(REPEATED, len(positions)))


# ---------------------------------------------------------------- what it shows


def accusations(said: Said, plan: Plan, tolerance: Tolerance) -> list[Accusation]:
    """All rules that do not hold, in the order in which they say most."""
    uniform, hidden = said.of(plan.uniform), said.of(plan.hidden)
    known = {*plan.uniform, *plan.hidden, *plan.accused} - (set(plan.surprising) - set(plan.uniform))
    extra = said.of([p for p in plan.surprising if p not in known])
    found = rules.sums([*said.answers.values(), *(two for _, two in said.twice)])
    found += rules.largest(said.of(sorted(known)), tolerance, rules.NOT_REPEATED)
    found += rules.too_good(mean_of(uniform, tolerance), tolerance) or rules.too_good(
        mean_of(hidden, tolerance), tolerance
    )
    found += rules.largest(extra, tolerance, rules.SURPRISE)
    if said.replayed is not None:
        found += rules.replayed(said.replayed, tolerance, said.begins)
    return found + rules.changed(said.twice, tolerance)


def mean_of(answers: Sequence[Answer], tolerance: Tolerance) -> Mean:
    differences = [one.difference for one in answers if one.normal() and math.isfinite(one.difference)]
    return rules.mean(np.asarray(differences), tolerance)


def verdict(accused: Sequence[Accusation], repeated: Sequence[Accusation]) -> Finding:
    """One finding: of the rule that says most among those that both processes were accused of, or that stand."""
    before = {one.rule for one in accused}
    first = next((one for one in repeated if one.rule in before), (*repeated, *accused)[0])
    others = [one.rule for one in repeated or accused if one is not first]
    more = f"; {', '.join(others)} too" if others else ""
    if not repeated:
        return Finding(first.rule, "flag", f"{first.words}; a second fresh process did not repeat it{more}")
    if first.rule in before:
        return Finding(first.rule, "invalid", f"{first.words}; a second fresh process says the same{more}")
    was = f"the fresh process before it was accused of {accused[0].rule}: {accused[0].words}"
    return Finding(first.rule, "invalid", f"{first.words}; {was}{more}")


def unfinished(accused: Sequence[Accusation], error: CandidateError) -> Finding:
    """Not to come back is no way out: it may be the machine's fault, so nothing is proven, but nothing rests on it.
    How it ended is not told in its own words, which may be the text: the score stays."""
    first, *others = accused
    more = f" ({', '.join(one.rule for one in others)} too)" if others else ""
    words = f"accused of {first.rule}{more}: {first.words}; whether a second fresh process says the same is not known"
    return Finding(UNFINISHED, "flag", f"{words}, because it did not finish ({error.status})")


def _audit(scores: Scores, basis: Basis, plan: Plan, said: Said, tolerance: Tolerance, secret: str) -> Audit:
    uniform, answers = said.of(plan.uniform), list(said.answers.values())
    found, known = mean_of(uniform, tolerance), basis.known
    surprising = sum(p in said.answers for p in plan.surprising)
    # Where fewer surprise, all of them were asked: a leak would be among them.
    draws = plan.draws if surprising == len(plan.surprising) else surprising
    nats = known.nats if known else np.zeros(len(scores.nats))
    return Audit(
        peeks=len(answers),
        secret=secret,
        largest_difference=finite(max((abs(one.difference) for one in answers), default=0.0)),
        largest_sum=finite(max((abs(one.log_sum) for one in answers), default=0.0)),
        strength="full" if basis.full else "quick",
        uniform=len(uniform),
        surprising=surprising,
        twice=len(said.twice),
        replayed=0 if said.replayed is None else len(said.replayed),
        tolerance=tolerance.largest,
        tolerance_why=tolerance.why,
        unfair=finite(found.value),
        unfair_stderr=finite(found.error),
        reference=known.words if known else "",
        even=finite(power.even(found, tolerance)),
        rare=finite(power.rare(len(uniform), draws, nats, scores.nats, tolerance)),
        wanted=basis.wanted,
        start_s=round(said.start_s, 3),
        across=said.across[0],
        across_moved=said.across[1],
    )


def wanted_leak(task: Task, tokens: int, size: int) -> float:
    """The leak that a full audit has to catch, in nats per token: half the smallest gain that matters, if that is
    less than what the contest asks of a record."""
    gain = task.auditing.min_gain
    return LEAST_LEAK if gain is None else min(LEAST_LEAK, gain / 2 * math.log(2) * size / tokens)


def finite(value: float) -> float:
    """JSON has no infinity and no NaN."""
    return value if np.isfinite(value) else 1e30
