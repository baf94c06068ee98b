"""Opens the workspace for a command, and prints what a command found.

Takes what the person typed (`p12`, `r34`, a campaign's name); gives records, or errors that name the fix.
"""

import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from agent.errors import UserError, did_you_mean
from agent.report import heard
from agent.workspace import campaign_folder, jobs_folder

if TYPE_CHECKING:
    from agent.records import Campaign, Proposal, Run
    from agent.store import Reads, Store

CampaignName = Annotated[str | None, typer.Option("--campaign", help="Which campaign. Default: the latest.")]
AtWork = Annotated[
    str | None, typer.Option("--campaign", help="Which campaign. Default: the latest that runs, else the latest.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Opened(NamedTuple):
    store: "Store"
    campaign: "Campaign"
    root: Path

    @property
    def folder(self) -> Path:
        return campaign_folder(self.root, self.campaign.name)

    @property
    def jobs(self) -> Path:
        return jobs_folder(self.root, self.campaign.name)


def workspace() -> Path:
    """The folder with runs.db, here or above; where the runs are on a server, the repository that this is in."""
    from agent.store import where

    if where.server() is not None:
        return here()
    for folder in (Path.cwd(), *Path.cwd().parents):
        if os.path.lexists(folder / "runs.db"):
            return folder
    raise UserError("no runs.db here or above: `agent start` makes one, in a git repository with a script")


def here() -> Path:
    """The workspace, if this is in one; the current folder else."""
    from agent.worktree import Repository

    try:
        return Repository(Path.cwd()).root
    except UserError:
        return Path.cwd()


@contextmanager
def opened(name: str | None, *, at_work: bool = False) -> Iterator[Opened]:
    """The store and a campaign of it: the one that is named, or the latest; with `at_work` the latest that is run."""
    from agent.store import where
    from agent.store.lease import holder

    root = workspace()
    store = where.opened(root)
    try:
        with store.read() as reads:
            campaigns = reads.campaigns()
            if at_work and name is None:
                run = [one for one in campaigns if holder(reads.connection, f"campaign {one.name}")]
                campaigns = run or campaigns
        yield Opened(store, chosen(name, campaigns), root)
    finally:
        store.close()


def chosen(name: str | None, campaigns: "Sequence[Campaign]") -> "Campaign":
    """The campaign of this name; the latest where none was given."""
    if not campaigns:
        raise UserError("the store holds no campaign yet: `agent start` opens one")
    found = [one for one in campaigns if name in (None, one.name)]
    if found:
        return found[-1]
    known = [one.name for one in campaigns]
    raise UserError(f"no campaign {name!r}.{did_you_mean(name or '', known)} There are: {', '.join(known)}")


def proposal(reads: "Reads", text: str) -> "Proposal":
    """p12 or 12."""
    wanted = number(text, "p")
    try:
        return reads.proposal(wanted)
    except UserError as error:
        raise UserError(f"{error}.{_nearest(reads, wanted)}") from error


def run(reads: "Reads", text: str) -> "Run":
    """r34 or 34."""
    wanted = number(text, "r")
    try:
        return reads.run(wanted)
    except UserError as error:
        newest = max((one.id for c in reads.campaigns() for one in reads.runs(c.id)), default=0)
        known = f" The newest is r{newest}." if newest else " There are no runs yet."
        raise UserError(f"{error}.{known}") from error


def _nearest(reads: "Reads", wanted: int) -> str:
    known = [one.proposal_id for campaign in reads.campaigns() for one in reads.trials(campaign.id)]
    if not known:
        return " There are none yet."
    nearest = min(known, key=lambda one: (abs(one - wanted), one))
    return f" Did you mean p{nearest}? The newest is p{max(known)}."


def number(text: str, letter: str) -> int:
    """The number of p12, r34 or l5; the letter may be left out, but not be another."""
    found = re.fullmatch(r"([prl]?)(\d{1,12})", text.strip().lower())
    names = {"p": "a proposal", "r": "a run", "l": "a finding"}
    if found is None:
        raise UserError(f"{text!r} is not {names[letter]}: write {letter}12, or 12")
    if found[1] not in ("", letter):
        shows = "agent lessons" if found[1] == "l" else f"agent show {found[0]}"
        raise UserError(f"{text!r} is {names[found[1]]}, not {names[letter]}; `{shows}` shows it")
    return int(found[2])


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
    from agent.report.words import colourful

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
