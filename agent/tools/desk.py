"""What the tools of a model may look at, and how they find what it names there.

Takes names as a model writes them (p12, r34); gives rows of this store, or UserError with what was meant.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import UserError
from agent.job.folder import JobPaths
from agent.named import number
from agent.rebase import Basis, basis
from agent.records import Campaign, Proposal, Run
from agent.tools.dry_run import DryRuns
from agent.track import Track
from agent.workspace import job_folder

if TYPE_CHECKING:
    from agent.store import Reads, Store
    from agent.worktree import Repository


@dataclass(frozen=True)
class Desk:
    """One campaign, read-only. Make one and share it: what was tried out is kept with it."""

    store: "Store"
    repo: "Repository"
    track: Track
    campaign: Campaign
    root: Path
    """The workspace: its skills are read, its campaigns' logs."""
    corpus: Path
    """The prepared corpus, for dry runs."""
    machine: Mapping[str, str] = field(default_factory=dict)
    """Variables by which a dry run finds its share of the machine, where it needs any."""
    gpus: tuple[int, ...] = ()
    """Numbers of the GPUs that a dry run may use."""
    dry_runs: DryRuns = field(default_factory=DryRuns, compare=False, repr=False)


def on_head(desk: Desk, source: Proposal) -> Basis:
    """What edits of a proposal are written against, to end up on what is the head at this moment."""
    with desk.store.read() as reads:
        head = reads.head(desk.campaign.id)
        return basis(desk.repo, reads, source, head, desk.track.script.editable)


def a_proposal(reads: "Reads", text: str) -> Proposal:
    wanted = number(text, "p", lambda name: ": write p12")
    try:
        return reads.proposal(wanted)
    except UserError as error:
        raise UserError(f"{error}. SELECT id, title, state FROM proposals lists what there is") from error


def a_run(reads: "Reads", text: str) -> Run:
    wanted = number(text, "r", lambda name: ": write r12")
    try:
        return reads.run(wanted)
    except UserError as error:
        raise UserError(f"{error}. SELECT id, proposal_id, state FROM runs lists what there is") from error


def is_run(text: str) -> bool:
    return text.strip().lower().startswith("r")


def job_of(desk: Desk, reads: "Reads", run: Run) -> JobPaths:
    owner = reads.campaign_by_id(run.campaign_id)
    return JobPaths(job_folder(desk.root, owner.name, run.id))
