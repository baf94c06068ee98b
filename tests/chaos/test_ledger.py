"""What must hold is seen not to hold: each fault that the checks are for, made by hand in a campaign that is over."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from agent import budget
from agent.machines import book
from agent.machines.providers import renters
from agent.machines.records import Candidate
from agent.machines.renting import Renter, rent, shut
from agent.records import Amount, Proposal
from agent.store import Store, Tx, open_store
from tests.absent import package
from tests.chaos.ledger import Ledger
from tests.chaos.pods import Account
from tests.filling import add_idea, add_measured
from tests.renting import HOUR, opened
from tests.runpod import H100, KEY
from tests.runpod_served import standin

WANTED = [Candidate(H100, 1, "", 3.49)]


@dataclass(frozen=True)
class Kept:
    """A campaign with one run and one machine, both over."""

    root: Path
    account: Account
    store: Store
    one: Renter
    base: Proposal
    ledger: Ledger

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    def run(self, tx: Tx, seed: int = 1, log: str = "begins\n") -> int:
        run = add_measured(tx, self.base, seed, 2.0, purpose="report")
        entry = budget.reserve(tx, 1, Amount(gpu_s=85.0), "run", run_id=run.id)
        budget.settle(tx, entry, Amount(gpu_s=31.0))
        folder = self.jobs / f"r{run.id}"
        folder.mkdir(parents=True)
        (folder / "train.log").write_text(log)
        return run.id


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    package("asyncssh")  # makes the key of pods
    opened(tmp_path)[0].close()
    account = Account(tmp_path / "pods", tmp_path / "home", tmp_path / "key")
    with standin(account), closing(open_store(tmp_path / "runs.db")) as store:
        (tmp_path / "runners.toml").write_text(f'[pods]\nkind = "runpod"\nurl = "{account.url}"\n')
        (one,), _ = renters(store, tmp_path, {"RUNPOD_API_KEY": KEY})
        with store.read() as reads:
            made = Kept(tmp_path, account, store, one, reads.base(1), Ledger(tmp_path / "runs.db", tmp_path, account))
        shut(one, rent(one, 1, WANTED, HOUR).id, "no work left")
        with store.write() as tx:
            made.run(tx)
            tx.end_campaign(1, "finished", "the planner has no more ideas")
        yield made
        made.ledger.close()


def undecided(kept: Kept, tx: Tx) -> None:
    add_idea(tx, kept.base)


def twice(kept: Kept, tx: Tx) -> None:
    kept.run(tx)


def again(kept: Kept, tx: Tx) -> None:
    kept.run(tx, 2, log="begins\nbegins\n")


def unsettled(kept: Kept, tx: Tx) -> None:
    run = add_measured(tx, kept.base, 2, 2.0, purpose="report")
    budget.reserve(tx, 1, Amount(gpu_s=85.0), "run", run_id=run.id)


def uncounted(kept: Kept, tx: Tx) -> None:
    run = tx.add_run(
        1, kept.base.id, None, rung="full", purpose="report", seed=3, attempt=1, hardware_class="", script_sha=""
    )
    tx.update_run(run.id, state="done", outcome="ok")


def rented(kept: Kept, tx: Tx) -> None:
    another(kept)


def unwritten(kept: Kept, tx: Tx) -> None:
    kept.one.provider.delete(another(kept))


def another(kept: Kept) -> str:
    """A pod that nobody has written down."""
    later = kept.one.clock() + timedelta(hours=1)
    return kept.one.provider.create(WANTED[0], "somebody-elses", later).provider_id


def dearer(kept: Kept, tx: Tx) -> None:
    entry = budget.reserve(tx, 1, Amount(usd=0.02), "machine")
    budget.settle(tx, entry, Amount(usd=0.01))


def test_a_campaign_that_is_over_and_whole_passes(kept: Kept) -> None:
    assert kept.ledger.sample() is not None
    kept.ledger.at_last(kept.jobs)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (undecided, "ideas that are not decided"),
        (twice, "runs that were counted twice"),
        (again, "was executed more than once"),
        (unsettled, "r2: "),
        (uncounted, "runs without a measurement, or with two"),
        (rented, "pods that are still rented"),
        (unwritten, "pods that nobody wrote down"),
        (dearer, "is settled, and the bill is"),
    ],
)
def test_what_is_not_whole_is_found_at_last(kept: Kept, harm: Callable[[Kept, Tx], None], words: str) -> None:
    with kept.store.write() as tx:
        harm(kept, tx)
    with pytest.raises(AssertionError, match=words):
        kept.ledger.at_last(kept.jobs)


def test_an_instant_at_which_a_cap_is_passed_is_seen(kept: Kept) -> None:
    with kept.store.write() as tx:
        entry = budget.reserve(tx, 1, Amount(usd=1.0), "machine")
        budget.settle_beyond(tx, entry, Amount(usd=101.0))
    with pytest.raises(AssertionError, match=r"are promised of 100\.00 \$"):
        kept.ledger.sample()


def test_an_instant_at_which_more_could_be_asked_than_is_promised_is_seen(kept: Kept) -> None:
    machine = rent(kept.one, 1, WANTED, HOUR)
    assert kept.ledger.sample() is not None
    with kept.store.write() as tx:
        entry = book.get(tx, machine.id).entry_id
        assert entry is not None
        budget.release(tx, entry, "too early")
    kept.account.later(600)
    with pytest.raises(AssertionError, match="are to be paid by now"):
        kept.ledger.sample()
