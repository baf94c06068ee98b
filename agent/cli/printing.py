"""Prints what a command found.

Takes data and the words for it; shows JSON to programs, words to people, colours where they can be read.
"""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from typing import Annotated

import typer

from agent.report import heard

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def emit(data: object, as_json: bool, render: Callable[[], str]) -> None:
    """JSON for programs, words for people."""
    if as_json:
        import json

        typer.echo(json.dumps(_plain(data), indent=2, default=str, allow_nan=False))
    else:
        typer.echo(render())


def say(words: str, *, err: bool = False) -> None:
    """For what goes on whether anybody reads it or not."""
    heard.show(lambda: typer.echo(words, err=err))


def coloured(diff: str) -> str:
    """A diff as it is, or in colours."""
    from agent.words import colourful

    if not colourful(sys.stdout):
        return diff
    paint = {"+": "\x1b[32m", "-": "\x1b[31m", "@": "\x1b[36m"}
    return "\n".join(f"{paint[row[0]]}{row}\x1b[0m" if row[:1] in paint else row for row in diff.splitlines())


def width() -> int:
    import shutil

    return shutil.get_terminal_size((80, 24)).columns


def _plain(data: object) -> object:
    if is_dataclass(data) and not isinstance(data, type):
        return _plain(asdict(data))
    if isinstance(data, float) and not math.isfinite(data):
        return str(data)  # JSON knows no infinity and no NaN
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(item) for item in data]
    return data
