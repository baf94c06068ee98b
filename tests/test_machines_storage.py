"""Network volumes are paid for as long as a campaign runs, by one campaign, as the provider bills them."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agent import budget
from agent.errors import BudgetExceeded, UserError
from agent.machines import book, caps, storage
from agent.machines.burn import Burn, burn, words
from agent.machines.records import Limits
from agent.machines.renting import Renter
from agent.machines.sweep import sweep
from agent.records import Campaign, Caps
from agent.runners.runpod.pods import Pods
from agent.store import Store, lease
from tests.filling import add_base, add_campaign
from tests.renting import HOUR, opened, renter
from tests.runpod import StandIn

PER_HOUR = 50 * 0.07 / 730


def on_volume(stand: StandIn, store: Store, limits: Limits | None = None, volume: str = "vol1") -> Renter:
    made = renter(stand, store, limits)
    assert isinstance(made.provider, Pods)
    settings = made.provider.settings.model_copy(update={"volume": volume})
    return replace(made, provider=replace(made.provider, settings=settings))


@contextmanager
def kept(stand: StandIn, tmp_path: Path) -> Iterator[tuple[Renter, Campaign]]:
    """A volume that a campaign has begun to pay for."""
    store, campaign = opened(tmp_path)
    with closing(store):
        one = on_volume(stand, store)
        storage.keep(one, campaign.id)
        yield one, campaign


def money(one: Renter, campaign_id: int = 1) -> tuple[float, float]:
    with one.store.read() as reads:
        assert budget.audit(reads, campaign_id) == []
        balance = reads.balance(campaign_id)
        return balance.reserved.usd, balance.settled.usd


def test_a_volume_is_reserved_for_a_day_and_settled_from_the_bill(stand: StandIn, tmp_path: Path) -> None:
    store, campaign = opened(tmp_path)
    with closing(store):
        one = on_volume(stand, store)
        stand.advance(600)
        storage.keep(one, campaign.id)
        storage.keep(one, campaign.id)  # again: it is the same
        assert money(one) == (pytest.approx(24 * PER_HOUR, rel=0.01), 0.0)
        with store.read() as reads:
            (row,) = book.everyone(reads)
            assert (row.kind, row.place, caps.count(reads, one.backend)) == ("network volume of 50 GB", "EU-RO-1", 0)
            assert (burn(reads), burn(reads, campaign.id)) == (Burn(0, pytest.approx(PER_HOUR), ""),) * 2
            said = words(burn(reads), reads.balance(campaign.id))
            assert said == "no machine rented, 0.00 $ an hour; 0.00 $ spent + 0.12 $ reserved of 100.00 $"
        stand.advance(20 * HOUR)
        assert sweep(one, [campaign.id]).actions == ()  # nobody takes it for a pod that vanished
        storage.keep(one, campaign.id)
        assert money(one)[0] == pytest.approx(44 * PER_HOUR, rel=0.01)
        storage.end(one, [campaign.id], "over")
        assert money(one)[0] == pytest.approx(20 * PER_HOUR, rel=0.01)
        assert storage.settle(one) == 0.0  # the bill is not final
        stand.advance(3 * HOUR)
        assert storage.settle(one) == pytest.approx(20 * PER_HOUR, abs=1e-6)
        assert money(one) == (0.0, pytest.approx(20 * PER_HOUR, abs=1e-6))
        assert storage.settle(one) == 0.0
        assert ("DELETE", "/v2/network-volumes/vol1") not in stand.seen


def test_a_volume_is_not_free_while_its_bill_is_late(stand: StandIn, tmp_path: Path) -> None:
    with kept(stand, tmp_path) as (one, campaign):
        stand.advance(20 * HOUR)
        storage.end(one, [campaign.id], "over")
        held = money(one)
        stand.advance(3 * HOUR)
        for late_s in (40 * HOUR, 10 * HOUR):  # it tells of nothing yet, and then of 13 hours
            stand.late_s = late_s
            assert storage.settle(one) == 0.0 and money(one) == held
        stand.advance(24 * HOUR)
        stand.late_s += 24 * HOUR
        assert storage.settle(one) == pytest.approx(13 * PER_HOUR, abs=1e-6)  # it is believed after a day
        stand.late_s = 0.0
        assert storage.settle(one) == pytest.approx(20 * PER_HOUR, abs=1e-6)  # and so is what it says later
        assert money(one) == (0.0, pytest.approx(20 * PER_HOUR, abs=1e-6)) and storage.settle(one) == 0.0


def test_one_campaign_pays_and_the_next_when_that_is_over(stand: StandIn, tmp_path: Path) -> None:
    store, night = opened(tmp_path)
    with closing(store):
        with store.write() as tx:
            day = add_campaign(tx, "day", caps=Caps(gpu_s=36_000.0, usd=100.0))
            add_base(tx, day)
        one = on_volume(stand, store)
        with lease.hold(store, "campaign night"):
            storage.keep(one, night.id)
            storage.keep(one, day.id)
            sweep(one, [day.id])
            assert money(one, day.id) == (0.0, 0.0)
            stand.advance(2 * HOUR)
        sweep(one, [day.id])  # the night's controller was killed
        storage.keep(one, day.id)
        stand.advance(2 * HOUR)
        storage.end(one, [day.id], "over")
        stand.advance(3 * HOUR)
        sweep(one, [])
        spent = [money(one, each.id) for each in (night, day)]
        assert spent == [(0.0, pytest.approx(2 * PER_HOUR, abs=1e-6))] * 2


def test_who_is_killed_has_paid_until_its_reservation_ends(stand: StandIn, tmp_path: Path) -> None:
    with kept(stand, tmp_path) as (one, _):
        stand.advance(30 * HOUR)
        assert sweep(one, []).failed == ()
        assert money(one) == (0.0, pytest.approx(24 * PER_HOUR, abs=1e-6))


def test_no_money_and_no_such_volume(stand: StandIn, tmp_path: Path) -> None:
    store, campaign = opened(tmp_path, usd=0.01)
    with closing(store):
        with pytest.raises(BudgetExceeded):
            storage.keep(on_volume(stand, store), campaign.id)
        with pytest.raises(BudgetExceeded, match="a day"):
            storage.keep(on_volume(stand, store, Limits(usd_per_day=0.01)), campaign.id)
        with pytest.raises(UserError, match="no network volume 'vol2'"):
            storage.keep(on_volume(stand, store, volume="vol2"), campaign.id)
        assert money(on_volume(stand, store)) == (0.0, 0.0)
        storage.keep(renter(stand, store), campaign.id)  # none is named: nothing is asked


@pytest.mark.parametrize("now", ["vol2", None])
def test_what_the_settings_no_longer_name_is_settled_all_the_same(
    stand: StandIn, tmp_path: Path, now: str | None
) -> None:
    with kept(stand, tmp_path) as (one, campaign):
        stand.advance(20 * HOUR)
        storage.end(one, [campaign.id], "over")
        stand.advance(30 * HOUR)  # after a day the bill is believed, whatever it says
        later = renter(stand, one.store) if now is None else on_volume(stand, one.store, volume=now)
        assert storage.settle(later) == pytest.approx(20 * PER_HOUR, abs=1e-6)
