"""Commands that look: status, watch, runs, show, diff, log, best, lineage, query."""

from typing import Annotated

import typer

from agent.cli.opened import AsJson, CampaignName, emit, number, opened
from agent.errors import UserError

ProposalId = Annotated[str, typer.Argument(help="A proposal, such as p12.")]


def status(campaign: CampaignName = None, as_json: AsJson = False) -> None:
    """Where the campaign stands: state, budget, head, what runs and what waits."""
    from agent.report import status as report

    with opened(campaign) as found, found.store.read() as reads:
        now = report.status(reads, found.campaign.id)
        emit(now, as_json, lambda: report.words(now))


def watch(campaign: CampaignName = None) -> None:
    """The live view of a campaign that runs in another terminal or in the background. Ctrl-C leaves it running."""
    import time

    from agent.report.live import LiveView

    with opened(campaign) as found, LiveView(found.store, found.campaign.id, found.folder / "jobs") as view:
        try:
            while view.refresh():
                time.sleep(0.25)
        except KeyboardInterrupt:
            return


def runs(
    campaign: CampaignName = None,
    proposal: Annotated[str | None, typer.Option(help="Only the runs of this proposal.")] = None,
    last: Annotated[int, typer.Option(help="How many of the newest.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Every run: proposal, seed, score, size, time."""
    from agent.report import tables

    with opened(campaign) as found, found.store.read() as reads:
        of = number(proposal, "p") if proposal else None
        rows = tables.runs(reads, found.campaign.id, of)[-last:]
        emit(rows, as_json, lambda: tables.runs_words(rows))


def show(
    what: Annotated[str, typer.Argument(help="A proposal (p12) or a run (r34).")], as_json: AsJson = False
) -> None:
    """All that is known of one proposal or one run."""
    from agent.report import tables

    with opened(None) as found, found.store.read() as reads:
        if what.strip().lower().startswith("r"):
            run = tables.run(reads, number(what, "r"))
            emit(run, as_json, lambda: tables.run_words(run))
        else:
            proposal = tables.proposal(reads, number(what, "p"))
            emit(proposal, as_json, lambda: tables.proposal_words(proposal))


def diff(proposal: ProposalId) -> None:
    """The diff of a proposal against its baseline; losers are kept too."""
    from agent.report.words import plain

    with opened(None) as found, found.store.read() as reads:
        one = reads.proposal(number(proposal, "p"))
        if not one.diff:
            raise UserError(
                f"p{one.id} has no diff: it is {one.state}" + (f" ({one.reason})" if one.reason else "")
            )
        typer.echo(_coloured(plain(one.diff, limit=200_000)))


def log(
    what: Annotated[
        str | None,
        typer.Argument(help="A run (r34) for its training log; nothing for the campaign's events."),
    ] = None,
    campaign: CampaignName = None,
    last: Annotated[int, typer.Option(help="How many of the newest lines.")] = 40,
    as_json: AsJson = False,
) -> None:
    """What happened, in order; or what a run printed."""
    from agent.report import tables
    from agent.report.words import plain
    from agent.runners.progress import tail

    with opened(campaign) as found, found.store.read() as reads:
        if what is not None:
            run = reads.run(number(what, "r"))
            owner = reads.campaign_by_id(run.campaign_id)
            path = found.root / ".caddie" / owner.name / "jobs" / f"r{run.id}" / "train.log"
            lines = plain(tail(path, 200_000), limit=200_000).splitlines()[-last:]
            emit(lines, as_json, lambda: "\n".join(lines) or f"{path} is empty or gone")
            return
        events = tables.newest_events(reads, found.campaign.id, last)
        emit(events, as_json, lambda: tables.events_words(events))


def best(campaign: CampaignName = None, as_json: AsJson = False) -> None:
    """The best valid head: nothing invalid in it or in what it was built on."""
    from agent.report import tables

    with opened(campaign) as found, found.store.read() as reads:
        rows = tables.best(reads, found.campaign.id)
        emit(rows, as_json, lambda: tables.best_words(rows))


def lineage(
    proposal: Annotated[str | None, typer.Argument(help="Default: the head.")] = None,
    campaign: CampaignName = None,
    as_json: AsJson = False,
) -> None:
    """The chain of accepted commits from the base, each with its gain."""
    from agent.report import tables

    with opened(campaign) as found, found.store.read() as reads:
        last = number(proposal, "p") if proposal else reads.head(found.campaign.id).id
        rows = tables.lineage(reads, last)
        emit(rows, as_json, lambda: tables.lineage_words(rows))


def query(
    sql: Annotated[
        str, typer.Argument(help="One SELECT. Views: best_valid, lineage, leaderboard, spend, frontier.")
    ],
    rows: Annotated[int, typer.Option(help="At most this many rows.")] = 200,
    seconds: Annotated[float, typer.Option(help="At most this long.")] = 5.0,
    as_json: AsJson = False,
) -> None:
    """Ask the database; read-only."""
    from agent.report import tables
    from agent.store.query import query as ask

    with opened(None) as found:
        table = ask(found.store, sql, max_rows=rows, timeout_s=seconds)
        as_rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        emit(as_rows, as_json, lambda: tables.query_words(table))


def _coloured(text: str) -> str:
    import sys

    if not sys.stdout.isatty():
        return text
    paint = {"+": "\x1b[32m", "-": "\x1b[31m", "@": "\x1b[36m"}
    return "\n".join(f"{paint[row[0]]}{row}\x1b[0m" if row[:1] in paint else row for row in text.splitlines())


def register(app: typer.Typer) -> None:
    for command in (status, watch, runs, show, diff, log, best, lineage, query):
        app.command()(command)
