"""A run's loss curve: read from whatever a script printed, bounded, and kept once."""

import math
import random
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import text

from agent.judge import curve
from agent.records import Point
from agent.store import Store, curves, open_store
from agent.store.query import query
from tests import contest_logs, postgres
from tests.filling import add_base, add_campaign, add_idea, add_measured

OURS = """\
warmup_step:10/10
step:0/300 val_loss:6.9357 val_bpb:4.1077 train_time:0ms step_avg:0.01ms
step:1/300 train_loss:6.9077 train_time:33ms step_avg:33.00ms
step:300/300 train_loss:2.2500 train_time:9876ms step_avg:32.92ms
step:300/300 val_loss:2.3000 val_bpb:1.3600 train_time:9880ms step_avg:32.93ms
final_int8_zlib_roundtrip_exact val_loss:2.07269931 val_bpb:1.22756946
"""


@pytest.mark.parametrize(
    ("log", "points"),
    [
        (
            OURS,
            [Point(0, None, 0, 6.9357, 4.1077), Point(1, 6.9077, 33), Point(300, 2.25, 9876, 2.3, 1.36)],
        ),
        ("4000/20000 val_loss: 2.5 val_bpb: 1.1\n", [Point(4000, None, None, 2.5, 1.1)]),
        ("500/20000 train_loss: 2.75 train_time: 1.5m tok/s: 7000000\n", [Point(500, 2.75, 90_000)]),
        ("step:7/9 loss:2.5 t:125ms avg:17.9ms\n", [Point(7, 2.5, 125)]),
        ("step:7/9 [JEPA] train_loss:2.5 train_time:12.3s\n", [Point(7, 2.5, 12_300)]),
        ("Step 7/9 | Train_Loss: 1.5E-3, dt: 9ms\n", [Point(7, 0.0015)]),
        ("\rstep 00001 (0.3%) | loss: 9.011 | dt: 9ms\rstep 00123 (41.5%) | loss: 3.25 | dt: 9ms\n", "1 and 123"),
        ("[rank1]: step:1/9 train_loss:8.0\n[rank0]: step:1/9 train_loss:7.0\n", [Point(1, 7.0)]),
        ("step:1/9 train_loss:7.0\nstep:2/9 train_loss:6.", [Point(1, 7.0)]),  # cut off in a number
        ("nothing of the kind\n", []),
        ("", []),
    ],
)
def test_a_log_says_where_a_run_was_step_by_step(log: str, points: object) -> None:
    found = list(curve.read(log))
    assert found == ([Point(1, 9.011), Point(123, 3.25)] if points == "1 and 123" else points)


def test_a_script_that_prints_itself_draws_no_curve_by_its_examples() -> None:
    source = 'import os\nimport sys\n"""\nstep:1/9 train_loss:1.0\n"""\nimport math\ndef main():\n    pass\n'
    assert curve.read(f"{'=' * 40}\n{source}{'=' * 40}\nstep:2/9 train_loss:5.0\n") == (Point(2, 5.0),)


@pytest.mark.parametrize("number", ["nan", "inf", "-Infinity", "1e999", ".", "", "1.2.3", "x", "\u0661"])
def test_what_is_no_finite_number_is_no_point(number: str) -> None:
    log = f"step:1/9 train_loss:{number}\nstep:2/9 val_loss:{number} val_bpb:{number}\nstep:3/9 train_loss:5.0\n"
    assert curve.read(log) == (Point(3, 5.0),)
    assert curve.read(f"step:4/9 val_loss:2.0 val_bpb:{number} train_time:{number}ms\n") == (Point(4, val_loss=2.0),)


def test_steps_only_increase_and_the_first_word_on_each_counts() -> None:
    log = "".join(f"step:{step}/9 train_loss:{loss}\n" for step, loss in [(5, 5.0), (3, 9.0), (5, 1.0), (6, 4.0)])
    assert curve.read(log) == (Point(3, 9.0), Point(5, 5.0), Point(6, 4.0))


def test_a_curve_of_many_points_is_thinned_evenly_and_keeps_its_ends_and_its_validations() -> None:
    said = [f"step:{step}/9000 train_loss:{1 / step:.6f}\n" for step in range(1, 9001)]
    said += [f"step:{step}/9000 val_loss:2.5\n" for step in range(500, 9001, 500)]
    found = curve.read("".join(said))
    steps = [point.step for point in found]
    assert len(found) == curve.MOST and steps == sorted(set(steps)) and (steps[0], steps[-1]) == (1, 9000)
    assert [point.step for point in found if point.val_loss is not None] == list(range(500, 9001, 500))
    assert max(after - before for before, after in pairwise(steps)) <= 6
    few = "".join(said[: curve.MOST])
    assert len(curve.read(few)) == curve.MOST


def hostile_lines() -> Iterator[str]:
    rng = random.Random(1)
    for n in range(1_000_000):
        loss = ("nan", "inf", "1e999", "-1e308", "5.0")[n % 5]
        yield f"step:{rng.randrange(10**9)}/{n % 7} train_loss:{loss} val_bpb:{loss} train_time:{10**11}ms\n"


def test_a_hostile_log_costs_no_more_than_its_ends(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    with log.open("w") as file:
        file.write("step:1/9 train_loss:6.5\n")
        file.writelines(hostile_lines())
        file.write("step:999999999/999999999 train_loss:1.5\n")
    began = time.process_time()
    found = curve.of(log)
    assert time.process_time() - began < 5
    steps = [point.step for point in found]
    assert len(found) == curve.MOST and steps == sorted(set(steps))
    assert (found[0], found[-1]) == (Point(1, 6.5), Point(999_999_999, 1.5))
    numbers = [value for point in found for value in vars(point).values() if value is not None]
    assert all(map(math.isfinite, numbers))


@pytest.mark.parametrize("end", ["\n", "\r"])
@pytest.mark.parametrize("before", [0, 9, 27, 33])
@pytest.mark.parametrize("size", [200_000, 1_000_000, 2_200_000, 6_000_000])
def test_no_line_is_cut_in_two_where_a_log_is(tmp_path: Path, size: int, before: int, end: str) -> None:
    """Whole lines alone, wherever in one the cut comes: the rest of it may look like a line of another step."""
    lines, written = [], 0
    while written < size:
        step = 100_000 + len(lines)
        lines.append(f"step:{step}/999999 train_loss:{step}.25{end}")
        written += len(lines[-1])
    log = tmp_path / "train.log"
    log.write_text("".join(("x" * before, end, *lines)), newline="")
    found = curve.of(log)
    assert all(point == Point(point.step, point.step + 0.25) for point in found)
    assert (found[0].step, found[-1].step) == (100_000, 100_000 + len(lines) - 1)


def test_what_is_no_plain_file_draws_no_curve(tmp_path: Path) -> None:
    (tmp_path / "real").write_text(OURS)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert len(curve.of(tmp_path / "real")) == 3
    assert curve.of(tmp_path / "link") == curve.of(tmp_path) == curve.of(tmp_path / "none") == ()


def test_logs_of_the_contest_draw_their_curves() -> None:
    for log in contest_logs.all_logs():
        found = curve.read(log)
        said = [line for line in log.splitlines() if line.startswith("step:") and "_loss:" in line]
        assert not said or found, log[:200]
        assert all(point.val_bpb is None or 0.5 < point.val_bpb < 10 for point in found)
    assert Point(13450, None, 600_028, 2.0592, 1.2196) in curve.read(contest_logs.log())


# ---------------------------------------------------------------- in the store


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "runs.db" if request.param == "sqlite" else postgres.fresh_url())
    yield opened
    opened.close()


def test_a_curve_is_kept_once_and_comes_back_as_it_was(store: Store) -> None:
    points = (Point(0, None, 0, 6.9, 4.1), Point(1, 1e308, 10**16), Point(999_999_999, -5e-324), Point(7, 2.5))
    with store.write() as tx:
        idea = add_idea(tx, add_base(tx, add_campaign(tx)))
        run, other = (add_measured(tx, idea, seed, 2.0) for seed in (1, 2))
        curves.add(tx, run.id, points)
        curves.add(tx, other.id, ())
    with store.write() as tx:
        curves.add(tx, run.id, (Point(3, 3.0),))  # it has one
    with store.read() as reads:
        assert curves.of_run(reads, run.id) == tuple(sorted(points, key=lambda point: point.step))
        assert curves.of_run(reads, other.id) == ()
    table = query(store, "SELECT run_id, step, train_loss, train_ms, val_loss, val_bpb FROM points ORDER BY step")
    assert len(table.rows) == 4 and table.rows[0] == (run.id, 0, None, 0, 6.9, 4.1)


def test_a_curve_belongs_to_a_run_that_there_is(store: Store) -> None:
    with pytest.raises(Exception, match=r"(?i)foreign key"), store.write() as tx:
        curves.add(tx, 999, (Point(1, 2.0),))


def test_a_curve_is_found_by_its_run_alone(tmp_path: Path) -> None:
    """However many runs there are."""
    store = open_store(tmp_path / "runs.db")
    with store.read() as reads:
        plan = reads.connection.execute(text("EXPLAIN QUERY PLAN SELECT * FROM points WHERE run_id = 1 ORDER BY step"))
        assert [row[3] for row in plan] == ["SEARCH points USING PRIMARY KEY (run_id=?)"]
    store.close()
