"""What must hold while everything goes wrong, and what must hold when it is over.

Takes the store's place and the provider's account; `sample` looks at one instant, `at_last` at the end.
"""

from collections import defaultdict
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from agent import budget
from agent.errors import StoreError
from agent.machines import book
from agent.machines.providers import renters
from agent.machines.sweep import sweep
from agent.records import Amount, Campaign
from agent.states import FINAL
from agent.store import Reads, Store, open_store
from agent.store.schema import ledger, measurements
from tests.chaos.pods import Account
from tests.runpod import KEY

CENT = 0.005
LATER_S = 4 * 3600.0  # when a bill is final
IN_ALL_LISTS_S = 1200.0


class Ledger:
    def __init__(self, place: Path | str, root: Path, account: Account) -> None:
        self._place, self._root, self._account = place, root, account
        self._store: Store | None = None
        self.samples = 0
        self.most_usd = 0.0  # that was ever promised

    def sample(self) -> Campaign | None:
        """The campaign as it is now; None where the store can't be asked. At no instant is a cap passed: not by what
        is promised, and not by what the provider could ask for."""
        billed = self._account.billed_now()
        try:
            self._store = self._store or open_store(self._place, create=False)
            with self._store.read() as reads:
                for campaign in reads.campaigns():
                    self._within(reads, campaign.id, billed)
                return campaign
        except StoreError:
            self.close()
            return None

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def at_last(self, jobs: Path) -> None:
        """Every idea is decided, every run counted once, every machine given back, every cent settled."""
        with closing(open_store(self._place, create=False)) as store:
            with store.read() as reads:
                (campaign,) = reads.campaigns()
                assert campaign.state == "finished", campaign
                self._ideas(reads, campaign.id)
                self._runs(reads, campaign.id, jobs)
            assert self._account.living() == [], "pods that are still rented"
            self._bill(store, campaign.id)
            with store.read() as reads:
                assert budget.audit(reads, campaign.id) == []
                assert budget.open_entries(reads, campaign.id) == []
                assert reads.balance(campaign.id).reserved == Amount()

    def _within(self, reads: Reads, campaign_id: int, billed: float) -> None:
        assert budget.audit(reads, campaign_id) == []
        balance = reads.balance(campaign_id)
        caps, promised = balance.caps, balance.settled.usd + balance.reserved.usd
        assert caps.gpu_s is not None and caps.usd is not None
        assert balance.settled.gpu_s + balance.reserved.gpu_s <= caps.gpu_s
        assert promised <= caps.usd, f"{promised:.4f} $ are promised of {caps.usd:.2f} $"
        assert billed <= promised + CENT, f"{billed:.4f} $ are to be paid by now, and {promised:.4f} $ are promised"
        self.most_usd = max(self.most_usd, promised)
        self.samples += 1

    def _ideas(self, reads: Reads, campaign_id: int) -> None:
        states = {f"p{one.id} {one.title}": one.state for one in reads.proposals(campaign_id)}
        open_ones = {name: state for name, state in states.items() if state not in FINAL}
        assert open_ones == {}, "ideas that are not decided"

    def _runs(self, reads: Reads, campaign_id: int, jobs: Path) -> None:
        runs = reads.runs(campaign_id)
        assert {run.state for run in runs} <= {"done", "lost", "cancelled"}
        done = [run for run in runs if run.state == "done"]
        meant = defaultdict(list)
        for one in done:
            meant[one.proposal_id, one.baseline_id, one.purpose, one.rung, one.seed, one.hardware_class].append(one)
        twice = {which: them for which, them in meant.items() if len(them) > 1}
        assert twice == {}, f"runs that were counted twice: {twice}"
        counted = [row["run_id"] for row in reads.connection.execute(measurements.select()).mappings()]
        assert sorted(counted) == sorted(run.id for run in done), "runs without a measurement, or with two"
        used = {one.run.id: one.measurement.slot_s for one in reads.scored(campaign_id)}
        for run in runs:
            rows = reads.connection.execute(ledger.select().where(ledger.c.run_id == run.id)).mappings().all()
            assert len(rows) == 1 and rows[0]["state"] != "reserved", f"r{run.id}: {rows}"
            if run.state == "done":
                assert rows[0]["settled_gpu_s"] == pytest.approx(used[run.id], abs=1e-5)
                log = (jobs / f"r{run.id}" / "train.log").read_text()
                assert log.count("begins") == 1, f"r{run.id} was executed more than once, or its log is torn: {log}"

    def _bill(self, store: Store, campaign_id: int) -> None:
        """The provider's own bill, hours later, when it is final."""
        account = self._account
        (one,), silent = renters(store, self._root, {"RUNPOD_API_KEY": KEY})
        assert silent == []
        for seconds in (IN_ALL_LISTS_S, LATER_S):
            account.later(seconds)
            provider = replace(one.provider, clock=account.clock)  # type: ignore[type-var]
            assert sweep(replace(one, provider=provider, clock=account.clock, sleep=account.sleep)).failed == ()
        with store.read() as reads:
            machines = book.everyone(reads, over=True)
            balance = reads.balance(campaign_id)
        assert {one.state for one in machines} <= {"gone", "refused"}
        assert {one.provider_id for one in machines} - {""} == set(account.pods), "pods that nobody wrote down"
        for machine in machines:
            usd = account.billed(machine.provider_id) if machine.provider_id else 0.0
            assert machine.billed_usd == pytest.approx(usd, abs=CENT), machine
        settled, billed = balance.settled.usd, account.billed()
        assert settled == pytest.approx(billed, abs=CENT), f"{settled:.4f} $ is settled, and the bill is {billed:.4f} $"
        assert balance.caps.usd is not None and balance.settled.usd <= balance.caps.usd
