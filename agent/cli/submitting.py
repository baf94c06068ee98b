"""Commands for whoever submits: claim, package."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent import named
from agent.cli.opened import opened
from agent.cli.printing import AsJson, emit
from agent.errors import UserError, did_you_mean
from agent.workspace import jobs_folder

if TYPE_CHECKING:
    from agent.judge.claim import Rule
    from agent.records import Proposal
    from agent.report.package import Package
    from agent.report.sides import Side
    from agent.store import Reads, Scored

SCORES = "scores (1.0793), runs (r12), a promoted commit (p12), a submission.json or a file of scores"
Against = Annotated[
    list[str] | None,
    typer.Option("--against", help=f"The record before it: {SCORES}; commas or several times."),
]
RuleName = Annotated[
    str, typer.Option("--rule", help="contest: 0.005 nats better at p < 0.01; frontier: better at p < 0.25.")
]


def claim(
    new: Annotated[list[str], typer.Argument(help=f"What is claimed: {SCORES}.")],
    against: Against = None,
    tokens_per_byte: Annotated[
        float | None,
        typer.Option(min=0.01, max=4.0, help="Of the new tokenizer, where only scores are given: sp1024 has 0.410521."),
    ] = None,
    rule: RuleName = "contest",
    as_json: AsJson = False,
) -> None:
    """Ask whether seeds surely beat a record: the contest's own test.

    One-sided Welch tests in bits per byte and in nats a token, with and without the margin of 0.005 nats. Exit code 1
    if the claim does not hold.
    """
    from agent.judge import claim as claiming
    from agent.report import sides

    if not against:
        raise UserError(f"--against: the record before it, such as --against 1.0807,1.0810,1.0811 ({SCORES})")
    mine, theirs = sides.side(new, _of_store), sides.side(against, _of_store)
    found = claiming.claim(
        claiming.sample(mine.scores),
        claiming.sample(theirs.scores),
        tokens_per_byte=tokens_per_byte or mine.tokens_per_byte or theirs.tokens_per_byte,
        old_tokens_per_byte=theirs.tokens_per_byte,
        rule=_rule(rule),
    )
    emit(found, as_json, lambda: claiming.words(found))
    if not found.holds:
        raise typer.Exit(1)


def package(
    what: Annotated[str, typer.Argument(help="A promoted commit (p12), or one of its fresh runs (r34).")],
    against: Against = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder to write. Default: records/TRACK/DATE_NAME here.")
    ] = None,
    author: Annotated[str, typer.Option(help="Who submits it.")] = "",
    github_id: Annotated[str, typer.Option(help="The submitter's name on GitHub.")] = "",
    name: Annotated[str, typer.Option(help="Name of the submission. Default: the idea's title.")] = "",
    blurb: Annotated[str, typer.Option(help="What it is, in a sentence or two. Default: the idea's hypothesis.")] = "",
    non_record: Annotated[bool, typer.Option("--non-record", help="Claim no record: no claim gate.")] = False,
    rule: RuleName = "contest",
    as_json: AsJson = False,
) -> None:
    """Write the folder of a submission: README, submission.json, logs of all fresh seeds, script, requirements.

    Refused, with the gate that says no: fewer than three fresh seeds, a run without a score, a rule that was broken
    by it or by what it was built on, a score that was only reported, a run without walls, a size over the limit,
    runs that differ in more than the seed, a log that says otherwise, a claim that does not hold. Nothing is
    overwritten. Exit code 1 if it is refused.
    """
    from agent import track as tracks
    from agent.report import package as packages
    from agent.report import sides
    from agent.report.gates import Wanted
    from agent.store.spoilt import spoilt
    from agent.words import line

    old = sides.side(against or (), _of_store)
    with opened(None) as found, found.store.read() as reads:
        proposal = _proposal(reads, what)
        campaign = reads.campaign_by_id(proposal.campaign_id)
        track = tracks.parse(campaign.track_toml, f"track of {campaign.name}")
        runs = packages.fresh_runs(reads, track, proposal)
        wanted = Wanted(
            author=line(author, 200),
            github_id=line(github_id, 100),
            name=line(name or proposal.title, 120),
            blurb=line(blurb or proposal.hypothesis, 1_000),
            non_record=non_record,
            rule=_rule(rule),
            against=old.scores,
            against_tokens_per_byte=old.tokens_per_byte,
        )
        jobs = jobs_folder(found.root, campaign.name)
        lineage = reads.lineage(proposal.id)
        made = packages.package(track, campaign, lineage, runs, jobs, wanted, spoilt(reads, proposal.id))
    folder = None
    if not made.refused:
        folder = out or Path(made.folder)
        packages.write(made, folder)
    emit(_shown(made, folder), as_json, lambda: packages.words(made, folder))
    if folder is None:
        raise typer.Exit(1)


def _shown(made: "Package", folder: Path | None) -> dict[str, object]:
    return {
        "proposal": made.proposal,
        "runs": made.runs,
        "gates": [gate._asdict() for gate in made.gates],
        "refused": [gate.name for gate in made.refused],
        "claim": made.claim,
        "folder": None if folder is None else str(folder),
        "belongs_at": made.folder,
        "files": sorted(made.files),
    }


def _rule(text: str) -> "Rule":
    from agent.judge.claim import RULES

    for name in RULES:
        if name == text:
            return name
    raise UserError(f"--rule {text}: there are {', '.join(RULES)}.{did_you_mean(text, RULES)}")


def _proposal(reads: "Reads", text: str) -> "Proposal":
    """p12, 12, or the proposal of r34."""
    if text.strip().lower().startswith("r"):
        return reads.proposal(named.run(reads, text).proposal_id)
    return named.proposal(reads, text)


def _of_store(text: str) -> "Side":
    """Scores of one run, or of a promoted commit's fresh runs."""
    from agent import track as tracks
    from agent.report import package as packages

    with opened(None) as found, found.store.read() as reads:
        proposal = _proposal(reads, text)
        if text.lower().startswith("r"):
            run = named.run(reads, text)
            scored = reads.scored(proposal.campaign_id, proposal_id=proposal.id, documents=False)
            return _side(text, [one for one in scored if one.run.id == run.id])
        campaign = reads.campaign_by_id(proposal.campaign_id)
        track = tracks.parse(campaign.track_toml, f"track of {campaign.name}")
        return _side(text, packages.fresh_runs(reads, track, proposal))


def _side(text: str, runs: "list[Scored]") -> "Side":
    from agent.report import submission
    from agent.report.sides import Side

    good = [one.measurement for one in runs if one.measurement.bpb is not None]
    if not good:
        raise UserError(f"{text} has no score that may be claimed: only a promoted commit has fresh runs")
    return Side(tuple(one.bpb for one in good if one.bpb is not None), submission.tokens_per_byte(good))


def register(app: typer.Typer) -> None:
    app.command()(claim)
    app.command()(package)
