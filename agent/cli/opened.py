"""Opens the workspace for a command, and prints what a command found.

Takes what the person typed (`p12`, `r34`, a campaign's name); gives records, or errors that name the fix.
"""

import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from agent.errors import UserError

if TYPE_CHECKING:
    from agent.records import Campaign
    from agent.store import Store

CampaignName = Annotated[str | None, typer.Option("--campaign", help="Which campaign. Default: the latest.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Opened(NamedTuple):
    store: "Store"
    campaign: "Campaign"
    root: Path

    @property
    def folder(self) -> Path:
        return self.root / ".caddie" / self.campaign.name


def workspace() -> Path:
    """The folder with runs.db: here or above."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "runs.db").is_file():
            return folder
    raise UserError("no runs.db here or above: `agent start` makes one, in a git repository with a script")


@contextmanager
def opened(name: str | None) -> Iterator[Opened]:
    from agent.store import open_store

    root = workspace()
    store = open_store(root / "runs.db", create=False)
    try:
        with store.read() as reads:
            campaigns = reads.campaigns()
        chosen = [c for c in campaigns if name in (None, c.name)]
        if not chosen:
            known = [c.name for c in campaigns]
            raise UserError(
                f"no campaign {name!r}.{did_you_mean(name or '', known)} There are: {', '.join(known) or 'none'}"
            )
        yield Opened(store, chosen[-1], root)
    finally:
        store.close()


def number(text: str, letter: str) -> int:
    """p12 or 12 as a proposal, r34 or 34 as a run."""
    found = re.fullmatch(rf"{letter}?(\d{{1,12}})", text.strip().lower())
    if found is None:
        what = {"p": "a proposal is written p12", "r": "a run is written r34"}[letter]
        raise UserError(f"{text!r}: {what}")
    return int(found[1])


def did_you_mean(text: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(text, known, n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def emit(data: object, as_json: bool, render: Callable[[], str]) -> None:
    """JSON for programs, words for people."""
    if as_json:
        typer.echo(json.dumps(_plain(data), indent=2, ensure_ascii=False, default=str))
    else:
        typer.echo(render())


def _plain(data: object) -> object:
    if is_dataclass(data) and not isinstance(data, type):
        return asdict(data)
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(item) for item in data]
    return data
