"""What a model is told when it is asked what a verdict taught.

`gather` takes the store's rows of one judged idea; `render` makes a prompt of them by prompts/lesson.md.j2, which asks
for a JSON object of `text`, `confidence` and `contradicts`.
"""

from dataclasses import dataclass
from pathlib import Path

from agent.context import history, journal, tokens
from agent.context.history import Lesson
from agent.context.render import Context
from agent.context.templates import Templates
from agent.errors import UserError
from agent.llm import Part
from agent.records import Proposal, Run, Verdict
from agent.store import Reads

WORDS, RUNS, LESSONS = 3_000, 2_000, 4_000  # tokens of each part, at most


@dataclass(frozen=True)
class Judged:
    """One idea, its prediction, and what became of it."""

    proposal: Proposal
    verdict: Verdict
    total_bytes: int | None
    runs: tuple[str, ...]
    """A line each: the idea's own, then those of its baseline that it was compared with."""
    lessons: tuple[Lesson, ...]
    """Earlier findings, oldest first."""


def gather(reads: Reads, proposal_id: int) -> Judged:
    """Raises UserError for an idea that was not judged."""
    proposal = reads.proposal(proposal_id)
    verdicts = reads.verdicts(proposal_id)
    if not verdicts:
        raise UserError(f"p{proposal_id} has no verdict yet, so nothing can be learnt from it")
    mine, theirs = (
        reads.scored(proposal.campaign_id, proposal_id=one, documents=False)
        for one in (proposal_id, verdicts[-1].baseline_id)
    )
    lines = [
        f"r{one.run.id} of p{one.run.proposal_id}{_test(one.run)} at {one.run.rung}, seed {one.run.seed}: "
        + (f"{one.measurement.bpb:.5f}" if one.measurement.bpb is not None else f"no score, {one.run.outcome}")
        for one in (*mine, *theirs)
    ]
    return Judged(
        proposal=proposal,
        verdict=verdicts[-1],
        total_bytes=history.total_bytes(reads, proposal_id),
        runs=tuple(lines),
        lessons=history.lessons_of(reads, proposal.campaign_id),
    )


def _test(run: Run) -> str:
    """An idea's runs may be of two tests: before and after the head had moved."""
    return (f" on p{run.baseline_id}" if run.baseline_id is not None else "") + f", {run.purpose}"


def render(judged: Judged, workspace: Path | None = None) -> Context:
    """Raises UserError for a broken template."""
    templates = Templates(workspace)
    one, verdict = judged.proposal, judged.verdict
    told = [journal.finding(templates, lesson) for lesson in judged.lessons]
    kept = tokens.fit(told[::-1], LESSONS)
    idea = {
        "name": f"p{one.id}",
        "against": f"p{verdict.baseline_id}",
        "title": one.title,
        "hypothesis": tokens.shorten(one.hypothesis, WORDS).text,
        "kind": one.kind,
        "state": one.state,
        "expected_gain": one.expected_gain,
        "confidence": one.confidence,
        "expected_bytes": one.expected_bytes,
        "gain": verdict.gain,
        "stderr": verdict.stderr,
        "n_candidate": verdict.n_candidate,
        "n_baseline": verdict.n_baseline,
        "total_bytes": judged.total_bytes,
        "words": verdict.words,
    }
    values = {
        "idea": idea,
        "runs": judged.runs[: tokens.fit(judged.runs, RUNS)],
        "lessons": told[len(told) - kept :],
        "lessons_left_out": len(told) - kept,
    }
    return Context(
        system=(Part(templates.render("findings.md.j2", {}), stable=True),),
        user=(Part(templates.render("lesson.md.j2", values)),),
    )
