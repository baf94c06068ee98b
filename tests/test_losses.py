"""Runs that came to nothing: machines that go are not the idea's doing, and the next try waits longer each time."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.job.folder import JobPaths, JobState, Loss
from agent.loop import Loop
from agent.records import Run, RunState
from agent.runners.fake import FakeRunner
from agent.steps import losses
from agent.store import open_store
from tests.e2e import world

AT = datetime(2026, 11, 1, tzinfo=UTC)


def a_run(number: int, state: RunState, set_aside: str = "") -> Run:
    ended = (AT + timedelta(seconds=number)).isoformat()
    return Run(
        number, 1, 2, 1, "decide", "screen", 7, 1, "x/0", state, None, "", "x", "s", (), "", None, ended, "", set_aside
    )


def lost(number: int, set_aside: str = "") -> Run:
    return a_run(number, "lost", set_aside)


def test_only_what_no_machine_explains_is_held_against_an_idea() -> None:
    runs = [lost(1), lost(2, losses.GONE), lost(3, losses.NONE_THERE), lost(4, losses.GONE)]
    assert (losses.blamed(runs, 7), losses.gone(runs, 7), losses.blamed(runs, 8)) == (1, 2, 0)


def test_what_certainly_did_not_run_is_not_held_against_it() -> None:
    assert [losses.explained(Loss(ran, 0.0, "x", machine)) for ran in (True, False) for machine in (True, False)] == [
        losses.GONE,
        "",
        losses.NONE_THERE,
        losses.NOT_BEGUN,
    ]
    runs = [lost(1), lost(2, losses.NOT_BEGUN), lost(3, losses.NOT_BEGUN), lost(4, losses.NONE_THERE)]
    assert (losses.blamed(runs, 7), losses.gone(runs, 7)) == (1, 2)


def test_the_next_try_waits_longer_each_time() -> None:
    runs = [lost(n, losses.GONE) for n in (1, 2)]
    assert losses.rest_s(runs, AT) == 0.0
    rests = []
    for n in range(3, 12):
        runs.append(lost(n))
        rests.append(losses.rest_s(runs, AT + timedelta(seconds=n)))
    assert rests[:3] == [60.0, 120.0, 240.0] and rests[-1] == losses.MOST_REST_S
    assert losses.rest_s(runs, AT + timedelta(days=1)) == 0.0
    assert losses.rest_s([*runs, a_run(20, "done")], AT) == 0.0


class Crumbling(FakeRunner):
    """Its machine goes under the first tries of every run of an idea."""

    def __init__(self, tries: int, *, machine: bool, ran: bool, base: bool = False) -> None:
        super().__init__(1)
        self._tries, self._machine, self._ran, self._base = tries, machine, ran, base
        self._gone: dict[Path, None] = {}

    def poll(self, folder: Path) -> JobState:
        idea = self._base or "0.12" in (JobPaths(folder).code / "train.py").read_text()
        if folder not in self._gone and idea and len(self._gone) < self._tries:
            self._gone[folder] = None
        return "lost" if folder in self._gone else super().poll(folder)

    def loss(self, folder: Path) -> Loss:
        return Loss(self._ran, 1.0, "the link is dead", self._machine)


@pytest.mark.parametrize(
    ("tries", "machine", "ran", "state"),
    [
        (5, True, True, ""),
        (3, False, True, "crashed"),
        (99, True, True, "cancelled"),
        (5, False, False, ""),
        (99, False, False, "cancelled"),
    ],
)
def test_machines_that_go_are_not_the_ideas_doing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tries: int, machine: bool, ran: bool, state: str
) -> None:
    monkeypatch.setattr(losses, "REST_S", 0.01)
    monkeypatch.setattr("agent.steps.agenda.EVERY_S", 0.05)
    root = world.make_workspace(tmp_path / "work")
    world.write_ideas(root, [world.idea("rate 0.12", ('"rate": 0.10', '"rate": 0.12'))])
    setting = world.open_campaign(root, make_runner=lambda slots: Crumbling(tries, machine=machine, ran=ran))
    Loop(setting).run()
    with closing(open_store(root / "runs.db")) as store, store.read() as reads:
        (found,) = [one for one in reads.proposals(setting.campaign.id) if one.baseline_id is not None]
        runs = reads.runs(setting.campaign.id, proposal_id=found.id, states={"lost"})
        events = [event.text for event in reads.events(setting.campaign.id)]
    assert len(runs) == min(tries, losses.MOST_MACHINES) and {run.seed for run in runs} == {runs[0].seed}
    assert {run.set_aside for run in runs} == {losses.explained(Loss(ran, 0.0, "", machine))}
    if state:
        assert found.state == state, found
    else:
        assert found.state not in ("crashed", "cancelled", "unfunded", "lost"), found
    assert state != "cancelled" or any("nothing is known of the idea itself" in text for text in events)


def test_a_base_of_which_nothing_begins_ends_the_campaign_soon(tmp_path: Path) -> None:
    root = world.make_workspace(tmp_path / "work")
    world.write_ideas(root, [world.idea("rate 0.12", ('"rate": 0.10', '"rate": 0.12'))])
    runner = Crumbling(99, machine=False, ran=False, base=True)
    setting = world.open_campaign(root, make_runner=lambda slots: runner)
    assert "a run of the base was lost 3 times" in Loop(setting).run().reason
