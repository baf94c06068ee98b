"""docs/cli.md, made from the commands: `python -m agent.cli.docs` writes it, a test holds it up to date.

Reads the signatures and docstrings that typer reads; how typer prints them does not matter here.
"""

import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import NamedTuple, get_args, get_type_hints

from typer.models import ArgumentInfo, OptionInfo

from agent.cli.app import EPILOG, app

PATH = Path(__file__).parents[2] / "docs" / "cli.md"
INTRO = """\
# The command line

Made from the help texts by `python -m agent.cli.docs`; edit those, not this file. `agent COMMAND --help` says
the same, `agent --install-completion` sets up completion in your shell (bash, zsh, fish, PowerShell), and
`agent --version` says which Caddie this is.
"""


class Word(NamedTuple):
    """One argument or option."""

    name: str
    help: str
    argument: bool


def page() -> str:
    """The whole page."""
    commands = {one.callback.__name__: one.callback for one in app.registered_commands if one.callback}
    rows = [f"| [`agent {name}`](#agent-{name}) | {_doc(one)[0]} |" for name, one in commands.items()]
    parts = [INTRO, inspect.cleandoc(EPILOG), "\n".join(["| command | what it does |", "|---|---|", *rows])]
    parts += [_section(name, one) for name, one in commands.items()]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _section(name: str, command: Callable[..., None]) -> str:
    words = _words(command)
    options = ["[OPTIONS]"] if any(not one.argument for one in words) else []
    usage = " ".join([f"agent {name}", *options, *(one.name for one in words if one.argument)])
    rows = [
        textwrap.fill(f"- `{one.name}`: {one.help}", 110, subsequent_indent="  ", break_on_hyphens=False)
        for one in words
    ]
    return "\n\n".join([f"## agent {name}", *_doc(command), f"```text\n{usage}\n```", "\n".join(rows)])


def _words(command: Callable[..., None]) -> list[Word]:
    found = []
    hints = get_type_hints(command, include_extras=True)
    for name, parameter in inspect.signature(command).parameters.items():
        kind, info = get_args(hints[name])[:2]
        default = parameter.default
        if isinstance(info, ArgumentInfo):
            shown = name.upper() + ("..." if "list" in str(kind) else "")
            shown = shown if default is inspect.Parameter.empty else f"[{shown}]"
            found.append(Word(shown, info.help or "", argument=True))
            continue
        assert isinstance(info, OptionInfo)
        given = [one for one in (info.default, *(info.param_decls or ())) if str(one).startswith("-")]
        switch = ", ".join(map(str, given)) or f"--{name.replace('_', '-')}"
        if kind is bool and default is True:
            switch, default = f"{switch} / --no-{name.replace('_', '-')}", switch
        value = "" if kind is bool else f" {_type(kind)}"
        said = "" if default in (None, False, "") else f" Default: {default}."
        found.append(Word(switch + value, (info.help or "") + said, argument=False))
    return found


def _type(kind: object) -> str:
    plain = [one for one in (get_args(kind) or (kind,)) if one is not NoneType]
    names = {str: "TEXT", int: "NUMBER", float: "NUMBER", Path: "PATH"}
    return names.get(plain[0], "TEXT")


def _doc(command: Callable[..., None]) -> list[str]:
    """Paragraphs of its docstring."""
    return [part.replace("\n", " ") for part in (inspect.getdoc(command) or "").split("\n\n")]


if __name__ == "__main__":
    PATH.write_text(page(), "utf-8")
