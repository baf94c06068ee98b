"""Commands that write files: plot, costs, export, adopt, prune."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.opened import CampaignName, opened
from agent.cli.printing import AsJson, emit, width
from agent.errors import UserError
from agent.workspace import jobs_folder

if TYPE_CHECKING:
    from agent.report.points import Picture

FORMATS = {"md": "EXPERIMENTS.md", "csv": "runs.csv", "jsonl": "campaign.jsonl"}


def plot(
    campaign: CampaignName = None,
    out: Annotated[Path | None, typer.Option(help="Folder. Default: .caddie/CAMPAIGN/plots.")] = None,
    only_terminal: Annotated[bool, typer.Option("--terminal", help="Draw here; write no files.")] = False,
    as_json: AsJson = False,
) -> None:
    """Draw frontier, sizes, spending and lineage.

    As PNG and SVG files; the frontier also here in the terminal.
    """
    from agent.report.points import picture
    from agent.report.terminal import for_terminal
    from agent.words import colourful

    with opened(campaign) as found:
        with found.store.read() as reads:
            drawn = picture(reads, found.campaign.id)
        shown_only = only_terminal or (as_json and out is None)
        written = [] if shown_only else _written(drawn, out or found.folder / "plots")
        emit(drawn, as_json, lambda: for_terminal(drawn, width(), colourful(sys.stdout)))
        if written and not as_json:
            pictures = [str(path) for path in written if path.suffix == ".png"]
            typer.echo("\n".join(["", *pictures, "and the same as .svg"]))


def _written(drawn: "Picture", folder: Path) -> list[Path]:
    from agent.report.plots import write

    try:
        return write(drawn, folder)
    except OSError as error:
        raise UserError(f"can't write the plots to {folder}: {error}") from error


def costs(
    campaign: CampaignName = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it too: a file that ends in .png, .svg or .pdf.")] = None,
    as_json: AsJson = False,
) -> None:
    """Where time and money went.

    By rung, kind of idea, planner, accepted gain and machine, and how much of what was paid for stood idle. In dollars
    where machines or models are paid, else in seconds of slots or GPUs.
    """
    from agent.report.costs import costs as read
    from agent.report.costs_shown import words, write

    with opened(campaign) as found, found.store.read() as reads:
        spent = read(reads, found.campaign.id)
    if plot is not None:
        write(spent, plot)
    emit(spent, as_json, lambda: "\n\n".join([words(spent), *([str(plot)] if plot is not None else [])]))


def export(
    campaign: CampaignName = None,
    kind: Annotated[
        str, typer.Option("--format", help="md (a table of experiments), csv (runs) or jsonl (everything).")
    ] = "md",
    out: Annotated[Path | None, typer.Option(help="File. Default: print it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON list.")] = False,
) -> None:
    """Write EXPERIMENTS.md, CSV or JSON lines."""
    import json

    from agent.errors import did_you_mean
    from agent.report import export as exports

    if kind not in FORMATS:
        raise UserError(f"--format {kind}:{did_you_mean(kind, list(FORMATS))} choose one of {', '.join(FORMATS)}")
    if as_json and (out is not None or kind != "md"):
        raise UserError("--json prints all there is; --format and --out are for files")
    with opened(campaign) as found, found.store.read() as reads:
        text = exports.export(reads, found.campaign.id, "jsonl" if as_json else kind)  # type: ignore[arg-type]
    if as_json:
        emit([json.loads(line) for line in text.splitlines()], as_json, lambda: "")
        return
    if out is None:
        typer.echo(text, nl=False)
        return
    path = out / FORMATS[kind] if out.is_dir() else out
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise UserError(f"can't write {path}: {error}") from error
    typer.echo(str(path))


def adopt(campaign: CampaignName = None, as_json: AsJson = False) -> None:
    """Merge the campaign's branch into yours.

    A plain `git merge`, and only in a clean checkout.
    """
    from agent import sharing
    from agent.words import plain
    from agent.worktree import Repository

    with opened(campaign) as found:
        repo, name = Repository(found.root), found.campaign.name
        if found.store.path is None:  # it may have been led from another clone
            sharing.join(found.store, repo, found.campaign)
        said = repo.adopt(name)
        row = {"campaign": name, "branch": found.campaign.branch, "head": repo.head(), "said": said}
        emit(row, as_json, lambda: plain(said))


def prune(
    campaign: Annotated[str | None, typer.Option(help="Only this campaign's. Default: of all.")] = None,
    keep_gb: Annotated[float, typer.Option(min=0, help="How much of what nobody needs may stay.")] = 10.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; delete nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete old artifacts that nobody needs.

    The oldest go first, until what is left fits under the cap. Artifacts of the lineage, the frontier and
    near misses always stay, and so do all rows, diffs and logs.
    """
    from agent.pruning import delete, plan, words

    with opened(campaign) as found:
        with found.store.read() as reads:
            of = [found.campaign] if campaign else reads.campaigns()
            jobs = {one.id: jobs_folder(found.root, one.name) for one in of}
            planned = plan(reads, jobs, keep_gb * 1e9)
        if not dry_run:
            delete(planned)
        emit(planned, as_json, lambda: words(planned, dry_run))


def register(app: typer.Typer) -> None:
    for command in (plot, costs, export, adopt, prune):
        app.command()(command)
