"""Nothing is lost, counted twice, left running, left rented or paid past its cap, whatever fails meanwhile.

The storms of a campaign are drawn from one number: `CHAOS_SEED=NUMBER` asks for them, and has the same ones again. They
take two quiet cores for five minutes; `CHAOS_SLOW=TIMES` gives everything so many times longer where there is less.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postgres, slurm, sshd
from tests.chaos import boxes, clocks, pods, scene, storms
from tests.chaos.ledger import Ledger
from tests.disks import small_disk
from tests.e2e import world
from tests.e2e.terminal import needs_mounts
from tests.processes import mentioning, until

pytestmark = [pytest.mark.long, needs_mounts]

SEED = os.environ.get("CHAOS_SEED", "")
SLOW = float(os.environ.get("CHAOS_SLOW", "1"))
STORMY_S, LIMIT_S = 110 * SLOW, 290 * SLOW
CAP_USD = "20"
wanted = pytest.mark.skipif(not SEED, reason="wants two quiet cores for minutes: CHAOS_SEED=NUMBER asks for it")


def workspace(work: scene.Scene, many: int, *tables: str) -> None:
    world.make_workspace(work.root, script=scene.SCRIPT, track=scene.TRACK)
    world.write_ideas(work.root, scene.ideas(many))
    (work.root / "runners.toml").write_text("".join(tables))


def test_a_controller_is_killed_once(tmp_path: Path) -> None:
    sshd.needed()
    key, home = boxes.new_key(tmp_path / "key"), tmp_path / "home"
    box = boxes.Box(tmp_path / "box", home, key)
    work = scene.Scene(tmp_path, tmp_path / "work", {})
    with contextlib.ExitStack() as closing:
        account = closing.enter_context(pods.account(tmp_path / "pods", home, key))
        closing.callback(box.end)
        closing.callback(work.end)
        box.start()
        tables = scene.machines({"box": box}, key, home, slow=SLOW), scene.rented(account, key, home, slow=SLOW)
        workspace(work, 2, *tables)
        ledger = Ledger(work.root / "runs.db", work.root, account)
        closing.callback(ledger.close)
        words = ("--runner", "lab,pods", "--slots", "2", "--usd", CAP_USD)
        work.start("lead", work.root, ("start", *scene.WORDS, *words), ("resume", "--wait"))
        with told(work):
            scene.await_word(work, "lead", "Campaign toy-1", 60 * SLOW)
            until(lambda: "done" in work.log("lead"), 60 * SLOW, "the first run")
            work.kill("lead")
            until_over(work, ledger, time.monotonic() + 200 * SLOW)
            in_the_end(work, ledger, {"box": box})
    until(lambda: not mentioning(str(tmp_path)), 10 * SLOW, "all that it started has ended")


@wanted
def test_a_campaign_in_all_storms_at_once(tmp_path: Path) -> None:
    sshd.needed()
    postgres.needed()
    print(f"CHAOS_SEED={SEED}")
    with contextlib.ExitStack() as closing:
        at = closing.enter_context(field(tmp_path))
        weather = storms.Weather(at, storms.plan(int(SEED), STORMY_S))
        ledger = Ledger(at.scene.env["CADDIE_STORE"], at.scene.root, at.account)
        closing.callback(ledger.close)
        with told(at.scene, weather):
            until_over(at.scene, ledger, time.monotonic() + LIMIT_S, weather)
            weather.calm()
            in_the_end(at.scene, ledger, at.boxes, at.cluster)
    until(lambda: not mentioning(str(tmp_path)), 10 * SLOW, "all that it started has ended")


@contextlib.contextmanager
def field(folder: Path) -> Iterator[storms.Field]:
    """Sixteen slots: four over ssh, four rented, six of a cluster, two of a worker; and a campaign that has begun."""
    key, home = boxes.new_key(folder / "key"), folder / "home"
    with contextlib.ExitStack() as closing:
        database, clock = postgres.Server(), clocks.Clock(folder)
        closing.callback(database.stop)
        database.start()
        desk = closing.enter_context(small_disk(folder / "desk", 600))
        account = closing.enter_context(pods.account(folder / "pods", home, key))
        cluster = closing.enter_context(slurm.cluster())
        lab = {name: boxes.Box(folder / name, home, key) for name in ("one", "two")}
        for box in lab.values():
            closing.callback(box.end)
            box.start()
        work = scene.Scene(folder, desk / "work", {**clock.env, "CADDIE_STORE": database.database()})
        closing.callback(work.end)
        mine = scene.machines(lab, key, home, slow=SLOW), scene.rented(account, key, home, slow=SLOW)
        workspace(work, 24, *mine, scene.queued(cluster, folder))
        join = ("work", "--track", str(work.root / "agent.toml"), "--slots", str(scene.SLOTS), "--name", "worker")
        work.start("worker", folder / "far", join, join)
        scene.await_word(work, "worker", "Ctrl-C ends it", 60 * SLOW)
        words = ("--runner", "lab,pods,cluster,workers", "--slots", "4", "--usd", CAP_USD)
        work.start("lead", work.root, ("start", *scene.WORDS, *words), ("resume", "--wait"))
        scene.await_word(work, "lead", "Campaign toy-1", 60 * SLOW)
        yield storms.Field(work, lab, account, cluster, database, clock, desk)


def until_over(work: scene.Scene, ledger: Ledger, deadline: float, weather: storms.Weather | None = None) -> None:
    while (campaign := ledger.sample()) is None or campaign.state != "finished":
        assert time.monotonic() < deadline, "the campaign has not come to its end"
        if weather is not None:
            weather.tick()
        work.tick()
        time.sleep(0.5)


def in_the_end(
    work: scene.Scene, ledger: Ledger, lab: dict[str, boxes.Box], cluster: slurm.Cluster | None = None
) -> None:
    until(lambda: work.running["lead"].poll() is not None, 60 * SLOW, "the end of the controller")
    ledger.at_last(work.root / ".caddie" / "toy-1" / "jobs")
    work.end()
    for name, box in lab.items():
        until(lambda box=box: box.left() == [], 30 * SLOW, f"an idle {name}")  # type: ignore[misc]
    if cluster is not None:
        until(lambda: cluster.jobs() == {}, 30 * SLOW, "an empty queue")
    until(lambda: mentioning(f"CADDIE_JOB={work.folder}") == [], 30 * SLOW, "the end of every run's processes")


@contextlib.contextmanager
def told(work: scene.Scene, weather: storms.Weather | None = None) -> Iterator[None]:
    """Whoever reads why it failed is told what was said and what happened."""
    try:
        yield
    except BaseException:
        print(work.words())
        print("\n".join(weather.said if weather is not None else []))
        raise
