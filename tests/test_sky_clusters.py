"""Clusters of SkyPilot in the book of machines: its SDK is a stand-in with the same names and parameters."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from agent import budget
from agent.errors import MissingError, UserError
from agent.machines import book
from agent.machines.billing import SKY
from agent.machines.providers import renters
from agent.machines.records import BadRequest, KeyRefused, Limits, NoCapacity, Unclear
from agent.machines.renting import LOST_S, Renter, rent, shut
from agent.machines.sweep import settle, sweep
from agent.machines.tending import Patience, tend
from agent.runners.rented import deadman
from agent.runners.sky.account import Account, Offer
from agent.runners.sky.clusters import Clusters, candidates, request, setup
from agent.runners.sky.settings import Settings
from agent.store import Store
from tests.renting import HOUR, killed, opened
from tests.skying import Sky, stands_in

SETTINGS = Settings(clouds=("aws", "lambda", "nebius"), provision_s=1200.0)
DISK = SKY.disk_per_hour(SETTINGS.disk_gb)
KEY = "ssh-ed25519 AAAA caddie"
NAME = "caddie-00000000-c1-m1"
OFFERS = [
    Offer("nebius", "eu-north1", "H100", 1, 2.95, 1.25),
    Offer("lambda", "us-south-1", "H100", 1, 3.29, None),
    Offer("aws", "us-east-1", "H100", 1, 6.88, 2.5),
    Offer("aws", "us-east-1", "H100", 1, 9.0, 2.0),
    Offer("nebius", "eu-north1", "H200", 1, 3.5, 1.45),
]
PLACED = candidates(SETTINGS, "H100", 1, OFFERS)


@pytest.fixture
def sky(tmp_path: Path) -> Iterator[Sky]:
    with stands_in(tmp_path / "sky.json") as found:
        yield found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found, _ = opened(tmp_path, 1000.0)
    yield found
    found.close()


@pytest.fixture
def one(sky: Sky, store: Store) -> Renter:
    return renter(sky, store)


def renter(sky: Sky, store: Store, settings: Settings = SETTINGS, answer_s: float = 5.0) -> Renter:
    clusters = Clusters(Account(answer_s=answer_s), settings, KEY, clock=sky.clock)
    return Renter(store, clusters, "sky", "here", Limits(), sky.clock, sky.sleep)


def at_last(one: Renter, sky: Sky) -> None:
    """Nothing is rented when all is swept, and the ledger is what SkyPilot reckons, to the cent."""
    for _ in range(2):
        assert sweep(one).failed == ()
        sky.advance(LOST_S)
    assert sky.living() == {}
    sky.advance(SKY.bill_s.value)
    settle(one)
    with one.store.read() as reads:
        assert book.everyone(reads) == []
        balance = reads.balance(1)
        assert budget.audit(reads, 1) == []
    assert balance.reserved.usd == 0.0
    assert balance.settled.usd == pytest.approx(sky.reckoned(DISK), abs=0.005)


def test_a_lease_from_its_reservation_to_its_bill(sky: Sky, one: Renter) -> None:
    machine = rent(one, 1, PLACED, 4 * HOUR)
    ((name, cluster),) = sky.living().items()
    assert (machine.name, machine.provider_id, machine.place) == (name, name, "nebius/eu-north1")
    assert (cluster["kind"], cluster["gpus"], cluster["spot"], cluster["disk"]) == ("H100", 1, False, 100)
    assert cluster["minutes"] in (219, 220)  # however long it takes to be ready, its end is not late
    with sky.state() as state:
        state["ssh"] = ["127.0.0.1", 2222, "ubuntu"]
    machine = tend(one, machine, Patience())
    assert machine.state == "live"
    assert [machine.facts[name] for name in ("host", "port", "user")] == ["127.0.0.1", 2222, "ubuntu"]
    with one.store.read() as reads:
        worst = (6.88 + DISK) * (4 * HOUR + SKY.late_s.value) / HOUR  # the dearest that was asked for
        assert reads.balance(1).reserved.usd == pytest.approx(worst, abs=0.1)
    sky.advance(HOUR)
    assert shut(one, machine.id, "no work left").state == "gone"
    assert settle(one) == 0.0  # an hour is waited
    at_last(one, sky)
    assert sky.reckoned() == pytest.approx(2.95, abs=0.01)


def test_the_next_region_is_asked_and_what_is_left_of_the_first_is_ended(sky: Sky, one: Renter) -> None:
    for fault in ("no stock", "remains", "setup"):
        sky.fault("launch", fault)
        machine = rent(one, 1, PLACED, HOUR)
        assert machine.place == "lambda/us-south-1"
        assert list(sky.living()) == [machine.name]
        shut(one, machine.id, "no work left")
    at_last(one, sky)


def test_none_to_be_had_is_said_and_nothing_stays_reserved(sky: Sky, one: Renter) -> None:
    for _ in PLACED:
        sky.fault("launch", "no stock")
    with pytest.raises(NoCapacity, match="none of 3 candidates is to be had now; the last answer: no capacity: Failed"):
        rent(one, 1, PLACED, HOUR)
    for _ in PLACED:
        sky.fault("launch", "nowhere")
    with pytest.raises(BadRequest, match="the account may have none"):
        rent(one, 1, PLACED, HOUR)
    for _ in PLACED:
        sky.fault("launch", "setup")
    with pytest.raises(BadRequest, match="what is wrong is what was asked for: it could not be made ready"):
        rent(one, 1, PLACED, HOUR)
    sky.fault("launch", "refused")
    with pytest.raises(KeyRefused, match="`sky check` says which clouds"):
        rent(one, 1, PLACED, HOUR)
    with one.store.read() as reads:
        assert reads.balance(1).reserved.usd == 0.0
    at_last(one, sky)


def test_not_ready_in_time_is_ended(sky: Sky, store: Store) -> None:
    one = renter(sky, store, Settings(clouds=("nebius",), provision_s=0.3))
    sky.fault("launch", "silent")
    with pytest.raises(NoCapacity, match="not ready within"):
        rent(one, 1, PLACED[:1], HOUR)
    assert sky.living() == {} and [one for one in sky.calls() if one in ("api_cancel", "down")] == [
        "api_cancel",
        "down",
    ]
    at_last(one, sky)


def test_what_does_not_end_stays_in_the_book(sky: Sky, one: Renter) -> None:
    sky.fault("launch", "remains")
    for _ in range(2):
        sky.fault("down", "stays")
    machine = rent(one, 1, PLACED[:1], HOUR)  # no other one is asked for while this may cost money
    assert list(sky.living()) == [machine.provider_id] and machine.state == "creating"
    sky.advance(SETTINGS.provision_s + 1)
    machine = tend(one, machine, Patience(SETTINGS.provision_s))
    assert (machine.state, machine.reason) == ("closing", "still INIT after 1200 s") and len(sky.living()) == 1
    assert tend(one, machine, Patience()).state == "gone"
    at_last(one, sky)


@pytest.mark.parametrize("fault", ["lost", "no answer"])
def test_an_answer_that_is_lost_makes_no_second_cluster(sky: Sky, one: Renter, fault: str) -> None:
    sky.fault("launch", fault)
    machine = rent(one, 1, PLACED, HOUR)
    assert list(sky.living()) == [machine.name] == [machine.provider_id]
    at_last(one, sky)


def test_its_time_is_kept_by_skypilot_alone(sky: Sky, one: Renter) -> None:
    machine = rent(one, 1, PLACED, HOUR)
    sky.advance(HOUR - 300)
    assert sky.living() == {}  # before the lease is over, though nobody looked
    assert tend(one, machine, Patience()).reason.startswith("vanished")
    at_last(one, sky)


def test_what_has_no_price_is_not_free(sky: Sky, one: Renter) -> None:
    machine = rent(one, 1, PLACED, HOUR)
    with sky.state() as state:
        state["clusters"][machine.name]["unpriced"] = True
    sky.advance(1800)
    shut(one, machine.id, "no work left")
    sky.advance(SKY.bill_s.value + 60)
    assert settle(one) == 0.0
    with one.store.read() as reads:
        worst = (2.95 + DISK) * (1800 + SKY.late_s.value) / HOUR
        assert reads.balance(1).reserved.usd == pytest.approx(worst, abs=0.06)
    with sky.state() as state:
        state["over"][0][1]["unpriced"] = False
    at_last(one, sky)


def test_a_silent_server_leaves_the_book_as_it_is(sky: Sky, one: Renter) -> None:
    machine = rent(one, 1, PLACED, HOUR)
    sky.fault("*", "no answer")
    with pytest.raises(Unclear):
        sweep(one)
    with one.store.read() as reads:
        assert book.everyone(reads) == [machine]
    sky.mended()
    at_last(one, sky)


def test_what_nobody_wrote_down_is_ended_and_others_are_left_alone(sky: Sky, one: Renter) -> None:
    mine = rent(one, 1, PLACED, HOUR)
    install = book.named(mine.name).install  # type: ignore[union-attr]
    lost, strange = f"caddie-{install}-c1-m77", "my-own-cluster"
    for name in (lost, strange):
        one.provider.create(PLACED[0], name, sky.clock() + timedelta(hours=1))
    made = sky.clock()
    sky.advance(600)
    found = sweep(one, keep=[1], dry_run=True)
    assert found.actions[0].seen is not None and found.actions[0].seen.created is not None
    assert abs((found.actions[0].seen.created - made).total_seconds()) < 60
    assert [action.do for action in found.actions] == ["orphan"] and len(sky.living()) == 3
    assert [action.do for action in sweep(one, keep=[1]).actions] == ["orphan"]
    assert sorted(sky.living()) == sorted([strange, mine.name])


@pytest.mark.slow
@pytest.mark.parametrize("where", ["write", "call"])
def test_killed_anywhere_nothing_stays_rented(sky: Sky, tmp_path: Path, where: str) -> None:
    """`write`: right after a write of the book; `call`: when SkyPilot did what it was asked, and was not heard."""
    for steps in range(1, 40):
        folder = tmp_path / f"{steps}"
        folder.mkdir()
        opened(folder, 1000.0)[0].close()
        with sky.state() as state:
            state.update(clusters={}, over=[], requests={}, steps=steps if where == "call" else 0)
        ended = killed(partial(_live, steps if where == "write" else 0, sky, folder))
        with sky.state() as state:
            state["steps"] = 0
        store, _ = opened(folder, 1000.0)
        with contextlib.closing(store):
            at_last(renter(sky, store), sky)
        if not ended:
            break
    assert steps > (7 if where == "write" else 5)


def _live(writes: int, sky: Sky, folder: Path) -> None:
    left = [writes]

    @contextlib.contextmanager
    def written(self: Store) -> Iterator[Any]:
        with write(self) as tx:
            yield tx
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    write = Store.write
    Store.write = written  # type: ignore[method-assign]
    with sky.state() as state:
        state["ssh"] = ["127.0.0.1", 2222, "ubuntu"]
    one = renter(sky, opened(folder, 1000.0)[0])
    machine = tend(one, rent(one, 1, PLACED, 4 * HOUR), Patience())
    assert machine.state == "live"
    assert shut(one, machine.id, "no work").state == "gone"


def test_agent_machines_knows_them(sky: Sky, store: Store, tmp_path: Path) -> None:
    (tmp_path / "runners.toml").write_text('[far]\nkind = "sky"\nclouds = ["nebius"]\n')
    found, failed = renters(store, tmp_path, {})
    assert failed == [] and [(one.backend, one.provider.name) for one in found] == [("far", "sky")]
    assert found[0].provider.list("caddie-00000000-") == []


def test_without_the_sdk_it_is_said_what_to_install(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sky", None)
    with pytest.raises(MissingError, match=r"pip install .*\[sky\]"):
        Account()


# ---------------------------------------------------------------- what is asked for


def test_the_cheapest_region_first_and_one_that_was_no_good_last() -> None:
    assert [(one.place, round(one.usd_per_hour - DISK, 2)) for one in PLACED] == [
        ("nebius/eu-north1", 2.95),
        ("lambda/us-south-1", 3.29),
        ("aws/us-east-1", 6.88),
    ]
    avoided = candidates(SETTINGS, "H100", 1, OFFERS, {("H100", "nebius/eu-north1")})
    assert [one.place for one in avoided][-1] == "nebius/eu-north1"
    capped = candidates(SETTINGS.model_copy(update={"usd_per_hour": 3.3}), "H100", 1, OFFERS)
    assert [one.place for one in capped] == ["nebius/eu-north1", "lambda/us-south-1"]
    spot = candidates(SETTINGS.model_copy(update={"spot": True}), "H100", 1, OFFERS)
    # by its own price, and what is set aside is that of a machine that nobody takes away
    assert [(one.place, round(one.usd_per_hour - DISK, 2)) for one in spot] == [
        ("nebius/eu-north1", 2.95),
        ("aws/us-east-1", 9.0),
    ]


@pytest.mark.parametrize(
    ("changed", "kind", "words"),
    [
        ({}, "H1000", "no 1 x H1000 in aws, lambda, nebius. Did you mean 'H100'"),
        ({"regions": ("eu-north2",)}, "H100", "Did you mean 'eu-north1'"),
        ({"usd_per_hour": 2.0}, "H100", "costs 2.95 $ an hour or more, and usd_per_hour allows 2.00"),
        ({"regions": ("us-south-1",), "spot": True}, "H100", "leave spot out"),
    ],
)
def test_what_is_not_there_is_said(changed: dict[str, object], kind: str, words: str) -> None:
    with pytest.raises(UserError) as found:
        candidates(SETTINGS.model_copy(update=changed), kind, 1, OFFERS)
    assert words in str(found.value)


def test_what_the_settings_may_be() -> None:
    for wrong, words in (
        ({}, "clouds"),
        ({"clouds": ()}, "at least 1"),
        ({"clouds": ("kubernetes",)}, "rents nothing out"),
        ({"clouds": ("slurm",)}, 'use kind = "slurm"'),
        ({"clouds": ("aws",), "image": "docker:ubuntu"}, "image of a machine"),
    ):
        with pytest.raises(ValidationError, match=words):
            Settings.model_validate(wrong)


def test_the_request_names_the_end_and_the_most_it_may_cost(sky: Sky) -> None:
    settings = SETTINGS.model_copy(update={"usd_per_hour": 4.0, "spot": True, "setup": "pip install torch"})
    wanted = request(settings, KEY, PLACED[0], NAME, sky.clock() + timedelta(hours=2), sky.clock())
    assert (wanted.minutes, wanted.most_usd, wanted.spot) in ((99, 4.0, True), (100, 4.0, True))
    assert wanted.setup.rstrip().endswith("pip install torch")
    short = request(SETTINGS, KEY, PLACED[0], NAME, sky.clock() + timedelta(minutes=5), sky.clock())
    assert short.minutes == 1  # 0 would be no switch at all


def test_a_new_machine_is_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a real shell: the timer runs on by itself, our key is there once, and what the person wants comes last."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr(deadman, "FOLDER", str(home / ".caddie"))
    end = f"touch {home}/ended; exit"
    timer = deadman.timer(NAME, int(time.time()) + 100, 1, end=end, every_s=0.1)
    text = setup(KEY, timer, "test -s ~/.ssh/authorized_keys && touch ~/ready")
    for _ in range(2):
        subprocess.run(["bash", "-c", text], env={**os.environ, "HOME": str(home)}, check=True, timeout=20)
    keys = home / ".ssh" / "authorized_keys"
    assert keys.read_text().split("\n").count(KEY) == 1 and keys.stat().st_mode & 0o077 == 0
    assert (home / "ready").exists()
    deadline = time.monotonic() + 10
    while not (home / "ended").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_nothing_of_skypilot_is_loaded_before_it_is_asked(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parent / "sky_standin", tmp_path / "path")
    code = (
        "import sys; from agent.cli.app import app; from agent.runners import configured; "
        "import agent.cli, agent.runners.sky, agent.runners.sky.rental, agent.machines.providers; "
        "print([name for name in sys.modules if name == 'sky' or name.startswith('sky.')])"
    )
    env = {**os.environ, "PYTHONPATH": f"{Path(__file__).parents[1]}:{tmp_path / 'path'}"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
