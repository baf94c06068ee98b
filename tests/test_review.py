"""Review: policies fail closed, the queue is ranked and bounded, and a person's answers are on record."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent import calibration, guard, review
from agent import track as tracks
from agent.cli.reviewing import _card
from agent.errors import EditError, UserError
from agent.judge.rules.signs import findings
from agent.planner import edits
from agent.planner.idea import Idea
from agent.records import Proposal
from agent.review import Pending
from agent.store import Store, open_store
from agent.track import load
from tests.e2e import world
from tests.filling import add_base, add_campaign, add_idea, draft

FILES = {"train.py": "a = 1\nb = 2\nc = 3\n"}
TOY = tracks.parse(world.TRACK, "toy.toml")
DIFF = "--- a/train.py\n+++ b/train.py\n@@ -1,3 +1,3 @@\n a = 1\n-b = 2\n+b = 3\n c = 3\n"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "runs.db")
    yield opened
    opened.close()


@pytest.fixture
def waiting(store: Store) -> list[Proposal]:
    with store.write() as tx:
        base = add_base(tx, add_campaign(tx))
        ideas = [add_idea(tx, base, title) for title in ("one", "two", "three")]
        for idea, gain in zip(ideas, (0.01, 0.05, 0.03), strict=True):
            tx.update_proposal(idea.id, expected_gain=gain, diff=DIFF, patch_id="abc")
        return [tx.move(idea.id, "awaiting_review") for idea in ideas]


def checked(proposal: Proposal, **changes: object) -> Proposal:
    values = {"kind": "knob", "ast_hash": "x", "knobs": {"lr": 1}, "risk": (), **changes}
    return replace(proposal, **values)  # type: ignore[arg-type]


def test_policies(waiting: list[Proposal]) -> None:
    knob = checked(waiting[0])
    assert review.policy("none", replace(knob, risk=("bad",))) == "approve"
    assert review.policy("all", knob) == "ask"
    assert review.policy("risky", knob) == "approve"


@pytest.mark.parametrize(
    "changes",
    [{"risk": ("adds import os",)}, {"kind": "architecture"}, {"ast_hash": ""}, {"knobs": {}}],
)
def test_risky_asks_about_all_it_does_not_know(waiting: list[Proposal], changes: dict[str, object]) -> None:
    assert review.policy("risky", checked(waiting[0], **changes)) == "ask"


def test_an_unknown_policy_asks(waiting: list[Proposal]) -> None:
    assert review.policy("rsky", checked(waiting[0])) == "ask"  # type: ignore[arg-type]


def test_the_queue_is_ranked_and_full_at_eight(store: Store, waiting: list[Proposal]) -> None:
    tiny = load("tiny", Path())[0]
    track = tiny.model_copy(update={"decision": tiny.decision.model_copy(update={"max_seeds": 4, "report_seeds": 3})})
    with store.read() as reads:
        queue = review.pending(reads, waiting[0].campaign_id, 36.0, track)
    assert [item.proposal.title for item in queue] == ["two", "three", "one"]
    # Half the time it is found to be better, and then it takes three more runs and three fresh ones.
    assert queue[0].cost_s == 36.0 * (1 + 0.5 * 6)
    assert queue[0].gain_per_hour == pytest.approx(0.05 * 0.5 * 100 / 4)
    seven = [waiting[0]] * 7
    for policy in ("all", "risky"):
        approved = replace(waiting[0], state="approved", reviewed_by="policy:risky")
        assert review.room(policy, [*seven, approved]) == 1
        assert review.room(policy, [*seven, replace(approved, reviewed_by="somebody")]) == 0
        assert review.room(policy, [*seven, replace(waiting[0], state="drafted")]) == 0
        assert review.room(policy, [*seven, *waiting]) < 0
    assert review.room("none", seven) > 100


def test_the_queue_counts_what_an_idea_will_cost(waiting: list[Proposal]) -> None:
    """A gain that is surer by half is worth less per hour: it will be confirmed more often, and has to be paid for."""
    track = load("tiny", Path())[0]
    unsure = replace(waiting[0], expected_gain=0.03, confidence=0.4)
    sure = replace(waiting[1], expected_gain=0.02, confidence=0.62)
    assert sure.expected_gain * sure.confidence > unsure.expected_gain * unsure.confidence
    assert [item.proposal for item in review.ranked([sure, unsure], 30.0, track)] == [unsure, sure]


def test_a_trial_costs_its_share_and_the_rest_as_likely_as_it_passes(waiting: list[Proposal]) -> None:
    track = load("tiny", Path())[0]
    bold = replace(waiting[0], confidence=0.1)
    (direct,), (tried,), (long,) = (
        review.ranked([replace(bold, rung=rung)], 30.0, track) for rung in ("decide", "short", "long")
    )
    further = track.decision.max_seeds - 1 + track.decision.report_seeds
    assert direct.cost_s == long.cost_s == 30 * (1 + 0.1 * further)
    share = track.share(track.rung_named("short"))
    assert tried.cost_s == pytest.approx(30 * (share + 0.55 + 0.1 * further))
    # What is nearly sure to pass only pays more for it.
    sure = replace(bold, confidence=0.9)
    one, other = (review.ranked([replace(sure, rung=rung)], 30.0, track)[0].cost_s for rung in ("", "short"))
    assert other > one


def test_a_card_says_whose_word_the_size_is(waiting: list[Proposal]) -> None:
    def size_on_card(**changes: int) -> list[str]:
        card = _card(Pending(replace(waiting[0], **changes), 30.0, 0.1), "1 of 3")  # type: ignore[arg-type]
        return [" ".join(line.split()) for line in card.splitlines() if line.strip().startswith("bytes")]

    assert size_on_card() == []
    assert size_on_card(sized_bytes=1700) == ["bytes 1,700 estimated"]
    assert (
        size_on_card(expected_bytes=1234)
        == size_on_card(expected_bytes=1234, sized_bytes=9)
        == ["bytes 1,234 expected"]
    )


def test_a_card_shows_each_risk_and_what_was_found_before_what_its_author_says(waiting: list[Proposal]) -> None:
    claims = [f"harmless {n} {'x' * 480}" for n in range(19)] + ["train.py: rule 1, core_busy: nothing"]
    idea = Idea(title="one", edits="x", risk=claims).draft(planner="some", mode="exploit", source_id=1)
    before = {"train.py": world.SCRIPT}
    after = {"train.py": world.SCRIPT.replace("main()\n", "import pickle\n\nmain(pickle.load)\n")}
    proposal = replace(waiting[0], risk=idea.risk, rung="")
    found = guard.check(TOY, proposal, before, after, lambda _: None).risks
    card = _card(Pending(replace(waiting[0], risk=found), 30.0, 0.1), "1 of 3").splitlines()
    at = next(n for n, row in enumerate(card) if row.startswith("  risk        train.py: rule 25, pickle: "))
    rows = [row.strip() for row in card[at + 1 : at + 30]]
    assert rows[0] == guard.FREE_EDIT and "its author: train.py: rule 1, core_busy: nothing" in rows
    assert [one.rule for one in findings(found)] == ["pickle"]


def test_nobody_comes_first_for_good_by_expecting_too_much(waiting: list[Proposal]) -> None:
    """The least that a planner is trusted is not nothing, so a boast of any size would outweigh it."""
    track = load("tiny", Path())[0]
    boast = replace(waiting[0], planner="boaster", expected_gain=10.0, confidence=0.5)
    honest = replace(waiting[1], planner="honest", expected_gain=3 * track.decision.min_gain, confidence=0.5)
    trust = {"boaster": calibration.LEAST, "honest": 1.0}
    found = review.ranked([boast, honest], 30.0, track, lambda planner, kind: trust[planner])
    assert [item.proposal.planner for item in found] == ["honest", "boaster"]


def test_bulk_approval_is_all_or_none(store: Store, waiting: list[Proposal]) -> None:
    ids = [one.id for one in waiting]
    with store.write() as tx:
        review.reject(tx, waiting[2:], "ann", "too slow")
    with pytest.raises(UserError, match="is declined"), store.write() as tx:
        review.approve(tx, waiting, "ann")
    with store.write() as tx:
        assert [one.state for one in review.approve(tx, waiting[:2], "ann", "go")] == ["approved", "approved"]
    with store.read() as reads:
        assert [reads.proposal(i).state for i in ids] == ["approved", "approved", "declined"]
        assert [(n.action, n.who, n.comment) for n in reads.reviews(ids[2])] == [("reject", "ann", "too slow")]
        assert reads.proposal(ids[0]).reviewed_by == "ann"
        assert "too slow" in reads.proposal(ids[2]).reason


def test_an_edit_becomes_a_new_draft(store: Store, waiting: list[Proposal]) -> None:
    with store.write() as tx:
        like = waiting[0]
        old = tx.add_proposal(like.campaign_id, draft("one", 1, rung="short"), baseline_id=like.baseline_id)
        tx.update_proposal(old.id, diff=DIFF, patch_id="abc")
        old = tx.move(old.id, "awaiting_review")
        new = review.edit(tx, old, "ann", DIFF.replace("+b = 3", "+b = 4"), FILES, TOY, "less")
    with store.read() as reads:
        assert reads.proposal(old.id).state == "declined"
        assert f"replaced by p{new.id}" in reads.proposal(old.id).reason
        assert (new.state, new.source_id, new.baseline_id) == ("drafted", old.baseline_id, old.baseline_id)
        assert (new.evidence, new.rung) == ((f"p{old.id}",), "short")
        assert (new.title, old.title) == ("one (edited)", "one")
        assert new.hypothesis == f"Edited by ann. The original's (p{old.id}): {old.hypothesis}"
        assert "ann" in new.planner and "+b = 4" in new.edits and new.reviewed_by == "ann"
        assert reads.reviews(old.id)[0].action == "edit"


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ('+    "width": 8,', "width 4 -> 8"),
        ('+    "width": 7,', "one (edited)"),
        ('+    "width": 8 +,', "one (edited)"),
    ],
    ids=["a declared choice", "not declared", "no script"],
)
def test_what_was_edited_is_called_by_what_it_does_now(
    store: Store, waiting: list[Proposal], line: str, title: str
) -> None:
    old, files = waiting[0], {"train.py": world.SCRIPT}
    diff = '--- a/train.py\n+++ b/train.py\n@@ -4,1 +4,1 @@\n-    "width": 4,\n'
    with store.write() as tx:
        seen = tx.update_proposal(old.id, diff=f'{diff}+    "width": 6,\n')
        assert review.edit(tx, seen, "ann", f"{diff}{line}\n", files, TOY).title == title


@pytest.mark.parametrize("edited", [DIFF, DIFF.replace("-b = 2", "-b = 9"), ""])
def test_an_edit_that_says_nothing_new_changes_nothing(store: Store, waiting: list[Proposal], edited: str) -> None:
    with pytest.raises(EditError), store.write() as tx:
        review.edit(tx, waiting[0], "ann", edited, FILES, TOY)
    with store.read() as reads:
        assert reads.proposal(waiting[0].id).state == "awaiting_review"
        assert reads.reviews(waiting[0].id) == []
        assert len(reads.proposals(waiting[0].campaign_id)) == 4


def test_lines_may_be_added_and_taken_out_without_counting_them(store: Store, waiting: list[Proposal]) -> None:
    with store.write() as tx:
        new = review.edit(tx, waiting[0], "ann", DIFF.replace("+b = 3\n", "+b = 4\n+d = 5\n"), FILES, TOY)
    assert edits.apply(new.edits, FILES, TOY.script.editable) == {"train.py": "a = 1\nb = 4\nd = 5\nc = 3\n"}


def test_what_was_edited_while_the_head_moved_says_what_it_was_written_against(
    store: Store, waiting: list[Proposal]
) -> None:
    """The guard's way puts it on the new head, by a merge of three."""
    seen, head = waiting[0], waiting[1]
    with store.write() as tx:
        tx.update_proposal(seen.id, baseline_id=head.id, diff=DIFF.replace("-b = 2", "-b = 7"))
        new = review.edit(tx, seen, "ann", DIFF.replace("+b = 3", "+b = 4"), FILES, TOY)
    assert (new.source_id, new.baseline_id) == (seen.baseline_id, head.id)


def test_stop_asks_the_campaign_to_drain(store: Store, waiting: list[Proposal]) -> None:
    with store.write() as tx:
        review.stop(tx, waiting[0].id, "ann")
    with store.read() as reads:
        assert reads.request(waiting[0].campaign_id) == "drain"
        assert reads.proposal(waiting[0].id).state == "awaiting_review"


def test_what_does_not_wait_cannot_be_answered(store: Store, waiting: list[Proposal]) -> None:
    with store.write() as tx:
        fresh = tx.add_proposal(waiting[0].campaign_id, draft("new", 1), baseline_id=waiting[0].baseline_id)
        for act in (review.approve, review.reject):
            with pytest.raises(UserError, match="doesn't wait"):
                act(tx, [fresh], "ann")
