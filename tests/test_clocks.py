"""What a script's own clock leaves out of ours, beside what its baseline's does."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.job.folder import JobPaths
from agent.judge.beside.clocks import clocked
from agent.records import Finding, Measurement, Proposal, Run
from agent.store import open_store
from agent.track import parse, shipped
from tests.filling import add_base, add_campaign, add_idea, add_measured

GOLF, TINY, UPSTREAM = (
    parse(shipped()[name].read_text("utf-8"), name) for name in ("golf-1xh100", "tiny", "golf-upstream")
)
NOTE = Finding("train_clock", "note", "training took long by ours")


class Night:
    """A campaign whose base has fresh runs, each with its log."""

    def __init__(self, root: Path) -> None:
        self.root, self.store = root, open_store(root / "runs.db")
        with self.store.write() as tx:
            self.base = add_base(tx, add_campaign(tx))
            self.idea = add_idea(tx, self.base)

    def run(self, of: Proposal, ours: float, own: float | None, **changes: object) -> Run:
        with self.store.write() as tx:
            run = add_measured(tx, of, int(ours), 1.2, train_wall_s=ours, findings=(NOTE,), **changes)  # type: ignore[arg-type]
        log = JobPaths(self.job(run.id)).train_log
        log.parent.mkdir(parents=True)
        log.write_text("" if own is None else f"step:9/9 train_loss:2.0 train_time:{1000 * own:.0f}ms step_avg:1ms\n")
        return run

    def job(self, run_id: int) -> Path:
        return self.root / f"r{run_id}"

    def told(self, run: Run, track: object = GOLF) -> list[Finding]:
        with self.store.read() as reads:
            found = reads.measurement(run.id)
            assert isinstance(found, Measurement)
            return list(clocked(reads, track, run, found, self.job).findings)  # type: ignore[arg-type]


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    made = Night(tmp_path)
    for ours, own in ((690.0, 600.0), (700.0, 600.0), (720.0, 600.0)):
        made.run(made.base, ours, own, purpose="report")
    yield made
    made.store.close()


def test_training_that_stops_its_own_clock_is_flagged(night: Night) -> None:
    note, found = night.told(night.run(night.idea, 850.0, 600.0))
    assert (note, found.rule, found.severity) == (NOTE, "clock_left_out", "flag")
    assert "850.0 s by ours and 600.0 s by its own clock, which leaves out 250.0 s" in found.text
    assert "the base's leaves out 100.0 s" in found.text


@pytest.mark.parametrize(("ours", "own"), [(745.0, 600.0), (600.0, 300.0), (850.0, None)])
def test_what_its_baseline_leaves_out_too_is_none(night: Night, ours: float, own: float | None) -> None:
    assert night.told(night.run(night.idea, ours, own)) == [NOTE]


def test_less_than_a_minute_is_seen_where_the_base_varies_by_less(night: Night) -> None:
    found = night.told(night.run(night.idea, 750.0, 600.0))[1:]
    assert [one.rule for one in found] == ["clock_left_out"] and "and 46 s more need a reason" in found[0].text


def test_only_what_is_alike_is_compared(night: Night) -> None:
    run = night.run(night.idea, 850.0, 600.0, rung="short")
    assert night.told(run) == [NOTE]
    assert night.told(night.run(night.idea, 851.0, 600.0, hardware_class="other")) == [NOTE]
    assert night.told(night.run(night.idea, 852.0, 600.0), TINY) == [NOTE]
    assert night.told(night.run(night.idea, 854.0, 600.0), UPSTREAM) == [NOTE]  # its own evaluation is in it
    assert night.told(night.run(night.base, 853.0, 600.0, purpose="report")) == [NOTE]  # the base has no baseline


def test_a_fresh_run_of_a_head_is_compared_with_the_head_before_it(night: Night) -> None:
    found = night.told(night.run(night.idea, 850.0, 600.0, purpose="report"))
    assert [one.severity for one in found] == ["note", "flag"]


def test_no_head_excuses_the_one_on_top_of_it(night: Night) -> None:
    """What counts is what the campaign's base leaves out."""
    night.run(night.idea, 800.0, 600.0)
    with night.store.write() as tx:
        after = add_idea(tx, night.idea)
    assert [one.rule for one in night.told(night.run(after, 850.0, 600.0))] == ["train_clock", "clock_left_out"]


def test_what_ran_later_does_not_change_the_answer(night: Night) -> None:
    run = night.run(night.idea, 850.0, 600.0)
    before = night.told(run)
    for ours in (900.0, 901.0, 902.0, 903.0):
        night.run(night.base, ours, 600.0, purpose="report")
    assert night.told(run) == before
