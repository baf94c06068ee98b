"""Puts edits on the head: they are written against their source, which need not be the head.

Takes two proposals of the store and edits; gives all editable files as they would run. Raises EditError.
"""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.errors import EditError
from agent.planner import edits as written
from agent.records import Proposal
from agent.script.merge import merge

if TYPE_CHECKING:
    from agent.store import Reads
    from agent.worktree import Repository


@dataclass(frozen=True)
class Basis:
    """What edits are written against, and what they shall end up on."""

    source: Proposal
    head: Proposal
    source_files: Mapping[str, str]
    root_files: Mapping[str, str]
    """What the source's own change was made on: it comes along when a shelved idea is taken up again."""
    head_files: Mapping[str, str]


def basis(repo: "Repository", reads: "Reads", source: Proposal, head: Proposal, editable: Collection[str]) -> Basis:
    """Reads the files of a source and a head."""
    root = source
    # What was promoted is part of the lineage: its own change is no news to any head.
    if source.baseline_id is not None and source.state not in ("promoted", "reverted"):
        root = reads.proposal(source.baseline_id)
    source_files, root_files, head_files = (repo.files(_commit(one), editable) for one in (source, root, head))
    return Basis(source, head, source_files, root_files, head_files)


def rebased(basis: Basis, edits: str, editable: Collection[str]) -> dict[str, str]:
    """The head's files with the edits, and with what the source had changed before them."""
    after = written.apply(edits, basis.source_files, editable)
    if basis.source.id == basis.head.id:
        return after
    return merged(basis.root_files, basis.head_files, after)


def merged(base: Mapping[str, str], ours: Mapping[str, str], theirs: Mapping[str, str]) -> dict[str, str]:
    """Three-way merge of every editable file."""
    result = {}
    for path in theirs:
        text = merge(base.get(path, ""), ours.get(path, ""), theirs[path])
        if text is None:
            raise EditError(f"{path}: conflicts with what the head has changed at the same place")
        result[path] = text
    return result


def hunks(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """What differs, with the lines around it, wherever it stands."""
    changes = (
        difflib.unified_diff(before[path].splitlines(), after[path].splitlines(), path, path) for path in sorted(after)
    )
    return [row for change in changes for row in change if not row.startswith("@@")]


def _commit(proposal: Proposal) -> str:
    if proposal.commit is None:
        raise EditError(f"p{proposal.id} has no commit to start from: it is {proposal.state}")
    return proposal.commit
