"""Fresh runs on machines of a second class, once nothing can be compared with them any more."""

import time
from pathlib import Path

import pytest

from agent import budget
from agent.job.folder import JobPaths, JobResult, JobState
from agent.job.writing import write_aside
from agent.loop import Loop
from agent.records import Amount
from agent.runners.fake import FakeRunner
from agent.runners.fleet import Fleet
from agent.runners.order import Order, placed
from agent.setting import Setting
from agent.steps.limits import least_idea, worst_run
from agent.steps.recall import useful
from agent.steps.wanted import wanted
from tests.e2e import world
from tests.e2e.planning import approved, by_title


class SoldOut(FakeRunner):
    """No machine comes, however long a job waits."""

    def submit(self, order: Order, folder: Path, slot: str) -> None:
        placed(folder, order)

    def poll(self, folder: Path) -> JobState:
        return "done" if JobPaths(folder).result.exists() else "starting"

    def cancel(self, folder: Path) -> None:
        if self.poll(folder) == "starting":
            run_id = int(folder.name.removeprefix("r"))
            result = JobResult(run_id, "cancelled", "cancelled before it had a machine", (), 0.0, (), False)
            write_aside(JobPaths(folder).result, result.to_json())


def campaign(tmp_path: Path, ideas: list[dict[str, object]], **options: object) -> Setting:
    root = world.make_workspace(tmp_path / "work")
    world.write_ideas(root, ideas)
    both = Fleet({"a": FakeRunner(1, name="a"), "b": SoldOut(2, name="b")})
    return world.open_campaign(root, slots=3, make_runner=lambda slots: both, **options)


def in_time(setting: Setting, within_s: float = 60.0) -> str:
    until = time.monotonic() + within_s

    def show() -> None:
        assert time.monotonic() < until, "it waits for what nobody needs"

    return Loop(setting, show).run().reason


@pytest.mark.parametrize(
    ("change", "becomes"), [(('"width": 4', '"width": 8'), "promoted"), (('"width": 4', '"width": 2'), "worse")]
)
def test_a_campaign_does_not_wait_for_a_machine_that_nothing_would_be_compared_on(
    tmp_path: Path, change: tuple[str, str], becomes: str
) -> None:
    """Neither for the base when it is the head no more, nor for the last head."""
    setting = campaign(tmp_path, [world.idea("other", change)])
    assert in_time(setting) == "the planner has no more ideas"
    assert by_title(setting)["other"].state == becomes
    with setting.store.read() as reads:
        runs = reads.runs(setting.campaign.id)
        of_b = [run for run in runs if run.hardware_class == "b"]
        head = reads.head(setting.campaign.id)
        assert reads.balance(setting.campaign.id).reserved.gpu_s == 0
    assert of_b and {run.state for run in of_b} == {"cancelled"} and {run.purpose for run in of_b} == {"report"}
    assert len({(run.proposal_id, run.seed) for run in of_b}) == len(of_b), "what was called back was begun again"
    own = [run for run in runs if run.proposal_id == head.id and run.purpose == "report"]
    assert sum(run.hardware_class == "a" and run.state == "done" for run in own) >= 3


def test_fresh_runs_of_a_second_class_are_wanted_as_long_as_an_idea_may_need_them(tmp_path: Path) -> None:
    setting = campaign(tmp_path, [world.idea("other", ('"width": 4', '"width": 8'))])

    def found(setting: Setting, *, may_plan: bool) -> set[tuple[str, ...]]:
        with setting.store.read() as reads:
            items = useful(setting, reads, wanted(setting, reads), may_plan=may_plan)
        return {item.classes for item in items if item.purpose == "report"}

    assert found(setting, may_plan=True) == {("a",), ("b",)}
    assert found(setting, may_plan=False) == {("a",)}
    with setting.store.write() as tx:
        left_s = (worst_run(setting, tx).gpu_s + least_idea(setting, tx).gpu_s) / 2
        spent = budget.reserve(tx, setting.campaign.id, Amount(gpu_s=2 * 3600.0 - left_s), "run")
    assert found(setting, may_plan=True) == {("a",)}, "no idea could be paid"
    with setting.store.write() as tx:
        budget.settle(tx, spent, Amount())
        approved(tx, setting, "an idea", 0.01)
    assert found(setting, may_plan=False) == {("a",), ("b",)}
