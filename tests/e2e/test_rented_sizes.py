"""Ideas screened on single GPUs beside each other, and finals on eight at once: of one table, each size rented when a
run of it is due. What is rented is the stand-in's, what runs only plays."""

from contextlib import closing
from pathlib import Path

import pytest

from agent import budget
from agent import track as tracks
from agent.loop import Loop
from agent.machines import book
from agent.runners.fleet import Fleet
from agent.store import open_store
from tests.e2e import world
from tests.played import renting
from tests.runpod import H100, Course, StandIn

TRACK = world.TRIALS.replace('kind = "cpu"', 'kind = "cuda"\ngpus = 8').replace(
    'name = "short"', 'name = "short"\ngpus = 1'
)
QUICK = Course(starting=0, running=0, port=0)


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keepers look often."""
    for name in ("LOOK_S", "STARTING_S", "AGAIN_S"):
        monkeypatch.setattr(f"agent.runners.rented.keeper.{name}", 0.05)


@pytest.mark.usefixtures("brisk")
def test_small_runs_beside_each_other_and_finals_on_whole_machines(tmp_path: Path, stand: StandIn) -> None:
    root = world.make_workspace(tmp_path / "work", track=TRACK)
    ideas = [world.idea(f"rate {n}", ('"rate": 0.10', f'"rate": 0.{n}'), rung="short") for n in (11, 12, 13)]
    world.write_ideas(root, ideas)
    stand.real = True
    stand.courses.extend([QUICK] * 40)
    track = tracks.parse(TRACK, "toy.toml")
    setting = world.open_campaign(
        root,
        slots=2,
        runner="pods",
        make_runner=lambda slots: Fleet({"pods": renting(stand, root, track, slots, name="pods", most_pods=2)}),
        budget_hours=90.0,
        usd=400.0,
    )
    assert setting.campaign.hardware_class == f"cuda/{H100}/8"
    most = 0

    def show() -> None:
        nonlocal most
        most = max(most, len(stand.living()))

    ending = Loop(setting, show).run()
    assert ending.state == "finished", ending
    assert stand.living() == [] and most == 2
    with closing(open_store(root / "runs.db")) as store, store.read() as reads:
        runs = reads.runs(setting.campaign.id, states={"done"})
        machines = {book.lease(one.id): one for one in book.everyone(reads, over=True)}
        assert budget.audit(reads, setting.campaign.id) == []
        assert reads.balance(setting.campaign.id).reserved.gpu_s == 0.0
    sizes = {(run.rung, run.hardware_class, machines[run.lease].gpus) for run in runs}
    assert sizes == {("decide", f"cuda/{H100}/8", 8), ("short", f"cuda/{H100}/1", 1)}
    prices = {one.gpus: one.usd_per_hour for one in machines.values()}
    assert prices[8] == pytest.approx(8 * 3.49, abs=0.05) and prices[1] == pytest.approx(3.49, abs=0.05)
    slots = {str(run.slot).rpartition("-")[0] for run in runs if run.rung == "short"}
    assert slots == {"pods/1x"}
