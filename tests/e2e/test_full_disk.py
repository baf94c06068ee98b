"""Nothing is started on a disk that could not hold it: no booked run, no second score, no dry run."""

from collections import namedtuple
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

import pytest

from agent import budget
from agent.clock import RealClock
from agent.loop import Loop
from agent.planner.idea import Idea
from agent.setting import Setting
from agent.steps import conform, filling, launch, rescore
from agent.steps.admit import admit, record
from agent.steps.wanted import Wanted
from tests.e2e import world
from tests.e2e.planning import by_title, worse

T = TypeVar("T")
Usage = namedtuple("Usage", "total used free")


class Noting(RealClock):
    """What would be started in the background."""

    def __init__(self, started: list[object]) -> None:
        self._started = started

    def background(self, name: str, work: Callable[[], T]) -> "Future[T]":
        self._started.append(name)
        return Future()


class Killed(BaseException):
    pass


class Disk:
    """As much is free as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = 0
        monkeypatch.setattr(launch.shutil, "disk_usage", lambda _: Usage(10**15, 0, self.free))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def approved(setting: Setting, title: str) -> Wanted:
    idea = Idea.model_validate(world.idea(title, ("print(KNOBS)", "print(KNOBS, 1)")))
    found = admit(setting, record(setting, idea.draft(planner="some", mode="exploit", source_id=1)))
    assert found.state == "approved"
    return Wanted(found, "screen", 1, 1, 1, False, "decide", ())


def test_a_run_that_was_booked_waits_for_room(root: Path, monkeypatch: pytest.MonkeyPatch, disk: Disk) -> None:
    world.write_ideas(root, [worse(1)])
    setting = world.open_campaign(root)

    def kill(*_: object) -> None:
        raise Killed

    disk.free = 10**14
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(launch, "make_job", kill)
        Loop(setting).run()
    disk.free = 0
    setting = world.resume_campaign(root)
    ended = Loop(setting).run()
    assert (ended.state, ended.failed) == ("stopped", True) and ended.reason.startswith("the disk has 0 MB free")
    with setting.store.read() as reads:
        (run,) = reads.runs(setting.campaign.id)
        assert run.state == "cancelled" and run.reason == ended.reason
        assert budget.audit(reads, setting.campaign.id) == []
    disk.free = 10**14
    setting = world.resume_campaign(root)
    assert Loop(setting).run().reason == "the planner has no more ideas"
    assert by_title(setting)["worse 1"].state == "worse"


def test_no_second_score_and_no_dry_run_is_started(root: Path, monkeypatch: pytest.MonkeyPatch, disk: Disk) -> None:
    world.write_ideas(root, [worse(1)])
    setting = world.open_campaign(root)
    item, loop, started = approved(setting, "free"), Loop(setting), list[object]()
    loop._passed = True
    monkeypatch.setattr(rescore, "due", lambda *_: [rescore.Due(item, setting.runner.slots[0])])
    monkeypatch.setattr(filling, "start", lambda *given, **_: started.append(given))
    tests = conform.Conforming(setting, Noting(started))
    monkeypatch.setattr(tests, "_tests", True)
    for free, count in ((0, 0), (10**14, 2)):
        disk.free = free
        loop._filling._rescore(list(setting.runner.slots))
        tests.ask(lambda: [item])
        assert len(started) == count
