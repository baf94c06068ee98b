"""A workspace's store with one campaign, and a `Renter` on a stand-in for RunPod."""

import atexit
import contextlib
import functools
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent import budget
from agent.errors import StoreError
from agent.machines import book
from agent.machines.records import Candidate, Limits, Machine
from agent.machines.renting import Renter
from agent.machines.sweep import settle
from agent.records import Campaign, Caps
from agent.runners.runpod.client import Client
from agent.runners.runpod.pods import Pods
from agent.runners.runpod.settings import Settings
from agent.store import Store, Tx, open_store
from tests.filling import add_base, add_campaign
from tests.runpod import H100, KEY, PLACES, StandIn

HOUR = 3600.0
PRICE = 3.49 + 60 * 0.1 / 730
PLACED = [Candidate(H100, 1, place, PRICE) for place in PLACES]
WORST = PRICE * (4 * HOUR + 300) / HOUR  # of a lease of four hours


def renter(stand: StandIn, store: Store, limits: Limits | None = None) -> Renter:
    client = Client(KEY, stand.url, sleep=stand.sleep)
    pods = Pods(client, Settings(), "ssh-ed25519 AAAA", clock=stand.clock)
    return Renter(store, pods, "runpod", "here", limits or Limits(), stand.clock, stand.sleep)


def opened(where: Path | str, usd: float | None = 100.0) -> tuple[Store, Campaign]:
    """In a folder, or at a URL."""
    if isinstance(where, Path) and not (where / "runs.db").exists():
        shutil.copyfile(_empty(), where / "runs.db")
    store = open_store(where if isinstance(where, str) else where / "runs.db")
    with store.write() as tx:
        campaign = tx.campaign("night")
        if campaign is None:
            campaign = add_campaign(tx, caps=Caps(gpu_s=36_000.0, usd=usd))
            add_base(tx, campaign)
    return store, campaign


def reserved(one: Renter) -> float:
    with one.store.read() as reads:
        assert budget.audit(reads, 1) == []
        return reads.balance(1).reserved.usd


def spent(one: Renter) -> float:
    with one.store.read() as reads:
        return reads.balance(1).settled.usd


def rows(one: Renter, over: bool = True) -> list[Machine]:
    with one.store.read() as reads:
        return book.everyone(reads, over=over)


def billed_at_last(one: Renter, stand: StandIn) -> None:
    """After some hours the bill is final, and the ledger equals it to the cent."""
    stand.advance(3 * HOUR)
    settle(one)
    assert reserved(one) == 0.0
    assert spent(one) == pytest.approx(stand.billed(), abs=0.005)


@functools.cache
def _empty() -> Path:
    """Making the tables once and copying them is quicker than making them for each test."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    open_store(folder / "runs.db").close()
    return folder / "runs.db"


def killed(live: Callable[[], None]) -> bool:
    """Does it in a process of its own, which it may kill; whether it did. That it failed otherwise is an error."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            live()
            os._exit(0)
        os._exit(1)
    status = os.waitpid(pid, 0)[1]
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL), status
    return os.WIFSIGNALED(status)


def not_written(monkeypatch: pytest.MonkeyPatch, now: Callable[[], bool]) -> None:
    """The disk is full at one write: at the first after which `now` is so."""
    write, left = Store.write, [1]

    @contextlib.contextmanager
    def written(self: Store) -> Iterator[Tx]:
        if left[0] and now():
            left[0] -= 1
            raise StoreError("the disk is full")
        with write(self) as tx:
            yield tx

    monkeypatch.setattr(Store, "write", written)
