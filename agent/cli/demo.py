"""The command that shows the loop without running it: demo."""

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.printing import width
from agent.errors import UserError


def demo(
    replay: Annotated[bool, typer.Option("--replay", help="Replay a recorded campaign: the one kind.")] = False,
    seconds: Annotated[float, typer.Option(help="How long the whole campaign takes to play.")] = 30.0,
    recording: Annotated[
        Path | None, typer.Option(help="Another recording, made with `python -m agent.report.recording`.")
    ] = None,
) -> None:
    """Watch a recorded campaign in half a minute: no training, no repository, nothing written here.

    Ctrl-C leaves.
    """
    from agent.report import demo as report
    from agent.report.recording import load

    if recording is None:
        found = report.shipped()
    else:
        try:
            found = load(recording.read_bytes(), str(recording))
        except OSError as error:
            raise UserError(f"{recording} can't be read: {error}") from error
    report.play(found, seconds, typer.echo, width=width())


def register(app: typer.Typer) -> None:
    app.command()(demo)
