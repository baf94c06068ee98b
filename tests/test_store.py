"""The store: records come back as they were written, states move by the rules, views say what is true.

Every test here runs on SQLite and, where its binaries are, on a PostgreSQL server started for the purpose.
"""

import dataclasses
import math
import os
import threading

import pytest
from sqlalchemy import event

from agent.errors import UserError
from agent.records import Caps, Finding, Proposal, Verdict
from agent.states import FINAL, TRANSITIONS
from agent.store import Reads, Replicate, Scored, Store
from agent.store.forgotten import configurations
from tests import filling
from tests.filling import add_base, add_campaign, add_idea, add_measured, promote, view


def test_a_campaign_comes_back_whole_and_its_name_is_taken(store: Store) -> None:
    with store.write() as tx:
        written = add_campaign(tx, caps=Caps(90.5, usd=3.25))
        with pytest.raises(UserError, match="already"):
            add_campaign(tx)
        tx.ask(written.id, "drain")
    with store.read() as reads:
        assert reads.campaign("night") == written == reads.campaign_by_id(written.id)
        assert reads.campaign("day") is None
        assert reads.request(written.id) == "drain"
        assert written.caps == Caps(90.5, usd=3.25) and written.seed == 2**62
    with store.write() as tx:
        ended = tx.end_campaign(written.id, "finished", "budget spent")
        assert (ended.state, ended.reason, tx.request(written.id)) == ("finished", "budget spent", "")
        assert ended.ended is not None and tx.reopen_campaign(written.id).ended is None
        assert [event.what for event in tx.events(written.id)] == ["running", "finished", "running"]


def test_a_track_that_names_no_rung_is_refused(store: Store) -> None:
    with store.write() as tx, pytest.raises(ValueError, match="decision"):
        add_campaign(tx, toml='trust = "blind"')


def test_a_proposal_comes_back_whole(store: Store, base: Proposal) -> None:
    written = filling.draft(
        "wider \0 \ud800 ünï",
        base.id,
        expected_gain=0.1,
        confidence=0.7,
        expected_bytes=150_000,
        risk=("size",),
        evidence=("p1", "r2"),
        knobs={"width": 96, "lr": 0.02, "act": "relu²"},
    )
    with store.write() as tx:
        found = tx.add_proposal(base.campaign_id, written, baseline_id=base.id)
        changed = tx.update_proposal(found.id, commit="f" * 40, diff="--- a\n+++ b\n", risk=("size", "speed"))
    assert found.title == "wider \ufffd ? ünï" or found.title == "wider \ufffd \ufffd ünï"
    for name in ("hypothesis", "expected_gain", "confidence", "expected_bytes", "risk", "evidence", "knobs"):
        assert getattr(found, name) == getattr(written, name), name
    assert (found.source_id, found.baseline_id, found.state) == (base.id, base.id, "drafted")
    assert (base.source_id, base.baseline_id, base.kind) == (None, None, "base")
    want = {
        "commit": "f" * 40,
        "diff": "--- a\n+++ b\n",
        "risk": ("size", "speed"),
        "updated": changed.updated,
    }
    assert changed == dataclasses.replace(found, **want)
    with store.write() as tx, pytest.raises(ValueError, match="Did you mean 'patch_id'"):
        tx.update_proposal(found.id, patchid="x")
    with store.write() as tx, pytest.raises(ValueError, match="no column 'state'"):
        tx.update_proposal(found.id, state="promoted")


def test_states_move_by_the_rules_and_each_move_is_an_event(store: Store, base: Proposal) -> None:
    with store.write() as tx:
        idea = add_idea(tx, base)
        seen = tx.events(base.campaign_id)[-1].id
        moved = tx.move(idea.id, "approved", "looks harmless")
        assert (moved.state, moved.reason) == ("approved", "looks harmless")
        event = tx.events(base.campaign_id, after=seen)[-1]
        assert (event.what, event.text, event.proposal_id) == ("approved", "looks harmless", idea.id)
        for state in set(TRANSITIONS) | FINAL:
            if state not in TRANSITIONS["approved"]:
                with pytest.raises(ValueError, match="can't follow 'approved'"):
                    tx.move(idea.id, state)
        assert tx.proposal(idea.id) == moved
        assert len(tx.events(base.campaign_id, after=seen)) == 1


def test_what_fails_inside_a_transaction_leaves_nothing(store: Store, base: Proposal) -> None:
    before = view(store, "events")
    with pytest.raises(ZeroDivisionError), store.write() as tx:
        tx.move(add_idea(tx, base).id, "approved")
        raise ZeroDivisionError
    assert view(store, "events") == before
    with store.read() as reads:
        assert reads.proposals(base.campaign_id) == [base]


def test_filters(store: Store, base: Proposal) -> None:
    with store.write() as tx:
        a, b = add_idea(tx, base, "a"), add_idea(tx, base, "b")
        a = tx.move(a.id, "approved")
        other = add_base(tx, add_campaign(tx, "other"))
        run = add_measured(tx, a, 1, 2.2)
        queued = tx.add_run(
            base.campaign_id, b.id, base.id, rung="full", purpose="confirm", seed=2, attempt=2,
            hardware_class="cpu-x", script_sha="s",
        )  # fmt: skip
    with store.read() as reads:
        assert [p.title for p in reads.proposals(base.campaign_id)] == ["base", "a", "b"]
        assert [p.title for p in reads.proposals(base.campaign_id, {"approved", "promoted"})] == ["base", "a"]
        assert reads.proposals(base.campaign_id, set()) == []
        assert (reads.count_proposals(base.campaign_id), reads.count_proposals(other.campaign_id)) == (3, 1)
        assert reads.runs(base.campaign_id) == [run, queued]
        assert reads.runs(base.campaign_id, states={"queued"}) == [queued]
        assert reads.runs(base.campaign_id, purposes={"screen"}) == [run]
        assert reads.runs(base.campaign_id, proposal_id=b.id) == [queued] and reads.runs(other.campaign_id) == []
        assert reads.head(other.campaign_id) == other
        for ask in (reads.proposal, reads.run, reads.campaign_by_id, reads.lineage):
            with pytest.raises(UserError, match="999"):
                ask(999)


def test_a_twin_is_found_unless_it_was_given_up(store: Store, base: Proposal) -> None:
    with store.write() as tx:
        ideas = [add_idea(tx, base, f"idea {n}") for n in range(3)]
        for idea in ideas:
            tx.update_proposal(idea.id, ast_hash="h")
        assert tx.find_ast(base.campaign_id, "other") is None and tx.find_ast(base.campaign_id, "") is None
        assert tx.find_ast(base.campaign_id, "h") == tx.proposal(ideas[0].id)
        tx.move(ideas[0].id, "cancelled")
        tx.move(ideas[1].id, "awaiting_review")
        tx.move(ideas[1].id, "expired")
        assert tx.find_ast(base.campaign_id, "h") == tx.proposal(ideas[2].id)


@pytest.mark.parametrize(
    ("bpb", "rung", "known"), [(2.2, "full", True), (2.2, "short", False), (None, "full", False)],
    ids=["scored", "at a trial", "without a score"],
)  # fmt: skip
def test_what_was_given_up_with_a_score_is_known(
    store: Store, base: Proposal, bpb: float | None, rung: str, known: bool
) -> None:
    with store.write() as tx:
        idea, later = add_idea(tx, base, "idea"), add_idea(tx, base, "later")
        tx.update_proposal(idea.id, ast_hash="h", config_hash="c", knobs={"width": 8})
        add_measured(tx, idea, 1, bpb, rung=rung)
        for state in ("approved", "queued", "running", "measured", "unfunded"):
            tx.move(idea.id, state)  # type: ignore[arg-type]
        found = {one and one.id for one in (tx.find_ast(idea.campaign_id, "h"), tx.find_config(idea.campaign_id, "c"))}
        assert found == {idea.id if known else None}
        told = configurations(tx, idea.campaign_id, after=base.id, before=later.id)
        assert told == ([{"width": 8}] if known else [])


def test_a_measurement_comes_back_whole(store: Store, base: Proposal) -> None:
    nats = tuple(float(n) / 7 for n in range(700))
    findings = (Finding("clock", "note", "fine \0"), Finding("size", "flag", "near the limit"))
    with store.write() as tx:
        run = add_measured(tx, base, 1, None)
        other = tx.add_run(
            base.campaign_id, base.id, None, rung="full", purpose="report", seed=-5, attempt=2,
            hardware_class="cpu-x", script_sha="s",
        )  # fmt: skip
        assert tx.measurement(other.id) is None
        tx.update_run(other.id, state="done", outcome="ok", walls=("env", "rlimits"), slot="cpu1", reason="ok")
        written = filling.measurement(other.id, 2.2, doc_nats=nats, findings=findings, steps=None)
        tx.add_measurement(written)
        with pytest.raises(ValueError, match="judge version 1 already"):
            tx.add_measurement(written)
        for wrong in ({"bpb": math.nan}, {"slot_s": math.inf}, {"doc_nats": (1.0, math.nan)}):
            with pytest.raises(ValueError, match="not finite"):
                tx.add_measurement(dataclasses.replace(written, judge_version=2, **wrong))
    with store.read() as reads:
        found = reads.measurement(other.id)
        assert found is not None and found.doc_nats == pytest.approx(nats, rel=1e-7)
        assert found.findings == (dataclasses.replace(findings[0], text="fine \ufffd"), findings[1])
        assert dataclasses.replace(found, doc_nats=nats, findings=findings) == written
        assert reads.run(other.id).walls == ("env", "rlimits")
        assert reads.scored(base.campaign_id)[1] == Scored(reads.run(other.id), found)
        assert reads.scored(base.campaign_id, documents=False)[1].measurement.doc_nats == ()
        assert [one.run.id for one in reads.scored(base.campaign_id)] == [run.id, other.id]
        assert reads.replicates(base.campaign_id) == [Replicate(base.id, None, -5, 2.2)]


def test_replicates_and_trials(store: Store, base: Proposal) -> None:
    with store.write() as tx:
        idea = add_idea(tx, base)
        add_measured(tx, base, 1, 2.30, purpose="report")
        add_measured(tx, idea, 2, 2.20, total_bytes=150_000)
        add_measured(tx, idea, 3, 2.24, total_bytes=149_000)
        add_measured(tx, idea, 4, 9.99, rung="smoke")
        tx.add_verdict(Verdict(idea.id, base.id, "more", "one more", gain=0.1))
        tx.add_verdict(Verdict(idea.id, base.id, "confirm", "good", gain=0.08, p=0.01, n_candidate=2))
        tx.add_verdict(Verdict(idea.id, base.id, "recheck", "hm"))
        replicates = [
            Replicate(base.id, None, 1, 2.30),
            Replicate(idea.id, base.id, 2, 2.20),
            Replicate(idea.id, base.id, 3, 2.24),
        ]
        assert tx.replicates(base.campaign_id) == replicates
        assert tx.replicates(base.campaign_id, newest=2) == replicates[1:]
        trial = tx.trials(base.campaign_id)[1]
        assert (trial.proposal_id, trial.state, trial.baseline_id) == (idea.id, "drafted", base.id)
        assert (trial.gain, trial.bpb, trial.total_bytes) == (0.08, pytest.approx(2.22), 150_000)
        assert [one.proposal_id for one in tx.trials(base.campaign_id, newest=1)] == [idea.id]
        assert [verdict.words for verdict in tx.verdicts(idea.id)] == ["one more", "good", "hm"]
        assert tx.verdicts(idea.id)[1] == Verdict(idea.id, base.id, "confirm", "good", 0.08, p=0.01, n_candidate=2)


def test_a_review_is_kept(store: Store, base: Proposal) -> None:
    with store.write() as tx:
        tx.add_review(base.id, "reject", "ann", "no \ud800")
        note = tx.reviews(base.id)[0]
        assert (note.action, note.who, note.proposal_id) == ("reject", "ann", base.id)
        with pytest.raises(ValueError, match="action"):
            tx.add_review(base.id, "shrug", "ann", "")  # type: ignore[arg-type]


def test_readers_see_one_moment_and_do_not_wait(store: Store, base: Proposal) -> None:
    with store.read() as reads:
        assert len(reads.proposals(base.campaign_id)) == 1
        done = threading.Event()

        def write() -> None:
            with store.write() as tx:
                add_idea(tx, base)
            done.set()

        thread = threading.Thread(target=write)
        thread.start()
        assert done.wait(20)
        thread.join()
        assert len(reads.proposals(base.campaign_id)) == 1
    with store.read() as reads:
        assert len(reads.proposals(base.campaign_id)) == 2


def test_of_one_moment_the_database_is_asked_once_and_a_writer_sees_what_it_wrote(store: Store, base: Proposal) -> None:
    with store.write() as tx:
        idea = add_idea(tx, base)
        assert tx.proposal(idea.id).state == "drafted" and tx.runs(base.campaign_id, proposal_id=idea.id) == []
        add_measured(tx, idea, 1, 2.0)
        known = tx.move(idea.id, "approved")
        assert known == tx.proposal(idea.id)
        assert len(tx.runs(base.campaign_id, proposal_id=idea.id)) == 1
        tx.set_head(base.campaign_id, base.id)
        assert tx.head(base.campaign_id).id == base.id
        tx.set_head(base.campaign_id, idea.id)
        assert tx.head(base.campaign_id).id == idea.id
    asked: list[str] = []
    with store.read() as reads:
        event.listen(reads.connection, "before_cursor_execute", lambda *told: asked.append(told[2]))
        for _ in range(2):
            assert reads.proposal(idea.id) == reads.head(base.campaign_id) == known
            found = reads.runs(base.campaign_id, proposal_id=idea.id)
            assert [run.seed for run in found] == [1]
            found.clear()  # whoever asked may do so with his answer
            assert reads.runs(base.campaign_id, proposal_id=idea.id, states={"queued"}) == []
        assert len(asked) == 4


def test_a_write_inside_a_write_is_a_mistake_not_a_deadlock(store: Store, base: Proposal) -> None:
    with store.write() as tx, pytest.raises(RuntimeError, match="inside"), store.write():
        pass
    with store.write() as tx:
        add_idea(tx, base)


def test_a_fork_uses_connections_of_its_own(store: Store, base: Proposal) -> None:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with store.write() as tx:
                add_idea(tx, base, "from the child")
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    with store.write() as tx:
        add_idea(tx, base, "from the parent")
    with store.read() as reads:
        assert [p.title for p in reads.proposals(base.campaign_id)][1:] == [
            "from the child",
            "from the parent",
        ]


def test_what_training_takes_is_asked_of_the_first_head_that_ran_there(store: Store, base: Proposal) -> None:
    def spent(reads: Reads, rung: str, hardware_class: str, most: int = 9) -> list[float]:
        return [one.train_cpu_s for one in reads.spent(base.campaign_id, rung, hardware_class, most=most)]

    with store.write() as tx:
        add_measured(tx, base, 1, 2.3, purpose="report", train_cpu_s=20.0)
        add_measured(tx, base, 2, 2.3, purpose="report", train_cpu_s=22.0)
        add_measured(tx, base, 3, None, purpose="report", train_cpu_s=1.0)
        add_measured(tx, base, 4, 2.3, purpose="report", train_cpu_s=None)
        first = add_idea(tx, base, "first")
        add_measured(tx, first, 5, 2.2, train_cpu_s=30.0, hardware_class="other")
        promote(tx, first)
        add_measured(tx, first, 6, 2.2, purpose="report", train_cpu_s=25.0)
        add_measured(tx, first, 7, 2.2, purpose="report", train_cpu_s=26.0, hardware_class="other")
        second = promote(tx, add_idea(tx, first, "second"))
        add_measured(tx, second, 8, 2.1, purpose="report", train_cpu_s=33.0, hardware_class="other")
        assert spent(tx, "full", "cpu-x") == [20.0, 22.0] and spent(tx, "full", "cpu-x", most=1) == [20.0]
        assert spent(tx, "full", "other") == [26.0]
        assert spent(tx, "short", "cpu-x") == spent(tx, "full", "") == []
