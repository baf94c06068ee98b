"""The book of rented machines: money before machines, ids in the moment they are known, nothing forgotten."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent import budget
from agent.errors import BudgetExceeded
from agent.machines import book
from agent.machines.billing import MODAL, RUNPOD, SKY
from agent.machines.burn import burn
from agent.machines.records import (
    BadRequest,
    Limits,
    NoBalance,
    NoCapacity,
    SpentToday,
    Waiting,
)
from agent.machines.renting import Renter, rent, shut, want
from agent.machines.sweep import settle, sweep
from agent.machines.tending import Patience, prolong, tend
from agent.records import Campaign
from agent.store import Store, lease
from tests import postgres
from tests.renting import HOUR, PLACED, PRICE, WORST, billed_at_last, opened, renter, reserved, rows, spent
from tests.runpod import H100, Course, StandIn


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[tuple[Store, Campaign]]:
    store, campaign = opened(tmp_path)
    yield store, campaign
    store.close()


@pytest.fixture
def one(stand: StandIn, kept: tuple[Store, Campaign]) -> Renter:
    return renter(stand, kept[0])


def test_a_lease_from_its_reservation_to_its_bill(stand: StandIn, one: Renter) -> None:
    machine = rent(one, 1, PLACED, 4 * HOUR)
    assert (machine.state, machine.provider_id, machine.name) == ("creating", "pod000001", machine.name)
    assert book.named(machine.name) == (machine.name[7:15], 1, 1)
    assert reserved(one) == pytest.approx(WORST, abs=1e-6)
    stand.advance(60)
    machine = tend(one, machine, Patience())
    assert machine.state == "live" and machine.facts["host"] == "127.0.0.1" and machine.live
    with one.store.read() as reads:
        assert burn(reads) == (now := burn(reads, 1)) and (now.machines, now.usd_per_hour) == (1, pytest.approx(PRICE))
    stand.advance(2 * HOUR)
    machine = shut(one, machine.id, "no work left")
    assert machine.state == "gone" and stand.living() == []
    assert reserved(one) == pytest.approx(PRICE * (2 * HOUR + 60 + 300) / HOUR, abs=0.02)
    assert settle(one) == 0.0  # its hour is not over: the bill may still grow
    billed_at_last(one, stand)
    assert rows(one)[0].billed_usd == pytest.approx(spent(one), abs=1e-6)


@pytest.mark.parametrize(("back_s", "after_s"), [(90, 600), (2 * HOUR, 600), (2 * HOUR, 3 * HOUR)])
def test_a_clock_that_was_set_back_makes_no_machine_cheaper(
    stand: StandIn, one: Renter, back_s: float, after_s: float
) -> None:
    machine = rent(one, 1, PLACED, 4 * HOUR)
    for _ in range(int(after_s // 60)):
        stand.advance(60)
        machine = tend(one, machine, Patience())
    wrong = replace(one, clock=lambda: stand.clock() - timedelta(seconds=back_s))
    assert shut(wrong, machine.id, "no work left").state == "gone"
    assert reserved(one) >= stand.billed() > 0.5
    billed_at_last(one, stand)


def test_more_is_reserved_before_a_lease_is_longer(stand: StandIn, one: Renter) -> None:
    machine = rent(one, 1, PLACED, 4 * HOUR)
    stand.advance(HOUR)
    longer = prolong(one, machine, 5 * HOUR)
    assert reserved(one) == pytest.approx(PRICE * (6 * HOUR + 300) / HOUR, abs=1e-3)
    assert prolong(one, longer, HOUR) == longer  # never shorter
    with pytest.raises(BudgetExceeded):
        prolong(one, longer, 40 * HOUR)
    assert rows(one)[0] == longer and reserved(one) == pytest.approx(PRICE * (6 * HOUR + 300) / HOUR, abs=1e-3)


def test_no_cap_is_passed(stand: StandIn, kept: tuple[Store, Campaign]) -> None:
    for limits, words in (
        (Limits(usd_per_lease=WORST - 0.01), "a lease may cost 14"),
        (Limits(usd_per_run=1.0), "a run may cost 1.00 \\$, and this one 1.75"),
        (Limits(usd_per_day=WORST - 0.01), "cap of 14.* a day"),
    ):
        with pytest.raises(BudgetExceeded, match=words):
            rent(renter(stand, kept[0], limits), 1, PLACED, 4 * HOUR, HOUR / 2)
    with pytest.raises(Waiting, match="0 may be at once"):  # until one of them is over
        rent(renter(stand, kept[0], Limits(most=0)), 1, PLACED, HOUR)
    with pytest.raises(BudgetExceeded, match="cap of 100"):
        rent(renter(stand, kept[0]), 1, PLACED, 100 * HOUR)
    assert rows(renter(stand, kept[0])) == [] and stand.seen == []  # nobody was asked


def test_a_day_is_any_24_hours(stand: StandIn, kept: tuple[Store, Campaign]) -> None:
    one = renter(stand, kept[0], Limits(usd_per_day=WORST + 1.0))
    machine = rent(one, 1, PLACED, 4 * HOUR)
    stand.advance(HOUR)
    shut(one, machine.id, "enough")
    billed_at_last(one, stand)  # 3.5 $ of it are spent
    with pytest.raises(SpentToday, match=r"a day: 3\.50"):
        rent(one, 1, PLACED, 4 * HOUR)
    stand.advance(21 * HOUR + 60)
    assert rent(one, 1, PLACED, 4 * HOUR).state == "creating"


def test_the_next_candidate_is_asked(stand: StandIn, one: Renter) -> None:
    stand.none_left = {(H100, PLACED[0].place), (H100, PLACED[1].place)}
    assert rent(one, 1, PLACED, HOUR).place == PLACED[2].place
    stand.none_left = {(H100, "")}
    with pytest.raises(NoCapacity, match=r"none of 3 candidates is to be had now.*no longer any instances"):
        rent(one, 1, PLACED, HOUR)
    stand.none_left, stand.rule = set(), "disk must be at most 20"
    with pytest.raises(BadRequest, match=r"each of 3 candidates was refused.*disk must be"):
        rent(one, 1, PLACED, HOUR)
    stand.rule, stand.forbidden = "", {H100}
    with pytest.raises(BadRequest, match="account may have none"):
        rent(one, 1, PLACED, HOUR)
    stand.forbidden, stand.balance = set(), 0.0
    asked = len(stand.seen)
    with pytest.raises(NoBalance):
        rent(one, 1, PLACED, HOUR)
    assert len(stand.seen) == asked + 1  # no other candidate would help
    assert [row.state for row in rows(one)] == ["creating", "gone", "gone", "gone", "gone"]
    assert reserved(one) == pytest.approx(PRICE * (HOUR + 300) / HOUR, abs=1e-6)


@pytest.mark.parametrize(
    ("course", "words"),
    [
        (Course(starting=None, running=None), "still PROVISIONING after 900 s"),
        (Course(running=None), "still STARTING after 900 s"),
        (Course(port=None), "can't be reached after 300 s"),
        (Course(exited=100.0), "ended by itself: EXITED"),
        (Course(error=20.0), "ended by itself: ERROR"),
        (Course(vanished=70.0), "vanished"),
    ],
)
def test_a_machine_in_trouble_is_given_back(stand: StandIn, one: Renter, course: Course, words: str) -> None:
    stand.courses.append(course)
    machine = rent(one, 1, PLACED, 4 * HOUR)
    for _ in range(70):
        stand.advance(20)
        machine = tend(one, machine, Patience())
        if machine.over:
            break
    assert machine.state == "gone" and words in machine.reason, machine
    assert stand.living() == []
    billed_at_last(one, stand)


def test_a_machine_ends_at_its_time_with_nobody_there(stand: StandIn, one: Renter) -> None:
    machine = rent(one, 1, PLACED, HOUR)
    stand.advance(HOUR)
    assert stand.living() == []  # its own timer
    assert tend(one, machine, Patience()).state == "gone"
    billed_at_last(one, stand)
    assert spent(one) <= PRICE * (HOUR + 300) / HOUR


def test_one_that_does_not_end_stays_closing(stand: StandIn, one: Renter) -> None:
    machine = rent(one, 1, PLACED, HOUR)
    stand.faults.extend([("DELETE", "500")] * 4)
    assert shut(one, machine.id, "no work").state == "closing"
    assert reserved(one) > 0 and len(stand.living()) == 1
    assert tend(one, rows(one)[0], Patience()).state == "gone"  # tried again
    assert stand.living() == []


def test_what_nobody_was_asked_for_is_over_at_once(stand: StandIn, one: Renter) -> None:
    machine = want(one, 1, PLACED, 4 * HOUR)
    assert reserved(one) > 0
    after = shut(one, machine.id, "the campaign has stopped")
    assert (after.state, after.reason, reserved(one), stand.seen) == ("gone", "the campaign has stopped", 0.0, [])


def test_an_end_that_was_accepted_is_not_yet_one(stand: StandIn, one: Renter) -> None:
    machine = rent(one, 1, PLACED, HOUR)
    stand.dying_s = 100.0
    assert shut(one, machine.id, "no work").state == "closing"
    stand.advance(60)
    assert tend(one, rows(one)[0], Patience()).state == "closing"
    stand.advance(60)
    assert tend(one, rows(one)[0], Patience()).state == "gone"
    billed_at_last(one, stand)


def test_a_dearer_machine_is_reserved_for_or_given_back(stand: StandIn, one: Renter) -> None:
    stand.courses.extend([Course(dearer=2.0), Course(dearer=9.0)])
    dearer = PRICE + 3.49  # the card costs more, its disk what it did
    assert rent(one, 1, PLACED, 4 * HOUR).usd_per_hour == pytest.approx(dearer)
    assert reserved(one) == pytest.approx(dearer * (4 + 300 / HOUR), abs=1e-3)
    with pytest.raises(BudgetExceeded):
        rent(one, 1, PLACED, 4 * HOUR)
    assert [row.state for row in rows(one)] == ["creating", "gone"] and len(stand.living()) == 1
    assert "dearer than it was said to be" in rows(one)[1].reason


def test_one_that_is_refused_is_remembered(stand: StandIn, one: Renter) -> None:
    machine = rent(one, 1, PLACED, HOUR)
    after = shut(one, machine.id, "sent back", refused="GPU 3 runs at 900 MHz")
    assert (after.state, after.refused) == ("refused", "GPU 3 runs at 900 MHz")
    with one.store.read() as reads:
        assert book.turned_down(reads, "runpod", stand.at - timedelta(days=1)) == [after]
        assert book.turned_down(reads, "runpod", stand.at + timedelta(days=1)) == []


def test_a_sweep_leaves_what_a_living_controller_rents(stand: StandIn, one: Renter) -> None:
    rent(one, 1, PLACED, 4 * HOUR)
    with lease.hold(one.store, "campaign night"):
        assert sweep(one).actions == ()
    assert sweep(one, keep=[1]).actions == ()
    dry = sweep(one, dry_run=True)
    assert [action.do for action in dry.orphans] == ["close"] and len(stand.living()) == 1
    assert sweep(one).actions == dry.actions and stand.living() == []


def test_a_sweep_knows_its_own_names_only(stand: StandIn, one: Renter, tmp_path: Path) -> None:
    other_folder = tmp_path / "other"
    other_folder.mkdir()
    other_store, _ = opened(other_folder)
    with contextlib.closing(other_store):
        rent(renter(stand, other_store), 1, PLACED, 4 * HOUR)
        assert sweep(one).actions == () and len(stand.living()) == 1


@pytest.mark.parametrize("usd", [100.0, 5.0])
def test_what_nobody_wrote_down_is_paid_from_its_first_hour(stand: StandIn, tmp_path: Path, usd: float) -> None:
    store, _ = opened(tmp_path, usd)
    with contextlib.closing(store):
        one = renter(stand, store)
        with store.write() as tx:
            name = f"{book.prefix(tx, one.home)}c1-m77"
        one.provider.create(PLACED[0], name, stand.at + timedelta(hours=9))
        stand.advance(3 * HOUR)
        assert [action.do for action in sweep(one).actions] == ["orphan"] and stand.living() == []
        least = PRICE * (3 * HOUR + 300) / HOUR if usd > 5 else 0.0
        assert reserved(one) == pytest.approx(least, abs=0.01)
        billed_at_last(one, stand)  # whatever the cap says
        assert spent(one) == pytest.approx(3 * PRICE, abs=0.01)


def test_a_machine_that_comes_back_is_ended_and_paid(stand: StandIn, one: Renter) -> None:
    machine = rent(one, 1, PLACED, 4 * HOUR)
    pod = stand.pods[machine.provider_id]
    with one.store.write() as tx:  # as if the provider had said 404 for a moment
        book.gone(tx, machine.id, rules=RUNPOD, at=stand.at)
    stand.advance(600)
    assert [action.do for action in sweep(one).actions] == ["again"]
    assert pod.ended is not None and rows(one)[0].state == "gone"
    billed_at_last(one, stand)


def test_a_pod_that_worked_is_not_free_while_the_bill_does_not_name_it(stand: StandIn, one: Renter) -> None:
    machine = rent(one, 1, PLACED, HOUR)
    stand.advance(60)
    assert tend(one, machine, Patience()).state == "live"
    stand.advance(600)
    shut(one, machine.id, "enough")
    pod, held = stand.pods[machine.provider_id], reserved(one)
    pod.spans, spans = [], pod.spans
    stand.advance(20 * HOUR)
    assert settle(one) == 0.0 and (reserved(one), spent(one)) == (held, 0.0)
    stand.advance(6 * HOUR)
    settle(one)
    assert (reserved(one), spent(one)) == (0.0, 0.0)  # it is believed after a day
    pod.spans = spans
    billed_at_last(one, stand)  # and so is what it says later
    assert spent(one) > 0.6


def test_a_bill_that_changes_later_is_followed(stand: StandIn, one: Renter) -> None:
    machine = rent(one, 1, PLACED, HOUR)
    stand.advance(600)
    shut(one, machine.id, "enough")
    billed_at_last(one, stand)
    pod = stand.pods[machine.provider_id]
    pod.spans = [(start, end, 2 * usd) for start, end, usd in pod.spans]
    stand.advance(HOUR)
    settle(one)
    assert spent(one) == pytest.approx(stand.billed(), abs=1e-6) == pytest.approx(2 * PRICE / 6)
    with one.store.read() as reads:
        assert budget.audit(reads, 1) == []


def test_the_book_is_the_same_on_a_server(stand: StandIn) -> None:
    store, _ = opened(postgres.fresh_url())
    with contextlib.closing(store):
        one = renter(stand, store, Limits(usd_per_day=20.0))
        machine = rent(one, 1, PLACED, 4 * HOUR)
        with pytest.raises(SpentToday, match="a day"):
            rent(one, 1, PLACED, 4 * HOUR)
        stand.advance(60)
        shut(one, machine.id, "enough")
        billed_at_last(one, stand)


def test_every_figure_of_a_bill_says_how_it_is_known() -> None:
    for rules in (RUNPOD, MODAL, SKY):
        for figure in vars(rules).values():
            assert figure.how in ("measured", "read", "assumed") and figure.when >= "2026" and figure.source
    assert SKY.cost(6.0, 61.0) == pytest.approx(0.2)  # two whole minutes
    assert RUNPOD.cost(3600.0, 0.4) == pytest.approx(1.0)
