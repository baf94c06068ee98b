"""Which clock tells that a machine is not what it was, and since when its runs count for nothing."""

from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import text

from agent.loop import Loop
from agent.records import Run
from agent.setting import Setting
from agent.steps import anchors
from agent.steps.collect import collect
from agent.steps.launch import start
from agent.store.rows import iso
from tests.e2e.leased import Machines, later, opened, runs_of


def timed_twice(root: Path, machines: Machines) -> tuple[Setting, list[Run]]:
    """A campaign on one machine, and its anchors of the base: at the start, and hours later."""
    setting = opened(root / "w", ("a",), machines)
    Loop(setting).run()
    return setting, timed(setting)


def timed(setting: Setting) -> list[Run]:
    """Once more; gives the anchors of the base."""
    later(setting, 5)
    for one in anchors.due(setting, setting.runner.slots):
        assert start(setting, one.item, one.slot) is not None
    collect(setting, {setting.job(run.id): run for run in runs_of(setting) if run.state == "running"})
    mine = [run for run in runs_of(setting) if run.purpose == "anchor"]
    return [run for run in mine if run.proposal_id == mine[0].proposal_id]


def shut(setting: Setting, change: str = "") -> list[int]:
    """After which runs leases are closed, when measurements were others."""
    if change:
        with setting.store.write() as tx:
            tx.connection.execute(text(f"UPDATE measurements SET {change}"))
    with setting.store.read() as reads:
        return [one.after for one in anchors.closed(setting, reads)]


def test_what_a_machine_compiles_first_is_no_drift(tmp_path: Path) -> None:
    setting, (first, _) = timed_twice(tmp_path, Machines())
    assert shut(setting) == []
    assert shut(setting, f"train_wall_s = train_wall_s * 1.1 WHERE run_id = {first.id}") == []
    assert shut(setting, f"train_ms = train_ms * 1.1 WHERE run_id = {first.id}") == [first.id]


def test_two_clocks_are_not_compared(tmp_path: Path) -> None:
    setting, (first, _) = timed_twice(tmp_path, Machines())
    assert shut(setting, f"train_ms = NULL WHERE run_id = {first.id}") == []  # an older version did not keep it
    assert shut(setting, f"train_wall_s = train_wall_s * 1.1 WHERE run_id = {first.id}") == [first.id]


def test_a_run_that_was_booked_first_and_ended_last_counts_for_nothing(tmp_path: Path) -> None:
    machines = Machines()
    setting, (first, second) = timed_twice(tmp_path, machines)
    waited = next(run for run in runs_of(setting) if first.id < run.id < second.id and run.purpose != "anchor")
    with setting.store.write() as tx:
        tx.update_run(waited.id, ended=iso(datetime.now(UTC)))
    machines.slower = lambda lease, nth: 1.015
    third = timed(setting)[-1]
    assert shut(setting) == [second.id]
    anchors.close(setting)
    assert [run.id for run in runs_of(setting) if run.set_aside] == [waited.id, third.id]
