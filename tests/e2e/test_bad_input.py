"""What is wrong gets a clear error from the command line, and changes nothing on disk."""

import contextlib
import os
import random
import sqlite3
import subprocess
from pathlib import Path

import pytest

from agent import budget
from agent.store import open_store
from tests import commanding
from tests.disks import fill, mounted, small_disk
from tests.e2e import world
from tests.e2e.real import REAL_SCRIPT as SLOW_SCRIPT
from tests.e2e.real import REAL_TRACK
from tests.e2e.terminal import START, agent, background, listing, needs_mounts, nothing_runs, refused
from tests.processes import until

REAL_SCRIPT = SLOW_SCRIPT.replace("sleep(0.1)", "sleep(0.01)")
IDEAS = [world.idea("narrow", ('"width": 4', '"width": 2'), script=REAL_SCRIPT)]


def make(root: Path, track: str = REAL_TRACK) -> Path:
    world.make_workspace(root, script=REAL_SCRIPT, track=track)
    world.write_ideas(root, IDEAS)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(tmp_path / "a person's folder é")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> commanding.Agent:
    """Commands that are refused need no process of their own: a dozen of those take as long as a campaign."""
    return commanding.console(tmp_path, monkeypatch, capfd, tmp_path)


@pytest.mark.parametrize(
    ("changed", "words", "code", "parts"),
    [
        ({}, ("start", "--track", "tinny"), 2, ("no track 'tinny'", "Did you mean 'tiny'?")),
        ({}, ("start", "--track", "agnet.toml"), 2, ("no track file", "agnet.toml", "Did you mean 'agent.toml'?")),
        ({"[limits]": "[limits]\ntrain_wal_s = 3"}, START, 2, ("limits.train_wal_s", "Did you mean 'train_wall_s'?")),
        ({'summary = "': 'sumary = "'}, START, 2, ("sumary: no such key", "Did you mean 'summary'?")),
        ({"alpha = 0.004": "alpha = nan"}, START, 2, ("decision.alpha",)),
        ({"max_seeds = 4": "max_seeds = 40"}, START, 2, ("decision.max_seeds",)),
        ({"[[rung]]": "[[rung]"}, START, 2, ("agent.toml is not TOML", "line")),
        ({'at = "KNOBS.width"': 'at = "KNOBS.widht"'}, START, 2, ("KNOBS.widht",)),
        ({'path = "train.py"': 'path = "tran.py"'}, START, 2, ("script.editable", "script.path")),
        ({'"train.py"': '"trian.py"'}, START, 5, ("trian.py",)),
        ({}, ("strat",), 2, ("strat", "Did you mean 'start'")),
        ({}, (*START, "--bugdet", "1"), 2, ("--bugdet", "--budget")),
        ({}, (*START, "--budget", "lots"), 2, ("--budget",)),
        ({}, (*START, "--budget", "nan"), 2, ("--budget",)),
        ({}, (*START, "--budget", "1e-6"), 2, ("--budget", "too small")),
        ({}, (*START, "--planner", "scripted:none.jsonl"), 2, ("none.jsonl",)),
        ({}, (*START, "--base", "last"), 2, ("--base last", "--base HEAD")),
        ({}, (*START, "--slots", "64"), 2, ("--slots 64", "cores")),
        ({}, ("resume",), 2, ("no runs.db in", "agent start")),
        ({}, ("status",), 2, ("no runs.db", "agent start")),
    ],
)
def test_what_is_misspelt_or_impossible(
    root: Path,
    here: commanding.Agent,
    changed: dict[str, str],
    words: tuple[str, ...],
    code: int,
    parts: tuple[str, ...],
) -> None:
    text = REAL_TRACK
    for old, new in changed.items():
        assert old in text
        text = text.replace(old, new)
    (root / "agent.toml").write_text(text)
    before = listing(root)
    refused(here(*words, where=root), code, *parts)
    assert listing(root) == before


def test_no_repository_no_commit_a_bare_one(tmp_path: Path, here: commanding.Agent) -> None:
    for name, code, parts in (
        ("plain", 2, ("not inside a git working tree", "git init")),
        ("empty", 2, ("no commit yet", "commit your script")),
        ("bare", 2, ("bare",)),
    ):
        folder = tmp_path / name
        folder.mkdir()
        if name == "empty":
            world.git(folder, "init", "-q")
        if name == "bare":
            world.git(folder, "init", "-q", "--bare")
        else:
            (folder / "train.py").write_text(REAL_SCRIPT)
            (folder / "agent.toml").write_text(REAL_TRACK)
            world.write_ideas(folder, IDEAS)
        before = listing(folder)
        refused(here(*START, where=folder), code, *parts)
        assert listing(folder) == before


@pytest.mark.long
def test_a_dirty_checkout_on_a_detached_head_is_fine_and_stays_as_it_is(root: Path) -> None:
    world.git(root, "commit", "-q", "--allow-empty", "-m", "later")
    world.git(root, "checkout", "-q", "--detach", "HEAD~1")
    (root / "staged.txt").write_text("staged\n")
    world.git(root, "add", "staged.txt")
    (root / "untracked.txt").write_text("mine too\n")
    before = listing(root)
    ended = agent(root, *START)
    assert ended.code == 0, ended
    assert "toy-1 finished" in ended.out, ended.words
    after = listing(root)
    ours = (".git/objects/", ".git/refs/", ".git/logs/refs/", ".git/info", ".git/worktrees", ".caddie", "runs.db")
    touched = [path for path in before | after if before.get(path) != after.get(path)]
    assert not any((root / ".git/worktrees").glob("*"))
    assert [path for path in touched if not path.startswith(ours)] == []
    assert [path for path in before if path not in after] == []
    base = world.git(root, "rev-parse", "main~1").strip()
    assert (root / ".git/HEAD").read_text().strip() == base
    assert world.git(root, "merge-base", "caddie/toy-1", "main").strip() == base


def newer(path: Path) -> None:
    open_store(path).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def corrupt(path: Path) -> None:
    open_store(path).close()
    draw = random.Random(3)
    with path.open("r+b") as file:
        for offset in range(4096, path.stat().st_size, 4096):
            file.seek(offset)
            file.write(draw.randbytes(2048))


def another_program(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mlflow (score REAL)")


def text(path: Path) -> None:
    path.write_text("these are the runs of last night\n" * 200)


def folder(path: Path) -> None:
    path.mkdir()


def half(path: Path) -> None:
    open_store(path).close()
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (newer, ("newer Caddie", "9999", "Update Caddie")),
        (corrupt, ("damaged", ".recover")),
        (half, ("damaged", ".recover")),
        (text, ("damaged or no SQLite database",)),
        (Path.touch, ("is empty", "Remove it")),
        (another_program, ("not one of Caddie's", "mlflow")),
        (folder, ("is a folder",)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_database_that_can_not_be_used_is_left_alone(
    root: Path, here: commanding.Agent, spoil: object, parts: tuple[str, ...]
) -> None:
    spoil(root / "runs.db")  # type: ignore[operator]
    before = listing(root)
    commands = [START, ("resume",)] if spoil is folder else [START, ("resume",), ("status",)]
    for words in commands:
        said = refused(here(*words, where=root), 3, *parts)
        assert "runs.db" in said
        assert listing(root) == before


SMALL = REAL_TRACK.replace("memory_mb = 500", "memory_mb = 500\ndisk_mb = 4\nlog_mb = 1")


def runs_of(root: Path) -> list[str]:
    store = open_store(root / "runs.db", create=False)
    with store.read() as reads:
        campaign = reads.campaigns()[-1]
        assert budget.audit(reads, campaign.id) == []
        states: list[str] = [run.state for run in reads.runs(campaign.id)]
        if campaign.state == "finished":
            assert budget.open_entries(reads, campaign.id) == []
    store.close()
    return states


@pytest.mark.long
@needs_mounts
def test_no_run_starts_that_the_disk_could_not_hold(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 100) as disk:
        root = make(disk / "work")  # two runs of 256 MB each
        ended = agent(root, *START, "--slots", "2")
        assert ended.code == 1, ended
        assert "MB free" in ended.out and "agent prune" in ended.out and "agent resume" in ended.out, ended
        assert runs_of(root) == []
        assert agent(root, "resume").code == 1
        subprocess.run(["mount", "-o", "remount,size=2g", str(disk)], check=True)
        ended = agent(root, "resume")
        assert (ended.code, "toy-1 finished" in ended.out) == (0, True), ended
        assert set(runs_of(root)) == {"done"}


@pytest.mark.long
@needs_mounts
@pytest.mark.parametrize("leave", [0, 40_000, 400_000])
def test_a_full_disk_at_the_start_is_named_and_once_there_is_room_all_goes_well(tmp_path: Path, leave: int) -> None:
    """Whatever the first write is that fails: into git, into the folder or into the database."""
    with small_disk(tmp_path / "disk", 16) as disk:
        root = make(disk / "work", SMALL)
        before = listing(root)
        filler = fill(disk, leave=leave)
        ended = agent(root, *START)
        assert ended.code in (1, 2, 3), ended
        assert "Traceback" not in ended.words and "fault of Caddie" not in ended.words, ended
        assert "full" in ended.words or "No space left" in ended.words or "MB free" in ended.words, ended
        after = listing(root)
        assert {path: after.get(path) for path in before if path != ".git/info/exclude"} == {
            path: row for path, row in before.items() if path != ".git/info/exclude"
        }
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,size=1g", str(disk)], check=True)
        ended = agent(root, *START)
        assert (ended.code, "toy-1 finished" in ended.out) == (0, True), ended
        assert set(runs_of(root)) == {"done"}


@pytest.mark.long
@needs_mounts
def test_a_disk_that_fills_up_while_runs_are_under_way_loses_nothing(tmp_path: Path) -> None:
    slow = SLOW_SCRIPT.replace("sleep(0.1)", "sleep(0.25)")
    with small_disk(tmp_path / "disk", 600) as disk:
        root = world.make_workspace(disk / "work", script=slow, track=SMALL)
        changes = [('"width": 4', f'"width": {width}') for width in (8, 2, 3)]
        world.write_ideas(root, [world.idea(str(change), change, script=slow) for change in changes])
        controller = background(root, *START)
        jobs = root / ".caddie/toy-1/jobs"
        until(lambda: (jobs / "r4/heartbeat.json").exists(), what="the fourth run")
        filler = fill(disk)
        code = controller.wait(60)
        said = (disk / "agent.out").read_text() if (disk / "agent.out").exists() else ""
        assert code in (1, 2, 3), (code, said)
        assert "Traceback" not in said and "fault of Caddie" not in said
        filler.unlink()
        ended = agent(root, "resume")
        assert (ended.code, "toy-1 finished" in ended.out) == (0, True), ended
        states = runs_of(root)
        assert set(states) <= {"done", "lost"} and states.count("lost") <= 2, states
        nothing_runs(root)
        assert world.git(root, "fsck", "--no-dangling").strip() == ""


@pytest.mark.long
@needs_mounts
def test_a_read_only_folder_is_named(root: Path) -> None:
    before = listing(root)
    with mounted(root, "--bind", str(root)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(root)], check=True)
        said = refused(agent(root, *START), 2, "read-only")
        assert str(root) in said
    assert listing(root) == before


@pytest.mark.long
@needs_mounts
def test_a_campaign_in_a_folder_that_became_read_only_can_not_go_on(root: Path) -> None:
    assert agent(root, *START).code == 0
    before = listing(root)
    with mounted(root, "--bind", str(root)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(root)], check=True)
        refused(agent(root, *START), 3, "written", "runs.db")
    assert listing(root) == before
