"""The command that looks at rented machines, and ends those that nobody wants."""

import os
from typing import Annotated

import typer

from agent.cli.opened import CampaignName, opened
from agent.cli.printing import AsJson, emit
from agent.errors import UserError, did_you_mean


def machines(
    what: Annotated[
        str, typer.Argument(help="list shows them; reap ends those that nobody wants, and settles bills.")
    ] = "list",
    everyone: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With reap: only say what it would do.")] = False,
    campaign: CampaignName = None,
    as_json: AsJson = False,
) -> None:
    """What is rented, until when, and what it costs.

    reap asks the providers what they have. It ends machines that the book does not know, those whose campaign nobody
    runs, and those whose time is over; machines of living controllers are left alone. Every start does the same first.
    """
    if what == "reap":
        _reap(dry_run, as_json)
        return
    if what != "list":
        raise UserError(f"agent machines {what}:{did_you_mean(what, ['list', 'reap'])} There are: list, reap")
    from agent.machines import book
    from agent.machines.burn import burn, table, words

    with opened(campaign) as found, found.store.read() as reads:
        campaign_id = None if campaign is None else found.campaign.id
        rows = book.everyone(reads, campaign_id=campaign_id, over=everyone)
        shown = "\n".join(
            part for part in (table(rows), words(burn(reads, campaign_id), reads.balance(found.campaign.id))) if part
        )
        emit(rows, as_json, lambda: shown)


def _reap(dry_run: bool, as_json: bool) -> None:
    from agent.machines.providers import renters
    from agent.machines.reaping import reap, words

    with opened(None) as found:
        asked, silent = renters(found.store, found.root, os.environ)
        done = reap(asked, silent, dry_run=dry_run)
        emit(done, as_json, lambda: words(done, dry_run=dry_run))
        if done.failed:
            raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    app.command()(machines)
