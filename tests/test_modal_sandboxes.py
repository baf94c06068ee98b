"""Sandboxes of Modal in the book of machines: the real client of its SDK, and a stand-in for the service."""

import contextlib
import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from agent import budget
from agent.errors import MissingError
from agent.machines import book
from agent.machines.providers import renters
from agent.machines.records import BadRequest, Candidate, KeyRefused, Limits, NoCapacity, Unclear
from agent.machines.renting import LOST_S, Renter, rent, shut
from agent.machines.sweep import settle, sweep
from agent.machines.tending import Patience, tend
from agent.runners.modal.account import Account, account
from agent.runners.modal.sandboxes import Sandboxes, candidates, request
from agent.runners.modal.settings import Settings
from agent.store import Store
from tests.modal_control import Fault
from tests.modal_standin import MADE_S, StandIn
from tests.renting import HOUR, opened

DAY = 86400.0
SETTINGS = Settings(regions=("us-east", "eu-west"))
PLACED = candidates(SETTINGS, 8)


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    found = StandIn(tmp_path / "modal")
    monkeypatch.setenv("MODAL_SERVER_URL", found.url)
    yield found
    found.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found, _ = opened(tmp_path, 1000.0)
    yield found
    found.close()


def renter(stand: StandIn, store: Store, settings: Settings = SETTINGS) -> Renter:
    sandboxes = Sandboxes(Account("ak-1", "as-1", answer_s=20), settings, clock=stand.clock)
    return Renter(store, sandboxes, "modal", "here", Limits(), stand.clock, stand.sleep)


@pytest.fixture
def one(stand: StandIn, store: Store) -> Iterator[Renter]:
    found = renter(stand, store)
    yield found
    found.provider.account.close()  # type: ignore[attr-defined]


def at_last(one: Renter, stand: StandIn) -> None:
    """Nothing is rented when all is swept, and the ledger is the bill to the cent when that is final."""
    for _ in range(2):
        assert sweep(one).failed == ()
        stand.advance(LOST_S)
    assert stand.living() == []
    stand.advance(DAY + 2 * HOUR)
    settle(one)
    with one.store.read() as reads:
        assert book.everyone(reads) == []
        balance = reads.balance(1)
        assert budget.audit(reads, 1) == []
    assert balance.reserved.usd == 0.0
    assert balance.settled.usd == pytest.approx(stand.billed(), abs=0.005)


def test_a_lease_from_its_reservation_to_its_bill(stand: StandIn, one: Renter) -> None:
    machine = rent(one, 1, PLACED, 4 * HOUR)
    (box,) = stand.living()
    assert machine.provider_id == f"{box.app_id}/{box.id}"
    asked = box.definition
    assert (asked.timeout_secs, asked.name, list(asked.entrypoint_args)) == (
        4 * HOUR,
        machine.name,
        ["sleep", "infinity"],
    )
    assert (asked.resources.gpu_config.gpu_type, asked.resources.gpu_config.count) == ("H100!", 8)
    assert asked.resources.milli_cpu == asked.resources.milli_cpu_max == 16_000
    assert asked.resources.memory_mb == asked.resources.memory_mb_max == 65_536
    assert asked.network_access.network_access_type == asked.network_access.NetworkAccessType.BLOCKED
    machine = tend(one, machine, Patience())
    assert machine.state == "live"
    with one.store.read() as reads:
        assert reads.balance(1).reserved.usd == pytest.approx(machine.usd_per_hour * (4 * HOUR + 120) / HOUR, abs=1e-6)
    stand.advance(HOUR)
    assert shut(one, machine.id, "no work left").state == "gone"
    stand.advance(HOUR)
    assert settle(one) == 0.0  # its bill may still grow
    assert stand.billed() == pytest.approx(machine.usd_per_hour * (HOUR + MADE_S) / HOUR, abs=1e-6)
    at_last(one, stand)


def test_what_the_bill_does_not_name_is_not_free(stand: StandIn, one: Renter) -> None:
    machine = rent(one, 1, PLACED, HOUR)
    stand.advance(600)
    shut(one, machine.id, "no work left")
    (box,) = stand.boxes.values()
    app_id, box.app_id = box.app_id, "ap-other"
    stand.advance(2 * DAY)
    assert settle(one) == 0.0
    with one.store.read() as reads:
        assert reads.balance(1).reserved.usd == pytest.approx(machine.usd_per_hour * 720 / HOUR, abs=0.01)
    box.app_id = app_id
    at_last(one, stand)


def test_its_time_is_kept_by_modal(stand: StandIn, one: Renter) -> None:
    machine = tend(one, rent(one, 1, PLACED, HOUR), Patience())
    stand.advance(HOUR + 60)
    assert stand.living() == []
    assert tend(one, machine, Patience()).reason.startswith("vanished")
    at_last(one, stand)
    assert stand.billed() == pytest.approx(machine.usd_per_hour, abs=0.005)


@pytest.mark.parametrize("times", [1, 4])  # the client asks four times by itself, under one key
def test_an_answer_that_is_lost_makes_no_second_sandbox(stand: StandIn, one: Renter, times: int) -> None:
    stand.faults += [("SandboxCreate", "lost")] * times
    machine = rent(one, 1, PLACED, HOUR)
    (box,) = stand.living()
    assert machine.provider_id == f"{box.app_id}/{box.id}" and stand.faults == []


def test_the_next_region_is_asked(stand: StandIn, one: Renter) -> None:
    for fault in ("nothing left", "refused"):
        stand.faults.append(("SandboxCreate", fault))  # type: ignore[arg-type]
        machine = rent(one, 1, PLACED, HOUR)
        assert machine.place == "eu-west" and stand.faults == []
    assert list(stand.living()[-1].definition.scheduler_placement.regions) == ["eu-west"]


def test_no_place_to_run_in_time(stand: StandIn, store: Store) -> None:
    one = renter(stand, store, Settings(provision_s=0.7))
    stand.waiting_s = DAY
    with pytest.raises(NoCapacity, match="no place to run within"):
        rent(one, 1, candidates(Settings(), 1), HOUR)
    assert len(stand.boxes) == 1 and stand.living() == []
    at_last(one, stand)


@pytest.mark.parametrize(
    ("call", "fault", "error", "words"),
    [
        ("AppGetOrCreate", "unknown token", KeyRefused, "modal token new"),
        ("ImageGetOrCreate", "refused", BadRequest, "the account may have none"),
    ],
)
def test_who_must_act_is_said(
    stand: StandIn, one: Renter, call: str, fault: Fault, error: type[Exception], words: str
) -> None:
    stand.storm = lambda name: fault if name == call else None
    with pytest.raises(error, match=words) as found:
        rent(one, 1, PLACED, HOUR)
    assert "as-1" not in str(found.value)
    stand.storm = lambda name: None
    at_last(one, stand)


def test_what_the_settings_got_wrong_is_said(stand: StandIn, store: Store) -> None:
    one = renter(stand, store, Settings(volumes={"/data": "texts"}))
    with pytest.raises(BadRequest, match="no volume texts"):
        rent(one, 1, PLACED, HOUR)
    stand.volumes.add("texts")
    rent(one, 1, PLACED, HOUR)
    assert [mount.mount_path for mount in stand.living()[0].definition.volume_mounts] == ["/data"]
    with pytest.raises(BadRequest, match="at most 24 hours"):
        request(SETTINGS, PLACED[0], "caddie-00000000-c1-m1", int(DAY) + 1)
    with pytest.raises(ValidationError):
        Settings(lease_hours=25)
    with pytest.raises(MissingError, match="MODAL_TOKEN_ID"):
        account({"MODAL_TOKEN_ID": "ak-1"})


def test_a_silent_service_leaves_the_book_as_it_is(stand: StandIn, one: Renter) -> None:
    machine = rent(one, 1, PLACED, HOUR)
    stand.storm = lambda name: "no answer"
    with pytest.raises(Unclear):
        sweep(one)
    with one.store.read() as reads:
        assert book.everyone(reads) == [machine]
    stand.storm = lambda name: None
    at_last(one, stand)


def test_what_nobody_wrote_down_is_ended_and_others_are_left_alone(stand: StandIn, one: Renter) -> None:
    mine = rent(one, 1, PLACED, HOUR)
    install = book.named(mine.name).install  # type: ignore[union-attr]
    lost, strange = f"caddie-{install}-c1-m77", "caddie-00000000-c1-m1"
    for name in (lost, strange):
        one.provider.create(Candidate("H100!", 1, "", 7.77), name, stand.clock() + timedelta(hours=1))
    stand.advance(60)
    assert [action.do for action in sweep(one, keep=[1]).actions] == ["orphan"]
    assert sorted(box.definition.name for box in stand.living()) == [strange, mine.name]


def test_agent_machines_knows_them(
    stand: StandIn, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runners.toml").write_text('[big]\nkind = "modal"\ncores = 4\n')
    found, failed = renters(store, tmp_path, {"MODAL_TOKEN_ID": "ak-1", "MODAL_TOKEN_SECRET": "as-1"})
    assert failed == [] and [(one.backend, one.provider.name) for one in found] == [("big", "modal")]
    assert found[0].provider.list("caddie-00000000-") == []
    assert renters(store, tmp_path, {})[1][0].startswith("big: sandboxes of Modal need a token")


@pytest.mark.parametrize("where", ["write", "call"])
def test_killed_anywhere_nothing_stays_rented(stand: StandIn, tmp_path: Path, where: str) -> None:
    """`write`: right after a write of the book; `call`: when Modal was asked, and has not answered yet."""
    for steps in range(1, 40):
        folder = tmp_path / f"{steps}"
        folder.mkdir()
        opened(folder, 1000.0)[0].close()
        stand.forget()
        killed = _killed_after(steps, stand, folder, where)
        store, _ = opened(folder, 1000.0)
        with contextlib.closing(store):
            one = renter(stand, store)
            at_last(one, stand)
            one.provider.account.close()  # type: ignore[attr-defined]
        if not killed:
            break
    assert steps > (7 if where == "write" else 10)


def _killed_after(steps: int, stand: StandIn, folder: Path, where: str) -> bool:
    """One machine's life in a process that is killed at its n-th step; whether it was."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            _live_until(steps if where == "write" else 0, stand, folder)
            os._exit(0)
        os._exit(1)
    left = [steps if where == "call" else 0]

    def called(name: str) -> Fault | None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(pid, signal.SIGKILL)
        return None

    stand.storm = called
    status = os.waitpid(pid, 0)[1]
    stand.storm = lambda name: None
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL), status
    return os.WIFSIGNALED(status)


def _live_until(steps: int, stand: StandIn, folder: Path) -> None:
    left = [steps]

    @contextlib.contextmanager
    def written(self: Store) -> Iterator[Any]:
        with write(self) as tx:
            yield tx
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    write = Store.write
    Store.write = written  # type: ignore[method-assign]
    one = renter(stand, opened(folder, 1000.0)[0])
    machine = tend(one, rent(one, 1, PLACED, 4 * HOUR), Patience())
    assert machine.state == "live"
    assert shut(one, machine.id, "no work").state == "gone"
