"""Several campaigns at once on one account: of one store, and of another one that knows nothing of it."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agent import budget
from agent.machines import book
from agent.machines.records import Full, Limits, SpentToday
from agent.machines.renting import Renter, rent
from agent.machines.sweep import settle, sweep
from agent.records import Caps
from agent.store import lease
from tests.filling import add_base, add_campaign
from tests.renting import HOUR, PLACED, PRICE, opened, renter
from tests.runpod import StandIn

WORST = PRICE * (4 * HOUR + 300) / HOUR


@contextmanager
def two(stand: StandIn, folder: Path, limits: Limits | None = None) -> Iterator[tuple[Renter, int, int]]:
    """Two campaigns of one store, a hundred dollars each."""
    folder.mkdir()
    store, night = opened(folder)
    with closing(store):
        with store.write() as tx:
            day = add_campaign(tx, "day", caps=Caps(gpu_s=36_000.0, usd=100.0))
            add_base(tx, day)
        yield renter(stand, store, limits), night.id, day.id


def test_a_sweep_ends_what_is_its_own_and_nobodys(stand: StandIn, tmp_path: Path) -> None:
    with two(stand, tmp_path / "one") as (one, night, day), two(stand, tmp_path / "other") as (other, theirs, _):
        mine, living = rent(one, night, PLACED, 4 * HOUR), rent(one, day, PLACED, 4 * HOUR)
        foreign = rent(other, theirs, PLACED, 4 * HOUR)
        stand.advance(HOUR)
        with lease.hold(one.store, "campaign day"):
            assert sweep(one, [night]).actions == ()
            swept = sweep(one, [])  # nobody runs the night
        assert [action.machine and action.machine.id for action in swept.actions] == [mine.id]
        ids = {pod.id for pod in stand.living()}
        assert ids == {living.provider_id, foreign.provider_id}
        sweep(one, [])  # now nobody runs the day either; the other store's machine is none of this one's business
        assert [pod.id for pod in stand.living()] == [foreign.provider_id]
        sweep(other, [])
        assert stand.living() == []
        stand.advance(3 * HOUR)
        for renting, campaigns in ((one, (night, day)), (other, (theirs,))):
            settle(renting)
            with renting.store.read() as reads:
                spent = [reads.balance(each).settled.usd for each in campaigns]
                assert [budget.audit(reads, each) for each in campaigns] == [[] for _ in campaigns]
                bills = [stand.billed(row.provider_id) for row in book.everyone(reads, over=True)]
            assert sum(spent) == pytest.approx(sum(bills), abs=0.005) and min(spent) > 0


def test_caps_of_a_day_and_of_machines_at_once_count_all_campaigns_of_a_store(stand: StandIn, tmp_path: Path) -> None:
    day_cap = Limits(usd_per_day=1.5 * WORST)
    with two(stand, tmp_path / "one", day_cap) as (one, night, day), two(stand, tmp_path / "other", day_cap) as other:
        rent(one, night, PLACED, 4 * HOUR)
        with pytest.raises(SpentToday, match="a day"):
            rent(one, day, PLACED, 4 * HOUR)
        rent(other[0], other[1], PLACED, 4 * HOUR)  # another store: another person's caps
        with one.store.read() as reads:
            assert reads.balance(day).reserved.usd == 0.0
        assert len(stand.living()) == 2
    with two(stand, tmp_path / "third", Limits(most=1)) as (one, night, day):
        rent(one, night, PLACED, 4 * HOUR)
        with pytest.raises(Full, match="1 machines of runpod are rented"):
            rent(one, day, PLACED, 4 * HOUR)
        assert rent(replace(one, backend="cheap"), day, PLACED, 4 * HOUR).state == "creating"  # another table's
