"""The demo: a recording tells the campaign as it was, plays in a terminal and without one, and leaves nothing."""

import gzip
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest

from agent import budget
from agent.errors import UserError
from agent.records import Amount, Proposal, Run
from agent.report import demo, recording
from agent.report.recorder import PAUSE_S
from agent.report.recording import Book, Change, Move, Recording, Reserve
from agent.report.tables import lineage
from agent.runners.progress import progress
from agent.store import Reads, Store, open_store
from tests.fixture_campaign import build

AGENT = (sys.executable, "-m", "agent.cli")
REPO = Path(__file__).resolve().parents[1]
ENV = {**os.environ, "PYTHONPATH": str(REPO), "TERM": "xterm-256color"}


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A finished campaign, of which one run's log is kept."""
    root = tmp_path_factory.mktemp("night")
    store = build(root, state="finished")
    job = root / ".caddie" / "tiny-1" / "jobs" / "r2"
    job.mkdir(parents=True)
    lines = [
        f"step:{n}/300 train_loss:{6 - n / 100:.4f} train_time:{n * 70}ms step_avg:70.00ms" for n in range(0, 301, 30)
    ]
    (job / "train.log").write_text("\n".join(["tokenizer: 1 s", *lines, f"Traceback in {root}/code/train_gpt.py", ""]))
    return store


@pytest.fixture(scope="module")
def data(night: Store) -> bytes:
    return recording.record(night, 1)


@pytest.fixture(scope="module")
def taped(data: bytes) -> Recording:
    return recording.load(data, "night")


def as_lines(data: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in gzip.decompress(data).splitlines()]


def packed(lines: list[dict[str, object]]) -> bytes:
    return gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode())


# ---------------------------------------------------------------- what a recording holds


def test_the_replayed_store_says_what_the_recorded_one_says(night: Store, taped: Recording) -> None:
    with demo.stage(taped) as playing:
        playing.until(float("inf"))
        with night.read() as old, playing.store.read() as new:
            assert _proposals(new) == _proposals(old)
            assert [_run(run) for run in new.runs(1)] == [_run(run) for run in old.runs(1)]
            assert [s.measurement for s in new.scored(1)] == [
                replace(s.measurement, doc_nats=()) for s in old.scored(1)
            ]
            assert new.balance(1) == old.balance(1) and budget.audit(new, 1) == []
            assert lineage(new, new.head(1).id) == lineage(old, old.head(1).id)
            assert new.campaign_by_id(1).reason == old.campaign_by_id(1).reason
            told = [(e.at[:22], e.what, e.proposal_id, e.run_id, e.text) for e in _all(new)]
            assert told == [(e.at[:22], e.what, e.proposal_id, e.run_id, e.text) for e in _all(old)]


def _all(reads: Reads):  # type: ignore[no-untyped-def]
    return reads.events(1, limit=100_000)


def _proposals(reads: Reads) -> list[Proposal]:
    """All but what tells nothing: texts that are left out, hashes, the time of writing."""
    return [
        replace(p, edits="", patch_id="", ast_hash="", config_hash="", reviewed_by="", created="", updated="")
        for p in reads.proposals(1)
    ]


def _run(run: Run) -> Run:
    return replace(run, created="", started=None, ended=None)


def test_after_a_revert_the_parent_is_the_head_again(taped: Recording) -> None:
    taken_back = next(step for step in taped.steps if isinstance(step, Move) and step.state == "reverted")
    with demo.stage(taped) as playing:
        for at, before in ((taken_back.at - 0.001, True), (taken_back.at, False)):
            playing.until(at)
            with playing.store.read() as reads:
                reverted = reads.proposal(taken_back.proposal_id)
                assert reads.head(1).id == (reverted.id if before else reverted.baseline_id)


def test_what_was_set_aside_and_drawn_from_is_so_again(tmp_path: Path) -> None:
    """A hold of 300 s of which a run drew 100 and used 60: the database keeps 200 and 100."""
    store = build(tmp_path, state="finished")
    with store.write() as tx:
        spent = tx.balance(1).settled.gpu_s
        held = budget.reserve(tx, 1, Amount(gpu_s=300.0), "hold", proposal_id=2)
        drawn = budget.draw(tx, held, Amount(gpu_s=100.0), 1)
        budget.settle(tx, drawn, Amount(gpu_s=60.0))
        budget.release(tx, held, "no replay needed")
    with store.read() as reads:
        wanted = reads.balance(1)
    found = recording.load(recording.record(store, 1), "held")
    store.close()
    reserved = {step.entry: step for step in found.steps if isinstance(step, Reserve)}
    assert reserved[held].amount.gpu_s == 300.0 and reserved[drawn].hold_id == held
    with demo.stage(found) as playing:
        playing.until(float("inf"))
        with playing.store.read() as reads:
            assert reads.balance(1) == wanted and wanted.settled.gpu_s == spent + 60.0
            assert budget.audit(reads, 1) == []


def test_a_recording_holds_no_path_of_its_machine_and_no_documents(tmp_path: Path) -> None:
    store = build(tmp_path)
    with store.write() as tx:
        tx.add_event(1, "planner", f"no answer:\n{tmp_path}/.caddie/tiny-1/jobs/r2/code/train_gpt.py is gone")
    data = recording.record(store, 1)
    store.close()
    text = gzip.decompress(data).decode()
    assert str(tmp_path) not in text and "no answer:\\ntrain_gpt.py is gone" in text
    assert not re.search(r"/(tmp|root|home|work|Users)/", text)
    assert all(m["doc_nats"] == [] for line in as_lines(data) if (m := line.get("measurement")))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('Traceback:\n/tmp/a/x.py\n File "/root/x.py", line 3', 'Traceback:\nx.py\n File "x.py", line 3'),
        ("No such file: /home/ann/caddie/.caddie/tiny-1/jobs/r3/out/model.bin", "No such file: model.bin"),
        ("--- /dev/null\n+++ b/trainer/train_gpt.py", "--- /dev/null\n+++ b/trainer/train_gpt.py"),
        ("https://example.org/tmp/x and 1/2 and a/tmp/b", "https://example.org/tmp/x and 1/2 and a/tmp/b"),
    ],
)
def test_paths_lose_their_folders(text: str, wanted: str) -> None:
    from agent.report.recorder import without_paths

    assert without_paths({"a": [text, 1]}) == {"a": [wanted, 1]}


def test_a_night_without_runs_is_not_played(tmp_path: Path) -> None:
    from sqlalchemy import text

    store = build(tmp_path, state="finished")
    before = recording.load(recording.record(store, 1), "x").seconds
    with store.write() as tx:
        last = tx.newest_events(1, 1)[0].id
        tx.connection.execute(
            text("UPDATE events SET at = '2026-11-23T22:00:00.000Z' WHERE id = :last"), {"last": last}
        )
    after = recording.load(recording.record(store, 1), "x").seconds
    store.close()
    assert before <= after <= before + 3 * PAUSE_S


def test_only_the_first_campaign_of_a_database_is_recorded_and_only_if_no_other_ran_beside_it(tmp_path: Path) -> None:
    from sqlalchemy import text

    from tests.filling import add_campaign

    store = build(tmp_path)
    with store.write() as tx:
        tx.end_campaign(1, "finished", "the budget does not cover another run")
    alone = recording.record(store, 1)
    with store.write() as tx:
        later = add_campaign(tx, "another").id
    assert recording.record(store, 1) == alone
    with pytest.raises(UserError, match="only the first can be recorded"):
        recording.record(store, later)
    with store.write() as tx:
        tx.connection.execute(
            text("UPDATE campaigns SET created = '2026-11-01T00:00:00.000Z' WHERE id = :one"), {"one": later}
        )
    with pytest.raises(UserError, match="if it ended before"):
        recording.record(store, 1)
    store.close()


def test_the_tool_makes_a_recording_that_plays(night: Store, tmp_path: Path) -> None:
    out = tmp_path / "night.jsonl.gz"
    words = recording.make(Path(night.where), "tiny-1", out)
    assert "vocab_size = 2048 in 6 bits" in words and "steps over" in words
    assert recording.load(out.read_bytes(), "night").campaign.name == "tiny-1"
    with pytest.raises(UserError, match="no campaign 'tiny-2'"):
        recording.make(Path(night.where), "tiny-2", out)


# ---------------------------------------------------------------- strict


Spoil = Callable[[list[dict[str, object]]], object]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda lines: lines[0].update(version=2), "no recording that this version can play"),
        (lambda lines: lines[0].update(more=1), "no recording that this version can play"),
        (lambda lines: lines[1].update(more=1), "line 2: "),
        (lambda lines: lines[1].update(do="run_this"), "line 2: "),
        (lambda lines: lines[5].update(at="soon"), "line 6: "),
        (lambda lines: lines[1]["draft"].update(more=1), "line 2: "),  # type: ignore[attr-defined]
        (lambda lines: lines[1].pop("diff"), "line 2: "),
        (lambda lines: lines.insert(1, lines.pop()), "not in order"),
        (lambda lines: lines.clear(), "no recording that this version can play"),
    ],
)
def test_a_spoilt_recording_is_refused(data: bytes, spoil: Spoil, words: str) -> None:
    lines = as_lines(data)
    spoil(lines)
    with pytest.raises(UserError, match=re.escape(words)):
        recording.load(packed(lines), "spoilt")


def test_what_is_no_recording_is_refused(data: bytes) -> None:
    for junk in (b"", b"hello", data[:200], gzip.compress(b"\xff\n"), gzip.compress(b"[]\n")):
        with pytest.raises(UserError):
            recording.load(junk, "junk")


def test_an_unpacked_flood_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MOST_BYTES", 1000)
    with pytest.raises(UserError, match="more than 1,000 bytes"):
        recording.load(gzip.compress(bytes(100_000)), "flood")


def test_a_recording_that_breaks_the_rules_of_the_store_is_the_persons_to_mend(data: bytes) -> None:
    lines = as_lines(data)
    first = next(line for line in lines[2:] if line.get("do") == "move")
    first["state"] = "promoted"
    with pytest.raises(UserError, match="can't be played beyond step"):
        demo.rehearse(recording.load(packed(lines), "wrong"))


# ---------------------------------------------------------------- as it plays


def test_a_bar_follows_the_log_that_was_kept(taped: Recording) -> None:
    booked = next(step for step in taped.steps if isinstance(step, Book) and step.run.id == 2)
    began = next(s.at for s in taped.steps if isinstance(s, Change) and (s.run_id, s.state) == (2, "running"))
    assert booked.train_s == 25.0 and len(booked.curve) == 11
    with demo.stage(taped) as playing:
        playing.until(began + 12.6)
        found = progress(playing.jobs / "r2")
        assert found is not None
        assert (found.step, found.steps, found.phase) == (150, 300, "train")
        assert found.loss == pytest.approx(4.5) and found.elapsed_s == pytest.approx(12.6)
        end = next(s.at for s in taped.steps if isinstance(s, Change) and (s.run_id, s.state) == (2, "done"))
        playing.until(end - 0.001)
        with playing.store.read() as reads:
            assert reads.run(2).state == "running"
        playing.until(end)
        with playing.store.read() as reads:
            assert reads.run(2).state == "done" and reads.measurement(2) is not None


def test_the_shipped_recording_plays_and_shows_gains() -> None:
    found = demo.shipped()
    text = gzip.decompress((files("agent.report") / demo.SHIPPED).read_bytes()).decode()
    assert not re.search(r"/(tmp|root|home|work|Users)/", text)
    words = demo.rehearse(found)
    assert "cost" in words and re.search(r"^p\d+ .* -0\.\d{4} ", words, re.MULTILINE)


def clean(folder: Path) -> bool:
    return not any(folder.iterdir())


def test_without_a_terminal_it_prints_lines_and_leaves_nothing(tmp_path: Path) -> None:
    here, temporary = tmp_path / "here", tmp_path / "tmp"
    here.mkdir()
    temporary.mkdir()
    here.chmod(0o555)
    env = {**ENV, "TMPDIR": str(temporary)}
    words = [*AGENT, "demo", "--replay", "--seconds", "1"]
    ended = subprocess.run(words, cwd=here, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("A RECORDING of campaign") and "Nothing trains here" in ended.stdout
    assert "\x1b" not in ended.stdout and "promoted" in ended.stdout and "That was a recording" in ended.stdout
    assert clean(here) and clean(temporary)


@pytest.mark.parametrize("interrupted", [False, True])
def test_in_a_terminal_it_is_the_live_view(data: bytes, tmp_path: Path, interrupted: bool) -> None:
    (tmp_path / "night.gz").write_bytes(data)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    seconds = "60" if interrupted else "2"
    command = [*AGENT, "demo", "--replay", "--seconds", seconds, "--recording", "night.gz"]
    leader, follower = pty.openpty()
    env = {**ENV, "TMPDIR": str(temporary)}
    child = subprocess.Popen(command, cwd=tmp_path, env=env, stdin=follower, stdout=follower, stderr=follower)
    os.close(follower)
    seen = _read(leader, until=b"budget" if interrupted else None)
    if interrupted:
        # Python drops an interrupt that meets it in a finaliser; a person presses again.
        for _ in range(3):
            child.send_signal(signal.SIGINT)
            seen += _read(leader, within_s=20)
            if child.poll() is not None:
                break
    os.close(leader)
    assert child.wait(timeout=60) == (130 if interrupted else 0)
    text = seen.decode()
    assert "A RECORDING" in text and "\x1b[" in text and "Traceback" not in text
    assert text.rstrip().rfind("\x1b[?25h") > text.rfind("\x1b[?25l")  # the cursor is back
    assert ("That was a recording" in text) is not interrupted
    assert clean(temporary)


def _read(terminal: int, until: bytes | None = None, within_s: float = 30) -> bytes:
    seen, end = b"", time.monotonic() + within_s
    while time.monotonic() < end and (until is None or until not in seen):
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                got = os.read(terminal, 65536)
            except OSError:  # the other side is closed
                return seen
            if not got:
                return seen
            seen += got
    return seen


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), 1e9])
def test_odd_times_are_refused(taped: Recording, seconds: float) -> None:
    said = io.StringIO()
    with pytest.raises(UserError, match="choose between"):
        demo.play(taped, seconds, said.write)  # type: ignore[arg-type]
    assert said.getvalue() == ""


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    words = [*AGENT, "demo", "--recording", "nowhere.gz"]
    ended = subprocess.run(words, cwd=tmp_path, env=ENV, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2 and "can't be read" in ended.stderr and open_store.__name__ not in ended.stderr
