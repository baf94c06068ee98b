"""docs/cli.md, made from the help texts: `python -m agent.cli.docs` writes it, a test holds it up to date."""

from pathlib import Path

from typer.main import get_command
from typer.testing import CliRunner

from agent.cli.app import app

PATH = Path(__file__).parents[2] / "docs" / "cli.md"
WIDTH = "100"


def page() -> str:
    """The whole page."""
    parts = [
        "# The command line",
        "Made from the help texts by `python -m agent.cli.docs`; edit those, not this file.",
        "`agent --install-completion` sets up completion in your shell (bash, zsh, fish, PowerShell).",
        _help(),
    ]
    for name in commands():
        parts += [f"## agent {name}", _help(name)]
    return "\n\n".join(parts) + "\n"


def commands() -> list[str]:
    group = get_command(app)
    found: dict[str, object] = group.commands  # type: ignore[attr-defined]
    return list(found)


def _help(*command: str) -> str:
    runner = CliRunner(env={"COLUMNS": WIDTH, "NO_COLOR": "1"})
    said = runner.invoke(app, [*command, "--help"], prog_name="agent", catch_exceptions=False).output
    return "```text\n" + "\n".join(row.rstrip() for row in said.strip().splitlines()) + "\n```"


if __name__ == "__main__":
    PATH.write_text(page(), "utf-8")
