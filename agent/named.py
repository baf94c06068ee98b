"""What a person or a model means: the workspace they are in; the campaign, the proposal or the run that they name.

Takes words as they were typed (`p12`, `r34`); gives folders, rows and numbers, or UserError that says what was meant.
"""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from agent.records import Campaign, Proposal, Run
    from agent.store import Reads

_NAME = re.compile(r"([prl]?)(\d{1,12})", re.ASCII)
_WHAT = {"p": "a proposal", "r": "a run", "l": "a finding"}


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


def campaign(name: str | None, campaigns: "Sequence[Campaign]") -> "Campaign":
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


def _shown_by(name: str) -> str:
    return f"; `{'agent lessons' if name[0] == 'l' else f'agent show {name}'}` shows it"


def number(text: str, letter: str, otherwise: Callable[[str], str] = _shown_by) -> int:
    """The number of p12, r34 or l5; the letter may be left out, but not be another. `otherwise`: what to do with the
    name of something else."""
    found = _NAME.fullmatch(text.strip().lower())
    if found is None:
        raise UserError(f"{text!r} is not {_WHAT[letter]}: write {letter}12, or 12")
    if found[1] not in ("", letter):
        raise UserError(f"{text!r} is {_WHAT[found[1]]}, not {_WHAT[letter]}{otherwise(found[0])}")
    return int(found[2])


def _nearest(reads: "Reads", wanted: int) -> str:
    known = [one.proposal_id for campaign in reads.campaigns() for one in reads.trials(campaign.id)]
    if not known:
        return " There are none yet."
    nearest = min(known, key=lambda one: (abs(one - wanted), one))
    return f" Did you mean p{nearest}? The newest is p{max(known)}."
