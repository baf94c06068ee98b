"""Nothing is lost, counted twice, left running, left rented or paid past its cap, whatever fails meanwhile.

`CHAOS_SLOW=TIMES` gives it so many times longer, for machines with less than two cores to spare.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import slurm, sshd
from tests.chaos import boxes, pods, scene
from tests.chaos.ledger import Ledger
from tests.e2e import world
from tests.e2e.terminal import needs_mounts
from tests.processes import mentioning, until

pytestmark = [pytest.mark.long, needs_mounts]

SLOW = float(os.environ.get("CHAOS_SLOW", "1"))
CAP_USD = "8"


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
    assert mentioning(str(tmp_path)) == []


def until_over(work: scene.Scene, ledger: Ledger, deadline: float) -> None:
    while (campaign := ledger.sample()) is None or campaign.state != "finished":
        assert time.monotonic() < deadline, "the campaign has not come to its end"
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
def told(work: scene.Scene) -> Iterator[None]:
    """Whoever reads why it failed is told what was said."""
    try:
        yield
    except BaseException:
        print(work.words())
        raise
