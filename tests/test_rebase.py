"""Edits on a head that is not what they were written against."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import rebase
from agent.errors import EditError
from agent.records import Proposal, ProposalState
from agent.tools import Desk
from tests.desk import SCRIPT, edit, open_desk
from tests.filling import TO_PROMOTED, add_idea

WIDER, FASTER = ('"width": 4', '"width": 6'), ('"rate": 0.10', '"rate": 0.20')
NEW = '"bits": 8', '"bits": 6'


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[tuple[Desk, Proposal]]:
    with open_desk(tmp_path / "work") as found:
        yield found


def committed(desk: Desk, parent: Proposal, text: str, *states: ProposalState, head: bool = False) -> Proposal:
    """A proposal whose commit holds this script."""
    assert parent.commit
    with desk.store.write() as tx:
        idea = add_idea(tx, parent)
        commit = desk.repo.commit_candidate(desk.campaign.name, idea.id, parent.commit, {"train.py": text}, "x")
        idea = tx.update_proposal(idea.id, commit=commit)
        for state in states:
            idea = tx.move(idea.id, state)
        if head:
            tx.set_head(desk.campaign.id, idea.id)
    return idea


def put(desk: Desk, source: Proposal, edits: str) -> str:
    paths = desk.track.script.editable
    with desk.store.read() as reads:
        basis = rebase.basis(desk.repo, reads, source, reads.head(desk.campaign.id), paths)
    return rebase.rebased(basis, edits, paths)["train.py"]


def test_edits_of_the_head_are_applied_to_it(opened: tuple[Desk, Proposal]) -> None:
    assert put(*opened, edit(NEW)) == SCRIPT.replace(*NEW)


def test_what_a_shelved_idea_changed_comes_along(opened: tuple[Desk, Proposal]) -> None:
    desk, base = opened
    shelved = committed(desk, base, SCRIPT.replace(*WIDER), "cancelled")
    committed(desk, base, SCRIPT.replace(*FASTER), *TO_PROMOTED, head=True)
    after = put(desk, shelved, edit(NEW, script=SCRIPT.replace(*WIDER)))
    assert after == SCRIPT.replace(*WIDER).replace(*FASTER).replace(*NEW)


def test_what_a_head_changed_that_was_taken_back_does_not(opened: tuple[Desk, Proposal]) -> None:
    desk, base = opened
    wider = SCRIPT.replace(*WIDER)
    reverted = committed(desk, base, wider, *TO_PROMOTED, "reverted")
    committed(desk, base, SCRIPT.replace(*FASTER), *TO_PROMOTED, head=True)
    assert put(desk, reverted, edit(NEW, script=wider)) == SCRIPT.replace(*FASTER).replace(*NEW)


def test_a_conflict_is_told_with_its_file(opened: tuple[Desk, Proposal]) -> None:
    desk, base = opened
    committed(desk, base, SCRIPT.replace('"width": 4', '"width": 9'), *TO_PROMOTED, head=True)
    with pytest.raises(EditError, match=r"train\.py: conflicts with what the head has changed"):
        put(desk, base, edit(WIDER))
    assert put(desk, base, edit(NEW)) == SCRIPT.replace('"width": 4', '"width": 9').replace(*NEW)


def test_a_source_without_a_commit_is_no_source(opened: tuple[Desk, Proposal]) -> None:
    desk, base = opened
    with desk.store.write() as tx:
        idea = add_idea(tx, base)
    with pytest.raises(EditError, match=f"p{idea.id} has no commit to start from: it is drafted"):
        put(desk, idea, edit(NEW))
