"""The typer app and its groups of commands. Nothing heavy is imported before a command runs."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from agent.cli import (
    clients,
    conforming,
    demo,
    files,
    judging,
    look,
    machine,
    machines,
    models,
    rejudge,
    reviewing,
    run,
    stored,
    submitting,
    working,
)

EPILOG = """
Proposals are written p12 and runs r34; the letter may be left out. Commands that print data take --json;
what is refused or goes wrong is then JSON too, with keys error and exit_code. Times of day are UTC.
Colours stay away with NO_COLOR=1 and where the output is no terminal.

Exit codes: 0 done; 1 failed; 2 wrong use or input; 3 the database; 4 another controller holds the campaign;
5 hardware or data is missing; 6 the campaign ended well, but something that was rented could not be given back (it is
named); 70 a fault of Caddie's (a crash log says more); 130 interrupted (a campaign that Ctrl-C ends is settled first,
and exits with 0).
"""


class Unread(Exception):
    """Whoever read what is printed went away (`agent log | head`)."""


class Commands(TyperGroup):
    """Typer ends a program that nobody reads any more with 1, before anybody can say that this is no fault."""

    def invoke(self, ctx: Any) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            from agent.report import heard

            if heard.unread(heard.OUT) or heard.unread(heard.ERR):
                raise Unread from error
            raise RuntimeError(f"what was talked to went away: {error}") from error


app = typer.Typer(
    name="agent",
    cls=Commands,
    help="Autonomous research for Parameter Golf that measures for itself.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"caddie {version('caddie')}")
        raise typer.Exit


@app.callback()
def agent(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """What is said before a command."""


for group in (
    run,
    working,
    look,
    reviewing,
    files,
    submitting,
    judging,
    rejudge,
    conforming,
    clients,
    machine,
    machines,
    models,
    demo,
):
    group.register(app)
stored.register(app)
