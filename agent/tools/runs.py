"""Tools that look at runs: what one printed, and how two of them differ.

Logs are read bounded and by our own process alone; a pattern to search them for is tried in another.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from agent.errors import UserError
from agent.job.reading import read_ends, there
from agent.records import Measurement, Proposal, Run
from agent.step_lines import same_start
from agent.store import Reads
from agent.tools import arguments, search_lines
from agent.tools.curve import losses
from agent.tools.desk import Desk, a_proposal, a_run, is_run, job_of
from agent.tools.window import lines_of, window
from agent.words import line, table

HEAD, TAIL = 1 << 20, 1 << 22  # bytes of a log that are looked at: most have less
LAST = 100  # lines that are shown where none were asked for
STEPS = 20  # of a curve


def read_log(desk: Desk, source: Proposal, given: arguments.ReadLog) -> str:
    with desk.store.read() as reads:
        run = a_run(reads, given.run)
        paths = job_of(desk, reads, run)
    log = {"train": paths.train_log, "score": paths.score_log}[given.which]
    text = _text(log)
    name = f"{given.which} log of r{run.id}"
    if not text:
        why = "is empty" if there(log) else "is not there: it printed nothing yet, or the log was deleted"
        return f"the {name} {why}; the run is {run.outcome or run.state}"
    if given.grep:
        numbered = [f"{at + 1}: {row}" for at, row in _found(lines_of(text), given.grep)]
        if not numbered:
            return f"no line of the {name} has {given.grep!r}"
        text, name = "\n".join(numbered), f"{name}, lines with {given.grep!r}"
    count = len(lines_of(text))
    first = given.first_line or max(1, count - LAST + 1 if not given.last_line else given.last_line - LAST + 1)
    return window(name, text, first, given.last_line)


def _text(log: Path) -> str:
    return read_ends(log, HEAD, TAIL)


def _found(rows: list[str], pattern: str) -> list[tuple[int, str]]:
    """The lines that a pattern finds; numbers from 0."""
    asked = json.dumps({"pattern": pattern, "lines": rows})
    command = [sys.executable, "-I", "-S", search_lines.__file__]
    try:
        ended = subprocess.run(
            command, input=asked.encode(), capture_output=True, timeout=2 * search_lines.SECONDS, env={}, check=False
        )
        answer = json.loads(ended.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        raise UserError(f"grep: {pattern!r} takes too long or too much memory; write a simpler one") from None
    if isinstance(answer, dict):
        raise UserError(f"grep: {pattern!r} is no regular expression: {answer['wrong']}")
    return [(at, rows[at]) for at in answer]


@dataclass(frozen=True)
class Side:
    run: Run
    proposal: Proposal
    measured: Measurement | None
    losses: dict[int, float]


def compare_runs(desk: Desk, source: Proposal, given: arguments.CompareRuns) -> str:
    with desk.store.read() as reads:
        a, b = _pair(_runs(reads, given.a), _runs(reads, given.b))
        one, other = _side(desk, reads, a), _side(desk, reads, b)
    rows = [(name, *values) for name, *values in _figures(one, other) if values != [None, None]]
    header = ("", f"r{a.id} (p{a.proposal_id})", f"r{b.id} (p{b.proposal_id})")
    warning = []
    if (a.rung, a.hardware_class) != (b.rung, b.hardware_class):
        warning = ["They ran at different rungs or on different hardware: their scores can't be compared."]
    return "\n".join([table(header, rows), *warning, "", _knobs(one, other), "", _curves(one, other)])


def _runs(reads: Reads, text: str) -> list[Run]:
    """The run that is named; of a proposal all that are done, newest first."""
    if is_run(text):
        return [a_run(reads, text)]
    one = a_proposal(reads, text)
    runs = reads.runs(one.campaign_id, proposal_id=one.id)
    if not runs:
        raise UserError(f"p{one.id} has no runs: it is {one.state}")
    return sorted(runs, key=lambda run: (run.outcome == "ok", run.state == "done", run.id), reverse=True)


def _pair(ones: list[Run], others: list[Run]) -> tuple[Run, Run]:
    """Two with one seed, if there are: then chance is the same for both."""
    alike = ((a, b) for a in ones for b in others if a.seed == b.seed and a.rung == b.rung and a.id != b.id)
    return next(alike, (ones[0], others[0]))


def _side(desk: Desk, reads: Reads, run: Run) -> Side:
    log = _text(job_of(desk, reads, run).train_log)
    return Side(run, reads.proposal(run.proposal_id), reads.measurement(run.id), losses(log))


def _figures(one: Side, other: Side) -> list[tuple[str, object, object]]:
    def of(name: str, digits: int | None = None) -> tuple[str, object, object]:
        values = [getattr(side.measured, name, None) for side in (one, other)]
        shown = [f"{v:.{digits}f}" if digits is not None and v is not None else v for v in values]
        return name.replace("_", " "), shown[0], shown[1]

    return [
        ("title", one.proposal.title, other.proposal.title),
        ("seed", one.run.seed, other.run.seed),
        ("rung", one.run.rung, other.run.rung),
        ("purpose", one.run.purpose, other.run.purpose),
        ("outcome", one.run.outcome or one.run.state, other.run.outcome or other.run.state),
        of("bpb", 5),
        of("reported_bpb", 5),
        of("total_bytes"),
        of("artifact_bytes"),
        of("code_bytes"),
        of("steps"),
        of("train_wall_s", 1),
        of("train_cpu_s", 1),
        of("score_wall_s", 1),
        of("peak_mb", 0),
    ]


def _knobs(one: Side, other: Side) -> str:
    mine, others = one.proposal.knobs, other.proposal.knobs
    differ = [name for name in {**mine, **others} if mine.get(name) != others.get(name)]
    if not differ:
        return "knobs: none differs"
    pairs = ", ".join(f"{name} {mine.get(name, '-')} and {others.get(name, '-')}" for name in differ)
    return f"knobs: {line(pairs, 2000)}"


def _curves(one: Side, other: Side) -> str:
    common = sorted(one.losses.keys() & other.losses.keys())
    if not common:
        return "training losses: their logs name no step that both have"
    alike = same_start(one.losses, other.losses)
    if alike == len(common):
        said = f"all {alike} training losses that both logs name are identical"
    elif alike:
        said = f"the first {alike} training losses are identical, up to step {common[alike - 1]}"
    else:
        said = "the training losses differ from the first on"
    shown = common if len(common) <= STEPS else [common[n * (len(common) - 1) // (STEPS - 1)] for n in range(STEPS)]
    rows = [
        (step, f"{one.losses[step]:.4f}", f"{other.losses[step]:.4f}", f"{other.losses[step] - one.losses[step]:+.4f}")
        for step in shown
    ]
    return f"{said}\n" + table(("step", f"r{one.run.id}", f"r{other.run.id}", "difference"), rows)
