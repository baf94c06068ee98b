"""The command that makes this machine work for campaigns whose controllers may be anywhere: work."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent import named
from agent.cli.printing import say
from agent.errors import UserError

if TYPE_CHECKING:
    from agent.records import Campaign
    from agent.store import Store
    from agent.track import Track

NAME_LIMIT = 60


def work(
    slots: Annotated[int | None, typer.Option(help="Runs at once. Default: two CPU cores, or all GPUs.")] = None,
    name: Annotated[str | None, typer.Option(help="What this worker is called. Default: the machine's name.")] = None,
    campaign: Annotated[
        str | None, typer.Option("--campaign", help="Take runs on its data first. Default: the latest.")
    ] = None,
    track: Annotated[
        str | None, typer.Option(help="Before there is a campaign: the track to be ready for, by name or TOML file.")
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(help="GPUs of each run. Default: all sizes that the track's rungs have.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Where data and running jobs are kept, in .caddie. Default: here.")
    ] = None,
    unsafe: Annotated[
        bool, typer.Option("--unsafe-no-sandbox", help="Take runs, too, that their campaign lets run without walls.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what happens as it does, each a line of JSON (docs/shared.md).")
    ] = False,
) -> None:
    """Work for the campaigns of a store: take runs that fit this machine, hand in what comes of them.

    It may come and go at any time. Ctrl-C once takes nothing more and finishes what runs; twice, or closing the
    terminal, ends that, and another worker runs it anew.
    """
    from agent.runners.queue import joining
    from agent.store import open_store, where

    root = (folder or named.here()).absolute()
    store = open_store(where.place(root), create=where.server() is not None)
    try:
        found = _campaign(store, campaign, wanted=track is None)
        joining.work(
            store,
            root,
            found,
            _track(found, track, root),
            joining.Said(slots, _name(name), unsafe, gpus),
            lambda told: say(json.dumps(asdict(told)) if as_json else told.text),
        )
    finally:
        store.close()


def _campaign(store: "Store", name: str | None, *, wanted: bool) -> "Campaign | None":
    with store.read() as reads:
        campaigns = reads.campaigns()
    if not campaigns and wanted:
        raise UserError(
            "the store holds no campaign yet, so say which track this machine shall be ready for: --track NAME"
        )
    return named.campaign(name, campaigns) if wanted else None


def _track(campaign: "Campaign | None", name: str | None, root: Path) -> "Track":
    from agent import track as tracks

    if campaign is not None:
        return tracks.parse(campaign.track_toml, f"track of {campaign.name}")
    return tracks.load(tracks.from_here(name or "tiny", Path.cwd(), root), root)[0]


def _name(said: str | None) -> str:
    found = said or os.uname().nodename
    plain = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in found)[:NAME_LIMIT]
    if (said is not None and plain != said) or not plain.strip("-."):
        raise UserError(f"--name {found}: letters, digits, - _ and . only, {NAME_LIMIT} at most")
    return plain


def register(app: typer.Typer) -> None:
    app.command()(work)
