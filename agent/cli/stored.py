"""`--store URL` for every command that works with the store, said in one place.

Takes the app after all commands are registered. The option is an ordinary one of each command, so `--help` and
docs/cli.md have it.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, get_type_hints

import typer

# What these do needs no store.
WITHOUT = frozenset({"conform", "connect", "demo", "models", "skills", "tracks"})
Url = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="Where the runs are: postgresql://USER@HOST/DATABASE, which machines can share; "
        "also as CADDIE_STORE. Default: runs.db in the workspace.",
    ),
]


def register(app: typer.Typer) -> None:
    for command in app.registered_commands:
        if command.callback is not None and command.callback.__name__ not in WITHOUT:
            command.callback = with_store(command.callback)


def with_store(command: Callable[..., None]) -> Callable[..., None]:
    """The same command with one more option, which is heard before anything is opened."""

    @functools.wraps(command)
    def named(*args: object, store: str | None = None, **kwargs: object) -> None:
        if store is not None:
            from agent.store import where

            where.name(store)
        command(*args, **kwargs)

    option = inspect.Parameter("store", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Url)
    signature = inspect.signature(command)
    named.__signature__ = signature.replace(parameters=[*signature.parameters.values(), option])  # type: ignore[attr-defined]
    named.__annotations__ = {**get_type_hints(command, include_extras=True), "store": Url}
    return named
