"""What is set aside for an idea that passed, near the end of a budget."""

import time
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import update

from agent import budget
from agent.errors import BudgetExceeded
from agent.loop import Loop
from agent.records import Amount, Decision, Proposal, Run, Verdict
from agent.setting import Setting, known
from agent.steps import decide, holds
from agent.steps.limits import worst_run
from agent.steps.promote import promote
from agent.store import Tx
from agent.store.schema import campaigns
from tests.e2e import world
from tests.filling import draft


@pytest.fixture
def setting(root: Path) -> Setting:
    """A campaign that is over, whose cap each test sets anew."""
    world.write_ideas(root, [world.idea("wider", ('"width": 4', '"width": 8'))])
    setting = world.open_campaign(root)
    Loop(setting).run()
    return setting


def booked(tx: Tx, idea: Proposal) -> Run:
    """A run of an idea, against the head that it is compared with."""
    return tx.add_run(
        1,
        idea.id,
        idea.baseline_id,
        rung="decide",
        purpose="confirm",
        seed=1,
        attempt=1,
        hardware_class="fake",
        script_sha="0" * 64,
    )


def test_near_the_end_an_idea_that_nobody_races_is_confirmed_with_what_is_left(setting: Setting) -> None:
    """A whole hold is ten runs: three more seeds, four of a replay, three fresh ones. Another idea needs 4.5."""
    with setting.store.write() as tx:
        worst = worst_run(setting, tx).gpu_s
        settled = tx.balance(1).settled.gpu_s

    def held(runs_left: float, title: str, *, racing: bool = False) -> float | None:
        """What an idea with one seed gets, in runs; None: nothing."""
        with setting.store.write() as tx:
            tx.connection.execute(update(campaigns).values(cap_gpu_s=settled + runs_left * worst))
            if racing:
                other = tx.add_proposal(1, draft(f"{title}, racing", 1), baseline_id=tx.head(1).id, state="confirming")
            idea = tx.add_proposal(1, draft(title, 1), baseline_id=tx.head(1).id, state="measured")
            try:
                holds.begin(setting, tx, idea, 1)
            except BudgetExceeded:
                assert budget.holds(tx, idea.id) == []
                return None
            finally:
                if racing:
                    tx.move(other.id, "worse")
            (hold,) = budget.holds(tx, idea.id)
            budget.let_go(tx, idea.id, "asked")
            return round(hold.reserved.gpu_s / worst, 3)

    rule = setting.track.decision
    assert (rule.max_seeds, rule.report_seeds) == (4, 3)
    assert held(14.6, "all, and another idea") == 3 + 4 + 3
    assert held(14.4, "no replay, and another idea") == held(10.6, "the same") == 3 + 3
    assert held(10.4, "all, and no other idea either way") == 3 + 4 + 3
    assert held(9.5, "no replay") == 3 + 3
    assert held(5.5, "two seeds") == 2 + 3
    assert held(4.5, "one seed") == 1 + 3
    assert held(3.9, "none") is None
    assert held(10.5, "raced, all", racing=True) == 3 + 4 + 3
    assert held(9.5, "raced, no replay", racing=True) is None


def test_a_confirmation_goes_on_while_its_next_seed_and_the_fresh_runs_are_paid(setting: Setting) -> None:
    with setting.store.write() as tx:
        worst = worst_run(setting, tx).gpu_s
        tx.connection.execute(update(campaigns).values(cap_gpu_s=tx.balance(1).settled.gpu_s + 4.5 * worst))
        idea = tx.add_proposal(1, draft("one", 1), baseline_id=tx.head(1).id, state="confirming")
        later = tx.add_proposal(1, draft("two", 1), baseline_id=tx.head(1).id, state="confirming")
        holds.extend(setting, tx, idea)
        holds.extend(setting, tx, idea)  # nothing is missing
        (hold,) = budget.holds(tx, idea.id)
        assert hold.reserved.gpu_s == pytest.approx(4 * worst)
        spent = booked(tx, idea)
        entry = budget.draw(tx, hold.id, worst_run(setting, tx), spent.id)
        assert not holds.hopeless(setting, tx, later)  # a run is under way
        with pytest.raises(BudgetExceeded):
            holds.extend(setting, tx, idea)
        budget.settle(tx, entry, Amount(gpu_s=0.4 * worst))
        holds.extend(setting, tx, idea)  # it took less than its worst case, and that much is free again
        (hold,) = budget.holds(tx, idea.id)
        assert hold.reserved.gpu_s == pytest.approx(4 * worst)
        assert holds.hopeless(setting, tx, idea)
        assert not holds.hopeless(setting, tx, later)
        budget.resize(tx, hold.id, Amount(gpu_s=3 * worst))
        budget.reserve(tx, 1, Amount(gpu_s=worst / 2), "hold", proposal_id=later.id)
        assert not holds.hopeless(setting, tx, idea)  # the other one will have a run, or be decided
        tx.update_run(booked(tx, later).id, state="done", outcome="ok")
        assert holds.hopeless(setting, tx, idea) and not holds.hopeless(setting, tx, later)  # the older gives up alone
        tx.move(later.id, "auditing")
        assert holds.hopeless(setting, tx, idea)
        (short,) = budget.holds(tx, later.id)
        budget.resize(tx, hold.id, Amount(gpu_s=worst / 2))
        budget.resize(tx, short.id, Amount(gpu_s=3 * worst))
        assert not holds.hopeless(setting, tx, idea)  # it has passed, and all that it needs


def test_an_idea_whose_next_seed_is_not_paid_ends_and_gives_back_what_it_held(setting: Setting) -> None:
    """It is promising, not clear: one further seed would be needed for each that the budget covers."""
    with setting.store.write() as tx:
        worst = worst_run(setting, tx).gpu_s
        tx.connection.execute(update(campaigns).values(cap_gpu_s=tx.balance(1).settled.gpu_s + 3.5 * worst))
        idea = tx.add_proposal(1, draft("one", 1), baseline_id=tx.head(1).id, state="confirming")
        budget.reserve(tx, 1, Amount(gpu_s=3 * worst), "hold", proposal_id=idea.id)
    for decision in ("confirm", "more", "recheck"):
        found = Verdict(idea.id, known(idea.baseline_id), cast(Decision, decision), "promising", n_candidate=2)
        with setting.store.write() as tx:
            entry = budget.reserve(tx, 1, Amount(gpu_s=worst / 4), "hold", proposal_id=tx.head(1).id)
        assert not decide._write(setting, idea, found)  # the head may give something back
        with setting.store.write() as tx:
            assert tx.proposal(idea.id).state == "confirming" and tx.verdicts(idea.id) == []
            budget.release(tx, entry, "asked")
    assert decide._write(setting, idea, found)
    with setting.store.read() as reads:
        ended = reads.proposal(idea.id)
        assert ended.state == "unfunded" and ended.reason.startswith("promising; but ")
        assert budget.open_entries(reads, 1) == [] and budget.audit(reads, 1) == []


def test_what_passed_waits_for_its_fresh_runs_money_and_ends_when_nobody_gives_any(setting: Setting) -> None:
    """Lost runs used up what it held."""
    with setting.store.write() as tx:
        worst = worst_run(setting, tx).gpu_s
        tx.connection.execute(update(campaigns).values(cap_gpu_s=tx.balance(1).settled.gpu_s + 2.9 * worst))
        idea = tx.add_proposal(1, draft("one", 1), baseline_id=tx.head(1).id, state="auditing")
        tx.add_verdict(Verdict(idea.id, known(idea.baseline_id), "accept", "passes", n_candidate=2))
        budget.reserve(tx, 1, Amount(gpu_s=worst), "hold", proposal_id=idea.id)
        entry = budget.reserve(tx, 1, Amount(gpu_s=worst / 4), "hold", proposal_id=tx.head(1).id)
    assert promote(setting) == 0
    with setting.store.write() as tx:
        assert tx.proposal(idea.id).state == "auditing"
        budget.release(tx, entry, "asked")
    assert promote(setting) == 1
    with setting.store.read() as reads:
        ended = reads.proposal(idea.id)
        assert ended.state == "unfunded" and "passes; but its fresh runs can't be paid: " in ended.reason
        assert budget.open_entries(reads, 1) == [] and budget.audit(reads, 1) == []


def test_what_is_set_aside_runs_though_something_more_urgent_cant_be_paid(setting: Setting) -> None:
    """A starved run of an idea that holds nothing is repeated first, and half a run's money is free."""
    until = time.monotonic() + 60
    with setting.store.write() as tx:
        worst, head = worst_run(setting, tx).gpu_s, tx.head(1)
        cap = tx.balance(1).settled.gpu_s + 4.5 * worst
        tx.connection.execute(update(campaigns).values(cap_gpu_s=cap))
        held, other = (tx.add_proposal(1, draft(name, 1), baseline_id=head.id, state="measured") for name in "ab")
        for idea in (held, other):
            tx.update_proposal(idea.id, commit=head.commit)
        tx.move(held.id, "confirming")
        budget.reserve(tx, 1, Amount(gpu_s=4 * worst), "hold", proposal_id=held.id)
        starved = booked(tx, other)
        tx.update_run(starved.id, state="done", outcome="capped")
        tx.add_verdict(Verdict(other.id, head.id, "recheck", "on a busy core"))
    order = []

    def look() -> None:
        assert time.monotonic() < until, order
        with setting.store.read() as reads:
            balance = reads.balance(1)
            assert balance.settled.gpu_s + balance.reserved.gpu_s <= cap
            order.extend(run.proposal_id for run in reads.runs(1) if run.id > starved.id)

    assert Loop(setting, look).run().state == "finished"
    assert order[0] == held.id and other.id in order
