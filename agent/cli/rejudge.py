"""The command that scores kept artifacts again: rejudge."""

from typing import TYPE_CHECKING, Annotated

import typer

from agent import named
from agent.cli.opened import CampaignName, opened
from agent.cli.printing import AsJson, emit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.rejudge import Again


def rejudge(
    run: Annotated[list[str] | None, typer.Option("--run", help="Only this run (r12); may be given again.")] = None,
    campaign: CampaignName = None,
    check: Annotated[bool, typer.Option("--check", help="Compare only; write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Score kept artifacts again with the present judge.

    A newer judge's scores are added; they are compared with one another only. Scores of the present judge are
    checked: the same artifact must get the same score, and what was blind must be so still. Exit code 1 if one does
    not.
    """
    from agent import rejudge as judging
    from agent.runners.here import sure_runner

    with opened(campaign) as found:
        with found.store.read() as reads:
            ids = [named.run(reads, text).id for text in run or ()]
            owner = reads.campaign_by_id(reads.run(ids[0]).campaign_id) if ids and campaign is None else found.campaign
        runs = judging.chosen(found.store, owner, ids)
        done: list[Again] = []
        for one in judging.rejudge(found.store, owner, found.root, runs, lambda of: sure_runner(of, 1), check=check):
            done.append(one)
            typer.echo(f"[{len(done)}/{len(runs)}] {line(one)}", err=as_json)
    emit(done, as_json, lambda: words(done))
    if any(one.state in ("differs", "altered") for one in done):
        raise typer.Exit(1)


def line(one: "Again") -> str:
    from agent import words as text

    took = f"  ({one.seconds:.0f} s)" if one.seconds else ""
    return f"{one.run:>5} {one.proposal:>4}  {one.state:<12} {text.line(one.words, 160)}{took}"


def words(done: "Sequence[Again]") -> str:
    """What it comes to, and what may be compared with what."""
    from agent.judge import JUDGE_VERSION

    if not done:
        return "no run is done yet: there is nothing to score again"
    counts = {state: sum(one.state == state for one in done) for state in dict.fromkeys(one.state for one in done)}
    lines = [", ".join(f"{n} {state}" for state, n in counts.items())]
    written, checked = counts.get("written", 0), counts.get("same", 0) + counts.get("differs", 0)
    if checked:
        lines.append(f"Judge {JUDGE_VERSION} had measured {checked} of them: compared, nothing written.")
    if written:
        lines.append(
            f"The new scores are of judge {JUDGE_VERSION}. Scores of several judge versions are never mixed: what is "
            "compared on a board, or leads, was measured by one judge."
        )
    stay = [one.run for one in done if one.state in ("pruned", "altered", "no score") and one.old_bpb is not None]
    if stay and any(one.old_version != JUDGE_VERSION for one in done):
        lines.append(f"Left with their older scores, not comparable with the new ones: {' '.join(stay)}")
    if counts.get("pruned"):
        lines.append("What was pruned can't be scored again; `agent prune` keeps lineage, frontier and near misses.")
    return "\n".join(lines)


def register(app: typer.Typer) -> None:
    app.command()(rejudge)
