"""Scripts of others behind the walls: what opens its own data says its own figure, and sees nothing else."""

from pathlib import Path

import pytest

from agent.errors import MissingError, UserError
from agent.loop import Loop
from agent.runners.local import LocalRunner
from agent.setting import Setting
from agent.store import Scored
from benchmarks.endless import decision
from tests.e2e import world
from tests.fineweb import VARIANT, make_corpus, stories, tokens_of
from tests.processes import linux

TRACK = """
name = "own"
summary = "A script of somebody else's."
budget_hours = 0.5
trust = "reported"

[script]
path = "train.py"
editable = ["train.py"]
train = ["{python}", "{script}"]
pack = false

[limits]
train_wall_s = 60
score_wall_s = 1
memory_mb = 2000

[hardware]
kind = "cpu"

[data]
DATA
"""
READS = """import os
from pathlib import Path

home = Path.home()
try:
    print((home / ".secret").read_text())
except OSError:
    found = (home / ".cache/mine/tokens.txt").read_text()
    print(f"val_bpb: {float(found):.6f}")
"""
OPENS = """import os
from pathlib import Path

shards = sorted(Path(os.environ["DATA_PATH"]).glob("fineweb_val_*.bin"))
print(f"val_bpb: {1 + len(shards) + sum(len(path.read_bytes()) for path in shards) / 1e6:.6f}")
"""
TALKS = """import os

print(f"val_bpb: {1 + int(os.environ['WORLD_SIZE']):.6f}")
"""
TORCHRUN = '["{python}", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1", "{script}"]'


def workspace(root: Path, script: str, data: str, train: str = '["{python}", "{script}"]') -> None:
    track = TRACK.replace("DATA", data).replace('["{python}", "{script}"]', train)
    world.make_workspace(root, script, track + decision(max_seeds=2, report_seeds=2))
    world.write_ideas(root, [world.idea("the same", ("import os", "import os  # as it was"), script=script)])


def reported(root: Path) -> list[Scored]:
    setting: Setting = world.open_campaign(root, make_runner=LocalRunner)
    ending = Loop(setting).run()
    assert ending.state == "finished", ending
    with setting.store.read() as reads:
        return reads.scored(setting.campaign.id)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    (folder / ".cache/mine").mkdir(parents=True)
    (folder / ".secret").write_text("val_bpb: 0.1\n")
    (folder / ".cache/mine/tokens.txt").write_text("1.25")
    monkeypatch.setenv("HOME", str(folder))
    return folder


@linux
@pytest.mark.slow
def test_a_script_reads_the_folders_that_its_track_names_and_no_others(tmp_path: Path, home: Path) -> None:
    workspace(tmp_path / "work", READS, 'corpus = "none"\nread = ["~/.cache/mine"]')
    runs = reported(tmp_path / "work")
    assert [(one.measurement.bpb, one.measurement.trust) for one in runs] == [(1.25, "reported")] * 2, runs


def test_a_folder_that_is_not_there_is_said_to_be_missing(tmp_path: Path, home: Path) -> None:
    workspace(tmp_path / "work", READS, 'corpus = "none"\nread = ["~/.cache/other"]')
    with pytest.raises(MissingError, match=r"needs the folder .*/home/\.cache/other, which its script reads"):
        world.open_campaign(tmp_path / "work", make_runner=LocalRunner)


@pytest.mark.parametrize("too_much", ["TMP", "TMP/home", "TMP/work/.caddie"])
def test_nobody_lets_every_run_read_all_there_is(tmp_path: Path, home: Path, too_much: str) -> None:
    folder = too_much.replace("TMP", str(tmp_path))
    workspace(tmp_path / "work", READS, f'corpus = "none"\nread = ["{folder}"]')
    (tmp_path / "work/.caddie").mkdir()
    with pytest.raises(UserError, match="name less of it"):
        world.open_campaign(tmp_path / "work", make_runner=LocalRunner)


@linux
@pytest.mark.slow
@pytest.mark.parametrize(("says", "shards"), [("", 0), ("\nscript_reads_validation = true", 2)])
def test_validation_shards_are_there_where_the_track_says_so(tmp_path: Path, says: str, shards: int) -> None:
    workspace(tmp_path / "work", OPENS, f'corpus = "fineweb"\nvariant = "{VARIANT}"\ntrain_shards = 1{says}')
    train = [tokens_of(stories(60, seed)) for seed in (8, 9)]
    folder = tmp_path / "work/.caddie/data/fineweb"
    make_corpus(folder, tokens_of(stories(40, 7, 60)), train=train, val_shards=2)
    runs = reported(tmp_path / "work")
    assert len(runs) == 2
    assert {int(one.measurement.bpb or 0) for one in runs} == {1 + shards}


@linux
@pytest.mark.slow
def test_torchrun_starts_one_process_too(tmp_path: Path) -> None:
    workspace(tmp_path / "work", TALKS, 'corpus = "none"', TORCHRUN)
    assert [one.measurement.bpb for one in reported(tmp_path / "work")] == [2.0] * 2


def test_knobs_are_not_asked_where_a_track_has_none(tmp_path: Path) -> None:
    workspace(tmp_path / "work", TALKS, 'corpus = "none"')
    with pytest.raises(UserError, match=r"declares no \[\[knob\]\].*say --planner anthropic"):
        world.open_campaign(tmp_path / "work", planner="knobs")
