"""Runs on machines rented through SkyPilot: its SDK is a stand-in, its clusters a real sshd and shepherd."""

import time
import tomllib
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from agent import track as tracks
from agent.errors import InfraError, UserError
from agent.fields import frozen
from agent.machines.billing import SKY
from agent.machines.reaping import reap
from agent.machines.renting import Renter, rent, shut
from agent.machines.sweep import settle
from agent.runners import configured
from agent.runners.rented import deadman
from agent.runners.rented.runner import RentingRunner
from agent.runners.sky.clusters import Clusters
from agent.runners.sky.rental import ClusterRental
from agent.runners.sky.settings import Settings
from agent.runners.ssh.link import Done
from tests import far, pools, sshd
from tests.pools import keepers, over
from tests.renting import HOUR
from tests.skying import Sky, stands_in
from tests.zoo_runs import TOML


class Pool(pools.Pool):
    """Of clusters."""

    slot = "sky/0"
    within_s = 300.0

    def __init__(self, root: Path, sky: Sky, server: sshd.Sshd, corpus: Path) -> None:
        super().__init__(far.World(root, server, corpus=corpus), sky.advance)
        self.sky = sky
        host = server.host(root)
        with sky.state() as state:
            state["ssh"] = ["127.0.0.1", server.port, host.user]
        self.settings = Settings(
            clouds=("nebius", "lambda"),
            ssh_key=str(server.key),
            folder=str(root / "far"),
            python=str(host.python),
            idle_s=120.0,
        )

    def renter(self, rental: ClusterRental) -> Renter:
        asks = rental.renter(self.store)
        assert isinstance(asks.provider, Clusters)
        clusters = replace(asks.provider, clock=self.sky.clock)
        return replace(asks, provider=clusters, home="here", clock=self.sky.clock, sleep=self.sky.sleep)

    def runner(self, **changed: object) -> RentingRunner:
        rental = ClusterRental("sky", self.settings.model_copy(update=changed), self.world.workspace)
        track = tracks.parse(TOML, "toy.toml")
        made = RentingRunner("sky", rental, self.world.workspace, track, 1, admit=lambda machine, far: "")
        made.begin(self.renter(rental), self.campaign.id, threads=False)
        self.runners.append(made)
        return made


@pytest.fixture
def pool(
    tmp_path: Path, lasting_server: sshd.Sshd, toy_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Pool]:
    monkeypatch.setattr(deadman, "FOLDER", str(tmp_path / "timers"))
    (tmp_path / "timers").mkdir()
    with stands_in(tmp_path / "sky.json") as sky:
        found = Pool(tmp_path, sky, lasting_server, toy_corpus)
        with closing(found.store):
            yield found
            for runner in found.runners:
                runner._ssh.close()


@pytest.mark.long
def test_a_run_from_an_order_to_its_score_and_its_bill(pool: Pool, tmp_path: Path) -> None:
    """The first region has none left: the second is asked, and the run is none the worse for it."""
    pool.sky.fault("launch", "no stock")
    runner = pool.runner()
    assert "never run against a cloud" in runner.notes[0]
    paths = pool.job(runner)
    sent: list[float] = []

    def looked() -> bool:
        with suppress(FileNotFoundError):  # what was fetched is cleared away
            sent.extend(path.stat().st_mtime for path in (tmp_path / "far" / "jobs").rglob("order.json"))
        return over(runner, paths)

    pool.until(runner, looked)
    assert runner.poll(paths.folder) == "done", paths.lost.read_text()
    assert runner.collect(paths.folder).outcome == "ok" and paths.measure.is_file()
    ((name, cluster),) = pool.sky.living().items()
    assert cluster["infra"] == "lambda/us-south-1" and runner.price("sky/0") == pytest.approx(3.29, abs=0.03)
    # SkyPilot's switch and ours were set anew before the run was handed over: to the whole lease, by their own clocks.
    assert cluster["minutes"] in (238, 239) and pool.sky.calls().count("autostop") == 1
    timer = tmp_path / "timers" / f"until-{name}"
    assert int(timer.read_text()) > time.time() + 3.9 * HOUR
    assert timer.stat().st_mtime < max(sent)
    pool.until(runner, lambda: pool.sky.living() == {})
    assert pool.rows() == ["gone lambda/us-south-1 idle"]
    pool.sky.advance(SKY.bill_s.value)
    settle(runner._desk.renter)  # type: ignore[union-attr]
    with pool.store.read() as reads:
        balance = reads.balance(pool.campaign.id)
    disk = SKY.disk_per_hour(pool.settings.disk_gb)
    assert (balance.reserved.usd, balance.settled.usd) == (0.0, pytest.approx(pool.sky.reckoned(disk), abs=0.005))


def test_a_job_that_gets_no_machine_says_why(pool: Pool) -> None:
    runner = pool.runner()
    paths = pool.job(runner)
    for _ in range(2):
        pool.sky.fault("launch", "no stock")
    runner.step()
    assert "none of 2 candidates is to be had now" in keepers(runner)[0].why and pool.sky.living() == {}
    assert pool.rows()[0].startswith("gone") and runner.poll(paths.folder) == "starting"
    pool.sky.fault("launch", "refused")
    runner.step()
    assert "`sky check`" in runner.loss(paths.folder).reason
    with pytest.raises(UserError, match="`sky check`"):
        _ = runner.slots


def test_a_forgotten_machine_is_reaped(pool: Pool) -> None:
    """Its controller is gone, and nobody goes on with the campaign."""
    first = pool.runner()
    pool.job(first)
    first.step()
    ((name, _),) = pool.sky.living().items()
    rental = ClusterRental("sky", pool.settings, pool.world.workspace)
    said = reap([pool.renter(rental)], dry_run=True)
    assert said.orphans == 1 and list(pool.sky.living()) == [name]
    done = reap([pool.renter(rental)])
    assert (done.orphans, done.failed) == (1, ()) and pool.sky.living() == {}
    assert "nobody runs its campaign" in done.done[0]


def test_a_longer_lease_moves_both_switches(pool: Pool) -> None:
    rental = ClusterRental("sky", pool.settings, pool.world.workspace)
    one, said = pool.renter(rental), []

    def shell(command: str) -> Done:
        said.append(command)
        return Done(len(said) - 1, b"", "no such folder")

    machine = rent(one, pool.campaign.id, rental.candidates(one, "H100", 1), HOUR)
    rental.rearm(machine, 2 * HOUR + 30, shell)
    (cluster,) = pool.sky.living().values()
    assert cluster["minutes"] == 120 and said == [deadman.rearm(machine.name, 2 * HOUR + 30)]
    pool.sky.advance(2 * HOUR - 60)
    assert len(pool.sky.living()) == 1  # what was set at its start is over
    with pytest.raises(InfraError, match="its timer can't be moved: no such folder"):
        rental.rearm(machine, HOUR, shell)
    shut(one, machine.id, "no work")
    with pytest.raises(InfraError):
        rental.rearm(machine, HOUR, shell)
    assert len(said) == 2


def test_runners_toml_names_it(tmp_path: Path) -> None:
    place = configured.Place(tracks.parse(TOML, "toy.toml"), 2, tmp_path, lambda track, slots: pytest.fail("not here"))
    (tmp_path / "runners.toml").write_text('[far]\nkind = "sky"\nclouds = ["nebius"]\n')
    assert configured.make("far", place, {}).slots == ("far/0", "far/1")
    (tmp_path / "runners.toml").write_text('[far]\nkind = "sky"\ncloud = ["nebius"]\n')
    with pytest.raises(UserError, match="Did you mean 'clouds'"):
        configured.make("far", place, {})
    with pytest.raises(UserError, match="clouds"):  # whom to pay, a person says
        configured.make("sky", place, {})


def test_the_table_in_the_documentation_is_one() -> None:
    text = (Path(__file__).parents[1] / "docs" / "machines.md").read_text().partition("## SkyPilot")[2]
    (table,) = tomllib.loads(text.partition("```toml\n")[2].partition("```")[0]).values()
    assert table.pop("kind") == "sky"
    settings = Settings.model_validate(frozen(table))
    untouched = Settings(clouds=settings.clouds)
    differ = {name for name in Settings.model_fields if getattr(settings, name) != getattr(untouched, name)}
    assert differ == {"usd_per_hour", "setup", "usd_per_run"}  # what is shown else is what counts without it
