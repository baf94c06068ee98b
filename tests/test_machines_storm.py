"""Rented machines through storms and kills: nothing stays rented, and the ledger is the provider's bill to the cent."""

import contextlib
import os
import random
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent import budget
from agent.errors import CaddieError, InfraError
from agent.machines import book
from agent.machines.records import Limits, NoCapacity
from agent.machines.renting import LOST_S, Renter, rent, shut
from agent.machines.sweep import settle, sweep
from agent.machines.tending import Patience, prolong, tend
from agent.runners.runpod.client import Client
from agent.store import Store
from tests.renting import HOUR, PLACED, killed, opened, renter
from tests.runpod import Course, Fault, StandIn

CAP = 60.0


def at_last(one: Renter, stand: StandIn) -> None:
    """Sweeps until all is over, and compares the ledger with the bill."""
    for _ in range(4):
        stand.advance(LOST_S)
        assert sweep(one).failed == ()
    assert stand.living() == []
    stand.advance(3 * HOUR)
    settle(one)
    with one.store.read() as reads:
        assert book.everyone(reads) == []
        balance = reads.balance(1)
        assert budget.audit(reads, 1) == []
    assert balance.reserved.usd == 0.0
    assert balance.settled.usd == pytest.approx(stand.billed(), abs=0.005)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_after_a_storm_the_ledger_is_the_bill(stand: StandIn, tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    store, _ = opened(tmp_path, CAP)
    one = renter(stand, store, Limits(most=5))
    faults: tuple[Fault, ...] = ("429", "500", "500 done", "garbage")

    def storm(method: str, path: str) -> Fault | None:
        return draw.choice(faults) if draw.random() < 0.25 else None

    courses: tuple[Callable[[], Course], ...] = (
        Course,
        Course,
        lambda: Course(running=None),
        lambda: Course(port=None),
        lambda: Course(exited=draw.uniform(0, 4000)),
        lambda: Course(error=draw.uniform(0, 100)),
        lambda: Course(vanished=draw.uniform(0, 4000)),
        lambda: Course(dearer=draw.uniform(1.0, 3.0)),
    )
    with contextlib.closing(store):
        stand.storm = storm
        for _ in range(60):
            stand.courses.append(draw.choice(courses)())
            stand.none_left = {(one.kind, one.place) for one in PLACED if draw.random() < 0.3}
            with contextlib.suppress(CaddieError):
                _one_step(one, draw)
            stand.advance(draw.uniform(0, 400))
            with store.read() as reads:
                balance = reads.balance(1)
            promised = balance.settled.usd + balance.reserved.usd
            assert stand.billed() <= promised + 0.01 and promised <= CAP
        stand.storm = lambda method, path: None
        assert len(stand.pods) >= 5
        at_last(one, stand)


def _one_step(one: Renter, draw: random.Random) -> None:
    with one.store.read() as reads:
        there = book.everyone(reads)
    what = draw.random()
    if what < 0.4 or not there:
        rent(one, 1, PLACED, draw.uniform(0.5, 2) * HOUR)
    elif what < 0.5:
        shut(one, draw.choice(there).id, "no work")
    elif what < 0.55:
        sweep(one, keep=[1])
    elif what < 0.6:
        prolong(one, draw.choice(there), draw.uniform(0.2, 1) * HOUR)
    else:
        for machine in there:
            tend(one, machine, Patience())


@pytest.mark.long
def test_killed_between_any_two_writes_nothing_stays_rented(stand: StandIn, tmp_path: Path) -> None:
    for steps in range(1, 100):
        folder = tmp_path / f"{steps}"
        folder.mkdir()
        stand.forget()
        stand.courses.append(Course(starting=0, running=0, port=0))
        opened(folder)[0].close()
        ended = killed(partial(_live_until, steps, stand, folder))
        store, _ = opened(folder)
        with contextlib.closing(store):
            one = renter(stand, store)
            assert sweep(one).failed == ()
            assert stand.living() == [], steps
            at_last(one, stand)
        if not ended:
            break
    assert steps > 20  # the life of one machine has so many writes and requests


def _live_until(steps: int, stand: StandIn, folder: Path) -> None:
    left = [steps]

    def step() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def asked(self: Client, *given: Any, **named: Any) -> bytes | None:
        step()
        answer = ask(self, *given, **named)
        step()
        return answer

    @contextlib.contextmanager
    def written(self: Store) -> Iterator[Any]:
        with write(self) as tx:
            yield tx
            step()
        step()

    ask, write = Client._once, Store.write
    Client._once, Store.write = asked, written  # type: ignore[method-assign]
    one = renter(stand, opened(folder)[0])
    machine = tend(one, rent(one, 1, PLACED, 4 * HOUR), Patience())
    assert machine.state == "live"
    prolong(one, machine, 5 * HOUR)
    assert shut(one, machine.id, "no work").state == "gone"


def test_a_provider_that_says_no_leaves_the_book_as_it_is(stand: StandIn, tmp_path: Path) -> None:
    store, _ = opened(tmp_path)
    with contextlib.closing(store):
        one = renter(stand, store)
        machine = rent(one, 1, PLACED, HOUR)
        stand.faults.extend([("GET", "500")] * 4)
        with pytest.raises(InfraError):
            sweep(one)
        with store.read() as reads:
            assert book.everyone(reads) == [machine]
        stand.none_left = {(PLACED[0].kind, "")}
        with pytest.raises(NoCapacity):
            rent(one, 1, PLACED, HOUR)
        stand.advance(timedelta(hours=2).total_seconds())
        at_last(one, stand)
