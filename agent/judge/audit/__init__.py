"""Asks a second, fresh process what it thinks of some tokens before it has seen them, and compares.

Takes the scores of the first process and a secret; gives `Audit`, findings and the seconds it took. `lanes` says which
questions may be asked together, `asking` asks them, `rules` says what is too far off, `reference` where a score is
surprisingly good, `power` what would have been caught.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agent.judge.audit import power, reference, rules
from agent.judge.audit.asking import Plan, Said, session
from agent.judge.audit.lanes import Lanes, draw, draw_weighted
from agent.judge.audit.rules import Accusation, Answer, Mean, Tolerance
from agent.judge.candidate import CandidateError, Files
from agent.judge.contest import contest_count
from agent.judge.scoring import Scores
from agent.judge.task import UNFINISHED, Audit, Task
from agent.records import Finding
from agent.runners.job import JobPaths

QUICK_SHARE = 0.1  # of the run's time
MOST_QUICK = 4000
QUICK_STATE = 256  # with state the replay costs a scoring anyway
REPEATED = 16  # accused positions that are asked again at most
LEAST_LEAK = 0.005  # nats per token


class Found(NamedTuple):
    audit: Audit
    findings: tuple[Finding, ...]
    cpu_s: float


class Asked(NamedTuple):
    """A plan, and what it rests on."""

    plan: Plan
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
    """What is accused is asked again in another process, with other lanes. `run_s`: what the run has taken so far."""
    size = sum(map(len, texts))
    full = task.auditing.full(bpb(task, scores, size))
    source = random.Random(f"first {secret}")
    asked = full_plan(task, files, scores, texts, source, deadline) if full else quick_plan(task, scores, source, run_s)
    said = session(task, files, scores, asked.plan, deadline)
    tolerance = rules.TOLERANCES[scores.manifest.numerics]
    accused = accusations(said, asked.plan, tolerance)
    findings: tuple[Finding, ...] = ()
    cpu_s = said.cpu_s
    if accused:
        plan = repeat_plan(scores, accused, asked.plan, secret)
        try:
            again = session(task, files, scores, plan, deadline)
        except CandidateError as error:
            findings = (unfinished(accused, error), *error.found)
        else:
            findings = (verdict(accused, confirmed(accused, again, plan, tolerance)),)
            cpu_s += again.cpu_s
    made = _audit(task, scores, size, full, asked, said, tolerance, secret)
    if asked.laid is not None and not findings:  # and no process of the candidate lives
        made = replace(made, reference_sha=reference.write(JobPaths(Path(task.folder)), scores, asked.laid))
    return Found(made, findings, cpu_s)


def bpb(task: Task, scores: Scores, size: int) -> float:
    """By the count that decides."""
    official = task.documents.official if task.documents else None
    if official is None:
        return math.fsum(scores.nats) / math.log(2) / size
    counted = contest_count(official, scores.stream, scores.nats)
    return counted.nats / math.log(2) / counted.bytes


# ---------------------------------------------------------------- what is asked


def quick_plan(task: Task, scores: Scores, source: random.Random, run_s: float) -> Asked:
    """As many uniform positions as a tenth of the run's time is for, by the pace of the first ones."""
    count = len(scores.stream.tokens)
    lanes = Lanes.draw(scores.manifest.context, count, source)
    if scores.manifest.state == "chunk":
        return Asked(Plan(lanes, draw(lanes, count, max(task.peeks, QUICK_STATE), source), source))
    drawn = draw(lanes, count, max(task.peeks, MOST_QUICK), source)
    return Asked(Plan(lanes, drawn, source, within_s=QUICK_SHARE * run_s, least=task.peeks))


def full_plan(
    task: Task, files: Files, scores: Scores, texts: Sequence[bytes], source: random.Random, deadline: float
) -> Asked:
    """Many uniform positions, and a draw of their own for the surprising ones: mixed, each would weaken the other."""
    count = len(scores.stream.tokens)
    laid = reference.lay_out(task, files, scores.stream, texts, deadline)
    known = reference.of(task, scores, laid)
    lanes = Lanes.draw(scores.manifest.context, count, source)
    uniform = draw(lanes, count, task.uniform or rules.TOLERANCES[scores.manifest.numerics].uniform, source)
    surprising = draw_weighted(lanes, power.weights(known.nats, scores.nats), task.surprising, source)
    return Asked(Plan(lanes, uniform, source, surprising), known, laid)


def repeat_plan(scores: Scores, accused: Sequence[Accusation], first: Plan, secret: str) -> Plan:
    """The accused positions once more, with lanes that leave most of them open; and as many new ones as before, for
    what is about no single position."""
    source = random.Random(f"again {secret}")
    count = len(scores.stream.tokens)
    chosen = sorted({p for one in accused for p in one.positions[:REPEATED]})
    tries = [Lanes.draw(scores.manifest.context, count, source) for _ in range(32)]
    lanes = max(tries, key=lambda one: sum(map(one.open, chosen)))
    chosen = [position for position in chosen if lanes.open(position)]
    broad = {one.rule for one in accused} & {rules.MEAN, rules.REPLAY, rules.CHANGES}
    uniform = draw(lanes, count, len(first.uniform), source) if broad else []
    changing = [p for one in accused if one.rule == rules.CHANGES for p in one.positions[:REPEATED]]
    return Plan(lanes, uniform, source, chosen, twice=[p for p in changing if lanes.open(p)])


# ---------------------------------------------------------------- what it shows


def accusations(said: Said, plan: Plan, tolerance: Tolerance) -> list[Accusation]:
    """All rules that do not hold, in the order in which they say most."""
    uniform = said.of(plan.uniform)
    extra = said.of([p for p in plan.surprising if p not in set(plan.uniform)])
    found = rules.sums([*said.answers.values(), *(two for _, two in said.twice)])
    found += rules.largest(uniform, tolerance, rules.NOT_REPEATED)
    found += rules.too_good(mean_of(uniform, tolerance), tolerance)
    found += rules.largest(extra, tolerance, rules.SURPRISE)
    if said.replayed is not None:
        found += rules.replayed(said.replayed, tolerance, said.begins)
    return found + rules.changed(said.twice, tolerance)


def confirmed(accused: Sequence[Accusation], again: Said, plan: Plan, tolerance: Tolerance) -> list[Accusation]:
    """Those that a second fresh process bears out, in its own words."""
    found = []
    for one in accused:
        there = again.of(one.positions[:REPEATED])
        if one.rule == rules.NOT_NORMALISED:
            found += rules.sums(there)
        elif one.rule in (rules.NOT_REPEATED, rules.SURPRISE):
            found += rules.largest(there, tolerance, one.rule)
        elif one.rule == rules.MEAN:
            found += rules.too_good(mean_of(again.of(plan.uniform), tolerance), tolerance)
        elif one.rule == rules.REPLAY and again.replayed is not None:
            found += rules.replayed(again.replayed, tolerance, again.begins)
        elif one.rule == rules.CHANGES:
            found += rules.changed(again.twice, tolerance)
    return found


def mean_of(answers: Sequence[Answer], tolerance: Tolerance) -> Mean:
    differences = [one.difference for one in answers if one.normal() and math.isfinite(one.difference)]
    return rules.mean(np.asarray(differences), tolerance)


def verdict(accused: Sequence[Accusation], repeated: Sequence[Accusation]) -> Finding:
    """One finding: of the rule that says most among those that stand, or that were accused."""
    first, *others = repeated or accused
    more = f"; {', '.join(one.rule for one in others)} too" if others else ""
    if repeated:
        return Finding(first.rule, "invalid", f"{first.words}; a second fresh process says the same{more}")
    return Finding(first.rule, "flag", f"{first.words}; a second fresh process did not repeat it{more}")


def unfinished(accused: Sequence[Accusation], error: CandidateError) -> Finding:
    """Not to come back is no way out: it may be the machine's fault, so nothing is proven, but nothing rests on it."""
    first, *others = accused
    more = f" ({', '.join(one.rule for one in others)} too)" if others else ""
    words = f"accused of {first.rule}{more}: {first.words}; whether a second fresh process says the same is not known"
    return Finding(UNFINISHED, "flag", f"{words}, because it did not finish: {error}")


def _audit(
    task: Task,
    scores: Scores,
    size: int,
    full: bool,
    asked: Asked,
    said: Said,
    tolerance: Tolerance,
    secret: str,
) -> Audit:
    uniform, answers = said.of(asked.plan.uniform), list(said.answers.values())
    found, known = mean_of(uniform, tolerance), asked.known
    surprising = sum(p in said.answers for p in asked.plan.surprising)
    nats = known.nats if known else np.zeros(len(scores.nats))
    return Audit(
        peeks=len(answers),
        secret=secret,
        largest_difference=finite(max((abs(one.difference) for one in answers), default=0.0)),
        largest_sum=finite(max((abs(one.log_sum) for one in answers), default=0.0)),
        strength="full" if full else "quick",
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
        rare=finite(power.rare(len(uniform), surprising, nats, scores.nats, tolerance)),
        wanted=wanted_leak(task, len(scores.nats), size),
        start_s=round(said.start_s, 3),
    )


def wanted_leak(task: Task, tokens: int, size: int) -> float:
    """The leak that a full audit has to catch, in nats per token: half the smallest gain that matters, if that is
    less than what the contest asks of a record."""
    gain = task.auditing.min_gain
    return LEAST_LEAK if gain is None else min(LEAST_LEAK, gain / 2 * math.log(2) * size / tokens)


def finite(value: float) -> float:
    """JSON has no infinity and no NaN."""
    return value if np.isfinite(value) else 1e30
