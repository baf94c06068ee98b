"""Runs in sandboxes of Modal: the real client, and in the stand-in's sandboxes a real attendant, shepherd and judge."""

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent import track as tracks
from agent.errors import InfraError, UserError
from agent.machines.records import Candidate
from agent.machines.renting import LOST_S
from agent.machines.sweep import settle, sweep
from agent.runners import configured
from agent.runners.modal.account import Account
from agent.runners.modal.link import SandboxLink
from agent.runners.modal.rental import SandboxRental
from agent.runners.modal.sandboxes import Sandboxes
from agent.runners.modal.settings import Settings
from agent.runners.rented.runner import RentingRunner
from agent.runners.ssh import mirror
from agent.runners.ssh.hosts import SshHost
from agent.runners.ssh.link import Thread, Unreachable
from tests import far, pools, processes
from tests.modal_standin import StandIn
from tests.pools import over
from tests.renting import HOUR
from tests.zoo_runs import TOML, make_corpus

NAME = "caddie-00000000-c1-m1"
TOKENS = {"MODAL_TOKEN_ID": "ak-1", "MODAL_TOKEN_SECRET": "as-1"}


class Pool(pools.Pool):
    """Of sandboxes."""

    slot = "modal/0"

    def __init__(self, root: Path, stand: StandIn) -> None:
        super().__init__(far.World(root, None, corpus=make_corpus(root / "corpus")), stand.advance)  # type: ignore[arg-type]
        self.stand = stand

    def runner(self, slots: int = 1, toml: str = TOML, **changed: object) -> RentingRunner:
        settings = Settings(python=sys.executable, idle_s=120.0).model_copy(update=changed)
        rental, track = SandboxRental("modal", settings, TOKENS), tracks.parse(toml, "toy.toml")
        made = RentingRunner("modal", rental, self.world.workspace, track, slots, admit=lambda machine, far: "")
        asks = rental.renter(self.store)
        assert isinstance(asks.provider, Sandboxes)
        sandboxes = replace(asks.provider, clock=self.stand.clock)
        renter = replace(asks, provider=sandboxes, home="here", clock=self.stand.clock, sleep=self.stand.sleep)
        made.begin(renter, self.campaign.id, threads=False)
        self.runners.append(made)
        return made


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    found = StandIn(tmp_path / "modal")
    monkeypatch.setenv("MODAL_SERVER_URL", found.url)
    yield found
    found.close()


@pytest.fixture
def pool(tmp_path: Path, stand: StandIn) -> Iterator[Pool]:
    found = Pool(tmp_path, stand)
    yield found
    for runner in found.runners:
        runner.close()
    found.store.close()


def test_a_run_from_an_order_to_its_score_and_its_bill(pool: Pool) -> None:
    runner = pool.runner()
    assert runner.slots == ("modal/0",) and runner.price("modal/0") == pytest.approx(16 * 0.142 + 64 * 0.0242)
    paths = pool.job(runner)
    pool.until(runner, lambda: over(runner, paths))
    assert runner.poll(paths.folder) == "done", paths.lost.read_text()
    result = runner.collect(paths.folder)
    assert (result.outcome, [phase.name for phase in result.phases]) == ("ok", ["train", "judge"])
    assert paths.measure.is_file() and paths.train_log.read_bytes()
    (box,) = pool.stand.living()
    jobs = box.folder / ".caddie" / "jobs"
    processes.until(lambda: list(jobs.glob("*/night*")) == [], 20, "its folders there go")
    pool.until(runner, lambda: pool.stand.living() == [])  # idle for too long
    assert pool.rows() == ["gone idle"] and processes.mentioning(str(box.folder)) == []
    pool.stand.advance(26 * HOUR)
    settle(runner._desk.renter)  # type: ignore[union-attr]
    with pool.store.read() as reads:
        balance = reads.balance(pool.campaign.id)
    assert (balance.reserved.usd, balance.settled.usd) == (0.0, pytest.approx(pool.stand.billed(), abs=0.005))


def test_a_later_controller_goes_on(pool: Pool) -> None:
    first = pool.runner()
    paths = pool.job(first)
    pool.until(first, lambda: (sent := mirror.read(paths.folder)) is not None and sent.asked is not None)
    first._ssh.close()  # it is gone, and nobody gave anything back
    second = pool.runner()
    pool.until(second, lambda: over(second, paths))
    assert second.poll(paths.folder) == "done", (paths.lost.read_text(), pool.rows())
    assert second.collect(paths.folder).outcome == "ok"
    assert len(pool.stand.boxes) == 1


def test_sandboxes_that_wait_for_a_place_to_run_wait_beside_each_other(pool: Pool) -> None:
    toml = TOML.replace('kind = "cpu"', 'kind = "cuda", gpus = 1, device = "H100"')
    runner = pool.runner(2, toml)
    pool.stand.waiting_s = 2 * HOUR
    for number in range(2):
        pool.job(runner, number + 1, f"modal/{number}")
    keepers = [runner._keepers[f"modal/{number}"] for number in range(2)]
    steps = [threading.Thread(target=keeper.step) for keeper in keepers]
    for step in steps:
        step.start()
    processes.until(lambda: len(pool.stand.living()) == 2, 60, "both are asked for")
    assert runner._making() == {1, 2}, [keeper.why for keeper in keepers]
    assert runner._desk is not None
    pool.stand.advance(HOUR)  # longer than what was asked for and is in no list is waited for
    with runner._desk.starts:
        assert sweep(runner._desk.renter, [1], runner._making()).actions == ()
    pool.stand.advance(HOUR)
    for step in steps:
        step.join(60)
    assert runner._making() == set() and [keeper.why for keeper in keepers] == ["", ""]
    assert len(pool.stand.living()) == 2


def test_a_campaign_that_stops_waits_for_no_place_to_run(pool: Pool) -> None:
    runner = pool.runner(1, TOML.replace('kind = "cpu"', 'kind = "cuda", gpus = 1, device = "H100"'))
    pool.stand.waiting_s = 2 * HOUR
    pool.job(runner)
    step = threading.Thread(target=runner.step)
    step.start()
    processes.until(lambda: len(pool.stand.living()) == 1, 60, "it is asked for")
    begun = time.monotonic()
    with contextlib.suppress(InfraError):  # whether one came of it may not be known yet
        runner.close()
    assert time.monotonic() - begun < 30 and pool.stand.living() == []
    step.join(30)
    pool.stand.advance(LOST_S)
    runner.close()
    assert not step.is_alive() and pool.rows()[0].startswith("gone")


@pytest.mark.slow
def test_a_sandbox_that_ends_costs_the_idea_nothing(pool: Pool) -> None:
    runner = pool.runner()
    paths = pool.job(runner)
    pool.until(runner, lambda: bool(runner._keepers["modal/0"].place))
    (box,) = pool.stand.living()
    pool.stand.kill(box)
    pool.stand.advance(HOUR)  # it is looked at again
    pool.until(runner, lambda: over(runner, paths))
    assert pool.rows()[0].startswith("gone vanished")
    if runner.poll(paths.folder) == "lost":  # it was handed over before
        paths = pool.job(runner, run_id=2)
        pool.until(runner, lambda: over(runner, paths))
    assert runner.collect(paths.folder).outcome == "ok" and len(pool.stand.boxes) == 2


@pytest.mark.slow
def test_too_little_of_its_time_left(pool: Pool) -> None:
    runner = pool.runner(lease_hours=1.0, idle_s=2 * HOUR)
    paths = pool.job(runner)
    pool.until(runner, lambda: over(runner, paths))
    pool.stand.advance(3000)
    again = pool.job(runner, run_id=2)
    pool.until(runner, lambda: over(runner, again))
    assert runner.collect(again.folder).outcome == "ok"
    assert pool.rows() == ["gone too little of its time is left for the next run", "live "]


def test_runners_toml_names_it(tmp_path: Path) -> None:
    place = configured.Place(tracks.parse(TOML, "toy.toml"), 2, tmp_path, lambda track, slots: pytest.fail("not here"))
    (tmp_path / "runners.toml").write_text('[big]\nkind = "modal"\ngpu = "H200"\n')
    assert configured.make("big", place, {}).slots == ("big/0", "big/1")
    (tmp_path / "runners.toml").write_text('[big]\nkind = "modal"\ngpus = "H200"\n')
    with pytest.raises(UserError, match="Did you mean 'gpu'"):
        configured.make("big", place, {})


@pytest.fixture
def link(stand: StandIn) -> Iterator[tuple[SandboxLink, Thread]]:
    """To a sandbox of its own."""
    account = Account("ak-1", "as-1", answer_s=20)
    candidate = Candidate("H100!", 1, "", 7.0)
    made = Sandboxes(account, Settings(), clock=stand.clock).create(candidate, NAME, stand.clock() + timedelta(hours=1))
    assert made.address is not None
    thread, found = Thread("test"), SandboxLink(SshHost("box", made.address.host, connect_s=10), account)
    yield found, thread
    thread.close(found.close())
    account.close()


def test_bytes_go_in_and_out_of_a_sandbox(link: tuple[SandboxLink, Thread], stand: StandIn) -> None:
    wire, thread = link
    data = bytes(range(256)) * 20_000
    assert thread.wait(wire.run("cat", stdin=data), 60).out == data
    said = thread.wait(wire.run("sh", "-c", "echo no >&2; pwd; exit 3"), 60)
    assert (said.rc, said.err, said.out.decode().strip()) == (3, "no\n", str(stand.living()[0].folder))

    async def talk() -> list[bytes]:
        process = await wire.open("cat")
        process.stdin.write(b"one\ntwo")
        heard = [await process.stdout.readline(), await process.stdout.readexactly(2)]
        process.close()
        heard.append(await process.stdout.read())
        with pytest.raises(asyncio.IncompleteReadError):
            await process.stdout.readexactly(1)
        return heard

    assert thread.wait(talk(), 60) == [b"one\n", b"tw", b"o"]
    with pytest.raises(Unreachable):
        thread.wait(wire.run("sleep", "60", within_s=0.5), 60)
    stand.kill(stand.living()[0])
    with pytest.raises(Unreachable, match="box: it is over"):
        thread.wait(wire.run("true"), 60)
