"""What people see of a campaign: figures that agree with the store, and hostile text that stays text."""

import contextlib
import csv
import io
import json
import re
import sqlite3
import sys
import textwrap
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from agent import hardware
from agent.report import doctor
from agent.report.export import COLUMNS, export
from agent.report.live import LiveView, render, scene, snapshot
from agent.report.points import Picture, picture
from agent.report.screen import screen
from agent.report.status import status
from agent.report.summary import figures, summary
from agent.report.terminal import frontier
from agent.report.tracks import explain
from agent.store import Store, open_store
from agent.track import load
from tests.filling import add_base, add_campaign
from tests.fixture_campaign import HOSTILE, TOML, build
from tests.printable import printable


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("night")
    build(folder).close()
    return folder


@pytest.fixture
def store(root: Path) -> Store:
    return open_store(root / "runs.db", create=False)


@pytest.fixture
def drawn(store: Store) -> Picture:
    with store.read() as reads:
        return picture(reads, 1)


# ---------------------------------------------------------------- points


def test_the_picture_agrees_with_the_store(drawn: Picture, store: Store) -> None:
    with store.read() as reads:
        done = reads.runs(1, states={"done"})
        balance = reads.balance(1)
        now = status(reads, 1)
    assert drawn.runs == len(done) == now.runs_done
    scored = [run for run in done if run.outcome == "ok"]
    assert sorted(dot.run_id for dot in drawn.dots) == [run.id for run in scored]
    blanks = [run.id for run in done if run.outcome != "ok"]
    assert blanks and sorted(blank.run_id for blank in drawn.blanks) == blanks
    assert sorted(one.n for one in (*drawn.dots, *drawn.blanks)) == list(range(1, drawn.runs + 1))
    kinds = Counter(dot.standing for dot in drawn.dots)
    assert kinds["invalid"] == 1 and kinds["oversize"] == 2 and kinds["head"] == 3 + 3 * 6
    assert [step.reverted for step in drawn.steps] == [False, False, False, True, False, False]
    assert [step.proposal_id for step in drawn.steps if not step.reverted][-1] == drawn.lineage[-1]
    assert drawn.steps[3].proposal_id == drawn.steps[1].proposal_id
    assert drawn.steps[-1].bpb == pytest.approx(now.head_bpb)
    assert drawn.spent[-1].slot_hours == pytest.approx(balance.settled.gpu_s / 3600)
    assert [one.hours for one in drawn.spent] == sorted(one.hours for one in drawn.spent)
    assert drawn.limit == 175_000 and drawn.cap_hours == pytest.approx(3000 / 3600)
    assert len(drawn.lineage) == now.accepted + 1 == 4


# ---------------------------------------------------------------- plots


def test_plots_are_drawn_as_png_and_svg(drawn: Picture, tmp_path: Path) -> None:
    from matplotlib.image import imread

    from agent.report.plots import write

    files = write(drawn, tmp_path / "plots")
    assert sorted(path.name for path in files) == sorted(
        f"{name}.{kind}" for name in ("frontier", "size", "spend", "lineage") for kind in ("png", "svg")
    )
    for path in files:
        if path.suffix == ".png":
            pixels = imread(path)
            assert pixels.shape[0] > 700 and pixels.shape[1] > 1200
            assert len({tuple(pixel) for row in pixels[::7] for pixel in row[::7]}) > 20  # not a blank sheet
        else:
            shapes = [item.tag.split("}")[1] for item in ET.parse(path).iter()]
            assert shapes.count("path") > 20 or shapes.count("use") > 20


def test_every_run_is_in_the_frontier_and_every_mark_in_the_legend(drawn: Picture) -> None:
    from agent.report import plots

    near = replace(drawn, dots=tuple(replace(dot, bpb=drawn.steps[0].bpb) for dot in drawn.dots))
    far = replace(near, dots=(*near.dots[:-1], replace(near.dots[-1], bpb=9.0, standing="valid")))
    for shown, arrows in ((near, 0), (far, 1)):
        figure = plots.frontier(shown)
        axes = figure.axes[0]
        points = [tuple(point) for marks in axes.collections for point in marks.get_offsets()]
        assert {n for n, _ in points} == set(range(1, shown.runs + 1))
        top = axes.get_ylim()[1]
        assert {(blank.n, top) for blank in shown.blanks} <= set(points)
        strokes = [marks for marks in axes.collections if marks.get_label() == plots.NO_SCORE.label]
        assert strokes[0].get_linewidths()[0] > 0  # a mark without an area is seen by its lines alone
        said = [text.get_text() for text in figure.legends[0].get_texts()]
        assert said.count("no score: stopped or crashed") == 1
        assert said.count("off the scale") == arrows


def test_titles_tell_the_finding(drawn: Picture) -> None:
    from agent.report import plots

    with plots.style():
        said = {
            name: getattr(plots, name)(drawn).axes[0].get_title(loc="left") for name in ("frontier", "sizes", "lineage")
        }
    base, head = drawn.steps[0].bpb, drawn.steps[-1].bpb
    gain = f"{base - head:.4f} below the base"
    assert said["frontier"] == f"p{drawn.lineage[-1]} reaches {head:.4f} BPB, {gain}, after 64 runs"
    assert said["sizes"] == "The head uses 98.6 % of the bytes; 1 better, but too big"
    assert said["lineage"] == "3 of 27 measured ideas accepted, 1 reverted"


def test_a_long_title_is_seen_to_be_cut(drawn: Picture) -> None:
    from agent.report import plots

    title = "vocab_size 1536 -> 2048, train_batch_tokens 2048 -> 1024"
    nodes = tuple(replace(node, title=title) for node in drawn.nodes)
    with plots.style():
        labels = plots.lineage(replace(drawn, nodes=nodes)).axes[0].get_xticklabels()
    base, *heads = [label.get_text().splitlines() for label in labels]
    assert base[1:] == ["base"] and heads
    assert all(len(rows) == 3 and rows[-1].endswith("…") for rows in heads)


def test_a_campaign_without_a_run_is_drawn_too(tmp_path: Path) -> None:
    from agent.report.plots import write

    store = open_store(tmp_path / "runs.db")
    with store.write() as tx:
        campaign = add_campaign(tx, toml=TOML)
        add_base(tx, campaign)
    with store.read() as reads:
        empty = picture(reads, campaign.id)
    assert len(write(empty, tmp_path)) == 8
    assert frontier(empty, colour=False, unicode=True) == "No run has a score yet."
    with store.read() as reads:
        assert "| p1 | base |" in export(reads, campaign.id, "md")
    assert "p1" in summary(store, campaign.id, tmp_path)


@pytest.mark.parametrize("unicode", [True, False])
def test_the_frontier_in_the_terminal(drawn: Picture, unicode: bool) -> None:
    text = frontier(drawn, width=70, height=12, colour=False, unicode=unicode)
    rows = text.splitlines()
    assert len(rows) == 12 + 4 and all(len(row) <= 70 for row in rows)
    assert text.isascii() != unicode
    grid = "\n".join(row[8:] for row in rows[:12])
    invalid, oversize = ("✗", "□") if unicode else ("x", "#")
    assert grid.count(invalid) == 1 and grid.count(oversize) == 2
    blank = "╷" if unicode else "'"
    assert rows[0].count(blank) == grid.count(blank) == len(drawn.blanks) and rows[-1].endswith(f"{blank} no score")
    assert float(rows[0].split()[0]) > drawn.steps[0].bpb > float(rows[11].split()[0])
    assert "\x1b[" in frontier(drawn, colour=True, unicode=unicode)
    assert len(frontier(replace(drawn, steps=()), colour=False, unicode=unicode).splitlines()) == 16 + 4


def test_no_run_of_a_head_is_off_the_scale_of_the_terminal(drawn: Picture) -> None:
    first, *heads = (dot for dot in drawn.dots if dot.standing == "head")
    unlucky = replace(drawn, dots=(replace(first, bpb=drawn.steps[0].bpb + 0.5), *heads))
    *grid, _, _, _, _ = frontier(unlucky, colour=False, unicode=False).splitlines()
    assert len(heads) > 0 and "^" not in "".join(grid)
    assert float(grid[0].split()[0]) == pytest.approx(drawn.steps[0].bpb + 0.5, abs=0.001)


# ---------------------------------------------------------------- exports


def test_the_markdown_table_holds_hostile_titles(store: Store) -> None:
    with store.read() as reads:
        text = export(reads, 1, "md")
        proposals = reads.proposals(1)
    rows = [row for row in text.splitlines() if row.startswith("| p")]
    assert len(rows) == len(proposals)
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {10}
    assert printable(text) and "\\[/\\]" in text and "| [" not in text and r"\[link=" in text


def test_csv_and_json_lines_can_be_read_again(store: Store) -> None:
    with store.write() as tx:
        tx.update_proposal(2, title='=HYPERLINK("http://x")')
    with store.read() as reads:
        rows = list(csv.DictReader(io.StringIO(export(reads, 1, "csv"))))
        records = [json.loads(row) for row in export(reads, 1, "jsonl").splitlines()]
        runs, scored, proposals = reads.runs(1), reads.scored(1), reads.proposals(1)
    assert tuple(rows[0]) == COLUMNS and [row["run"] for row in rows] == [f"r{run.id}" for run in runs]
    by_id = {row["run"]: row for row in rows}
    for one in scored:
        bpb = by_id[f"r{one.run.id}"]["bpb"]
        assert bpb == ("" if one.measurement.bpb is None else str(one.measurement.bpb))
    assert {row["title"][0] for row in rows if row["proposal"] == "p2"} == {"'"}
    kinds = Counter(record["record"] for record in records)
    assert kinds == {"proposal": len(proposals), "run": len(runs)}
    assert (
        next(r for r in records if r["record"] == "run" and r["id"] == 1)["measurement"]["bpb"]
        == scored[0].measurement.bpb
    )


# ---------------------------------------------------------------- live


def test_the_live_view_shows_bars_budget_queue_and_verdicts(store: Store, root: Path) -> None:
    text = snapshot(store, 1, root / ".caddie" / "tiny-1" / "jobs")
    assert printable(text)
    assert re.search(r"r65 p36 screen ━+ +150/300 +loss 4\.123 +12 s left +muon_backend_steps = 4", text)
    assert re.search(r"r66 p37 screen ━+ +being scored, 12 s", text)
    assert "36 min 19 s spent + 2 min 50 s reserved of 50 min 00 s" in text
    assert "p26 2.2000 BPB over 3 fresh runs, -0.1244 against the base" in text
    assert "next      p35 logit_softcap = 60" in text and "agent review" in text
    assert "rotate half win[/] | *bold*" in text  # markup of a title is shown, not obeyed
    assert "crashed       p30  died with signal 9" in text
    assert "nobody runs it: agent resume" in text


def test_the_readme_shows_what_a_terminal_shows() -> None:
    """`python -m agent.report.screen` prints it."""
    shown = textwrap.indent(screen(), "    ")
    assert "━━" in shown and "s left" in shown and shown in (Path(__file__).parents[1] / "README.md").read_text("utf-8")


def test_without_a_terminal_events_are_printed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = build(tmp_path)
    with LiveView(store, 1, tmp_path / "jobs", console=Console(file=io.StringIO())) as view:
        assert capsys.readouterr().out == ""  # what was before is not told again
        with store.write() as tx:
            tx.move(33, "declined", f"no: {HOSTILE}")
            for text in ("a title", "screen"):  # an event of the idea, and one of its run
                tx.add_event(1, "running", text, proposal_id=34, run_id=65)
        view.refresh()  # too early: nothing is read
        assert capsys.readouterr().out == ""
        view.refresh(now=True)
        first = capsys.readouterr().out
        view.refresh(now=True)
        assert capsys.readouterr().out == "" and not view.over
        with store.write() as tx:
            tx.end_campaign(1, "stopped", "stopped by a person")
        assert view.over
    last = capsys.readouterr().out
    day, first = first.split("\n", 1)
    assert day.endswith(", by the clock of UTC") and "clock of UTC" not in last  # the same day
    assert first.count("\n") == 2 and "p33" in first and "declined" in first and printable(first)
    assert re.search(r"p34 +r65 +running +a title\n$", first)
    assert "stopped by a person" in last


def test_in_a_terminal_it_redraws_in_place(store: Store, root: Path) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, height=40)
    with LiveView(store, 1, root / ".caddie" / "tiny-1" / "jobs", console=console) as view:
        view.refresh(now=True)
    text = out.getvalue()
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor comes back
    assert "loss 4.123" in text and "\x1b[2J" not in text and "\x07" not in text


# ---------------------------------------------------------------- the end, and the machine


def test_the_summary_tells_lineage_cost_and_place_of_the_plots(store: Store, root: Path, tmp_path: Path) -> None:
    text = summary(store, 1, tmp_path)
    assert re.search(r"p20 +2\.2154 +-0\.0704 +3 ", text)
    assert "cost     36 min 19 s of 50 min 00 s of slot time" in text
    assert "ideas    36: 14 worse, 6 inconclusive, 3 promoted" in text
    assert f"plots    {tmp_path / 'plots'}: frontier.png" in text and (tmp_path / "plots/frontier.png").is_file()
    assert "agent adopt" in text and "2 ideas wait for you" in text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_summary_has_colours_where_nobody_wants_none(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.read() as reads:
        picture_of = picture(reads, 1)
        for name, value, expected in (("TERM", "xterm", True), ("TERM", "dumb", False), ("NO_COLOR", "1", False)):
            monkeypatch.setenv("TERM", "xterm")
            monkeypatch.delenv("NO_COLOR", raising=False)
            monkeypatch.setenv(name, value)
            monkeypatch.setattr("sys.stdout", Terminal())
            assert ("\x1b[" in figures(reads, 1, picture_of, 80)) is expected, name


def test_the_doctor_names_what_is_missing(root: Path, tmp_path: Path) -> None:
    checks = {check.what: check for check in doctor.examine(root)}
    assert checks["python"].state == "good" and "whole, campaigns in it: 1" in checks["runs.db"].words
    assert checks["track tiny"].state == "note" and "trainer/train_gpt.py" in checks["track tiny"].words
    assert "H100" in checks["track golf-upstream"].words
    golf = checks["track golf-8xh100"].words
    assert golf.startswith("needs 8 x H100") and "needs 80 training shards of FineWeb" in golf
    fetch = f"{sys.executable} -m trainer.data fineweb"
    assert fetch in checks["data fineweb"].words
    assert any(fetch in words for words in hardware.missing(load("golf-8xh100", root)[0], root))
    assert "track agent.toml" not in checks
    (tmp_path / "runs.db").write_bytes(b"SQLite format 3\0 but no more")
    assert next(check for check in doctor.examine(tmp_path) if check.what == "runs.db").state == "bad"
    assert "BAD   runs.db" in doctor.words(doctor.examine(tmp_path))


def test_the_doctor_adds_the_ledger_up_and_looks_at_a_track_of_ones_own(root: Path, tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("name = 'mine'\n")
    with (
        contextlib.closing(sqlite3.connect(root / "runs.db")) as night,
        contextlib.closing(sqlite3.connect(tmp_path / "runs.db")) as copy,
    ):
        night.backup(copy)
        copy.execute("UPDATE campaigns SET settled_gpu_s = settled_gpu_s + 5")
        copy.commit()
    checks = {check.what: check for check in doctor.examine(tmp_path)}
    assert checks["runs.db"].state == "bad"
    assert "does not add up: tiny-1: settled gpu_s: the entries add up to " in checks["runs.db"].words
    assert checks["track agent.toml"].state == "bad" and "script" in checks["track agent.toml"].words


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "tiny",
            "decide decides. An idea that says so is tried first at short (COMPUTE_BUDGET_MS=7126). For runs by hand, "
            "with these variables set: long (COMPUTE_BUDGET_MS=85509)",
        ),
        (
            "golf-1xh100",
            "full (MAX_WALLCLOCK_SECONDS=600) decides. An idea that says so is tried first at proxy "
            "(MAX_WALLCLOCK_SECONDS=150 WARMDOWN_ITERS=300)",
        ),
        ("autoresearch", "full decides"),
    ],
)
def test_a_track_says_which_rung_decides_and_where_ideas_are_tried(name: str, said: str) -> None:
    text = explain(load(name, Path())[0], [])
    rungs = text[text.index("\nrungs") : text.index("\ndecision")]
    assert " ".join(rungs.split()) == f"rungs {said}"


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_live_view_fits_every_width(store: Store, root: Path, width: int) -> None:
    out = io.StringIO()
    with store.read() as reads:
        shown = render(scene(reads, 1, root / ".caddie" / "tiny-1" / "jobs"))
    Console(file=out, width=width, color_system=None).print(shown)
    rows = out.getvalue().splitlines()
    assert all(len(row) <= width for row in rows)
    assert width < 80 or any("r65 p36 screen" in row and "12 s left" in row for row in rows)
    assert {"budget", "best", "next", "review", "verdicts"} <= {row.split()[0] for row in rows if row[:1].strip()}
