"""Commands that look: status, watch, runs, show, diff, log, best, lineage, planners, query."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from agent import named
from agent.cli.opened import AtWork, CampaignName, opened
from agent.cli.printing import AsJson, coloured, emit
from agent.errors import UserError, did_you_mean
from agent.workspace import job_folder

if TYPE_CHECKING:
    from agent.cli.opened import Opened
    from agent.records import Run
    from agent.store import Reads

MOST = 1_000_000  # rows or lines
ProposalId = Annotated[str, typer.Argument(help="A proposal, such as p12.")]


def status(campaign: AtWork = None, as_json: AsJson = False) -> None:
    """Where the campaign stands.

    State, budget, head, what runs and what waits.
    """
    from agent.report import status as report

    with opened(campaign, at_work=True) as found, found.store.read() as reads:
        now = report.status(reads, found.campaign.id)
        emit(now, as_json, lambda: report.words(now))


def watch(campaign: AtWork = None) -> None:
    """Look at a campaign that runs in another terminal.

    Ctrl-C ends the view, not the campaign. Where there is no terminal, what happens is printed as lines, until
    nobody runs it any more.
    """
    import time

    from agent.report.live import LiveView

    with opened(campaign, at_work=True) as found:
        try:
            with LiveView(found.store, found.campaign.id, found.jobs) as view:
                while not view.over:
                    view.refresh()
                    time.sleep(0.25)
        except KeyboardInterrupt:
            return
    status(found.campaign.name)


def runs(
    campaign: CampaignName = None,
    proposal: Annotated[str | None, typer.Option(help="Only the runs of this proposal.")] = None,
    last: Annotated[int, typer.Option(min=1, max=MOST, help="How many of the newest.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Every run: proposal, seed, score, size, time."""
    from agent.report import tables

    with opened(campaign) as found, found.store.read() as reads:
        one = named.proposal(reads, proposal) if proposal else None
        owner = one.campaign_id if one else found.campaign.id
        rows = tables.runs(reads, owner, one.id if one else None)[-last:]
        emit(rows, as_json, lambda: tables.runs_words(rows))


def show(
    what: Annotated[str, typer.Argument(help="A proposal (p12) or a run (r34).")],
    transcript: Annotated[
        bool, typer.Option("--transcript", help="Of a proposal: how it came to be, word by word.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """All that is known of one proposal or one run."""
    from agent.report import tables
    from agent.report import transcript as talk

    with opened(None) as found, found.store.read() as reads:
        if transcript:
            talks = talk.transcript(reads, named.proposal(reads, what))
            emit(talks, as_json, lambda: talk.transcript_words(talks))
        elif not what.strip().lower().lstrip("prl").isdigit():
            raise UserError(f"{what!r} is neither a proposal (p12) nor a run (r34)")
        elif what.strip().lower().startswith("r"):
            run = tables.run(reads, named.run(reads, what).id)
            emit(run, as_json, lambda: tables.run_words(run))
        else:
            proposal = tables.proposal(reads, named.proposal(reads, what).id)
            emit(proposal, as_json, lambda: tables.proposal_words(proposal))


def diff(proposal: ProposalId, as_json: AsJson = False) -> None:
    """What a proposal changes, against its baseline.

    The diffs of losers are kept too, and the edits of what did not apply.
    """
    from agent.words import plain

    with opened(None) as found, found.store.read() as reads:
        one = named.proposal(reads, proposal)
        if one.baseline_id is None and not as_json:
            raise UserError(f"p{one.id} has no diff: it is the base, what the others change (commit {one.commit})")
        row = {"proposal": f"p{one.id}", "commit": one.commit, "diff": one.diff, "edits": "" if one.diff else one.edits}
        head = "" if one.diff else f"p{one.id} is {one.state}, it has no diff; its edits as they were written:\n\n"
        emit(row, as_json, lambda: head + coloured(plain(one.diff or one.edits, limit=1_000_000)))


def log(
    what: Annotated[
        str | None,
        typer.Argument(help="A run (r34): what it printed. A proposal (p12): what became of it."),
    ] = None,
    campaign: CampaignName = None,
    last: Annotated[int, typer.Option(min=1, max=MOST, help="How many of the newest lines.")] = 40,
    of: Annotated[str, typer.Option("--of", help="Of a run: what its train, score or shepherd said.")] = "train",
    as_json: AsJson = False,
) -> None:
    """What happened, in order; or what a run printed."""
    from agent.report import tables

    with opened(campaign) as found, found.store.read() as reads:
        if what is not None and what.strip().lower().startswith("r"):
            lines = _printed(found, reads, named.run(reads, what), of)[-last:]
            emit(lines, as_json, lambda: "\n".join(lines) or "the run has printed nothing, or its log is gone")
            return
        if what is not None:
            one = named.proposal(reads, what)
            events = tables.events_of(reads, one.campaign_id, one.id)[-last:]
        else:
            events = reads.newest_events(found.campaign.id, last)
        emit(events, as_json, lambda: tables.events_words(events))


def _printed(found: "Opened", reads: "Reads", run: "Run", of: str) -> list[str]:
    from agent.job.folder import JobPaths
    from agent.runners.progress import tail
    from agent.words import plain

    owner = reads.campaign_by_id(run.campaign_id)
    paths = JobPaths(job_folder(found.root, owner.name, run.id))
    logs = {"train": paths.train_log, "score": paths.score_log, "shepherd": paths.shepherd_log}
    if of not in logs:
        raise UserError(f"--of {of}:{did_you_mean(of, logs)} choose one of {', '.join(logs)}")
    return plain(tail(logs[of], 200_000), limit=200_000).splitlines()


def best(campaign: CampaignName = None, as_json: AsJson = False) -> None:
    """The best valid head.

    Nothing invalid is in it, nor in what it was built on.
    """
    from agent.report import tables

    with opened(campaign) as found, found.store.read() as reads:
        rows = tables.best(reads, found.campaign.id)
        emit(rows, as_json, lambda: tables.best_words(rows))


def lineage(
    proposal: Annotated[str | None, typer.Argument(help="Default: the head.")] = None,
    campaign: CampaignName = None,
    as_json: AsJson = False,
) -> None:
    """The accepted commits from the base on, each with its gain."""
    from agent.report import tables

    with opened(campaign) as found, found.store.read() as reads:
        last = named.proposal(reads, proposal).id if proposal else reads.head(found.campaign.id).id
        rows = tables.lineage(reads, last)
        emit(rows, as_json, lambda: tables.lineage_words(rows))


def planners(campaign: CampaignName = None, as_json: AsJson = False) -> None:
    """What each planner's ideas came to.

    What it expected and what was measured, what its ideas cost, and its share of the next questions.
    """
    from agent.report import planners as report

    with opened(campaign) as found, found.store.read() as reads:
        rows = report.planners(reads, found.campaign.id)
        emit(rows, as_json, lambda: report.words(rows))


def query(
    sql: Annotated[
        str,
        typer.Argument(
            help="One SELECT. Views: best_valid, lineage, leaderboard, spend, spend_by_use, frontier, calibration."
        ),
    ],
    rows: Annotated[int, typer.Option(min=1, max=MOST, help="At most this many rows.")] = 200,
    seconds: Annotated[float, typer.Option(min=0.1, max=600, help="At most this long.")] = 5.0,
    as_json: AsJson = False,
) -> None:
    """Ask the database; read-only."""
    from agent.report import tables
    from agent.store.query import query as ask

    with opened(None) as found:
        table = ask(found.store, sql, max_rows=rows, timeout_s=seconds)
        as_rows = [dict(zip(_distinct(table.columns), row, strict=True)) for row in table.rows]
        emit(as_rows, as_json, lambda: tables.query_words(table))
        if table.truncated and as_json:
            print(f"cut at {rows} rows: --rows gives more", file=sys.stderr)


def _distinct(names: Sequence[str]) -> list[str]:
    """Columns of one name, as in a join, all get through: id, id_2."""
    found: list[str] = []
    for name in names:
        free = (f"{name}_{n}" for n in range(2, len(names) + 2))
        found.append(name if name not in found else next(one for one in free if one not in found and one not in names))
    return found


def register(app: typer.Typer) -> None:
    for command in (status, watch, runs, show, diff, log, best, lineage, planners, query):
        app.command()(command)
