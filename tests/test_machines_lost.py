"""Machines of which nothing is heard: a lost answer makes no second one, and to be gone is said twice."""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import InfraError, StoreError
from agent.machines.records import KeyRefused, Seen, Unclear
from agent.machines.renting import LOST_S, Renter, rent, shut
from agent.machines.sweep import sweep
from agent.machines.tending import Patience, tend
from tests.renting import HOUR, PLACED, WORST, billed_at_last, not_written, opened, renter, reserved, rows, spent
from tests.runpod import H100, Course, Fault, StandIn


@pytest.fixture
def one(stand: StandIn, tmp_path: Path) -> Iterator[Renter]:
    store, _ = opened(tmp_path)
    yield renter(stand, store)
    store.close()


@pytest.mark.parametrize("fault", ["500 done", "lost done", "429"])
def test_an_answer_that_is_lost_makes_no_second_machine(stand: StandIn, one: Renter, fault: Fault) -> None:
    stand.faults.append(("POST", fault))
    machine = rent(one, 1, PLACED, HOUR)
    assert [pod.id for pod in stand.living()] == [machine.provider_id]


@pytest.mark.parametrize("then", ["500 done", "none left", "nothing"])
def test_after_a_lost_answer_nothing_is_asked_for_again(stand: StandIn, one: Renter, then: str) -> None:
    """Lists are late: two may be made then, and there is money for one. No refusal says that the first was not made."""
    stand.hidden_s = 200.0
    stand.faults.append(("POST", "lost done"))
    if then == "500 done":
        stand.faults.append(("POST", "500 done"))

    def sleep(seconds: float) -> None:
        stand.none_left = {(H100, "")} if then == "none left" else set()
        stand.sleep(seconds)

    with pytest.raises(Unclear, match="no clear answer to a request"):
        rent(replace(one, sleep=sleep), 1, PLACED, 4 * HOUR)
    assert [call for call in stand.seen if call[0] == "POST"] == [("POST", "/v2/pods")]
    assert [row.state for row in rows(one)] == ["creating"] and len(stand.living()) == 1
    assert reserved(one) == pytest.approx(WORST, abs=1e-6)
    assert sweep(one).actions == ()  # it may yet come: what is set aside stays
    stand.faults.clear()
    stand.advance(LOST_S)
    done = sweep(one)
    assert [action.do for action in done.actions] == ["adopt", "close"] and done.failed == ()
    assert stand.living() == [] and stand.billed() < WORST
    billed_at_last(one, stand)


@pytest.mark.parametrize("fault", ["500", "lost"])
def test_what_came_of_nothing_is_asked_for_again_when_that_is_known(stand: StandIn, one: Renter, fault: Fault) -> None:
    stand.faults.append(("POST", fault))
    with pytest.raises(Unclear):
        rent(one, 1, PLACED, HOUR)
    assert tend(one, rows(one)[0], Patience()).state == "creating" and stand.pods == {}
    stand.advance(LOST_S)
    assert tend(one, rows(one)[0], Patience()).state == "gone" and reserved(one) == 0.0
    assert [rent(one, 1, PLACED, HOUR).provider_id] == list(stand.pods)


@pytest.mark.parametrize("why", ["429", "no connection"])
def test_what_was_never_taken_was_never_made(stand: StandIn, one: Renter, why: str) -> None:
    stand.faults.extend([("POST", "429")] * 4)
    port = stand.port
    if why == "no connection":
        stand.faults.clear()
        one = renter(StandIn(), one.store)  # which nobody serves
        one = replace(one, clock=stand.clock, sleep=stand.sleep)
    with pytest.raises(InfraError, match="took none of 4 requests for a machine") as caught:
        rent(one, 1, PLACED, HOUR)
    assert not isinstance(caught.value, Unclear) and stand.port == port
    assert [row.state for row in rows(one)] == ["gone"] and reserved(one) == 0.0 and stand.pods == {}


def test_money_stays_aside_when_an_id_can_not_be_written_down(
    stand: StandIn, one: Renter, monkeypatch: pytest.MonkeyPatch
) -> None:
    not_written(monkeypatch, lambda: bool(stand.pods))
    with pytest.raises(StoreError, match="the disk is full"):
        rent(one, 1, PLACED, 4 * HOUR)
    assert len(stand.living()) == 1 and reserved(one) == pytest.approx(WORST, abs=1e-6)
    assert [action.do for action in sweep(one, keep=[1]).actions] == ["adopt"]
    stand.advance(HOUR)
    assert shut(one, rows(one)[0].id, "no work").state == "gone"
    billed_at_last(one, stand)


def test_a_list_that_nobody_shows_says_nothing(stand: StandIn, one: Renter) -> None:
    stand.faults.extend([("POST", "500 done"), *[("GET", "429")] * 8])  # each list is asked for four times
    with pytest.raises(Unclear, match="does not show its machines"):
        rent(one, 1, PLACED, HOUR)
    assert len(stand.living()) == 1 and reserved(one) > 0
    assert [action.do for action in sweep(one).actions] == ["adopt", "close"]
    billed_at_last(one, stand)


def test_a_key_that_is_refused_after_a_lost_answer_says_nothing(
    stand: StandIn, one: Renter, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand.hidden_s = 100.0
    stand.faults.append(("POST", "500 done"))

    def refused(provider: object, prefix: str) -> list[Seen]:
        raise KeyRefused("a new key, please")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(type(one.provider), "list", refused)
        with pytest.raises(Unclear, match="; then a new key"):
            rent(one, 1, PLACED, 4 * HOUR)
    assert [row.state for row in rows(one)] == ["creating"] and len(stand.living()) == 1
    assert reserved(one) == pytest.approx(WORST, abs=1e-6)
    stand.advance(100)
    assert tend(one, rows(one)[0], Patience()).provider_id and len(stand.pods) == 1


def test_what_was_asked_for_a_moment_ago_may_yet_come(stand: StandIn, one: Renter) -> None:
    """However long ago it was asked for the first time: each of these answers took its time."""
    stand.hidden_s = LOST_S - 1
    stand.faults.extend([*[("POST", "429")] * 3, ("POST", "500 done")])  # type: ignore[list-item]
    stand.retry_after = "100"
    with pytest.raises(Unclear):
        rent(replace(one, sleep=lambda seconds: stand.sleep(3 * seconds)), 1, PLACED, 4 * HOUR)
    stand.advance(LOST_S - 100)  # since the first request it is longer
    assert tend(one, rows(one)[0], Patience()).state == "creating" and reserved(one) > 0
    stand.advance(10)
    assert tend(one, rows(one)[0], Patience()).provider_id and len(stand.living()) == 1


def test_what_was_never_made_gives_its_money_back(stand: StandIn, one: Renter) -> None:
    stand.faults.append(("POST", "500"))
    with pytest.raises(Unclear, match="no clear answer to a request"):
        rent(one, 1, PLACED, HOUR)
    assert reserved(one) > 0
    stand.advance(LOST_S)
    assert [action.do for action in sweep(one).actions] == ["never"]
    assert (reserved(one), spent(one)) == (0.0, 0.0)


def test_one_answer_that_a_machine_is_not_there_is_none(stand: StandIn, one: Renter) -> None:
    machine = rent(one, 1, PLACED, 4 * HOUR)
    stand.advance(60)
    machine = tend(one, machine, Patience())
    stand.faults.append(("GET", "404"))
    assert tend(one, machine, Patience()) == machine and machine.state == "live"
    stand.faults.extend([("DELETE", "404"), ("GET", "404")])
    assert shut(one, machine.id, "no work").state == "closing" and len(stand.living()) == 1
    assert reserved(one) == pytest.approx(WORST, abs=1e-6) and stand.faults == deque()
    assert tend(one, rows(one)[0], Patience()).state == "gone" and stand.living() == []
    billed_at_last(one, stand)


def test_a_machine_that_is_new_may_yet_come_to_show(stand: StandIn, one: Renter) -> None:
    stand.hidden_s = 100.0
    machine = rent(one, 1, PLACED, 4 * HOUR)
    stand.faults.append(("GET", "404"))
    assert tend(one, machine, Patience()) == machine and reserved(one) == pytest.approx(WORST, abs=1e-6)
    stand.advance(60)
    assert tend(one, machine, Patience()).state == "live"
    stand.courses.append(Course(starting=None, vanished=60.0))
    machine = rent(one, 1, PLACED, 4 * HOUR)
    stand.advance(LOST_S - 1)
    assert tend(one, machine, Patience()).state == "creating"
    stand.advance(1)
    assert tend(one, machine, Patience()).reason == "vanished: its provider has it no more"
