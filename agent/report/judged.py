"""The report of `agent judge`: a verdict first, then the score, the package, and what each rule says.

Takes `Exhibits`; gives a `Report` and its words. Everything in it may have been written by a stranger: it is escaped.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from agent.judge.exhibits import Exhibits
from agent.judge.logs import Reported
from agent.judge.rules import Ruling, rulings
from agent.judge.rules.ruling import Log
from agent.judge.submission import Problem, Table
from agent.records import Finding, Measurement
from agent.words import line, table
from agent.words import size as in_words

Verdict = Literal["invalid", "flagged", "clean"]
TITLES: dict[Verdict, str] = {"invalid": "INVALID", "flagged": "FLAGGED", "clean": "NO FAULT FOUND"}
WIDE = 110


class Score(NamedTuple):
    """What a log says, and by which line."""

    log: str
    bpb: float | None
    loss: float | None
    line: str
    why: str
    recount: str
    notes: tuple[str, ...]
    runs: tuple[str, ...]  # each by itself, where the log holds several


class Figure(NamedTuple):
    """Something that was measured, in words."""

    group: Literal["size", "clock", "audit"]
    what: str
    said: str


class Report(NamedTuple):
    name: str
    kind: str
    verdict: Verdict
    words: str
    measured_bpb: float | None
    trust: str
    scores: tuple[Score, ...]
    rulings: tuple[Ruling, ...]
    problems: tuple[Problem, ...]
    table: Table | None
    files: dict[str, int]
    figures: tuple[Figure, ...]
    findings: tuple[Finding, ...]
    other_findings: tuple[str, ...]
    notes: tuple[str, ...]


def report(found: Exhibits) -> Report:
    case = found.case
    said = tuple(rulings(case))
    broken = [one for one in said if one.state == "violated" and one.severity == "invalid"]
    # Of a run of ours what the contest has not decided is worth a line, and no more.
    mild = ("invalid", "policy") if case.kind in ("run", "job") else ("invalid",)
    flags = [one for one in said if one.state == "violated" and one.severity not in mild]
    errors = [one for one in found.problems if one.severity == "error"]
    measured = case.measured
    noted = measured.findings if measured is not None else ()
    barred = [one.text for one in noted if one.severity == "invalid"]
    eye = flags or found.problems or any(one.severity == "flag" for one in noted)
    verdict: Verdict = "invalid" if broken or errors or barred else "flagged" if eye else "clean"
    return Report(
        name=case.name,
        kind=case.kind,
        verdict=verdict,
        words=_verdict(broken, barred, flags, errors, said),
        measured_bpb=measured.bpb if measured is not None else None,
        trust=measured.trust if measured is not None else "reported",
        scores=tuple(_score(log) for log in case.logs),
        rulings=said,
        problems=found.problems,
        table=found.table,
        files=case.files,
        notes=case.notes,
        figures=tuple(_figures(measured)) if measured is not None else (),
        findings=noted,
        other_findings=tuple(f"{one.rule} ({one.severity}): {one.text}" for one in noted),
    )


def _figures(of: Measurement) -> Iterator[Figure]:
    sizes = {"artifact": of.artifact_bytes, "code": of.code_bytes, "together": of.total_bytes}
    yield from (Figure("size", name, f"{size:,} bytes") for name, size in sizes.items() if size is not None)
    clocks = {"training": (of.train_wall_s, of.train_cpu_s), "scoring": (of.score_wall_s, of.score_cpu_s)}
    for name, (wall, cpu) in clocks.items():
        if wall is not None:
            yield Figure("clock", name, f"{wall:,.1f} s" + ("" if cpu is None else f", {cpu:,.1f} s of processors"))
    if (audit := of.audit) is not None:
        asked = f"{audit.uniform:,} uniform, {audit.surprising:,} surprising, {audit.twice:,} twice"
        yield Figure("audit", f"{audit.strength}, positions", f"{audit.positions:,}: {asked}")
        largest = f"{audit.largest_difference:.2g} nats, {audit.tolerance:g} are allowed ({audit.tolerance_why})"
        yield Figure("audit", "largest difference", largest)
        yield Figure("audit", "largest error of a sum", f"{audit.largest_sum:.2g}")
        better = f"{audit.unfair_nats:+.2g} +- {audit.unfair_stderr:.2g} nats a token, {audit.unfair_bpb:+.2g} BPB"
        yield Figure("audit", "claimed better than deserved", better)
        would = (
            f"{audit.even_nats:.2g} everywhere, {audit.rare_nats:.2g} at few tokens; {audit.wanted_nats:.2g} is wanted"
        )
        yield Figure("audit", "leaks caught with 99 %", would)
        if audit.reference:
            yield Figure("audit", "surprise measured by", audit.reference)


def _verdict(
    broken: Sequence[Ruling],
    barred: Sequence[str],
    flags: Sequence[Ruling],
    errors: Sequence[Problem],
    said: Sequence[Ruling],
) -> str:
    passed = sum(one.state == "passed" for one in said)
    known = f"{passed} of {len(said)} rules passed, {sum(one.state == 'unknown' for one in said)} can't be checked"
    parts = []
    if broken:
        parts.append(f"breaks {_numbers(broken)}: {broken[0].words}")
    elif barred:
        parts.append(f"the judge found it invalid: {barred[0]}")
    if errors:
        parts.append(f"the package is broken: {errors[0].words}")
    if flags:
        parts.append(f"{_numbers(flags)} should be looked at")
    return f"{'; '.join(parts) or 'nothing was found'} ({known})"


def _numbers(found: Sequence[Ruling]) -> str:
    return f"rule{'s' if len(found) > 1 else ''} {', '.join(str(one.rule) for one in found)}"


def _score(log: Log) -> Score:
    said = log.said
    told = said.recount()
    runs = tuple(_run(number, one) for number, one in enumerate(said.runs, 1))
    why = said.why or said.reason
    return Score(log.name, said.bpb, said.loss, said.line, why, told.words if told else "", said.notes, runs)


def _run(number: int, said: Reported) -> str:
    """One of several runs in one log."""
    score = said.reason if said.bpb is None else f"{said.bpb:.8f} BPB ({said.why})"
    return f"run {number}, {'seed unknown' if said.seed is None else f'seed {said.seed}'}: {score}"


def data(of: object) -> object:
    """With names, for JSON."""
    if isinstance(of, tuple) and hasattr(of, "_asdict"):
        return {name: data(value) for name, value in of._asdict().items()}
    return [data(one) for one in of] if isinstance(of, tuple | list) else of


# ------------------------------------------------------------ words


def words(of: Report) -> str:
    return "\n".join(_lines(of))


def _lines(of: Report) -> Iterator[str]:
    yield f"{TITLES[of.verdict]}  {line(of.name, 80)}: {line(of.words, 400)}"
    yield ""
    if of.measured_bpb is not None:
        yield f"{of.measured_bpb:.6f} BPB, {of.trust}"
    yield from (line(note, 240) for note in of.notes)
    yield from _scores(of)
    yield from _problems(of)
    yield from _measured(of)
    yield from _rules(of)
    if of.other_findings:
        yield "\nwhat the judge noted of the run"
        yield from (f"  {line(one, 200)}" for one in of.other_findings)
    if of.files:
        yield f"\n{len(of.files)} files, {in_words(sum(of.files.values()))}"
        largest = sorted(of.files.items(), key=lambda one: -one[1])[:8]
        yield from (f"  {size:>12,}  {line(name, 90)}" for name, size in largest)


def _measured(of: Report) -> Iterator[str]:
    if of.figures:
        yield "\nmeasured"
        yield from (f"  {one.group:<6} {one.what}: {line(one.said, 200)}" for one in of.figures)


def _scores(of: Report) -> Iterator[str]:
    if len(of.scores) > 1 and of.table is not None:
        header = ("log", "seed", "bpb", "loss", "bytes", "steps", "train s", "score s")
        yield table(header, [(line(row.log, 48), str(row.seed), *row[2:]) for row in of.table.rows])
        if of.table.mean is not None:
            spread = f", standard deviation {of.table.std:.8f} (n - 1)" if of.table.std is not None else ""
            yield f"mean {of.table.mean:.8f}{spread}"
        yield ""
    for score in of.scores:
        figure = f"reports {score.bpb:.8f} BPB" if score.bpb is not None else "has no official score"
        yield f"{line(score.log, 80)} {figure}: {line(score.why, 240)}"
        if score.line:
            yield f"    {line(score.line, WIDE)}"
        if score.recount:
            yield f"    {line(score.recount, 240)}"
        yield from (f"    note: {line(note, 200)}" for note in score.notes)
        yield from (f"    {line(run, 200)}" for run in score.runs)


def _problems(of: Report) -> Iterator[str]:
    if of.problems:
        yield "\nthe package"
        yield from (f"  {one.severity:<8} {line(one.words, 240)}" for one in of.problems)


def _rules(of: Report) -> Iterator[str]:
    """What is broken first, with its evidence; what can't be checked last, together where the reason is the same."""
    yield "\nrules"
    for one in sorted(of.rulings, key=lambda one: (one.state != "violated", one.rule)):
        if one.state == "unknown":
            continue
        state = "passed" if one.state == "passed" else "VIOLATED" if one.severity == "invalid" else one.severity
        yield f"  {one.rule:>2}  {state:<8}  {one.name}: {line(one.words, 260)}"
        if one.state == "violated":
            yield f"                why: {line(one.reason, 160)}"
            yield from (f"                - {line(text, 200)}" for text in one.evidence)
    open_ones: dict[str, list[Ruling]] = {}
    for one in of.rulings:
        if one.state == "unknown":
            open_ones.setdefault(one.words, []).append(one)
    if open_ones:
        yield "\nnot checkable"
    for why, group in open_ones.items():
        names = "; ".join(f"{one.rule} {one.name}" for one in group)
        yield f"  {line(names, 400)}: {line(why, 260)}"
