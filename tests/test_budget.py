"""The ledger: no interleaving of anything, from any number of threads and processes, passes a cap."""

import multiprocessing
import random
import shutil
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent import budget
from agent.errors import BudgetExceeded
from agent.records import Amount, Campaign, Caps
from agent.store import Store, open_store
from tests.filling import add_base, add_campaign, add_idea, add_measured, reserve

CAP_S = 1000.0


@pytest.fixture
def campaign(store: Store) -> Campaign:
    with store.write() as tx:
        return add_campaign(tx, caps=Caps(CAP_S, usd=5.0, llm_usd=1.0))


def test_reserve_settle_release(store: Store, campaign: Campaign) -> None:
    with store.write() as tx:
        one = budget.reserve(tx, campaign.id, Amount(600.0, usd=1.0, llm_tokens=10), "run")
        two = budget.reserve(tx, campaign.id, Amount(400.0), "planner")
        with pytest.raises(BudgetExceeded, match=r"0\.5 more GPU-seconds would pass the cap of 1000"):
            budget.reserve(tx, campaign.id, Amount(0.5), "run")
        with pytest.raises(BudgetExceeded, match="dollars"):
            budget.reserve(tx, campaign.id, Amount(usd=4.5), "run")
        with pytest.raises(BudgetExceeded, match="models"):
            budget.reserve(tx, campaign.id, Amount(llm_usd=1.5), "planner")
        budget.reserve(tx, campaign.id, Amount(llm_tokens=10**12), "planner")  # tokens have no cap
        budget.settle(tx, one, Amount(250.25, usd=0.5, llm_tokens=7))
        budget.release(tx, two, "cancelled")
        balance = tx.balance(campaign.id)
        assert balance.settled == Amount(250.25, usd=0.5, llm_tokens=7)
        assert balance.reserved == Amount(llm_tokens=10**12)
        assert balance.caps == Caps(CAP_S, usd=5.0, llm_usd=1.0)
        for again in (lambda: budget.settle(tx, one, Amount()), lambda: budget.release(tx, two, "")):
            with pytest.raises(ValueError, match="already"):
                again()
        assert budget.entry(tx, two).reason == "cancelled" and budget.audit(tx, campaign.id) == []


def test_more_than_was_reserved_is_an_error_and_changes_nothing(store: Store, campaign: Campaign) -> None:
    with store.write() as tx:
        entry = budget.reserve(tx, campaign.id, Amount(61.3), "run")
        before = tx.balance(campaign.id)
        for wrong in (
            Amount(61.31),
            Amount(usd=0.01),
            Amount(llm_tokens=1),
            Amount(-1.0),
            Amount(float("nan")),
        ):
            with pytest.raises(ValueError, match=r"spent of|gpu_s is"):
                budget.settle(tx, entry, wrong)
        assert tx.balance(campaign.id) == before
        budget.settle(tx, entry, Amount(61.3 + 1e-9))  # float arithmetic is no overspending
        assert tx.balance(campaign.id).settled.gpu_s <= before.reserved.gpu_s


def test_a_hold_is_drawn_without_asking_the_cap_again(store: Store, campaign: Campaign) -> None:
    with store.write() as tx:
        base = add_base(tx, campaign)
        run = add_measured(tx, base, 1, 2.0)
        worst = 100.1
        hold = budget.reserve(tx, campaign.id, Amount(worst * 7), "hold", proposal_id=base.id)
        rest = budget.reserve(tx, campaign.id, Amount(CAP_S - worst * 7 - 0.01), "run")  # the cap is full
        with pytest.raises(BudgetExceeded):
            budget.reserve(tx, campaign.id, Amount(1.0), "run")
        drawn = [budget.draw(tx, hold, Amount(worst), run.id) for _ in range(7)]  # 7 x 100.1 is not 700.7
        assert budget.entry_of_run(tx, run.id) == budget.entry(tx, drawn[-1])
        assert [e.id for e in budget.holds(tx, base.id)] == [hold]
        assert budget.entry(tx, drawn[0]).hold_id == hold and budget.entry(tx, drawn[0]).proposal_id == base.id
        with pytest.raises(ValueError, match="left"):
            budget.draw(tx, hold, Amount(0.1), run.id)
        with pytest.raises(ValueError, match="no hold"):
            budget.draw(tx, rest, Amount(0.1), run.id)
        with pytest.raises(ValueError, match="is a hold"):
            budget.settle(tx, hold, Amount())
        budget.settle_run(tx, run.id, Amount(50.0))
        assert budget.entry(tx, drawn[-1]).settled == Amount(50.0)
        assert budget.entry_of_run(tx, run.id) == budget.entry(tx, drawn[-2])
        budget.release(tx, hold, "confirmed")
        assert budget.holds(tx, base.id) == []
        assert len(budget.open_entries(tx, campaign.id)) == 7 and budget.audit(tx, campaign.id) == []


def test_a_reservation_that_fails_with_its_transaction_is_gone(store: Store, campaign: Campaign) -> None:
    with pytest.raises(BudgetExceeded), store.write() as tx:
        budget.reserve(tx, campaign.id, Amount(900.0), "run")
        budget.reserve(tx, campaign.id, Amount(900.0), "run")
    with store.read() as reads:
        assert reads.balance(campaign.id).reserved == Amount() and budget.open_entries(reads, campaign.id) == []


def test_the_audit_sees_a_sum_that_was_tampered_with(store: Store, campaign: Campaign) -> None:
    reserve(store, campaign.id, 10.0)
    with store.write() as tx:
        tx.connection.exec_driver_sql("UPDATE campaigns SET reserved_gpu_s = 9.5")
        assert budget.audit(tx, campaign.id) == ["reserved gpu_s: the entries add up to 10.0, the campaign says 9.5"]


STEPS = st.lists(
    st.tuples(st.sampled_from(["run", "hold", "settle", "release", "draw"]), st.floats(0, 400), st.integers(0, 9)),
    max_size=40,
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with one campaign and one run, to be copied: making one takes longer than using it."""
    path = tmp_path_factory.mktemp("prepared") / "runs.db"
    store = open_store(path)
    with store.write() as tx:
        campaign = add_campaign(tx, caps=Caps(CAP_S))
        add_measured(tx, add_idea(tx, add_base(tx, campaign)), 1, 2.0)
    store.close()
    return path


@given(threads=st.lists(STEPS, min_size=1, max_size=3))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_interleaving_passes_the_cap(
    prepared: Path, tmp_path_factory: pytest.TempPathFactory, threads: list[list[tuple[str, float, int]]]
) -> None:
    store = open_store(shutil.copy(prepared, tmp_path_factory.mktemp("ledger")))
    campaign_id, run_id = 1, 1
    failures: list[BaseException] = []

    def work(steps: list[tuple[str, float, int]]) -> None:
        try:
            for step in steps:
                _step(store, campaign_id, run_id, step)
        except BaseException as error:
            failures.append(error)
            raise

    workers = [threading.Thread(target=work, args=(steps,)) for steps in threads]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures
    with store.read() as reads:
        assert budget.audit(reads, campaign_id) == []
    store.close()


def _step(store: Store, campaign_id: int, run_id: int, step: tuple[str, float, int]) -> None:
    """One random move on the ledger, and what must hold after it."""
    what, seconds, which = step
    with store.write() as tx:
        entries = budget.open_entries(tx, campaign_id)
        chosen = entries[which % len(entries)] if entries else None
        before = tx.balance(campaign_id)
        if what in ("run", "hold"):
            fits = before.settled.gpu_s + before.reserved.gpu_s + seconds <= CAP_S - 1e-5
            try:
                budget.reserve(tx, campaign_id, Amount(seconds), "run" if what == "run" else "hold")
            except BudgetExceeded:
                assert not fits
        elif chosen is not None and what == "draw" and chosen.what == "hold":
            budget.draw(tx, chosen.id, Amount(min(seconds, chosen.reserved.gpu_s)), run_id)
            assert tx.balance(campaign_id) == before
        elif chosen is not None and what == "settle" and chosen.what == "run":
            budget.settle(tx, chosen.id, Amount(min(seconds, chosen.reserved.gpu_s)))
        elif chosen is not None and what == "release":
            budget.release(tx, chosen.id, "no longer wanted")
        after = tx.balance(campaign_id)
        assert after.settled.gpu_s + after.reserved.gpu_s <= CAP_S
        assert min(after.settled.gpu_s, after.reserved.gpu_s) >= 0
        assert budget.audit(tx, campaign_id) == []


def _reserve_until_full(where: str, campaign_id: int, seed: int, barrier, results) -> None:  # type: ignore[no-untyped-def]
    store, rng, got = open_store(where), random.Random(seed), 0
    barrier.wait()
    while True:
        try:
            entry = reserve(store, campaign_id, 10.0)
        except BudgetExceeded:
            break
        got += 1
        if rng.random() < 0.5:
            with store.write() as tx:
                budget.settle(tx, entry, Amount(10.0))
    store.close()
    results.put(got)


def test_eight_processes_share_one_cap_exactly(store: Store, campaign: Campaign) -> None:
    where = str(store.path) if store.path else store.url.render_as_string(hide_password=False)
    context = multiprocessing.get_context("fork")  # quick; each child opens a store of its own
    barrier, results = context.Barrier(8), context.Queue()
    workers = [
        context.Process(target=_reserve_until_full, args=(where, campaign.id, n, barrier, results)) for n in range(8)
    ]
    for worker in workers:
        worker.start()
    total = sum(results.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    assert total == 100  # 1000 s in tens: not one more, not one less
    with store.read() as reads:
        balance = reads.balance(campaign.id)
        assert balance.settled.gpu_s + balance.reserved.gpu_s == CAP_S
        assert budget.audit(reads, campaign.id) == []
