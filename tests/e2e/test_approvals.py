"""What a person's answer to an idea does, and how long it holds: edits, new heads, replays."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent import budget, review
from agent.errors import EditError
from agent.records import Proposal
from agent.runners.fake import Imagined, imagine
from agent.setting import Setting
from agent.states import FINAL
from agent.steps import admit
from agent.store import Tx
from tests.e2e import world
from tests.e2e.planning import by_title, watched, worse


def test_what_a_person_edited_is_approved_and_checked(root: Path) -> None:
    world.write_ideas(root, [worse(1), worse(2)])
    setting = world.open_campaign(root, review="all")
    paths = setting.track.script.editable

    def look(tx: Tx) -> bool:
        waiting = tx.proposals(setting.campaign.id, {"awaiting_review"})
        if len(waiting) == 2:
            for idea, value in zip(waiting, ("0.05", "0.05 +"), strict=True):
                edited = idea.diff.replace(f"0.000{idea.title[-1]}", value)
                files = setting.repo.files(setting.campaign.base_commit, paths)
                review.edit(tx, idea, "ann", edited, files, setting.track)
        return not waiting and tx.count_proposals(setting.campaign.id, {"worse", "blocked"}) == 2

    watched(setting, look)
    found = by_title(setting)
    lower, broken = found["rate 0.1 -> 0.05"], found["worse 2 (edited)"]
    assert (lower.state, broken.state) == ("worse", "blocked")
    assert lower.reviewed_by == "ann" and '"rate": 0.05,' in lower.diff
    message = world.git(root, "log", "-1", "--format=%B", lower.commit or "")
    assert message.startswith("rate 0.1 -> 0.05\n") and "The original's (p2): worse 1 helps" in message
    with setting.store.read() as reads:
        waited = [event.proposal_id for event in reads.events(setting.campaign.id) if event.what == "awaiting_review"]
    assert waited == [2, 3]  # the planner's own versions


@pytest.mark.parametrize("policy", ["all", "risky"])
def test_an_approval_follows_an_idea_to_a_new_head_while_its_hunks_stay(root: Path, policy: str) -> None:
    """Next to the line that the new head has changed, what was approved is not what would run."""
    near, far = ('"rate": 0.10', '"rate": 0.05'), ("print(KNOBS)", "print(dict(KNOBS))")
    world.write_ideas(
        root,
        [
            world.idea("wider", ('"width": 4', '"width": 8'), kind="optimiser"),
            world.idea("near", near, kind="optimiser"),
            world.idea("far", far, kind="optimiser"),
        ],
    )
    setting = world.open_campaign(root, review=policy)

    def look(tx: Tx) -> bool:
        waiting = tx.proposals(setting.campaign.id, {"awaiting_review"})
        if len(waiting) == 3:
            review.approve(tx, waiting, "ann")
        return [one.title for one in waiting] == ["near"] and tx.proposal(4).state in FINAL

    watched(setting, look)
    found = by_title(setting)
    assert found["wider"].state == "promoted" and found["wider"].reviewed_by == "ann"
    assert found["near"].baseline_id == found["far"].baseline_id == found["wider"].id
    assert found["far"].reviewed_by == "ann" and found["far"].state in FINAL
    assert (found["near"].state, found["near"].reviewed_by) == ("awaiting_review", "")
    assert found["near"].reason == "changed by the new head p2"
    with setting.store.read() as reads:
        assert reads.runs(setting.campaign.id, proposal_id=found["far"].id)
        assert not reads.runs(setting.campaign.id, proposal_id=found["near"].id)


def test_what_a_new_head_changed_and_a_policy_approves_is_not_said_to_be_a_persons(root: Path) -> None:
    """Here what she made of it was harmless before and is harmless after, but she has not seen the latter."""
    bits = '"bits": 8'
    wider = world.idea("wider", ('"width": 4', '"width": 8'), kind="optimiser")
    world.write_ideas(root, [wider, world.idea("bits", (bits, '"bits": 7'))])
    setting = world.open_campaign(root, review="risky")
    paths = setting.track.script.editable

    def look(tx: Tx) -> bool:
        waiting = tx.proposals(setting.campaign.id, {"awaiting_review"})
        if [one.title for one in waiting] == ["wider", "bits"]:
            files = setting.repo.files(setting.campaign.base_commit, paths)
            review.approve(tx, [waiting[0]], "ann")
            edited = waiting[1].diff.replace('"bits": 7', '"bits": 6')
            new = review.edit(tx, waiting[1], "ann", edited, files, setting.track)
            assert new.reviewed_by == "ann"
        return False

    assert watched(setting, look) == "the planner has no more ideas"
    found = by_title(setting)
    assert (found["wider"].state, found["wider"].reviewed_by) == ("promoted", "ann")
    fewer = found["bits 8 -> 6"]
    assert fewer.baseline_id == found["wider"].id and '"bits": 6' in fewer.diff
    assert fewer.reviewed_by == "policy:risky" and fewer.state in FINAL


@pytest.mark.parametrize("fits", [True, False])
def test_who_says_no_while_an_idea_moves_to_a_new_head_is_heard(
    root: Path, monkeypatch: pytest.MonkeyPatch, fits: bool
) -> None:
    ideas = [("wider", ('"width": 4', '"width": 8')), ("other", ("print(KNOBS)", "print(dict(KNOBS))"))]
    world.write_ideas(root, [world.idea(title, change, kind="optimiser") for title, change in ideas])
    setting = world.open_campaign(root, review="all")
    move = admit.moved

    def moved(setting: Setting, proposal: Proposal, head: Proposal) -> admit.Committed:
        with setting.store.write() as tx:
            review.reject(tx, [proposal], "ann", "no")
        if not fits:
            raise EditError("its lines are gone")
        return move(setting, proposal, head)

    def look(tx: Tx) -> bool:
        waiting = tx.proposals(setting.campaign.id, {"awaiting_review"})
        if len(waiting) == 2:
            review.approve(tx, [waiting[0]], "ann")
        return False

    monkeypatch.setattr(admit, "moved", moved)
    assert watched(setting, look) == "the planner has no more ideas"
    found = by_title(setting)
    assert (found["wider"].state, found["other"].state) == ("promoted", "declined")
    assert found["other"].baseline_id == found["wider"].baseline_id


@pytest.mark.parametrize("policy", ["all", "risky"])
def test_an_approval_does_not_outlive_a_replay_that_changes_the_hunks(root: Path, policy: str) -> None:
    """Measured beside the idea that became the head, it is put on that head; its line now has another neighbour."""

    def world_of(knobs: Mapping[str, Any], seed: int) -> Imagined:
        found = imagine(knobs, seed)
        return replace(found, bpb=found.bpb - 0.15 * (knobs["rate"] == 0.21) - 0.1 * (knobs["width"] == 8))

    ideas = [("wider", ('"width": 4', '"width": 8')), ("rate", ('"rate": 0.10', '"rate": 0.21'))]
    world.write_ideas(root, [world.idea(title, change, kind="optimiser") for title, change in ideas])
    setting = world.open_campaign(root, slots=3, seconds=0.4, world_of=world_of, review=policy)
    asked_again: list[tuple[str, str, list[budget.Entry]]] = []

    def look(tx: Tx) -> bool:
        waiting = tx.proposals(setting.campaign.id, {"awaiting_review"})
        if len(waiting) == 2:
            review.approve(tx, waiting, "ann")
        elif waiting and "replay" in waiting[0].reason:
            asked_again.append((waiting[0].reason, waiting[0].reviewed_by, budget.holds(tx, waiting[0].id)))
            review.approve(tx, [waiting[0]], "bob")
        return tx.count_proposals(setting.campaign.id, {"promoted"}) == 3

    watched(setting, look)
    found = by_title(setting)
    assert found["wider"].state == found["rate"].state == "promoted"
    late = max(found["wider"], found["rate"], key=lambda one: one.baseline_id or 0)
    early = found["wider"] if late.title == "rate" else found["rate"]
    assert late.baseline_id == early.id
    assert asked_again == [(f"changed by the replay on p{early.id}", "", [])]
    assert (early.reviewed_by, late.reviewed_by) == ("ann", "bob")
    with setting.store.read() as reads:
        assert budget.audit(reads, setting.campaign.id) == [] == budget.open_entries(reads, setting.campaign.id)


@pytest.mark.parametrize("near", [True, False])
def test_an_edit_is_approved_as_it_was_written(root: Path, near: bool) -> None:
    """Written while the head moves: next to the line that the new head has changed, nobody has seen what would run."""
    change = ('"rate": 0.10', '"rate": 0.05') if near else ("print(KNOBS)", "print(dict(KNOBS))")
    wider = world.idea("wider", ('"width": 4', '"width": 8'), kind="optimiser")
    world.write_ideas(root, [wider, world.idea("other", change, kind="optimiser")])
    setting = world.open_campaign(root, review="all")
    paths = setting.track.script.editable
    seen: list[Proposal] = []

    def look(tx: Tx) -> bool:
        waiting = tx.proposals(setting.campaign.id, {"awaiting_review"})
        if [one.title for one in waiting] == ["wider", "other"]:
            seen.append(waiting[1])
            review.approve(tx, waiting[:1], "ann")
        elif seen and waiting and waiting[0].id == seen[0].id and waiting[0].baseline_id != seen[0].baseline_id:
            files = setting.repo.files(setting.campaign.base_commit, paths)
            edited = seen[0].diff.replace("0.05", "0.06").replace("dict(", "list(")
            review.edit(tx, seen[0], "ann", edited, files, setting.track)
        made = tx.proposals(setting.campaign.id)
        return len(made) == 4 and made[3].state in (FINAL if not near else {"awaiting_review"})

    assert watched(setting, look)
    mine = by_title(setting)["other (edited)"]
    assert mine.baseline_id == by_title(setting)["wider"].id != mine.source_id
    if near:
        assert (mine.state, mine.reviewed_by) == ("awaiting_review", "")
        assert mine.reason == f"written by ann, changed by the new head p{mine.baseline_id}"
    else:
        assert mine.state in FINAL and mine.reviewed_by == "ann"
