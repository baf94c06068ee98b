"""Tells all that is known of one proposal: what was expected, what ran, what the judge saw, what was decided.

Takes the desk and a proposal's name; gives text in which every line that a model or a person wrote stays one line.
"""

from agent.records import Finding, Proposal, Verdict
from agent.store import Reads
from agent.store.rows import ReviewNote, Scored
from agent.tools import arguments
from agent.tools.desk import Desk, a_proposal
from agent.words import line, table

LONG = 4000


def show_proposal(desk: Desk, source: Proposal, given: arguments.ShowProposal) -> str:
    with desk.store.read() as reads:
        one = a_proposal(reads, given.proposal)
        verdicts, reviews = reads.verdicts(one.id), reads.reviews(one.id)
        parts = [*_idea(one), "", *_runs(reads, one), *map(_verdict, verdicts), *map(_review, reviews)]
    if one.diff:
        parts.append(f"show_diff p{one.id} shows what it changes")
    return "\n".join(parts)


def _idea(one: Proposal) -> list[str]:
    size = f"{one.sized_bytes:,} bytes, estimated" if one.sized_bytes is not None else ""
    if one.expected_bytes is not None:
        size = f"{one.expected_bytes:,} bytes"
    knobs = ", ".join(f"{name}={value}" for name, value in one.knobs.items())
    pairs = {
        "state": f"{one.state}: {one.reason}" if one.reason else one.state,
        "made by": f"{one.planner}, mode {one.mode}, kind {one.kind}",
        "changes": f"p{one.source_id}" if one.source_id is not None else "",
        "against": f"p{one.baseline_id}" if one.baseline_id is not None else "nothing: it is the base",
        "hypothesis": one.hypothesis,
        "expected": f"gain {one.expected_gain:.5f} BPB with confidence {one.confidence:.2f}"
        if one.kind != "base"
        else "",
        "size": size,
        "step time": f"{one.expected_step:g} times" if one.expected_step is not None else "",
        "evidence": "; ".join(one.evidence),
        "risk": "; ".join(one.risk),
        "knobs": knobs,
        "reviewed by": one.reviewed_by,
    }
    return [
        f"p{one.id}: {line(one.title, 300)}",
        *(f"{name}: {line(text, LONG)}" for name, text in pairs.items() if text),
    ]


def _runs(reads: Reads, one: Proposal) -> list[str]:
    scored = {found.run.id: found for found in reads.scored(one.campaign_id, proposal_id=one.id, documents=False)}
    rows: list[tuple[object, ...]] = []
    more: list[str] = []
    for run in reads.runs(one.campaign_id, proposal_id=one.id):
        found = scored.get(run.id)
        rows.append((f"r{run.id}", run.rung, run.purpose, run.seed, run.outcome or run.state, *_figures(found)))
        if run.reason:
            more.append(f"r{run.id} {run.outcome or run.state}: {line(run.reason, 500)}")
        more += [_finding(run.id, finding) for finding in (found.measurement.findings if found else ())]
    names = ("run", "rung", "purpose", "seed", "state", "bpb", "bytes", "train s", "steps")
    return [table(names, rows) if rows else "no runs", *more]


def _figures(found: Scored | None) -> tuple[object, ...]:
    if found is None:
        return (None,) * 4
    measured = found.measurement
    bpb = f"{measured.bpb:.5f}" if measured.bpb is not None else None
    seconds = f"{measured.train_wall_s:.1f}" if measured.train_wall_s is not None else None
    return bpb, measured.total_bytes, seconds, measured.steps


def _finding(run_id: int, finding: Finding) -> str:
    return f"r{run_id} finding {finding.severity}: {line(finding.rule, 60)}: {line(finding.text, 500)}"


def _verdict(verdict: Verdict) -> str:
    gain = ""
    if verdict.gain is not None:
        error = f" +- {verdict.stderr:.5f}" if verdict.stderr is not None else ""
        chance = f", p {verdict.p:.2g}" if verdict.p is not None else ""
        gain = f" (gain {verdict.gain:+.5f}{error} BPB over p{verdict.baseline_id}{chance})"
    return f"verdict {verdict.decision}{gain}: {line(verdict.words, 2000)}"


def _review(note: ReviewNote) -> str:
    return f"review by {line(note.who, 60)}: {note.action}: {line(note.comment, 2000)}"
