"""Commands for people who write candidates: conform."""

from pathlib import Path
from typing import Annotated

import typer

from agent import named
from agent.cli.printing import AsJson, emit


def conform(
    script: Annotated[Path, typer.Argument(help="A training script that answers a judge.")],
    track: Annotated[str, typer.Option(help="Whose commands and limits: a name or a TOML file.")] = "tiny",
    unsafe: Annotated[
        bool, typer.Option("--unsafe-no-sandbox", help="Run it without walls where this machine has none.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Whether a script holds to the contract of blind scoring, clause by clause.

    It is trained for a few steps in the sandbox, as the track's [check] table says; then its scoring is asked for the
    same text in several ways. Works in any folder, needs no campaign, keeps nothing, and touches no validation text.
    docs/candidates.md explains the clauses.

    Exit code 0 if every clause holds that could be tested, 1 if one is broken.
    """
    from agent import conforming
    from agent import track as tracks
    from agent.report import conformance as report

    root = named.here()
    chosen, _ = tracks.load(tracks.from_here(track, Path.cwd(), root), root)
    found = conforming.conform(script, chosen, root, lambda words: typer.echo(words, err=True), unsafe=unsafe)
    emit(found, as_json, lambda: report.words(found))
    if found.broken:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    app.command()(conform)
